"""Altered copies are what the original made, are the same everywhere, and never score."""

import dataclasses

import numpy as np
import pytest

from keras_genre.augmentation import GAINS, VARIANTS, altered, copies_follow, copies_of, originals
from keras_genre.clips import Clip


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
