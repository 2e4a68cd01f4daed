"""Chroma: the power in each of the twelve pitch classes, after the tuning of the clip is estimated."""

import numpy as np
import tensorflow as tf

from keras_genre.features import filters
from keras_genre.features.graph.spectrum import divisor
from keras_genre.params import FrontEndParams

_TUNINGS = 100
_LOWEST_PITCH_HZ, _HIGHEST_PITCH_HZ = 150.0, 4000.0
_PEAK_THRESHOLD = 0.1


def chroma12(power: tf.Tensor, params: FrontEndParams) -> tf.Tensor:
    """Return `librosa.feature.chroma_stft`: the power in each pitch class from C to B, the strongest being 1.

    Parameters
    ----------
    power : tf.Tensor [shape=(1 + fft // 2, frames), float32]
        The frames of one clip, which has one tuning.
    params : FrontEndParams

    Returns
    -------
    tf.Tensor [shape=(12, frames), float32]
        In [0, 1]; all 0 in frames of silence.
    """
    raw = tf.matmul(chroma_filters(tuning_of(power, params), params), power)
    return raw / divisor(tf.reduce_max(raw, axis=0, keepdims=True))


def chroma_filters(tuning: tf.Tensor, params: FrontEndParams) -> tf.Tensor:
    """Return `librosa.filters.chroma(tuning=tuning)` [shape=(12, 1 + fft // 2), float32].

    The formula takes less time than one row of frames, so it is in the graph: a table of all 100 banks would be
    4.9 MB of an exported model.

    Parameters
    ----------
    tuning : tf.Tensor [shape=(), float64]
        In semitones.
    params : FrontEndParams
    """
    at_440_hz, widths = filters.bin_semitones(params)
    semitones = tf.constant(at_440_hz) - tuning
    # librosa counts from A and then rolls the rows, so that they begin with C.
    classes = (np.arange(filters.CHROMA_BINS)[:, None] + 3.0) % filters.CHROMA_BINS
    half = filters.CHROMA_BINS / 2
    distances = tf.math.floormod(semitones - classes + half, filters.CHROMA_BINS) - half
    bumps = tf.exp(-0.5 * tf.square(2 * distances / tf.constant(widths)))
    columns = bumps / tf.sqrt(tf.reduce_sum(tf.square(bumps), axis=0))
    octave_weights = tf.exp(-0.5 * tf.square((semitones / filters.CHROMA_BINS - 5.0) / 2.0))
    return tf.cast(columns * octave_weights, tf.float32)


def tuning_of(power: tf.Tensor, params: FrontEndParams) -> tf.Tensor:
    """Estimate how far a clip is from 440 Hz: `librosa.estimate_tuning` of its power spectrogram.

    Parameters
    ----------
    power : tf.Tensor [shape=(1 + fft // 2, frames), float32]
    params : FrontEndParams

    Returns
    -------
    tf.Tensor [shape=(), float64]
        In semitones, a multiple of 0.01 in [-0.5, 0.5); 0 where there is no pitch, as in silence.
    """
    pitches, strengths = spectral_peaks(power, params)
    # Of the peaks, the stronger half counts.
    selected = tf.boolean_mask(pitches, strengths >= _median(strengths))
    # In float32 as far as librosa's are, so that a pitch at the edge between two bins falls on the same side.
    octaves = tf.cast(_log2(tf.cast(selected / 27.5, tf.float64)), tf.float32)
    semitones = tf.cast(filters.CHROMA_BINS * octaves, tf.float64)
    # The first bin begins half a semitone flat.
    bins = tf.cast(tf.floor(_TUNINGS * tf.math.floormod(semitones + 0.5, 1.0)), tf.int32)
    counts = tf.math.bincount(bins, minlength=_TUNINGS, maxlength=_TUNINGS)
    fullest = tf.cast(tf.argmax(counts), tf.float64) / _TUNINGS - 0.5
    return tf.where(tf.size(selected) > 0, fullest, 0.0)


def spectral_peaks(power: tf.Tensor, params: FrontEndParams) -> tuple[tf.Tensor, tf.Tensor]:
    """Find the pitches of a clip: the peaks that `librosa.piptrack` reports, in the order of its rows.

    Returns
    -------
    pitches : tf.Tensor [shape=(peaks,), float32]
        In Hz, between bins by a parabola through the peak and its neighbours.
    strengths : tf.Tensor [shape=(peaks,), float32]
        Height of the parabola.
    """
    frequencies = filters.bin_frequencies(params)
    highest = min(_HIGHEST_PITCH_HZ, params.sample_rate_hz / 2)
    inside = np.flatnonzero((frequencies >= _LOWEST_PITCH_HZ) & (frequencies < highest))
    first, end = inside[0], inside[-1] + 1
    centre, below, above = (power[first + offset : end + offset] for offset in (0, -1, 1))
    threshold = _PEAK_THRESHOLD * tf.reduce_max(power, axis=0)
    places = tf.where((centre > tf.maximum(below, threshold)) & (centre >= above))
    bins, frames = places[:, 0] + first, tf.shape(power, tf.int64)[1]
    flat = tf.reshape(power, [-1])
    left, peak, right = (tf.gather(flat, (bins + offset) * frames + places[:, 1]) for offset in (-1, 0, 1))
    slope = tf.cast(right - left, tf.float64) / 2
    curvature = tf.cast(right + left, tf.float64) - 2 * tf.cast(peak, tf.float64)
    shift = tf.math.divide_no_nan(-slope, curvature)
    shift = tf.cast(tf.where(tf.abs(slope) >= tf.abs(curvature), tf.zeros_like(shift), shift), tf.float32)
    strengths = peak + 0.25 * (right - left) * shift
    pitches = (tf.cast(bins, tf.float64) + tf.cast(shift, tf.float64)) * (params.sample_rate_hz / params.fft_samples)
    return tf.cast(pitches, tf.float32), strengths


def _median(values: tf.Tensor) -> tf.Tensor:
    """Return the upper median of a vector, which compares like numpy's: at least half of the values reach it."""
    half = (tf.size(values) - 1) // 2
    return tf.raw_ops.NthElement(input=tf.concat([values, [0.0]], axis=0), n=tf.maximum(half, 0), reverse=True)


def _log2(values: tf.Tensor) -> tf.Tensor:
    return tf.math.log(values) / np.log(2.0)
