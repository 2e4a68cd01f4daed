"""Resampling in TensorFlow operations, with the filter of the resampler that `keras_genre.audio` uses.

That one is soxr in its quality HQ. Between two given rates it is one linear map, repeated every so many samples, so
its impulse response says all about it; it is measured while the graph is built. What comes out is the same to
-120 dB, in the transition band too, but for some 100 samples at either end where soxr is still filling or already
emptying its buffers: with them, to about -80 dB of 30 s of music.
"""

import math
from collections.abc import Callable

import numpy as np
import soxr
import tensorflow as tf

from keras_genre.errors import ParameterError

COMMON_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000)
"""Rates of the audio that can be resampled."""

_REACH_PERIODS = 102
_BLOCK_OUTPUTS = 128


def resample(waveform: tf.Tensor, source_rate_hz: tf.Tensor, sample_rate_hz: int) -> tf.Tensor:
    """Change the sample rate of a waveform.

    Parameters
    ----------
    waveform : tf.Tensor [shape=(samples,), float32]
    source_rate_hz : tf.Tensor [shape=(), int64]
        Its rate, which need not be known before the graph runs; one of `COMMON_RATES_HZ`, or the wanted rate.
    sample_rate_hz : int > 0
        The wanted rate. The ratio to each common rate, reduced, may have no term above 2000.

    Returns
    -------
    tf.Tensor [shape=(ceil(samples * sample_rate_hz / source_rate_hz),), float32]
        What `keras_genre.audio.load` gives; see above how closely.

    Raises
    ------
    ParameterError
        If the wanted rate cannot be.
    tf.errors.InvalidArgumentError
        When run, if the rate of the waveform is another.
    """
    if sample_rate_hz <= 0 or max(_ratio(rate, sample_rate_hz)[0] for rate in COMMON_RATES_HZ) > 2000:
        raise ParameterError(f"common rates cannot be resampled to {sample_rate_hz} Hz in a graph")
    waveform = tf.convert_to_tensor(waveform, tf.float32)
    rates = sorted({*COMMON_RATES_HZ, sample_rate_hz})
    is_rate = tf.cast(source_rate_hz, tf.int64) == tf.constant(rates, tf.int64)
    known = tf.debugging.Assert(
        tf.reduce_any(is_rate), [f"audio cannot be resampled to {sample_rate_hz} Hz here from", source_rate_hz, "Hz"]
    )
    with tf.control_dependencies([] if known is None else [known]):
        branch = tf.argmax(is_rate, output_type=tf.int32)
    alone = waveform[tf.newaxis]
    return tf.switch_case(branch, [_resampler(alone, rate, sample_rate_hz) for rate in rates])[0]


def resample_batch(waveforms: tf.Tensor, source_rate_hz: int, sample_rate_hz: int) -> tf.Tensor:
    """Change the sample rate of waveforms between two rates that are known beforehand.

    Parameters
    ----------
    waveforms : tf.Tensor [shape=(batch, samples), float32]
    source_rate_hz, sample_rate_hz : int > 0
        The rates that they have and get. Their ratio, reduced, may have no term above 2000.

    Returns
    -------
    tf.Tensor [shape=(batch, ceil(samples * sample_rate_hz / source_rate_hz)), float32]

    Raises
    ------
    ParameterError
        If the rates cannot be.
    """
    if min(source_rate_hz, sample_rate_hz) <= 0 or max(_ratio(source_rate_hz, sample_rate_hz)) > 2000:
        raise ParameterError(f"{source_rate_hz} Hz cannot be resampled to {sample_rate_hz} Hz in a graph")
    return _resampler(waveforms, source_rate_hz, sample_rate_hz)()


def _ratio(source_rate_hz: int, sample_rate_hz: int) -> tuple[int, int]:
    """Return the reduced ratio: so many outputs come of so many inputs."""
    common = math.gcd(source_rate_hz, sample_rate_hz)
    return sample_rate_hz // common, source_rate_hz // common


def _resampler(waveforms: tf.Tensor, source_rate_hz: int, sample_rate_hz: int) -> Callable[[], tf.Tensor]:
    if source_rate_hz == sample_rate_hz:
        return lambda: tf.identity(waveforms)
    response = impulse_response(source_rate_hz, sample_rate_hz)
    return lambda: _resample(waveforms, source_rate_hz, sample_rate_hz, response)


def _resample(waveforms: tf.Tensor, source_rate_hz: int, sample_rate_hz: int, response: np.ndarray) -> tf.Tensor:
    outputs, inputs = _ratio(source_rate_hz, sample_rate_hz)
    reach = len(response) // outputs
    # Every block of so many outputs is the same linear map of a stretch of inputs, so all of them are one product
    # of matrices: a polyphase filter without its loops.
    repeats = -(-_BLOCK_OUTPUTS // outputs)
    block_outputs, block_inputs = outputs * repeats, inputs * repeats
    stretch_blocks = -(-(block_inputs + 2 * reach) // block_inputs)
    stretch = stretch_blocks * block_inputs

    batch, samples = tf.unstack(tf.shape(waveforms))
    exact = tf.cast(samples, tf.float64) * (sample_rate_hz / source_rate_hz)
    wanted = tf.cast(tf.math.ceil(exact), tf.int32)
    blocks = -(-wanted // block_outputs)
    after = (blocks + stretch_blocks - 1) * block_inputs - reach - samples
    padded = tf.pad(waveforms[:, : samples + tf.minimum(after, 0)], [[0, 0], [reach, tf.maximum(after, 0)]])
    rows = tf.range(blocks)[:, None] + tf.range(stretch_blocks)
    # The rows of all waveforms go through one product of two matrices.
    stretches = tf.gather(tf.reshape(padded, [batch, -1, block_inputs]), rows, axis=1)

    offsets = tf.abs((tf.range(stretch) - reach)[:, None] * outputs - tf.range(block_outputs) * inputs)
    weights = tf.gather(tf.constant(response), tf.minimum(offsets, len(response) - 1))
    resampled = tf.matmul(tf.reshape(stretches, [-1, stretch]), weights)
    resampled = tf.reshape(resampled, [batch, -1])[:, :wanted]
    # soxr ends half an output period behind the last input; `keras_genre.audio` fills up with zeros.
    return tf.where(tf.range(wanted) < tf.cast(tf.floor(exact + 0.5), tf.int32), resampled, 0.0)


def impulse_response(source_rate_hz: int, sample_rate_hz: int) -> np.ndarray:
    """Measure what soxr makes of an impulse.

    Parameters
    ----------
    source_rate_hz, sample_rate_hz : int > 0

    Returns
    -------
    np.ndarray [shape=(reach * outputs + 1,), float32]
        Value `k` is what an input adds to an output that lies `k / outputs` input samples before or behind it,
        where `outputs / inputs` is the reduced ratio of the rates. The last one is 0, and so are all beyond.
    """
    outputs, inputs = _ratio(source_rate_hz, sample_rate_hz)
    reach = math.ceil(_REACH_PERIODS * max(1.0, inputs / outputs))
    # One impulse for each place that it can have between two outputs, far enough apart, and from the ends.
    spacing = inputs * -(-(2 * reach) // inputs) + 1
    places = spacing * np.arange(1, inputs + 1)
    impulses = np.zeros(places[-1] + spacing, np.float32)
    impulses[places] = 1.0
    answers = soxr.resample(impulses, source_rate_hz, sample_rate_hz, quality="HQ")
    times = np.arange(len(answers)) * inputs
    nearest = np.clip(np.rint(times / (outputs * spacing)).astype(int), 1, inputs) * spacing
    offsets = np.abs(times - nearest * outputs)
    response = np.zeros(reach * outputs + 1, np.float32)
    is_near = offsets < reach * outputs
    response[offsets[is_near]] = answers[is_near]
    return response
