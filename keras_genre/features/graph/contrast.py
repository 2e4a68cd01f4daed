"""Spectral contrast: how far the peaks of a band stand above its valleys."""

import itertools
from collections.abc import Callable, Iterator

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
        lanes, rest = _sorted_lanes(power[:, first:end], _best_number_of_lanes(end - first, averaged))
        peaks.append(_mean_magnitude_of_first(lanes[::-1], rest, averaged, tf.reduce_max, 0.0))
        valleys.append(_mean_magnitude_of_first(lanes, rest, averaged, tf.reduce_min, tf.float32.max))
    return decibels(tf.concat(peaks, axis=1)) - decibels(tf.concat(valleys, axis=1))


def _best_number_of_lanes(bins: int, averaged: int) -> int:
    """Return how many lanes leave the fewest columns, of as many as are averaged and not twice as many.

    More lanes take longer to sort than the columns that they save.
    """
    return min(range(averaged, 2 * averaged), key=lambda lanes: bins // lanes + bins % lanes)


def _sorted_lanes(band: tf.Tensor, lanes: int) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Deal the bins of a band into columns and sort each column; what does not fill a column is left over.

    `tf.sort` and `tf.math.top_k` go through the bins of a frame one by one, and would take half of the time of the
    whole front end. Here every comparison is one operation on whole lanes.
    """
    width = band.shape[1] // lanes
    dealt = tf.unstack(tf.reshape(band[:, : lanes * width], [-1, lanes, width]), axis=1)
    for low, high in exchanges(lanes):
        pair = dealt[low], dealt[high]
        dealt[low], dealt[high] = tf.minimum(*pair), tf.maximum(*pair)
    return dealt, band[:, lanes * width :]


def exchanges(count: int) -> Iterator[tuple[int, int]]:
    """Yield the comparisons that sort any so many values: pairs of places, the smaller value to go to the first.

    Batcher's merge exchange (Knuth, The Art of Computer Programming 3, algorithm 5.2.2 M).
    """
    most = 1 << max(count - 1, 0).bit_length() >> 1
    bit = most
    while bit:
        offset, residue, distance = most, 0, bit
        while True:
            yield from ((low, low + distance) for low in range(count - distance) if low & bit == residue)
            if offset == bit:
                break
            offset, residue, distance = offset // 2, bit, offset - bit
        bit //= 2


def _mean_magnitude_of_first(
    lanes: list[tf.Tensor], rest: tf.Tensor, averaged: int, best_of: Callable[..., tf.Tensor], worst: float
) -> tf.Tensor:
    """Return the mean magnitude of the bins that come first [shape=(frames, 1)].

    Parameters
    ----------
    lanes : list of tf.Tensor [shape=(frames, columns), float32]
        Powers; in each column what comes first is in the first lane. At least as many as are averaged.
    rest : tf.Tensor [shape=(frames, some), float32]
        More powers.
    averaged : int
        How many.
    best_of : tf.reduce_max or tf.reduce_min
    worst : float
        No power comes later.
    """
    lanes = lanes[:averaged]
    if rest.shape[1]:
        worst_of_rest = tf.fill(tf.shape(rest), worst)
        lanes = [tf.concat([lane, worst_of_rest if depth else rest], axis=1) for depth, lane in enumerate(lanes)]
    best = best_of(lanes[0], axis=1, keepdims=True)
    missing = tf.fill(tf.shape(best), float(averaged))
    total = tf.zeros_like(best)
    while len(lanes) > 1:
        # Several columns may have it, as in silence.
        is_best = lanes[0] == best
        taken = tf.minimum(missing, tf.reduce_sum(tf.cast(is_best, tf.float32), axis=1, keepdims=True))
        total += taken * tf.sqrt(best)
        missing -= taken
        # What is deeper in a column than there are turns left cannot come to the front.
        lanes = [tf.where(is_best, behind, lane) for lane, behind in itertools.pairwise(lanes)]
        best = best_of(lanes[0], axis=1, keepdims=True)
    return (total + missing * tf.sqrt(best)) / averaged
