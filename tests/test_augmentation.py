"""Altered copies are what the original made, are the same everywhere, and never score."""

import dataclasses

import numpy as np
import pytest
import soundfile

from keras_genre import audio, precompute, train, training
from keras_genre.augmentation import (
    GAINS,
    ORIGINAL_VARIANTS,
    SEMITONES,
    TEMPO_RATES,
    VARIANTS,
    altered,
    copies_follow,
    copies_of,
    heard,
    originals,
)
from keras_genre.clips import Clip
from keras_genre.datasets.options import apply_split_options
from keras_genre.exchange import export_features
from keras_genre.features.reference import waveform_to_frames
from keras_genre.models.presets import preset
from keras_genre.params import FEATURE_DIMS, FrontEndParams
from keras_genre.store import open_store


def test_noise_has_four_tenths_of_the_power_root_and_is_gaussian(tone):
    waveform = tone(seconds=4.0)[:, 0]
    noise = altered(waveform, "noise", "bebop.01") - waveform
    rms = np.sqrt(np.mean(waveform**2))
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(0.4 * rms, rel=0.02)
    assert abs(noise.mean()) < 0.01 * rms
    # 68.3 % of a Gaussian are within one deviation, 95.4 % within two.
    assert np.mean(np.abs(noise) < 0.4 * rms) == pytest.approx(0.683, abs=0.01)
    assert np.mean(np.abs(noise) < 0.8 * rms) == pytest.approx(0.954, abs=0.01)


def test_gain_is_a_half_or_two_and_both_occur(tone):
    waveform = tone()[:, 0]
    gains = {float(np.median(altered(waveform, "gain", f"clip {n}") / waveform)) for n in range(20)}
    assert gains == set(GAINS)


def _frequency_hz(waveform):
    """The loudest frequency, by a parabola through the spectrum's highest bins."""
    power = np.log(np.abs(np.fft.rfft(waveform * np.hanning(waveform.size))) + 1e-9)
    top = int(power.argmax())
    low, middle, high = power[top - 1 : top + 2]
    return (top + 0.5 * (low - high) / (low - 2 * middle + high)) * 22050 / waveform.size


def test_pitch_moves_a_tone_by_whole_semitones_and_all_of_them_occur():
    waveform = (0.5 * np.sin(2 * np.pi * 440 * np.arange(33075) / 22050)).astype(np.float32)
    semitones = [12 * np.log2(_frequency_hz(altered(waveform, "pitch", f"clip {n}")) / 440) for n in range(20)]
    np.testing.assert_allclose(semitones, np.round(semitones), atol=0.03)
    assert set(np.round(semitones)) == set(SEMITONES)


def test_tempo_moves_beats_and_no_tone_and_keeps_the_length():
    # Five beats, half a second apart.
    beats = np.zeros(66150, np.float32)
    beats[11025::11025] = 0.9
    rates = set()
    for number in range(12):
        found = altered(beats, "tempo", f"clip {number}")
        assert found.size == beats.size
        power = np.square(found).reshape(-1, 225).sum(axis=1)
        first = int(power[:70].argmax())
        fifth = first + 170 + int(power[first + 170 : first + 230].argmax())
        rates.add(float(np.round(4 * 11025 / 225 / (fifth - first), 1)))
    assert rates == set(TEMPO_RATES)
    waveform = (0.5 * np.sin(2 * np.pi * 440 * np.arange(33075) / 22050)).astype(np.float32)
    assert _frequency_hz(altered(waveform, "tempo", "a")) == pytest.approx(440, abs=1)


def test_a_faster_copy_begins_again_at_its_end():
    generator = np.random.default_rng(0)
    waveform = generator.uniform(-0.5, 0.5, 22050).astype(np.float32)
    fast = next(
        found
        for found in (altered(waveform, "tempo", f"clip {n}") for n in range(12))
        if np.array_equal(found[20045:], found[: 22050 - 20045])
    )
    assert np.abs(fast[:20045]).max() > 0.1


def test_what_is_done_depends_on_the_name_of_the_clip_alone(tone):
    waveform = tone()[:, 0]
    for variant in VARIANTS:
        np.testing.assert_array_equal(altered(waveform, variant, "a"), altered(waveform, variant, "a"))
    assert not np.array_equal(altered(waveform, "noise", "a"), altered(waveform, "noise", "b"))


def test_float32_stays_float32_and_the_waveform_as_it_was(tone):
    waveform = tone()[:, 0]
    before = waveform.copy()
    assert {altered(waveform, variant, "a").dtype for variant in ("", *VARIANTS)} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(waveform, before)
    assert altered(waveform, "", "a") is waveform


def test_silence_stays_silence():
    for variant in VARIANTS:
        assert not altered(np.zeros(1000, np.float32), variant, "a").any()


def test_copies_have_names_of_their_own_and_know_their_original():
    clip = Clip("blues.00000", "blues", file="blues/blues.00000.au", sha256="00ff")
    copies = copies_of([clip])
    assert [copy.track for copy in copies] == ["blues.00000+noise", "blues.00000+gain"]
    assert {copy.original_track for copy in copies} == {"blues.00000"}
    assert {copy.file for copy in copies} == {clip.file}
    assert originals([*copies, clip]) == [clip]


def test_a_copy_trains_where_its_original_trains_and_nowhere_else():
    clips = [Clip(f"{split or 'left out'}.01", "bebop") for split in ("train", "validation", "test", "")]
    divided = [dataclasses.replace(clip, split=clip.track.split(".")[0].replace("left out", "")) for clip in clips]
    everything = [*copies_of(clips), *clips]
    followed = copies_follow(everything, divided)
    assert [clip.track for clip in followed] == [clip.track for clip in everything]
    assert {clip.original_track for clip in followed if clip.variant and clip.split} == {"train.01"}
    assert {clip.split for clip in followed if clip.variant} == {"train", ""}
    assert [clip for clip in followed if not clip.variant] == divided


def test_a_copy_without_its_original_trains_nowhere():
    clip = Clip("a.01", "bebop", split="train")
    (copy, *_) = copies_of([clip])
    assert [each.split for each in copies_follow([copy], [])] == [""]


@pytest.mark.parametrize("rms_dbfs", [None, -17.0])
@pytest.mark.parametrize("kind", sorted(set(FEATURE_DIMS) - {"taggram50", "musicnn250"}))
def test_a_variant_is_used_where_and_only_where_it_changes_the_features(kind, rms_dbfs, tone):
    front_end = dataclasses.replace(FrontEndParams.of(kind), rms_dbfs=rms_dbfs)
    waveform = tone(seconds=1.0)[:, 0]
    frames = waveform_to_frames(waveform, front_end)
    for variant in VARIANTS:
        change = np.abs(waveform_to_frames(altered(waveform, variant, "a"), front_end) - frames).max()
        assert (change > 0.01) == (variant in heard(VARIANTS, front_end))


@pytest.fixture(scope="module")
def augmented(tmp_path_factory, tone):
    """A store of twelve short clips of two genres, with altered copies of the training clips."""
    folder = tmp_path_factory.mktemp("augmented")
    for number in range(12):
        path = folder / "music" / ("bebop", "polka")[number % 2] / f"clip {number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(seconds=0.6, seed=number), 22050)
    words = [str(folder / "music"), "--features", "mfcc13", "--min-seconds", "0.5", "--augment"]
    assert precompute.main([*words, "--out", str(folder / "store")]) == 0
    return folder


def test_precompute_adds_two_copies_of_every_training_clip_and_of_no_other(augmented):
    store = open_store(augmented / "store")
    training = {clip.track for clip in store.clips if clip.split == "train" and not clip.variant}
    copies = [clip for clip in store.clips if clip.variant]
    expected = {f"{track}+{variant}" for track in training for variant in ORIGINAL_VARIANTS}
    assert sorted(clip.track for clip in copies) == sorted(expected)
    assert {clip.split for clip in copies} == {"train"}
    assert store.summary()["altered_copies"] == 2 * len(training)


def test_copies_are_altered_as_waveforms_before_their_features(augmented):
    store = open_store(augmented / "store")
    for clip, frames in store.read():
        waveform = audio.load(augmented / "music" / clip.file, 22050)
        expected = waveform_to_frames(altered(waveform, clip.variant, clip.original_track), FrontEndParams("mfcc13"))
        np.testing.assert_allclose(frames, expected, atol=2e-3)


def test_copies_train_by_default_are_left_out_by_flag_and_never_score(augmented):
    store = open_store(augmented / "store")
    params = dataclasses.replace(preset("lstm_optim"), features="mfcc13", window_frames=16)
    with_copies, without = (
        training.make_plan(store, dataclasses.replace(params, augmentation=wanted)) for wanted in (True, False)
    )
    assert len(with_copies.train_rows) == 3 * len(without.train_rows)
    for split in ("train", "validation", "test"):
        assert not any(store.clips[row].variant for row in store.rows_of(split))
    assert train.params_from(train.make_parser().parse_args(["--no-augmentation"]), params).augmentation is False


def test_after_another_split_copies_follow_their_originals(augmented):
    store = open_store(augmented / "store")
    for fold in range(3):
        options = train.make_parser().parse_args(["--folds", "3", "--fold", str(fold)])
        clips, _ = apply_split_options(store.clips, options)
        sides = {clip.track: clip.split for clip in clips}
        assert any(clip.variant and not clip.split for clip in clips)
        for clip in clips:
            if clip.variant:
                assert clip.split == ("train" if sides[clip.original_track] == "train" else "")


def test_any_variants_can_be_chosen(augmented, tmp_path, capsys):
    words = [str(augmented / "music"), "--features", "mfcc13", "--min-seconds", "0.5", "--out", str(tmp_path / "store")]
    assert precompute.main([*words, "--augment", "--variants", "tempo", "pitch", "tempo"]) == 0
    store = open_store(tmp_path / "store")
    training = {clip.track for clip in store.clips if clip.split == "train" and not clip.variant}
    copies = {clip.track for clip in store.clips if clip.variant}
    assert copies == {f"{track}+{variant}" for track in training for variant in ("tempo", "pitch")}
    assert precompute.main([*words, "--variants", "tempo"]) == 2
    assert "--augment" in capsys.readouterr().err


def test_an_archive_for_others_has_no_copies(augmented, tmp_path):
    store = open_store(augmented / "store")
    export_features(augmented / "store", tmp_path / "all.npz")
    tracks = set(np.load(tmp_path / "all.npz")["IDS"])
    assert tracks == {clip.track for clip in originals(store.clips)}


def test_a_file_that_fails_is_named_once_though_its_copies_fail_too(tmp_path, tone, capsys):
    for number in range(4):
        path = tmp_path / "music" / ("bebop", "polka")[number % 2] / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(seconds=0.6, seed=number), 22050)
    (tmp_path / "split.csv").write_text("track,split\n0,train\n1,train\n2,train\n3,train\n")
    samples = np.full(2000, 0.1, np.float32)
    soundfile.write(tmp_path / "music" / "polka" / "3.wav", samples, 22050)
    words = ["--features", "mfcc13", "--min-seconds", "0.5", "--augment", "--split-list", str(tmp_path / "split.csv")]
    assert precompute.main([str(tmp_path / "music"), *words, "--out", str(tmp_path / "store")]) == 1
    assert capsys.readouterr().err.count("failed: polka/3.wav") == 1
