"""The measurements of single parts of a recipe train on what they say, and hold like against like."""

import dataclasses

import keras
import numpy as np
import pytest
import soundfile
from toys import GENRES, toy_params

from benchmarks import audio_gains, distillation, encodings, model_latency, shipped_models
from benchmarks.systems import DATA_SETS, REPOSITORY, divided
from keras_genre import audio, training
from keras_genre.augmentation import copies_of
from keras_genre.optimization import make_loss
from keras_genre.params import FrontEndParams, ScheduleParams
from keras_genre.store import StoreHeader, StoreWriter, open_store

SOFT = {"label_smoothing": 0.3, "schedule": ScheduleParams("cosine", cosine_cycle_epochs=4)}


def test_targets_without_a_teacher_are_the_presets_own():
    generator = np.random.default_rng(0)
    targets = generator.dirichlet([1.0] * 4, 5).astype(np.float32)
    answers, logits = generator.dirichlet([1.0] * 4, 5), generator.standard_normal((5, 4)).astype(np.float32)
    mixed = distillation.mixed_targets(targets, answers, 0.0, 0.3)
    own = make_loss(toy_params(**SOFT))(targets, logits)
    plain = keras.losses.CategoricalCrossentropy(from_logits=True)(mixed, logits)
    assert float(own) == pytest.approx(float(plain), rel=1e-6)
    np.testing.assert_array_equal(distillation.mixed_targets(targets, answers, 1.0, 0.3), answers)
    half = distillation.mixed_targets(targets, answers, 0.5, 0.3)
    np.testing.assert_allclose(half, (answers + mixed) / 2, rtol=1e-6)
    np.testing.assert_allclose(half.sum(axis=1), 1, rtol=1e-6)


def test_a_student_says_what_its_teachers_say_on_average_and_not_what_is_true(toy_store):
    params = toy_params(**SOFT, epochs=6)
    plan = training.make_plan(toy_store, params)

    def teacher(*logits):
        inputs = keras.Input((params.window_frames, plan.columns))
        pooled = keras.layers.GlobalAveragePooling1D()(inputs)
        bias = keras.initializers.Constant(list(logits))
        return keras.Model(inputs, keras.layers.Dense(3, kernel_initializer="zeros", bias_initializer=bias)(pooled))

    # Each of them alone would have the first or the second.
    teachers = [teacher(5.0, -5.0, 4.0), teacher(-5.0, 5.0, 4.0)]
    rows = toy_store.rows_of("test")
    logits = distillation.taught(plan, teachers, 1.0, rows)
    assert logits.shape == (len(rows), len(GENRES))
    assert set(logits.argmax(axis=1)) == {2}


def test_more_copies_of_a_clip_make_no_more_windows():
    windows = set()
    for copies in audio_gains.COPIES.values():
        changes = dict(word.split("=") for word in audio_gains.recipe(len(copies)).split()[1:])
        assert changes["epochs"] == changes["schedule.cosine_cycle_epochs"]
        windows.add((1 + len(copies)) * int(changes["epochs"]))
    assert len(windows) == 1


def test_copies_train_where_their_originals_do_and_are_never_tested(tmp_path):
    data_set = DATA_SETS["embedded"]
    header = StoreHeader.of(FrontEndParams())
    clips = [dataclasses.replace(clip, split="train") for clip in open_store(data_set.stores, "taggram50").clips]
    with StoreWriter(tmp_path / "store", header, [*clips, *copies_of(clips, ("pitch",))]) as writer:
        for number, members in writer.missing():
            writer.add(number, [np.zeros((4, header.dims), np.float32) for _ in members])
        store = writer.finish()
    for fold in range(data_set.folds):
        sides = divided(store, data_set, fold, validates=False)
        by_track = {clip.track: clip.split for clip in sides}
        assert {clip.split for clip in sides if clip.variant} == {"train", ""}
        for clip in sides:
            if clip.variant:
                assert (clip.split == "train") == (by_track[clip.original_track] == "train")


def test_a_recording_keeps_its_music_in_every_encoding_and_a_table_says_what_a_model_makes_of_them(tmp_path):
    rate = 22050
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(12 * rate) / rate)
    soundfile.write(tmp_path / "tone.flac", tone, rate)
    copies = encodings.write_copies(tmp_path / "tone.flac", tmp_path)
    assert list(copies) == [*encodings.ENCODINGS, encodings.QUIETER]
    for name, file in copies.items():
        y = audio.load(file, rate)[: tone.size]
        expected = tone[: y.size] / (10 if name == encodings.QUIETER else 1)
        assert y.size > 11.9 * rate
        assert np.corrcoef(y, expected)[0, 1] > 0.99
        assert y.std() == pytest.approx(expected.std(), rel=0.05)
        (tmp_path / file.name).unlink()
    model = REPOSITORY / "saved_models" / "gtzan10_scratch"
    assert encodings.main([str(model), "--audio", str(tmp_path), "--out", str(tmp_path / "table.md")]) == 0
    rows = [line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("| gtzan10_scratch/1")]
    assert [row.split(" | ")[1] for row in rows] == list(copies)
    assert "1 recordings, each" in (tmp_path / "table.md").read_text()


def test_a_folder_without_recordings_is_refused(tmp_path, capsys):
    assert encodings.main(["anything", "--audio", str(tmp_path)]) == 1
    assert "holds no FLAC file" in capsys.readouterr().err


def test_tracks_to_measure_a_shipped_model_on_are_looked_for_before_it_is_trained(tmp_path, capsys):
    train, held_out = "blues.00029", "blues.00000"
    assert [shipped_models._sides()[track] for track in (train, held_out)] == ["train", "validation"]
    (tmp_path / f"{train}.flac").touch()
    words = ["gtzan10_scratch", "--audio", str(tmp_path), "--log-mel", "none.npz", "--out", str(tmp_path / "1")]
    assert shipped_models.main(words) == 1
    assert f"--audio {tmp_path}: holds no FLAC file but of training tracks" in capsys.readouterr().err
    (tmp_path / f"{held_out}.flac").touch()
    assert shipped_models.tracks_to_label(tmp_path) == [tmp_path / f"{held_out}.flac"]


def test_the_latency_of_a_model_is_told_for_a_clip_and_for_a_song(tmp_path, capsys):
    model, out = REPOSITORY / "saved_models" / "gtzan10_scratch", tmp_path / "latency.md"
    assert model_latency.main([str(model), "--calls", "1", "--out", str(out)]) == 0
    rows = [line.split(" | ")[:2] for line in out.read_text().splitlines() if line.startswith("| gtzan10_scratch/1")]
    assert rows == [["| gtzan10_scratch/1", "30 s"], ["| gtzan10_scratch/1", "240 s"]]
    assert model_latency.main([str(model), "--calls", "0", "--out", str(out)]) == 2
    assert "--calls must be at least 1" in capsys.readouterr().err
