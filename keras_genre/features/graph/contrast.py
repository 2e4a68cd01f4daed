"""Spectral contrast: how far the peaks of a band stand above its valleys."""

import tensorflow as tf

from keras_genre.features import filters
from keras_genre.features.graph.spectrum import decibels
from keras_genre.params import FrontEndParams


def contrast7(power: tf.Tensor, params: FrontEndParams) -> tf.Tensor:
    """Return `librosa.feature.spectral_contrast` in dB: mean of a band's strongest bins over that of its weakest.

    Parameters
    ----------
    power : tf.Tensor [shape=(frames, 1 + fft // 2), float32]
    params : FrontEndParams

    Returns
    -------
    tf.Tensor [shape=(frames, 7), float32]
        Of magnitudes, which librosa takes for powers; from 200 Hz in octaves, after one band below.
    """
    peaks, valleys = [], []
    for first, end, averaged in filters.contrast_bands(params):
        band = power[:, first:end]
        peaks.append(_mean_magnitude(tf.math.top_k(band, averaged, sorted=False).values))
        valleys.append(_mean_magnitude(-tf.math.top_k(-band, averaged, sorted=False).values))
    return decibels(tf.stack(peaks, axis=1)) - decibels(tf.stack(valleys, axis=1))


def _mean_magnitude(power: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.sqrt(power), axis=1)
