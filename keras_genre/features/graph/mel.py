"""The kinds that are made of the mel spectrum."""

import numpy as np
import tensorflow as tf

from keras_genre.features import filters
from keras_genre.features.graph.spectrum import decibels
from keras_genre.params import (
    FEATURE_DIMS,
    LEVELS_CLIP_FRAMES,
    LEVELS_CLIP_RANGE,
    LEVELS_CLIP_SPECTRA,
    FrontEndParams,
)

MEL_BANDS = FEATURE_DIMS["log_mel128"]
_BLOCKS = 8


def mfcc13(mel: tf.Tensor) -> tf.Tensor:
    """Return `librosa.feature.mfcc(n_mfcc=13)`: the first 13 cosine coefficients of the mel spectrum in dB.

    Parameters
    ----------
    mel : tf.Tensor [shape=(128, frames), float32]
        What `mel_power` returns.

    Returns
    -------
    tf.Tensor [shape=(13, frames), float32]
    """
    levels = decibels(mel)
    # All but the first coefficient ignore the mean. Taken out before, it costs them no digits.
    mean = tf.reduce_mean(levels, axis=0, keepdims=True)
    others = filters.cosine_transform(MEL_BANDS, FEATURE_DIMS["mfcc13"])[:, 1:].T
    return tf.concat([np.sqrt(MEL_BANDS) * mean, tf.matmul(tf.constant(others), levels - mean)], axis=0)


def log_mel128(mel: tf.Tensor) -> tf.Tensor:
    """Return `power_to_db(melspectrogram, ref=max, top_db=80)`: dB below the loudest bin, in [-80, 0].

    Parameters
    ----------
    mel : tf.Tensor [shape=(128, frames), float32]
        What `mel_power` returns.

    Returns
    -------
    tf.Tensor [shape=(128, frames), float32]
    """
    levels = decibels(mel)
    return levels - tf.reduce_max(levels)


def log_mel128_levels(mel: tf.Tensor) -> tf.Tensor:
    """Return `log_mel128` from 0 at the clip's lowest value to 255 at its highest, at 12.9 frames a second.

    Parameters
    ----------
    mel : tf.Tensor [shape=(128, spectra), float32]
        What `mel_power` returns.

    Returns
    -------
    tf.Tensor [shape=(128, levels_frames_of(spectra)), float32]
        In [0, 255].
    """
    levels = log_mel128(mel)
    low, high = tf.reduce_min(levels), tf.reduce_max(levels)
    # Their products outgrow 32 bits in clips of hours.
    spectra = tf.shape(levels, tf.int64)[1]
    shortest, longest = LEVELS_CLIP_RANGE
    in_proportion = (2 * LEVELS_CLIP_FRAMES * spectra + LEVELS_CLIP_SPECTRA) // (2 * LEVELS_CLIP_SPECTRA)
    is_usual = (spectra >= shortest) & (spectra <= longest)
    frames = tf.where(is_usual, tf.cast(LEVELS_CLIP_FRAMES, tf.int64), tf.maximum(in_proportion, 1))
    chosen = (2 * tf.range(frames) + 1) * spectra // (2 * frames + 1)
    return (tf.gather(levels, chosen, axis=1) - low) * (255.0 / tf.maximum(high - low, 1e-6))


def musicnn_mel96(mel: tf.Tensor) -> tf.Tensor:
    """Return `log10(10000 * mel + 1)`.

    Parameters
    ----------
    mel : tf.Tensor [shape=(96, frames), float32]
        What `musicnn_mel_power` returns.

    Returns
    -------
    tf.Tensor [shape=(96, frames), float32]
        At least 0.
    """
    return tf.math.log(10000.0 * mel + 1.0) / np.log(10.0)


def musicnn_mel_power(power: tf.Tensor, params: FrontEndParams) -> tf.Tensor:
    """Return the power in 96 mel bands of a spectrum that `filters.musicnn_damping` has damped."""
    damping = tf.constant(filters.musicnn_damping(params)[:, np.newaxis] ** 2)
    return mel_power(power * damping, params, filters.MUSICNN_BANDS)


def mel_power(power: tf.Tensor, params: FrontEndParams, bands: int = MEL_BANDS) -> tf.Tensor:
    """Return the power in each mel band [shape=(bands, frames), float32] of power (1 + fft // 2, frames)."""
    bank = filters.mel_filters(params, bands)
    # Nearly all of the bank is zeros, so it is applied in blocks of bands, each to the bins that it covers.
    blocks = []
    for block in np.array_split(np.arange(bands), _BLOCKS):
        covered = np.flatnonzero(bank[:, block].any(axis=1))
        first, end = (covered[0], covered[-1] + 1) if covered.size else (0, 1)
        blocks.append(tf.matmul(tf.constant(bank[first:end, block].T), power[first:end]))
    return tf.concat(blocks, axis=0)
