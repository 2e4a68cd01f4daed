"""Altered copies of training clips, made of the waveform before any feature is computed.

The original trained on each clip three times: as it is, in noise, and louder or quieter. Copies at another pitch or
tempo can be made too. A copy is a clip of its own in a store, marked by `Clip.variant`. It only ever trains, and only
where the clip that it is made of trains.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from keras_genre.clips import Clip
from keras_genre.params import FrontEndParams

VARIANTS = ("noise", "gain", "pitch", "tempo")
ORIGINAL_VARIANTS = VARIANTS[:2]
"""Those that the original had."""

NOISE_RMS_RATIO = 0.4
GAINS = (0.5, 2.0)
SEMITONES = (-2, -1, 1, 2)
TEMPO_RATES = (0.9, 1.1)


def altered(waveform: np.ndarray, variant: str, track: str) -> np.ndarray:
    """Alter a waveform.

    Parameters
    ----------
    waveform : np.ndarray [shape=(samples,), float32]
        In [-1, 1].
    variant : str
        `noise`: Gaussian noise of 0.4 times the waveform's root mean square is added. `gain`: all samples are
        multiplied by one of `GAINS`; a sample may then be beyond 1. `pitch`: it is higher or lower by one of
        `SEMITONES`, and as fast (`librosa.effects.pitch_shift`). `tempo`: it is faster by one of `TEMPO_RATES`, and as
        high (`librosa.effects.time_stretch`); a slower one is cut to as long as it was, a faster one begins again
        at its end. Empty: nothing is changed.
    track : str
        Name of the clip; what is drawn depends on it alone, each choice with the same probability, so that it is the
        same on every machine.

    Returns
    -------
    np.ndarray [shape=(samples,), float32]
    """
    if not variant:
        return waveform
    digest = hashlib.sha256(f"{variant} {track}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    if variant == "gain":
        return waveform * np.float32(generator.choice(GAINS))
    if variant == "pitch":
        return _shifted(waveform, int(generator.choice(SEMITONES)))
    if variant == "tempo":
        return _stretched(waveform, float(generator.choice(TEMPO_RATES)))
    rms = np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))
    noise = generator.standard_normal(waveform.size, np.float32)
    return waveform + np.float32(NOISE_RMS_RATIO * rms) * noise


def _shifted(waveform: np.ndarray, semitones: int) -> np.ndarray:
    from librosa import effects

    # The ratio of two rates alone matters.
    return effects.pitch_shift(waveform, sr=22050, n_steps=semitones).astype(np.float32, copy=False)


def _stretched(waveform: np.ndarray, rate: float) -> np.ndarray:
    from librosa import effects

    # Windows fit a copy where they fit its clip: both are as long.
    return np.resize(effects.time_stretch(waveform, rate=rate), waveform.shape).astype(np.float32, copy=False)


def heard(variants: Sequence[str], front_end: FrontEndParams) -> tuple[str, ...]:
    """Return the variants whose features differ from the clip's: a gain is not heard where loudness is taken out."""
    levels_all = front_end.rms_dbfs is not None or front_end.kind in ("log_mel128", "log_mel128_levels")
    return tuple(variant for variant in variants if variant != "gain" or not levels_all)


def copies_of(clips: Iterable[Clip], variants: Sequence[str] = ORIGINAL_VARIANTS) -> list[Clip]:
    """Return the altered copies of clips, one of each variant."""
    return [
        dataclasses.replace(clip, track=f"{clip.track}+{variant}", variant=variant)
        for clip in clips
        for variant in variants
    ]


def originals(clips: Iterable[Clip]) -> list[Clip]:
    """Return the clips that are no altered copies."""
    return [clip for clip in clips if not clip.variant]


def copies_follow(clips: Sequence[Clip], divided: Iterable[Clip]) -> list[Clip]:
    """Give altered copies their place after the clips that they are made of got theirs.

    Parameters
    ----------
    clips : sequence of Clip
        Originals and copies, in any order.
    divided : iterable of Clip
        The originals among them with their splits and groups.

    Returns
    -------
    list of Clip
        In the order of `clips`. A copy has genre and group of its original, and the split `train` where the original
        has it; else none, as a copy of a clip that is scored may not be trained on, nor one whose original is missing.
    """
    by_track = {clip.track: clip for clip in divided}
    result = []
    for clip in clips:
        if clip.variant:
            found = by_track.get(clip.original_track, dataclasses.replace(clip, split=""))
            split = "train" if found.split == "train" else ""
            result.append(dataclasses.replace(found, track=clip.track, variant=clip.variant, split=split))
        else:
            result.append(by_track[clip.track])
    return result
