"""Batch normalisation of images by one operation of TensorFlow, where networks are trained."""

import functools
from typing import Any

import keras
import tensorflow as tf


def fuse_normalisation(model: keras.Model) -> None:
    """Let the layers of a network that normalise batches of images do so in one operation each.

    Keras composes mean, variance and result of operations that each pass over the whole batch, which on a CPU take more
    time than the convolutions of a wide image. This is the same function, whose sums are rounded in another order. The
    layers stay Keras's own, and so does what is saved of them.

    Parameters
    ----------
    model : keras.Model
        Changed in place. Its batch normalisations have scale, offset and the channels last, and none is synchronised.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization) and len(layer.output.shape) == 4:
            layer.call = functools.partial(_normalised, layer)


def _normalised(layer: Any, inputs: tf.Tensor, training: bool = False, mask: None = None) -> tf.Tensor:
    fused = functools.partial(
        tf.raw_ops.FusedBatchNormV3,
        x=inputs,
        # In bfloat16 the operation still takes these, and sums, in float32.
        scale=tf.cast(layer.gamma, tf.float32),
        offset=tf.cast(layer.beta, tf.float32),
        epsilon=layer.epsilon,
    )
    if not (training and layer.trainable):
        return fused(mean=layer.moving_mean, variance=layer.moving_variance, is_training=False).y
    found = fused(mean=[], variance=[], is_training=True)
    # The operation gives the variance of the population that the batch is drawn from, Keras averages the batch's own.
    values = tf.cast(tf.size(inputs) / tf.shape(inputs)[-1], tf.float32)
    averages = (
        (layer.moving_mean, found.batch_mean),
        (layer.moving_variance, found.batch_variance * (values - 1) / values),
    )
    for average, of_batch in averages:
        average.assign(average * layer.momentum + of_batch * (1 - layer.momentum))
    return found.y
