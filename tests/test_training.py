"""A training is deterministic, resumable to the bit, honest about its data, and leaves a complete run folder."""

import dataclasses
import gc
import hashlib
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from toys import GENRES, make_toy_store, toy_clips, toy_params

from keras_genre import pipeline
from keras_genre import train as command
from keras_genre.clips import Clip
from keras_genre.errors import FolderInUseError, ParameterError, RunError, StoreError
from keras_genre.files import locked_folder
from keras_genre.metrics import cross_entropy
from keras_genre.models.networks import build_model
from keras_genre.models.presets import PRESETS
from keras_genre.optimization import make_loss, make_optimizer
from keras_genre.params import FEATURE_DIMS, LARGEST_SEED, FrontEndParams, ScheduleParams
from keras_genre.pipeline import label_rows
from keras_genre.runs import best_epoch, load_model, read_history, read_run, write_run
from keras_genre.saved_models import read_saved_model
from keras_genre.schedules import plateau_rates
from keras_genre.scoring import score_clips
from keras_genre.store import StoreHeader, StoreWriter, open_store
from keras_genre.training import ClipValidation, make_plan, train, versions


def weights_of(run) -> list[np.ndarray]:
    return load_model(run).get_weights()


def assert_same_run(ours, theirs):
    for a, b in zip(weights_of(ours), weights_of(theirs), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(read_history(ours), read_history(theirs), strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {k: v for k, v in b.items() if k != "seconds"}


@pytest.fixture(scope="module")
def run(toy_store, tmp_path_factory):
    """A finished training of five epochs."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(make_plan(toy_store, toy_params(epochs=5)), "toy", out)
    return out


def test_the_network_kept_is_that_of_the_best_epoch(run, toy_store):
    history = read_history(run)
    best = best_epoch(history)
    assert history[best]["val_loss"] == min(row["val_loss"] for row in history)
    rows = toy_store.rows_of("validation")
    logits = score_clips(load_model(run), toy_store, rows)
    labels = label_rows(toy_store)[rows]
    assert cross_entropy(logits, labels) == pytest.approx(history[best]["val_loss"], rel=1e-5)
    assert (logits.argmax(axis=1) == labels).mean() == pytest.approx(history[best]["val_accuracy"])


def test_history_has_a_row_for_each_epoch_with_its_learning_rate(run):
    history = read_history(run)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5]
    rates = plateau_rates([row["val_accuracy"] for row in history], 1e-2, 0.1, 1)
    assert [row["learning_rate"] for row in history] == pytest.approx(rates)
    assert history[-1]["loss"] < history[0]["loss"]


def test_a_training_learns_what_can_be_learnt(run):
    assert max(row["val_accuracy"] for row in read_history(run)) > 0.9


def test_the_run_says_what_repeats_it(run, toy_store):
    info = read_run(run)
    assert info.params == toy_params(epochs=5)
    assert info.params.seed == 0
    assert {"python", "keras_genre", "tensorflow", "keras", "numpy"} <= set(info.versions)
    assert info.splits == {clip.track: clip.split for clip in toy_store.clips}


def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_another_does_not(run, toy_store, tmp_path):
    train(make_plan(toy_store, toy_params(epochs=5)), "toy", tmp_path / "again")
    assert_same_run(run, tmp_path / "again")
    train(make_plan(toy_store, toy_params(epochs=1, seed=LARGEST_SEED)), "toy", tmp_path / "other")
    assert read_history(tmp_path / "other")[0]["loss"] != read_history(run)[0]["loss"]


def test_a_run_that_is_prolonged_is_the_longer_run(run, toy_store, tmp_path):
    train(make_plan(toy_store, toy_params(epochs=2)), "toy", tmp_path / "short")
    train(make_plan(toy_store, toy_params(epochs=5)), "toy", tmp_path / "short", resume=True)
    assert_same_run(run, tmp_path / "short")


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    make_toy_store(tmp_path / "store")

    def command(out, *more):
        flags = ["--window-frames", "16", "--epochs", "12", "--batch-size", "8"]
        return [
            *(sys.executable, "-m", "keras_genre.train", "--preset", "lstm_original", "--data", tmp_path / "store"),
            *(*flags, "--schedule", "plateau", "--out", out, *more),
        ]

    subprocess.run(command(tmp_path / "whole", "--no-export"), check=True, capture_output=True)
    killed = subprocess.Popen(command(tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    history = tmp_path / "killed" / "history.csv"
    while not history.is_file() or len(history.read_text().splitlines()) < 4:
        assert killed.poll() is None
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "report.json").exists()

    resumed = [sys.executable, "-m", "keras_genre.train", "--out", tmp_path / "killed", "--resume"]
    result = subprocess.run(resumed, check=True, capture_output=True, text=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    assert "6 clips" in result.stdout
    names = {path.name for path in (tmp_path / "killed").iterdir()}
    assert not (tmp_path / "whole" / "saved_model").exists()
    exported = tmp_path / "killed" / "saved_model" / "1"
    assert f"SavedModel: {exported}" in result.stdout
    assert read_saved_model(exported).genres == GENRES
    assert {"loss.png", "accuracy.png", "learning_rate.png", "confusion.png", "predictions.csv", "report.md"} <= names


def test_resume_refuses_other_parameters_and_says_which(run, toy_store):
    with pytest.raises(RunError, match=r"learning_rate: 0\.01 -> 0\.5"):
        train(make_plan(toy_store, toy_params(learning_rate=0.5)), "toy", run, resume=True)


def clips_of_files(contents: str = "") -> list[Clip]:
    """The clips as if each were of a file of its own; with other `contents`, of other files."""
    return [
        dataclasses.replace(
            clip, file=f"{clip.track}.flac", sha256=hashlib.sha256(f"{clip.track}{contents}".encode()).hexdigest()
        )
        for clip in toy_clips()
    ]


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A training of one epoch on clips of files, by other versions of the libraries."""
    folder = tmp_path_factory.mktemp("begun")
    store = make_toy_store(folder / "store", clips_of_files())
    info = train(make_plan(store, toy_params(epochs=1), ["made up"]), "toy", folder / "run")
    write_run(folder / "run", dataclasses.replace(info, versions={**versions(), "keras": "3.0.0"}))
    return folder


def test_a_run_records_the_content_of_its_clips(begun):
    expected = {clip.track: clip.sha256[:16] for clip in clips_of_files()}
    assert read_run(begun / "run").contents == expected


def test_a_resume_refuses_clips_of_other_content_and_says_which(begun, tmp_path):
    store = make_toy_store(tmp_path / "store", clips_of_files("remade"))
    with pytest.raises(RunError, match=r"other contents of 24 clips: [a-z]+\.0\d, .*, \.\.\."):
        train(make_plan(store, toy_params(epochs=2)), "toy", begun / "run", resume=True)


def test_a_run_that_goes_on_keeps_the_versions_of_its_beginning_and_notes_the_others_once(begun, tmp_path):
    shutil.copytree(begun / "run", tmp_path / "run")
    store = open_store(begun / "store")
    for epochs in (2, 3):
        train(make_plan(store, toy_params(epochs=epochs)), "toy", tmp_path / "run", resume=True)
    info = read_run(tmp_path / "run")
    assert (info.versions["keras"], info.versions["numpy"]) == ("3.0.0", np.__version__)
    assert info.notes == (
        "made up",
        f"other versions trained a part of the epochs: keras 3.0.0 -> {keras.__version__}",
    )


def test_a_run_that_recorded_no_contents_goes_on_and_records_them(begun, tmp_path):
    shutil.copytree(begun / "run", tmp_path / "run")
    write_run(tmp_path / "run", dataclasses.replace(read_run(begun / "run"), contents={}))
    train(make_plan(open_store(begun / "store"), toy_params(epochs=2)), "toy", tmp_path / "run", resume=True)
    assert read_run(tmp_path / "run").contents == read_run(begun / "run").contents


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--folds", "3", "--fold", "1"], "--folds, --fold"),
        (["--fractions", "0.5", "0.2", "0.3"], "--fractions"),
        (["--split-list", "LIST"], "--split-list"),
        (["--fractions", "0.6", "0.2", "0.2", "--split-seed", "3"], "--fractions, --split-seed"),
    ],
)
def test_a_resume_refuses_flags_of_another_split_by_name(begun, flags, named, tmp_path, capfd):
    (tmp_path / "list.csv").write_text("track,split\n" + "".join(f"{clip.track},train\n" for clip in toy_clips()))
    flags = [str(tmp_path / "list.csv") if flag == "LIST" else flag for flag in flags]
    assert command.main(["--out", str(begun / "run"), "--resume", *flags]) == 2
    assert (
        f"--resume keeps the split of the run, and there would be another by {named}; leave" in capfd.readouterr().err
    )


def test_a_resume_takes_the_flags_that_made_its_split(tmp_path):
    make_toy_store(tmp_path / "store", clips_of_files())
    data, out = str(tmp_path / "store"), str(tmp_path / "run")
    flags = ["--data", data, "--out", out, "--folds", "3", "--fold", "1", "--window-frames", "16", "--no-export"]
    assert command.main([*flags, "--epochs", "1"]) == 0
    splits = read_run(out).splits
    assert splits != {clip.track: clip.split for clip in toy_clips()}
    for again in (flags, ["--out", out, "--no-export"]):
        assert command.main([*again, "--epochs", "1", "--resume"]) == 0
        assert read_run(out).splits == splits


def test_a_resume_needs_the_devices_of_the_run(begun, tmp_path, capfd):
    shutil.copytree(begun / "run", tmp_path / "run")
    write_run(tmp_path / "run", dataclasses.replace(read_run(begun / "run"), devices=("GPU:98", "GPU:99")))
    record = (tmp_path / "run" / "run.json").read_bytes()
    assert command.main(["--out", str(tmp_path / "run"), "--resume", "--epochs", "2"]) == 1
    said = capfd.readouterr().err
    assert f"{tmp_path / 'run'}: was started on GPU:98, GPU:99, and goes on there" in said
    assert "there is no GPU:98; known: CPU:0" in said
    assert (tmp_path / "run" / "run.json").read_bytes() == record
    assert len(read_history(tmp_path / "run")) == 1


def test_a_run_is_never_overwritten(run, toy_store):
    with pytest.raises(RunError, match="--resume"):
        train(make_plan(toy_store, toy_params()), "toy", run)


def test_a_folder_with_other_things_is_left_alone(toy_store, tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"beach")
    with pytest.raises(RunError, match="is not empty"):
        train(make_plan(toy_store, toy_params()), "toy", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_two_trainings_cannot_share_a_folder(toy_store, tmp_path):
    with locked_folder(tmp_path / "run"), pytest.raises(FolderInUseError):
        train(make_plan(toy_store, toy_params()), "toy", tmp_path / "run")


@pytest.mark.parametrize("file", ["checkpoint.npz", "run.json"])
def test_a_damaged_run_is_refused_by_the_name_of_the_file(toy_store, tmp_path, file):
    plan = make_plan(toy_store, toy_params(epochs=1))
    train(plan, "toy", tmp_path / "run")
    damaged = tmp_path / "run" / file
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(RunError, match=file):
        train(make_plan(toy_store, toy_params(epochs=2)), "toy", tmp_path / "run", resume=True)


def test_a_flipped_byte_in_the_network_is_noticed(run, tmp_path):
    content = bytearray((run / "model.keras").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "model.keras").write_bytes(content)
    with pytest.raises(RunError, match=r"model\.keras"):
        load_model(tmp_path)


STOPS_EARLY = toy_params(epochs=60, early_stopping_epochs=2, learning_rate=0.3)


@pytest.fixture(scope="module")
def stopped(toy_store, tmp_path_factory):
    """A training that early stopping has ended."""
    out = tmp_path_factory.mktemp("runs") / "stopped"
    train(make_plan(toy_store, STOPS_EARLY), "toy", out)
    return out


def test_early_stopping_ends_after_the_stated_epochs_without_a_better_one(stopped):
    history = read_history(stopped)
    assert len(history) == best_epoch(history) + 1 + 2 < 60


def test_a_run_that_stopped_early_stays_as_it_is_however_often_and_far_it_is_resumed(stopped, toy_store, tmp_path):
    shutil.copytree(stopped, tmp_path / "run")
    for epochs in (60, 60, 90):
        params = dataclasses.replace(STOPS_EARLY, epochs=epochs)
        train(make_plan(toy_store, params), "toy", tmp_path / "run", resume=True)
    assert_same_run(stopped, tmp_path / "run")
    assert (tmp_path / "run" / "run.json").read_text() == (stopped / "run.json").read_text()


def test_the_command_says_of_a_resumed_run_why_nothing_was_trained(stopped, run, tmp_path, capfd):
    for source, epochs, words in (
        (stopped, "90", f"stopped early after epoch {len(read_history(stopped))} of 90, the best being epoch"),
        (run, "1", "nothing to train: 5 epochs are done, --epochs asks for 1"),
    ):
        out = tmp_path / source.name
        shutil.copytree(source, out)
        assert command.main(["--out", str(out), "--resume", "--epochs", epochs, "--no-export"]) == 0
        assert words in capfd.readouterr().err
        assert_same_run(source, out)
        assert (out / "run.json").read_text() == (source / "run.json").read_text()


def test_without_validation_the_last_epoch_is_kept(tmp_path):
    clips = [clip for clip in toy_clips() if clip.split != "validation"]
    store = make_toy_store(tmp_path / "store", clips)
    with pytest.raises(ParameterError, match="no validation clips"):
        make_plan(store, toy_params())
    train(make_plan(store, toy_params(epochs=2, schedule=ScheduleParams("step"))), "toy", tmp_path / "run")
    history = read_history(tmp_path / "run")
    assert "val_loss" not in history[0]
    assert best_epoch(history) == 1


def store_of_numbers(path, kind, dims, low, high):
    """A store of evenly spread numbers; of a kind of one's own, if it is none that is known."""
    header = StoreHeader.of(FrontEndParams.of(kind)) if kind in FEATURE_DIMS else StoreHeader(kind, dims, 0.1, None)
    frames = np.linspace(low, high, 20 * header.dims, dtype=np.float32).reshape(20, header.dims)
    with StoreWriter(path, header, toy_clips()) as writer:
        for number, members in writer.missing():
            writer.add(number, [frames] * len(members))
        return writer.finish()


TRANSFER = PRESETS["transfer"]


@pytest.mark.parametrize("kind", ["taggram50", "musicnn250", "my tags"])
def test_the_log_odds_of_probabilities_are_taken(tmp_path, kind):
    plan = make_plan(store_of_numbers(tmp_path, kind, 7, 0, 1), TRANSFER)
    assert plan.params.model.log_odds
    assert not any("log_odds" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("kind", "low", "high", "params"),
    [
        ("spectral33", 0, 1, TRANSFER),
        # Beyond the first 50 columns there are no probabilities.
        ("musicnn250", 0, 1, dataclasses.replace(TRANSFER, features="musicnn250")),
        ("my tags", 0, 1.001, TRANSFER),
        ("my tags", -0.001, 1, TRANSFER),
    ],
)
def test_of_what_is_no_probability_no_log_odds_are_taken_and_a_note_says_so(tmp_path, kind, low, high, params):
    plan = make_plan(store_of_numbers(tmp_path, kind, 7, low, high), params)
    assert plan.params.model == dataclasses.replace(TRANSFER.model, log_odds=False)
    assert f"{kind} are no probabilities, so that they have no log-odds: model.log_odds is off" in plan.notes


def test_a_genre_without_training_clips_is_refused_by_name(toy_store):
    splits = {clip.track: "test" if clip.genre == "polka" else clip.split for clip in toy_store.clips}
    with pytest.raises(StoreError, match="no training clip of polka"):
        make_plan(toy_store.with_splits(splits), toy_params())


def test_one_genre_is_refused(tmp_path):
    clips = [clip for clip in toy_clips() if clip.genre == "polka"]
    with pytest.raises(StoreError, match="all clips are polka"):
        make_plan(make_toy_store(tmp_path / "store", clips), toy_params())


def test_a_damaged_store_stops_the_training_with_its_name(tmp_path):
    store = make_toy_store(tmp_path / "store")
    plan = make_plan(store, toy_params())
    shard = tmp_path / "store" / "shard-00000.tfrecord"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StoreError, match="shard-00000"):
        train(plan, "toy", tmp_path / "run")


@pytest.mark.parametrize(("cache_bytes", "is_read_again"), [(4 * 33 * 309, False), (4 * 33 * 309 - 1, True)])
def test_validation_clips_are_read_once_where_memory_has_room_for_them(
    tmp_path, monkeypatch, cache_bytes, is_read_again
):
    store = make_toy_store(tmp_path / "store")
    # Two clips of each of three genres.
    assert sum(store.frames[row] for row in store.rows_of("validation")) == 3 * (48 + 55)
    monkeypatch.setattr(pipeline, "CACHE_BYTES", cache_bytes)
    params = toy_params()
    model = build_model(params.model, params.window_frames, 33, 3)
    model.compile(make_optimizer(params), make_loss(params))
    validation = ClipValidation(make_plan(store, params), model)
    validation.set_model(model)
    first: dict[str, float] = {}
    validation.on_epoch_end(0, first)
    (tmp_path / "store" / "shard-00000.tfrecord").unlink()
    if is_read_again:
        with pytest.raises(StoreError, match="shard-00000"):
            validation.on_epoch_end(1, {})
    else:
        again: dict[str, float] = {}
        validation.on_epoch_end(1, again)
        assert again == first


def test_a_loss_that_is_not_finite_stops_with_what_to_do(toy_store, tmp_path):
    with pytest.raises(RunError, match="lower --learning-rate"):
        train(make_plan(toy_store, toy_params(learning_rate=1e38)), "toy", tmp_path / "run")


def test_a_training_leaves_no_graph_in_memory(toy_store, tmp_path):
    def graphs() -> int:
        keras.backend.clear_session()
        gc.collect()
        return sum(issubclass(type(each), tf.Graph) for each in gc.get_objects())

    train(make_plan(toy_store, toy_params(epochs=1)), "toy", tmp_path / "first")
    before = graphs()
    train(make_plan(toy_store, toy_params(epochs=1)), "toy", tmp_path / "second")
    assert graphs() <= before


def test_tensorboard_logs_are_written_by_wish(toy_store, tmp_path):
    train(make_plan(toy_store, toy_params(epochs=1)), "toy", tmp_path / "run", tensorboard=True)
    assert list((tmp_path / "run" / "tensorboard").rglob("events.*"))
