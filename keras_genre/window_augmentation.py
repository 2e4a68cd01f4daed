"""What may happen to windows of frames, and to their targets, on their way into a training.

Each function takes a batch and a seed, a pair of integers, and gives the same batch for the same seed.
"""

import dataclasses
import math

import tensorflow as tf

from keras_genre.params import TrainParams

STRIPES = 2
"""How many stripes of frames, and how many of values, are masked in a window."""

EQUALIZER_WAVES = 4
"""Of how many waves an equalizer's curve is: from one half of a period over all values to two whole ones."""

LOW_PASS_STEP = 0.25
"""Of the range of levels, how much more each band loses than the one before, beyond where a low-pass begins: 20 of 80
dB. When recordings were resampled from 22 050 Hz to 44 100 Hz and back, the last two of 128 bands lost 3 and 18 dB."""

Seed = tuple[tf.Tensor | int, tf.Tensor | int]


@dataclasses.dataclass(frozen=True)
class Values:
    """What the values of frames are like.

    Attributes
    ----------
    mean : tf.Tensor [shape=(values,), float32]
        What masked values become.
    deviation : float >= 0
        Standard deviation of all.
    levels : pair of float, optional
        The lowest and the highest value that there can be, if they are levels (`params.LEVEL_RANGES`).
    """

    mean: tf.Tensor
    deviation: float = 1.0
    levels: tuple[float, float] | None = None


def augment(
    windows: tf.Tensor,
    labels: tf.Tensor,
    genres: int,
    values: Values,
    params: TrainParams,
    seed: Seed,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Alter a batch as the parameters of a training say.

    Parameters
    ----------
    windows : tf.Tensor [shape=(batch, frames, values), float32]
    labels : tf.Tensor [shape=(batch,), int64]
    genres : int > 0
    values : Values
    params : TrainParams
    seed : pair of int

    Returns
    -------
    windows : tf.Tensor
    targets : tf.Tensor
        `labels`, or with `params.soft_targets` the share of each genre, float32 (batch, genres).
    """
    # One seed for each use, so that no two draw the same numbers.
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 7))
    if params.shift_bands:
        windows = shift_values(windows, params.shift_bands, seeds[0])
    if params.level_stretch and values.levels:
        windows = stretch_levels(windows, params.level_stretch, values.levels, seeds[5])
    if params.low_pass_bands and values.levels:
        windows = low_pass(windows, params.low_pass_bands, values.levels, seeds[6])
    if params.equalizer:
        windows = equalize(windows, params.equalizer * values.deviation, seeds[4])
    if params.mask_frames:
        windows = mask(windows, params.mask_frames, 1, values.mean, seeds[1])
    if params.mask_bands:
        windows = mask(windows, params.mask_bands, 2, values.mean, seeds[2])
    if not params.soft_targets:
        return windows, labels
    targets = tf.one_hot(labels, genres)
    if params.mixup_alpha:
        windows, targets = mixup(windows, targets, params.mixup_alpha, seeds[3])
    return windows, targets


def shift_values(windows: tf.Tensor, most: int, seed: tf.Tensor) -> tf.Tensor:
    """Shift the values of all frames of a window by a whole number of places from -`most` to `most`.

    The outermost value takes the places that become free.
    """
    batch, _, values = tf.unstack(tf.shape(windows))
    shifts = tf.random.stateless_uniform((batch, 1), seed, -most, most + 1, tf.int32)
    places = tf.clip_by_value(tf.range(values) - shifts, 0, values - 1)
    return tf.gather(windows, places, axis=2, batch_dims=1)


def stretch_levels(windows: tf.Tensor, most: float, levels: tuple[float, float], seed: tf.Tensor) -> tf.Tensor:
    """Scale the distances of all values of a window from the highest level by one factor.

    Its logarithm is uniform from that of 1 / (1 + `most`) to that of 1 + `most`. What falls below the lowest level
    becomes the lowest level.
    """
    lowest, highest = levels
    bound = math.log1p(most)
    factors = tf.exp(tf.random.stateless_uniform((tf.shape(windows)[0], 1, 1), seed, -bound, bound))
    return tf.maximum(highest - factors * (highest - windows), lowest)


def low_pass(windows: tf.Tensor, most: int, levels: tuple[float, float], seed: tf.Tensor) -> tf.Tensor:
    """Let the levels of a window fall off beyond a band, as the filter of a resampler or of an encoder does.

    Where it begins is uniform from `most` bands before the end of the spectrum to `most` bands after it, so that half
    of the windows stay as they are.
    """
    lowest, highest = levels
    bands = tf.cast(tf.shape(windows)[2], tf.float32)
    begins = tf.random.stateless_uniform((tf.shape(windows)[0], 1, 1), seed, bands - most, bands + most)
    beyond = tf.maximum(tf.range(bands) - begins, 0.0)
    return tf.maximum(windows - LOW_PASS_STEP * (highest - lowest) * beyond, lowest)


def equalize(windows: tf.Tensor, deviation: float, seed: tf.Tensor) -> tf.Tensor:
    """Add a random smooth curve over the values to all frames of each window (after Nam et al., 2022, FilterAugment).

    It is a sum of waves whose power falls with their number, as the response of a loudspeaker or of a room is: most of
    it is in the broad ones. At each value it has that standard deviation over all windows.
    """
    batch, values = tf.shape(windows)[0], tf.shape(windows)[2]
    heights_seed, phases_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    number = tf.range(1, EQUALIZER_WAVES + 1, dtype=tf.float32)
    # A wave of random phase has half of its height's variance.
    scale = deviation * tf.sqrt(2 / (number * tf.reduce_sum(1 / number)))
    heights = tf.random.stateless_normal((batch, EQUALIZER_WAVES, 1), heights_seed) * scale[:, tf.newaxis]
    phases = tf.random.stateless_uniform((batch, EQUALIZER_WAVES, 1), phases_seed, 0, 2 * math.pi)
    place = tf.range(values, dtype=tf.float32) / tf.cast(values, tf.float32)
    waves = tf.cos(math.pi * number[:, tf.newaxis] * place + phases)
    return windows + tf.reduce_sum(heights * waves, axis=1)[:, tf.newaxis]


def mask(windows: tf.Tensor, widest: int, axis: int, fill: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Put `fill` in the place of `STRIPES` stripes across axis 1 or 2 of each window (Park et al., 2019).

    A stripe's width is uniform from 0 to `widest`, its place uniform among those where it fits; `widest` is cut to what
    the axis has.
    """
    shape = tf.shape(windows)
    widths_seed, starts_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    size = shape[axis]
    most = tf.minimum(widest, size)
    widths = tf.random.stateless_uniform((shape[0], STRIPES, 1), widths_seed, 0, most + 1, tf.int32)
    room = tf.cast(size - widths + 1, tf.float32)
    starts = tf.cast(tf.random.stateless_uniform((shape[0], STRIPES, 1), starts_seed) * room, tf.int32)
    places = tf.range(size)
    covered = tf.reduce_any((places >= starts) & (places < starts + widths), axis=1)
    covered = covered[:, :, tf.newaxis] if axis == 1 else covered[:, tf.newaxis, :]
    return tf.where(covered, fill, windows)


def mixup(windows: tf.Tensor, targets: tf.Tensor, alpha: float, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mix each window with another one of the batch, by a share from Beta(alpha, alpha) (Zhang et al., 2018)."""
    batch = tf.shape(windows)[0]
    gamma_seed, order_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    # Two gamma variables' share of their sum is a beta variable.
    gammas = tf.random.stateless_gamma((batch, 2), gamma_seed, alpha)
    share = gammas[:, :1] / tf.maximum(tf.reduce_sum(gammas, axis=1, keepdims=True), 1e-30)
    order = tf.random.experimental.stateless_shuffle(tf.range(batch), order_seed)
    mixed = share * targets + (1 - share) * tf.gather(targets, order)
    share = share[:, :, tf.newaxis]
    return share * windows + (1 - share) * tf.gather(windows, order), mixed
