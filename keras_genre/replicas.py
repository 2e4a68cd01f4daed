"""One network trained on several devices: each takes a part of every batch, and they add up their gradients."""

import contextlib
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_genre.errors import ParameterError

ALL = "all"
"""The word for every visible GPU."""


def devices_named(words: str) -> tuple[str, ...]:
    """Return the devices that `--devices` names, such as `("GPU:0", "GPU:1")`.

    Raises
    ------
    ParameterError
        If there is no such device, or one is named twice.
    """
    known = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()]
    if words == ALL:
        found = tuple(name for name in known if name.startswith("GPU:"))
        if not found:
            raise ParameterError(f"--devices {ALL}: TensorFlow sees no GPU here; it sees {', '.join(known)}")
        return found
    names = tuple(name.strip().upper() for name in words.split(","))
    for name in names:
        if name not in known:
            raise ParameterError(f"--devices: there is no {name or 'device without a name'}; known: {', '.join(known)}")
        if names.count(name) > 1:
            raise ParameterError(f"--devices: {name} is named twice")
    return names


def strategy_of(devices: Sequence[str]) -> tf.distribute.MirroredStrategy | None:
    """Return the strategy that mirrors a network on these devices; None for none: TensorFlow chooses one device."""
    if not devices:
        return None
    # Collective operations run in no fixed order on CPUs, where batch normalisation then meets a sum of gradients.
    # Sums on one device are the same ones everywhere, and these networks are small.
    return tf.distribute.MirroredStrategy(list(devices), tf.distribute.ReductionToOneDevice())


def scope_of(strategy: tf.distribute.Strategy | None) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which network and optimizer are made."""
    return strategy.scope() if strategy else contextlib.nullcontext()


def synchronise(model: keras.Model) -> None:
    """Make batch normalisation use the statistics of whole batches, as on one device, not of each device's part."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def divide(batches: tf.data.Dataset, replicas: int) -> tf.data.Dataset:
    """Divide every batch into as many parts of equal size as there are replicas, without a change of order.

    A batch that cannot be divided is filled up with windows of its own, which weigh nothing. The others then weigh so
    much more that the mean over the filled batch is the mean over the batch.

    Parameters
    ----------
    batches : tf.data.Dataset
        Of (windows, targets), as `pipeline.training_windows` gives them.
    replicas : int > 0

    Returns
    -------
    tf.data.Dataset
        Of (windows, targets, weights float32 (part,)): `replicas` elements for each batch.
    """

    def divided(windows: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        size = tf.shape(windows)[0]
        part = -(-size // replicas)
        places = tf.range(part * replicas)
        own = tf.cast(part * replicas / size, tf.float32)
        taken = tf.reshape(places % size, (replicas, part))
        weights = tf.reshape(tf.where(places < size, own, 0.0), (replicas, part))
        return tf.gather(windows, taken), tf.gather(targets, taken), weights

    return batches.map(divided, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).unbatch()


def distribute(batches: tf.data.Dataset, strategy: tf.distribute.Strategy) -> tf.distribute.DistributedDataset:
    """Give each replica its part of every batch."""
    parts = divide(batches, strategy.num_replicas_in_sync).prefetch(tf.data.AUTOTUNE)
    # TensorFlow's own division of a dataset would let a last batch that gives too few parts shift all that follow.
    return strategy.distribute_datasets_from_function(lambda _: parts)
