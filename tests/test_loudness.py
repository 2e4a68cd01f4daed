"""A front end that brings clips to one level does not hear how loud they are, in librosa's way as in the graph's."""

import dataclasses

import numpy as np
import pytest

from keras_genre.errors import ParameterError
from keras_genre.features.graph import waveforms_to_frames
from keras_genre.features.reference import levelled, waveform_to_frames
from keras_genre.params import QUIETEST_RMS, FrontEndParams

PLAIN = FrontEndParams.of("musicnn_mel96")
LEVELLED = dataclasses.replace(PLAIN, rms_dbfs=-17.0)
NOISE = np.random.default_rng(0).standard_normal(16000).astype(np.float32) * 0.05


def twin(y: np.ndarray, params: FrontEndParams) -> np.ndarray:
    return waveforms_to_frames(y[np.newaxis], params).numpy()[0]


def test_the_level_is_the_one_asked_for():
    rms = np.sqrt(np.mean(levelled(NOISE, LEVELLED) ** 2))
    assert 20 * np.log10(rms) == pytest.approx(-17, abs=1e-3)
    assert levelled(NOISE, PLAIN) is NOISE


@pytest.mark.parametrize("gain", [0.1, 0.5, 4.0])
def test_a_louder_or_softer_copy_has_the_same_frames(gain):
    frames = waveform_to_frames(NOISE, LEVELLED)
    np.testing.assert_allclose(waveform_to_frames(gain * NOISE, LEVELLED), frames, atol=1e-4)
    np.testing.assert_allclose(twin(gain * NOISE, LEVELLED), frames, atol=1e-4)
    assert np.abs(waveform_to_frames(gain * NOISE, PLAIN) - waveform_to_frames(NOISE, PLAIN)).max() > 0.2


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_silence_stays_silent_and_the_noise_below_it_is_not_made_music(count):
    for frames in (
        waveform_to_frames(np.zeros(count, np.float32), LEVELLED),
        twin(np.zeros(count, np.float32), LEVELLED),
    ):
        np.testing.assert_array_equal(frames, np.zeros_like(frames))
    hiss = NOISE / NOISE.std() * QUIETEST_RMS / 100
    raised = levelled(hiss, LEVELLED)
    assert 20 * np.log10(raised.std()) == pytest.approx(-17 - 40, abs=0.1)


@pytest.mark.parametrize("level", [1.0, -101.0])
def test_levels_that_no_clip_can_have_are_refused(level):
    with pytest.raises(ParameterError, match="rms_dbfs"):
        dataclasses.replace(PLAIN, rms_dbfs=level)
