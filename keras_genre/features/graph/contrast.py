"""Spectral contrast: how far the peaks of a band stand above its valleys."""

from collections.abc import Callable

import tensorflow as tf

from keras_genre.features import filters
from keras_genre.features.graph.spectrum import decibels
from keras_genre.params import FrontEndParams

_MOST_LANES = 8


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
        lanes, rest = _sorted_lanes(power[:, first:end], min(averaged, _MOST_LANES))
        peaks.append(_mean_magnitude_of_first(lanes[::-1], rest, averaged, tf.reduce_max, 0.0))
        valleys.append(_mean_magnitude_of_first(lanes, rest, averaged, tf.reduce_min, tf.float32.max))
    return decibels(tf.concat(peaks, axis=1)) - decibels(tf.concat(valleys, axis=1))


def _sorted_lanes(band: tf.Tensor, lanes: int) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Deal the bins of a band into columns and sort each column; what does not fill a column is left over.

    `tf.sort` and `tf.math.top_k` go through the bins of a frame one by one, and would take half of the time of the
    whole front end. Here every comparison is one operation on whole lanes.
    """
    width = band.shape[1] // lanes
    dealt = tf.unstack(tf.reshape(band[:, : lanes * width], [-1, lanes, width]), axis=1)
    # Neighbours that are out of order change places, in as many rounds as there are lanes.
    for turn in range(lanes):
        for low in range(turn % 2, lanes - 1, 2):
            pair = dealt[low], dealt[low + 1]
            dealt[low], dealt[low + 1] = tf.minimum(*pair), tf.maximum(*pair)
    return dealt, band[:, lanes * width :]


def _mean_magnitude_of_first(
    lanes: list[tf.Tensor], rest: tf.Tensor, averaged: int, best_of: Callable[..., tf.Tensor], worst: float
) -> tf.Tensor:
    """Return the mean magnitude of the bins that come first [shape=(frames, 1)].

    Parameters
    ----------
    lanes : list of tf.Tensor [shape=(frames, columns), float32]
        Powers; in each column what comes first is in the first lane.
    rest : tf.Tensor [shape=(frames, some), float32]
        More powers.
    averaged : int
        How many.
    best_of : tf.reduce_max or tf.reduce_min
    worst : float
        No power comes later.
    """
    worst_of_rest = tf.fill(tf.shape(rest), worst)
    lanes = [tf.concat([lane, worst_of_rest if depth else rest], axis=1) for depth, lane in enumerate(lanes)]
    worst_lane = tf.fill(tf.shape(lanes[0]), worst)
    missing = tf.fill([tf.shape(rest)[0], 1], float(averaged))
    total = tf.zeros_like(missing)
    for turns_left in range(averaged - 1, -1, -1):
        best = best_of(lanes[0], axis=1, keepdims=True)
        if turns_left == 0:
            total += missing * tf.sqrt(best)
            break
        # Several columns may have it, as in silence.
        is_best = lanes[0] == best
        taken = tf.minimum(missing, tf.reduce_sum(tf.cast(is_best, tf.float32), axis=1, keepdims=True))
        total += taken * tf.sqrt(best)
        missing -= taken
        behind = [*lanes[1:], worst_lane]
        lanes = [tf.where(is_best, next_one, lane) for lane, next_one in zip(lanes, behind, strict=True)][:turns_left]
    return total / averaged
