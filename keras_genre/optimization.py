"""How weights are moved: the optimizer, the loss, and the averages of the weights. Only Keras is used."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from keras_genre.params import TrainParams


def make_optimizer(params: TrainParams) -> keras.optimizers.Optimizer:
    """Make the optimizer of a training."""
    options: dict[str, Any] = {
        "learning_rate": params.learning_rate,
        "weight_decay": params.weight_decay or None,
        "use_ema": params.ema_momentum > 0,
        "ema_momentum": params.ema_momentum,
        # The averages stand beside the weights; they take their place for validation alone.
        "ema_overwrite_frequency": None,
    }
    if params.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(momentum=0.9, nesterov=True, **options)
    elif params.optimizer == "rmsprop":
        optimizer = keras.optimizers.RMSprop(**options)
    else:
        optimizer = keras.optimizers.Adam(**options)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def make_loss(params: TrainParams) -> keras.losses.Loss:
    """Make the loss of a training: the cross-entropy of logits and the targets that `params` gives windows."""
    if params.soft_targets:
        return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=params.label_smoothing)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Put the moving averages of the weights, where the optimizer keeps some, in their place for a while."""
    if not model.optimizer.use_ema:
        yield
        return
    weights = model.trainable_variables
    own = [keras.ops.copy(weight) for weight in weights]
    model.optimizer.finalize_variable_values(weights)
    try:
        yield
    finally:
        for weight, value in zip(weights, own, strict=True):
            weight.assign(value)
