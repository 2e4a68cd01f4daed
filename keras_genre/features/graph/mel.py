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
    levels = decibels(mel_power(power, params))
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
    levels = decibels(mel_power(power, params))
    return levels - tf.reduce_max(levels)


def mel_power(power: tf.Tensor, params: FrontEndParams) -> tf.Tensor:
    """Return the power in each mel band [shape=(frames, 128), float32]."""
    bank = filters.mel_filters(params, _MEL_BANDS)
    # Nearly all of the bank is zeros, so it is applied in blocks of bands, each to the bins that it covers.
    blocks = []
    for bands in np.array_split(np.arange(_MEL_BANDS), _BLOCKS):
        covered = np.flatnonzero(bank[:, bands].any(axis=1))
        first, end = (covered[0], covered[-1] + 1) if covered.size else (0, 1)
        blocks.append(tf.matmul(power[:, first:end], tf.constant(bank[first:end, bands])))
    return tf.concat(blocks, axis=1)
