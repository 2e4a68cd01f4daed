"""Spectral contrast: how far the peaks of a band stand above its valleys.

Only the few strongest and weakest bins of a band count. `tf.sort` and `tf.math.top_k` go through the bins of a frame
one by one, and would take half of the time of the whole front end; here every comparison is one operation on many bins
of all frames. Each band is dealt into columns, which are sorted; then two columns at a time become one, until one
column is left.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import tensorflow as tf

from keras_genre.features import filters
from keras_genre.features.graph.spectrum import decibels
from keras_genre.params import FrontEndParams

# Fewer columns are longer and take more comparisons to sort, more of them take more to become one.
_MOST_COLUMNS = 16


class _Order(NamedTuple):
    first: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    last: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    worst: float
    """No power comes later."""


_STRONGEST = _Order(tf.maximum, tf.minimum, 0.0)
_WEAKEST = _Order(tf.minimum, tf.maximum, tf.float32.max)


def contrast7(power: tf.Tensor, params: FrontEndParams) -> tf.Tensor:
    """Return `librosa.feature.spectral_contrast` in dB: mean of a band's strongest bins over that of its weakest.

    Parameters
    ----------
    power : tf.Tensor [shape=(1 + fft // 2, frames), float32]
    params : FrontEndParams

    Returns
    -------
    tf.Tensor [shape=(7, frames), float32]
        Of magnitudes, which librosa takes for powers; from 200 Hz in octaves, after one band below.
    """
    peaks, valleys = [], []
    for first, end, averaged in filters.contrast_bands(params):
        lanes, rest = _sorted_lanes(power[first:end], _columns(end - first, averaged))
        peaks.append(_mean_magnitude_of_first(lanes[: -averaged - 1 : -1], rest, _STRONGEST))
        valleys.append(_mean_magnitude_of_first(lanes[:averaged], rest, _WEAKEST))
    return decibels(tf.concat(peaks, axis=0)) - decibels(tf.concat(valleys, axis=0))


def _columns(bins: int, averaged: int) -> int:
    """Return a power of two so small that a column has at least as many bins as are averaged."""
    return min(1 << ((bins // averaged).bit_length() - 1), _MOST_COLUMNS)


def _sorted_lanes(band: tf.Tensor, columns: int) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Deal the bins of a band into columns and sort each, weakest first; what does not fill a row is left over."""
    count = band.shape[0] // columns
    *lanes, rest = tf.split(band, [columns] * count + [band.shape[0] - columns * count])
    _exchange(lanes, exchanges(count), _WEAKEST)
    return lanes, rest


def _mean_magnitude_of_first(lanes: list[tf.Tensor], rest: tf.Tensor, order: _Order) -> tf.Tensor:
    """Return the mean magnitude of the bins that come first, as many as there are lanes [shape=(1, frames)].

    Parameters
    ----------
    lanes : list of tf.Tensor [shape=(columns, frames), float32]
        Powers; in each column what comes first is in the first lane. The columns are a power of two.
    rest : tf.Tensor [shape=(some, frames), float32]
        More powers, fewer than columns.
    order : _Order
    """
    count, columns = len(lanes), lanes[0].shape[0]
    if rest.shape[0]:
        lanes = [*lanes, tf.pad(rest, [[0, columns - rest.shape[0]], [0, 0]], constant_values=order.worst)]
        _exchange(lanes, ((lane, count) for lane in range(count)), order)
        lanes = lanes[:count]
    while columns > 1:
        columns //= 2
        # What comes first of two sorted columns: of the one that falls and the other that rises, the better everywhere.
        halves = [tf.split(lane, 2) for lane in lanes]
        lanes = [order.first(one, other) for (one, _), (_, other) in zip(halves, halves[::-1], strict=True)]
        if columns > 1:
            _exchange(lanes, merges(count), order)
    return tf.reduce_mean(tf.sqrt(tf.concat(lanes, axis=0)), axis=0, keepdims=True)


def _exchange(lanes: list[tf.Tensor], pairs: Iterable[tuple[int, int]], order: _Order) -> None:
    for low, high in pairs:
        pair = lanes[low], lanes[high]
        lanes[low], lanes[high] = order.first(*pair), order.last(*pair)


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


def merges(count: int) -> Iterator[tuple[int, int]]:
    """Yield the comparisons that sort so many values that rise and then fall: as `exchanges` does.

    Batcher's bitonic merge of a power of two, less the comparisons with values in front that would be smaller than all.
    """
    size = 1 << max(count - 1, 0).bit_length()
    distance = size // 2
    while distance:
        for low in range(size - count, size):
            if not low & distance:
                yield low - size + count, low - size + count + distance
        distance //= 2
