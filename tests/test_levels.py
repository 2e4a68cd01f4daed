"""`log_mel128_levels`: a log-mel spectrum between its own lowest and highest value, 12.9 times a second."""

import csv

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from keras_genre.features.graph import waveforms_to_frames
from keras_genre.features.reference import waveform_to_frames
from keras_genre.params import FrontEndParams, levels_frames_of

LEVELS = FrontEndParams("log_mel128_levels")


def librosas(y: np.ndarray) -> np.ndarray:
    return waveform_to_frames(y, LEVELS)


def twins(y: np.ndarray) -> np.ndarray:
    return waveforms_to_frames(y[np.newaxis], LEVELS).numpy()[0]


@pytest.mark.parametrize("seconds", [29.5, 29.93, 30.0, 30.013, 30.5])
def test_clips_of_half_a_minute_have_one_length(seconds):
    assert LEVELS.frames_of(round(seconds * 22050)) == 387


@pytest.mark.parametrize("seconds", [5, 20, 45, 240, 3600])
def test_other_clips_have_12_9_frames_a_second(seconds):
    assert LEVELS.frames_of(seconds * 22050) == pytest.approx(12.9 * seconds, abs=2 + 0.001 * 12.9 * seconds)
    assert LEVELS.hop_seconds == pytest.approx(1 / 12.9, rel=0.002)


@given(st.integers(1, 2000))
def test_the_least_number_of_samples_gives_the_frames_and_one_sample_less_does_not(frames):
    samples = LEVELS.samples_of(frames)
    assert LEVELS.frames_of(samples) >= frames
    assert samples == 0 or LEVELS.frames_of(samples - 1) < frames


@given(st.integers(1, 5000))
def test_a_longer_clip_never_has_fewer_frames(spectra):
    assert levels_frames_of(spectra + 1) >= levels_frames_of(spectra) >= 1


def test_the_quietest_value_is_0_and_the_loudest_255():
    y = np.random.default_rng(0).standard_normal(22050 * 12).astype(np.float32) * np.linspace(0, 0.1, 22050 * 12)
    levels = librosas(y.astype(np.float32))
    assert levels.min() >= 0
    assert 240 < levels.max() <= 255.001


def test_silence_is_0():
    for frames in (librosas(np.zeros(22050, np.float32)), twins(np.zeros(22050, np.float32))):
        np.testing.assert_array_equal(frames, np.zeros((13, 128)))


@pytest.mark.parametrize("samples", [1, 511, 512, 2048, 20_000, 660_000])
def test_the_graph_gives_what_librosa_gives_at_every_length(samples):
    y = np.random.default_rng(1).standard_normal(samples).astype(np.float32) * 0.1
    expected = librosas(y)
    assert expected.shape == (LEVELS.frames_of(samples), 128)
    np.testing.assert_allclose(twins(y), expected, atol=1e-2)


def test_frames_of_music_are_those_of_the_published_array(shared_data):
    with np.load(shared_data / "gtzan_logmel" / "train_validation.npz") as data:
        published = dict(zip(data["IDS"].tolist(), data["X"], strict=True))
    with (shared_data / "gtzan_mini" / "index.csv").open(newline="") as lines:
        tracks = [row["track"] for row in csv.DictReader(lines) if row["track"] in published]
    # The longest and the shortest recordings among them, and some of the usual length.
    chosen = {"country.00002", "disco.00003", "country.00003"} | set(tracks[::8])
    for track in sorted(chosen):
        y, _ = soundfile.read(shared_data / "gtzan_mini" / f"{track}.flac", dtype="float32")
        levels = librosas(y)
        assert np.abs(levels - published[track]).mean() < 0.5, track
        np.testing.assert_allclose(twins(y), levels, atol=1e-2)
