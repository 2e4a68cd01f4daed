"""Optimizers, losses and averages of weights do what the parameters say."""

import keras
import numpy as np
import pytest

from keras_genre.optimization import averaged_weights, make_loss, make_optimizer
from keras_genre.params import OPTIMIZERS, ModelParams, TrainParams


def a_model(params: TrainParams) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(4, name="logits", bias_initializer="ones")(inputs))
    model.compile(make_optimizer(params), make_loss(params))
    return model


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_the_loss(name):
    model = a_model(TrainParams(optimizer=name, learning_rate=0.05))
    x, labels = np.eye(3, dtype=np.float32), np.arange(3)
    before = model.evaluate(x, labels, verbose=0)
    model.fit(x, labels, epochs=20, verbose=0)
    assert model.evaluate(x, labels, verbose=0) < before


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_decay_takes_its_share_of_the_weights_and_leaves_the_biases(name):
    params = TrainParams(optimizer=name, learning_rate=0.1, weight_decay=0.5)
    model = a_model(params)
    kernel, bias = (np.array(variable) for variable in model.trainable_variables)
    zeros = [keras.ops.zeros(variable.shape) for variable in model.trainable_variables]
    model.optimizer.apply(zeros, model.trainable_variables)
    np.testing.assert_allclose(model.trainable_variables[0], kernel * (1 - 0.1 * 0.5), rtol=1e-5)
    np.testing.assert_array_equal(model.trainable_variables[1], bias)


def test_smoothed_targets_cost_what_the_formula_says():
    logits, share = np.array([[2.0, 0.0, -1.0]], np.float32), 0.3
    logs = logits - np.log(np.exp(logits).sum())
    target = np.array([1.0, 0.0, 0.0]) * (1 - share) + share / 3
    loss = make_loss(TrainParams(label_smoothing=share))(np.array([[1.0, 0.0, 0.0]], np.float32), logits)
    assert float(loss) == pytest.approx(-(target * logs).sum(), rel=1e-5)


def test_averages_take_the_place_of_the_weights_for_a_while():
    model = a_model(TrainParams(ema_momentum=0.9, learning_rate=0.1))
    x, labels = np.eye(3, dtype=np.float32), np.arange(3)
    average = None
    for _ in range(4):
        model.train_on_batch(x, labels)
        weights = np.array(model.trainable_variables[0])
        average = weights if average is None else 0.9 * average + 0.1 * weights
    with averaged_weights(model):
        np.testing.assert_allclose(model.trainable_variables[0], average, rtol=1e-5)
    np.testing.assert_array_equal(model.trainable_variables[0], weights)


def test_without_averages_nothing_is_put_anywhere():
    model = a_model(TrainParams(model=ModelParams()))
    weights = np.array(model.trainable_variables[0])
    with averaged_weights(model):
        np.testing.assert_array_equal(model.trainable_variables[0], weights)
