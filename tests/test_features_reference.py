"""The reference front end is librosa, number for number, from one transform."""

import librosa
import numpy as np
import pytest
import soundfile

from keras_genre.features.reference import waveform_to_frames
from keras_genre.params import FEATURE_COLUMNS, FEATURE_DIMS, FrontEndParams

KINDS = ("spectral33", "mfcc13", "log_mel128")
RATE = 22050


def separate_calls(kind: str, y: np.ndarray) -> np.ndarray:
    """The features as the original system asked librosa for them, each from the waveform, as float32."""
    mel = librosa.feature.melspectrogram(y=y, sr=RATE)
    calls = {
        "mfcc13": lambda: [librosa.feature.mfcc(y=y, sr=RATE, n_mfcc=13)],
        "log_mel128": lambda: [librosa.power_to_db(mel, ref=np.max)],
        "spectral33": lambda: [
            librosa.feature.mfcc(y=y, sr=RATE, n_mfcc=13),
            librosa.feature.spectral_centroid(y=y, sr=RATE),
            librosa.feature.chroma_stft(y=y, sr=RATE),
            librosa.feature.spectral_contrast(y=y, sr=RATE),
        ],
    }
    return np.concatenate(calls[kind]()).T.astype(np.float32)


def synthetic(name: str) -> np.ndarray:
    time = np.arange(3 * RATE) / RATE
    noise = np.random.default_rng(0).standard_normal(time.size) * 0.1
    signals = {
        "sine": 0.5 * np.sin(2 * np.pi * 440 * time),
        "sine 40 cents sharp": 0.5 * np.sin(2 * np.pi * 440 * 2 ** (0.4 / 12) * time),
        "noise": noise,
        "silence": np.zeros(time.size),
        "impulse": np.eye(1, time.size, 1000)[0],
        "clipped": np.sign(noise),
    }
    return signals[name].astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["sine", "sine 40 cents sharp", "noise", "silence", "impulse", "clipped"])
def test_synthetic_signals_give_exactly_what_separate_librosa_calls_give(kind, name):
    y = synthetic(name)
    np.testing.assert_array_equal(waveform_to_frames(y, FrontEndParams(kind)), separate_calls(kind, y))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("track", ["blues.00000", "classical.00003", "hiphop.00004", "metal.00005"])
def test_music_gives_exactly_what_separate_librosa_calls_give(kind, track, shared_data):
    y, _ = soundfile.read(shared_data / "gtzan_mini" / f"{track}.flac", dtype="float32")
    np.testing.assert_array_equal(waveform_to_frames(y, FrontEndParams(kind)), separate_calls(kind, y))


@pytest.mark.parametrize("samples", [1, 511, 512, 1024, 2047, 2048, 2049, 50_000])
@pytest.mark.parametrize("kind", KINDS)
def test_any_length_gives_one_finite_frame_a_hop(kind, samples):
    params = FrontEndParams(kind)
    frames = waveform_to_frames(synthetic("noise")[:samples], params)
    assert frames.shape == (1 + samples // 512, FEATURE_DIMS[kind])
    assert frames.shape[0] == params.frames_of(samples)
    assert frames.dtype == np.float32
    assert np.isfinite(frames).all()


def test_the_fewest_samples_of_a_window_give_just_that_window():
    params = FrontEndParams()
    assert params.frames_of(params.samples_of(128)) == 128
    assert params.frames_of(params.samples_of(128) - 1) == 127


def test_a_tone_stands_in_the_frame_of_its_second():
    y = np.zeros(2 * RATE, np.float32)
    y[RATE : RATE + 2048] = synthetic("sine")[:2048]
    loudest = waveform_to_frames(y, FrontEndParams("log_mel128")).max(axis=1).argmax()
    assert loudest * FrontEndParams().hop_seconds == pytest.approx(1.0 + 1024 / RATE, abs=512 / RATE)


def test_a_kind_that_is_part_of_another_is_its_first_columns():
    y = synthetic("noise")
    for (whole, part), columns in FEATURE_COLUMNS.items():
        np.testing.assert_array_equal(
            waveform_to_frames(y, FrontEndParams.of(whole))[:, :columns],
            waveform_to_frames(y, FrontEndParams.of(part)),
        )
