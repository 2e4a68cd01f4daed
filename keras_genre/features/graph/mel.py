"""The kinds that are made of the mel spectrum."""

import numpy as np
import tensorflow as tf

from keras_genre.features import filters
from keras_genre.features.graph.spectrum import decibels
from keras_genre.params import FEATURE_DIMS, FrontEndParams

_MEL_BANDS = FEATURE_DIMS["log_mel128"]
_BLOCKS = 4


def mfcc13(power: tf.Tensor, params: FrontEndParams) -> tf.Tensor:
    """Return `librosa.feature.mfcc(n_mfcc=13)`: the first 13 cosine coefficients of the mel spectrum in dB.

    Parameters
    ----------
    power : tf.Tensor [shape=(frames, 1 + fft // 2), float32]
    params : FrontEndParams

    Returns
    -------
    tf.Tensor [shape=(frames, 13), float32]
    """
    levels = decibels(mel_power(power, params, _MEL_BANDS))
    # All but the first coefficient ignore the mean. Taken out before, it costs them no digits.
    mean = tf.reduce_mean(levels, axis=1, keepdims=True)
    others = filters.cosine_transform(_MEL_BANDS, FEATURE_DIMS["mfcc13"])[:, 1:]
    return tf.concat([np.sqrt(_MEL_BANDS) * mean, tf.matmul(levels - mean, tf.constant(others))], axis=1)


def log_mel128(power: tf.Tensor, params: FrontEndParams) -> tf.Tensor:
    """Return `power_to_db(melspectrogram, ref=max, top_db=80)`: dB below the loudest bin, in [-80, 0].

    Parameters
    ----------
    power : tf.Tensor [shape=(frames, 1 + fft // 2), float32]
    params : FrontEndParams

    Returns
    -------
    tf.Tensor [shape=(frames, 128), float32]
    """
    levels = decibels(mel_power(power, params, _MEL_BANDS))
    return levels - tf.reduce_max(levels)


def musicnn_mel96(power: tf.Tensor, params: FrontEndParams) -> tf.Tensor:
    """Return `log10(10000 * melspectrogram(n_mels=96) + 1)` of a spectrum that `filters.musicnn_damping` has damped.

    Parameters
    ----------
    power : tf.Tensor [shape=(frames, 1 + fft // 2), float32]
    params : FrontEndParams

    Returns
    -------
    tf.Tensor [shape=(frames, 96), float32]
        At least 0.
    """
    damped = power * tf.constant(filters.musicnn_damping(params) ** 2)
    return tf.math.log(10000.0 * mel_power(damped, params, filters.MUSICNN_BANDS) + 1.0) / np.log(10.0)


def mel_power(power: tf.Tensor, params: FrontEndParams, bands: int) -> tf.Tensor:
    """Return the power in each mel band [shape=(frames, bands), float32]."""
    bank = filters.mel_filters(params, bands)
    # Nearly all of the bank is zeros, so it is applied in blocks of bands, each to the bins that it covers.
    blocks = []
    for block in np.array_split(np.arange(bands), _BLOCKS):
        covered = np.flatnonzero(bank[:, block].any(axis=1))
        first, end = (covered[0], covered[-1] + 1) if covered.size else (0, 1)
        blocks.append(tf.matmul(power[:, first:end], tf.constant(bank[first:end, block])))
    return tf.concat(blocks, axis=1)
