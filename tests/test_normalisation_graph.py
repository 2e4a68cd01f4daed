"""Batch normalisation in one operation is Keras's, in training, in inference and in what is saved."""

import keras
import numpy as np
import pytest

from keras_genre.models.networks import build_model
from keras_genre.normalisation_graph import fuse_normalisation
from keras_genre.params import ModelParams

FAMILIES = ("conv2d", "short_chunk_cnn", "crnn")


def network(family, *, fused, **options):
    """Build a small network without dropout, compiled; the same weights each time."""
    keras.utils.set_random_seed(1)
    params = ModelParams(
        family=family, conv_filters=4, lstm_units=(5,), dense_units=8, dropout=0.0, pooling="mean_max", **options
    )
    model = build_model(params, 32, 32, 3)
    if fused:
        fuse_normalisation(model)
    # An optimizer that does not divide by small gradients, which would make much of rounding.
    model.compile(keras.optimizers.SGD(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def batches(sizes):
    generator = np.random.default_rng(0)
    for size in sizes:
        yield generator.normal(3.0, 2.0, (size, 32, 32)).astype(np.float32), generator.integers(0, 3, size)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_moves_weights_and_averages_as_keras_does(family):
    plain, fused = network(family, fused=False), network(family, fused=True)
    # With a single window the last blocks have few values a channel, where the two variances differ most.
    for windows, labels in batches([6, 1, 6]):
        before = plain.get_weights()
        # From the same weights: where maxima are close, steps make rounding grow.
        fused.set_weights(before)
        losses = [float(model.train_on_batch(windows, labels)) for model in (plain, fused)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-5)
        for weight, first, theirs, ours in zip(
            plain.weights, before, plain.get_weights(), fused.get_weights(), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=weight.path)
            # The last normalisation makes nothing of a single window, so that no gradient passes.
            if "norm" in weight.path and len(windows) > 1:
                assert np.abs(theirs - first).max() > 1e-4, weight.path


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mixed", [False, True])
def test_a_trained_network_says_what_the_saved_one_says(family, mixed, tmp_path):
    model = network(family, fused=True, mixed_bfloat16=mixed)
    for windows, labels in batches([6] * 4):
        model.train_on_batch(windows, labels)
    model.save(tmp_path / "model.keras")
    saved = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert {type(layer) for layer in saved.layers} == {type(layer) for layer in model.layers}
    assert all("call" not in vars(layer) for layer in saved.layers)
    np.testing.assert_allclose(
        model.predict(windows, verbose=0), saved.predict(windows, verbose=0), atol=0.1 if mixed else 1e-4
    )


def test_only_images_are_normalised_by_it():
    layers = network("short_chunk_cnn", fused=True).layers
    fused = [layer.name for layer in layers if "call" in vars(layer)]
    assert fused == [
        layer.name
        for layer in layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.name != "dense_norm"
    ]
    assert len(fused) > 5
