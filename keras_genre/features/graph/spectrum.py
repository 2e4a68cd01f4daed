"""The power spectrogram that all kinds start from, and what is read off it directly."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_genre.features import filters
from keras_genre.params import QUIETEST_RMS, FrontEndParams

LOUDEST_SAMPLE = 1e14
"""Larger samples are taken for this; a sum of squares of a whole spectrum stays below the largest float32."""

# The arrays of so many frames stay in a core's cache from one operation to the next.
_BLOCK_FRAMES = 64
_SUMMED_ROWS = 64
_SUMMED_SAMPLES = 1 << 20
_AMIN = 1e-10
_TOP_DECIBELS = 80.0
_TINY = float(np.finfo(np.float32).tiny)


def levelled(waveform: tf.Tensor, params: FrontEndParams) -> tf.Tensor:
    """Bring a waveform [shape=(samples,), float32] to the root mean square that `params` asks for."""
    if params.rms_dbfs is None:
        return waveform
    samples = tf.size(waveform)

    def add_piece(first: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        piece = tf.cast(_bounded(waveform[first : first + _SUMMED_SAMPLES]), tf.float64)
        return first + _SUMMED_SAMPLES, total + tf.reduce_sum(tf.square(piece))

    # Piece by piece, as float64 takes twice the memory.
    start = tf.constant(0), tf.constant(0.0, tf.float64)
    _, power = tf.while_loop(lambda first, _: first < samples, add_piece, start, parallel_iterations=1)
    # Of no samples the mean would be NaN.
    rms = tf.sqrt(power / tf.cast(tf.maximum(samples, 1), tf.float64))
    return waveform * tf.cast(10 ** (params.rms_dbfs / 20) / tf.maximum(rms, QUIETEST_RMS), tf.float32)


def power_spectrogram(waveform: tf.Tensor, params: FrontEndParams) -> tf.Tensor:
    """Return the squared magnitudes of the short-time Fourier transform.

    Parameters
    ----------
    waveform : tf.Tensor [shape=(samples,), float32]
    params : FrontEndParams

    Returns
    -------
    tf.Tensor [shape=(1 + fft // 2, at least 1 + samples // hop), float32]
        As `bands_of_power` returns it.
    """
    return bands_of_power(waveform, params, 1 + params.fft_samples // 2, tf.identity)


def bands_of_power(
    waveform: tf.Tensor, params: FrontEndParams, bands: int, of_block: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """Return sums over bins of the power spectrogram, which itself never is in memory as a whole.

    The Fourier transform is made in float64 and then rounded, as librosa does it. In float32 its noise, 3e-9 of the
    frame's norm in each bin, would move the contrast of ordinary music by up to 0.2 dB, because the weakest bins of
    a band can be weaker still.

    Parameters
    ----------
    waveform : tf.Tensor [shape=(samples,), float32]
    params : FrontEndParams
    bands : int > 0
    of_block : callable
        Power of some frames (1 + fft // 2, frames) -> their bands (bands, frames), of silence 0.

    Returns
    -------
    tf.Tensor [shape=(bands, at least 1 + samples // hop), float32]
        Frames are centred, the ends padded with zeros; frames of 0 follow that fill a block. One row a band, as in
        librosa, and whole blocks: rows are then aligned pieces of memory, on which operations take half of the time.
    """
    fft, hop = params.fft_samples, params.hop_samples
    frames = 1 + tf.size(waveform) // hop
    blocks = -(-frames // _BLOCK_FRAMES)
    block_samples = (_BLOCK_FRAMES - 1) * hop + fft
    before = fft // 2
    after = (blocks - 1) * _BLOCK_FRAMES * hop + block_samples - before - tf.size(waveform)
    padded = tf.pad(waveform, [[before, tf.maximum(after, 0)]])
    window = tf.constant(filters.hann_window(fft))

    def block_bands(block: tf.Tensor) -> tf.Tensor:
        start = block * _BLOCK_FRAMES * hop
        samples = tf.cast(_bounded(tf.slice(padded, [start], [block_samples])), tf.float64)
        transform = tf.signal.rfft(tf.signal.frame(samples, fft, hop) * window)
        # As pairs of real numbers, because operations on complex ones go through them one by one.
        parts = tf.cast(tf.bitcast(transform, tf.float64), tf.float32)
        real, imaginary = tf.unstack(tf.square(tf.transpose(parts, [2, 1, 0])))
        return of_block(real + imaginary)

    shape = tf.TensorSpec([bands, _BLOCK_FRAMES], tf.float32)
    found = tf.map_fn(block_bands, tf.range(blocks), fn_output_signature=shape)
    is_inside = tf.cast(tf.range(blocks * _BLOCK_FRAMES) < frames, tf.float32)
    return tf.reshape(tf.transpose(found, [1, 0, 2]), [bands, -1]) * is_inside


def _bounded(samples: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(samples, -LOUDEST_SAMPLE, LOUDEST_SAMPLE)


def centroid1(power: tf.Tensor, params: FrontEndParams) -> tf.Tensor:
    """Return the mean frequency in Hz, weighted by magnitude: `librosa.feature.spectral_centroid`.

    Returns
    -------
    tf.Tensor [shape=(1, frames), float32]
        0 for silence.
    """
    magnitude = tf.sqrt(power)
    frequencies = tf.constant(filters.bin_frequencies(params)[:, np.newaxis], tf.float32)
    return _sum_of_bins(magnitude * frequencies) / divisor(_sum_of_bins(magnitude))


def _sum_of_bins(values: tf.Tensor) -> tf.Tensor:
    # One sum over many rows would lose digits.
    rows = values.shape[0]
    pieces = tf.split(values, [_SUMMED_ROWS] * (rows // _SUMMED_ROWS) + [rows % _SUMMED_ROWS])
    sums = tf.concat([tf.reduce_sum(piece, axis=0, keepdims=True) for piece in pieces], axis=0)
    return tf.reduce_sum(sums, axis=0, keepdims=True)


def divisor(norm: tf.Tensor) -> tf.Tensor:
    """Return what librosa divides by to normalise: the norm, or 1 where it is next to nothing."""
    return tf.where(norm < _TINY, tf.ones_like(norm), norm)


def decibels(values: tf.Tensor) -> tf.Tensor:
    """Return `librosa.power_to_db(values)`: relative to 1, at least 1e-10, at most 80 dB below the largest."""
    levels = (10.0 / np.log(10.0)) * tf.math.log(tf.maximum(values, _AMIN))
    return tf.maximum(levels, tf.reduce_max(levels) - _TOP_DECIBELS)
