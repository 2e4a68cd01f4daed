"""The networks have the shapes and sizes of the systems they reimplement, and behave in training as meant."""

import dataclasses
import subprocess
import sys

import keras
import numpy as np
import pytest
from toys import NETWORKS

from keras_genre.errors import ParameterError
from keras_genre.models.networks import build_model, log_odds
from keras_genre.models.presets import PRESETS, preset
from keras_genre.params import FEATURE_DIMS, POOLINGS, ModelParams, TrainParams


def build(params: TrainParams, genres: int = 8, **options) -> keras.Model:
    return build_model(params.model, params.window_frames, FEATURE_DIMS[params.features], genres, **options)


def network_parameters(model: keras.Model) -> int:
    """All parameters but the means and variances of the standardisation, which the originals lack."""
    return model.count_params() - model.get_layer("standardisation").count_params()


def windows(params: TrainParams, count: int = 4) -> np.ndarray:
    shape = (count, params.window_frames, FEATURE_DIMS[params.features])
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_lstm_original_has_the_parameters_of_the_keras_original():
    assert network_parameters(build(preset("lstm_original"))) == 103_816


def test_lstm_basic_has_the_parameters_of_the_pytorch_original_less_its_second_biases():
    second_biases = 2 * 4 * 128
    assert network_parameters(build(preset("lstm_basic"))) == 216_584 - second_biases


def test_lstm_optim_is_two_layers_of_64():
    gates = 4 * 64
    expected = gates * (33 + 64 + 1) + gates * (64 + 64 + 1) + 8 * (64 + 1)
    assert network_parameters(build(preset("lstm_optim"))) == expected


def test_conv2d_shrinks_segments_of_6_s_like_the_original():
    model = build(preset("conv2d"), genres=10)
    shapes = [model.get_layer(f"pool_{number}").output.shape[1:] for number in (1, 2, 3)]
    assert shapes == [(129, 6, 32), (64, 2, 32), (32, 1, 32)]
    assert model.get_layer("dense").kernel.shape == (1024, 64)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("genres", [2, 10])
def test_every_network_gives_a_logit_for_every_genre(name, genres):
    params = preset(name)
    model = build(params, genres)
    logits = model.predict(windows(params), verbose=0)
    assert logits.shape == (4, genres)
    assert model.layers[-1].activation is keras.activations.linear
    assert not np.allclose(logits.sum(axis=1), 1)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_learns_a_batch_that_it_may_memorise(name):
    keras.utils.set_random_seed(1)
    params = preset(name)
    is_deep = params.model.family in ("short_chunk_cnn", "crnn")
    if is_deep:
        # Their many averages of batch normalisation need more steps; less of a window makes these quick.
        params = dataclasses.replace(params, window_frames=64)
    model = build(params)
    model.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, labels = windows(params, 8), np.arange(8)
    before = model.evaluate(x, labels, verbose=0)
    model.fit(x, labels, epochs=40 if is_deep else 12, verbose=0)
    assert model.evaluate(x, labels, verbose=0) < before - 0.1


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "lstm_basic"])
def test_dropout_acts_in_training_and_only_there(name):
    params = preset(name)
    model = build(params)
    x = windows(params)
    if params.model.family == "lstm":
        # Batch normalisation differs between training and inference by itself; an LSTM only by dropout.
        assert not np.allclose(model(x, training=True), model(x, training=True))
    dropout = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert [layer.rate for layer in dropout] == ([params.model.dropout] if params.model.dropout else [])
    np.testing.assert_array_equal(model(x, training=False), model(x, training=False))


@pytest.mark.parametrize("name", NETWORKS)
def test_no_state_passes_from_one_batch_to_the_next(name):
    params = preset(name)
    model = build(params)
    x = windows(params)
    alone = model.predict(x[:1], verbose=0)
    model.predict(x[1:], verbose=0)
    np.testing.assert_allclose(model.predict(x[:1], verbose=0), alone, atol=1e-6)
    np.testing.assert_allclose(model.predict(x, verbose=0)[:1], alone, atol=1e-5)


def test_standardisation_stands_inside_the_network():
    params = ModelParams()
    mean, variance = np.array([100.0, -5.0]), np.array([25.0, 0.04])
    raw = np.random.default_rng(0).standard_normal((3, 16, 2)) * np.sqrt(variance) + mean
    keras.utils.set_random_seed(0)
    inside = build_model(params, 16, 2, 4, mean, variance)
    plain = build_model(params, 16, 2, 4)
    for source, target in zip(inside.layers[2:], plain.layers[2:], strict=True):
        target.set_weights(source.get_weights())
    standard = (raw - mean) / np.sqrt(variance)
    np.testing.assert_allclose(inside.predict(raw, verbose=0), plain.predict(standard, verbose=0), atol=1e-5)


def test_an_image_keeps_the_proportions_of_its_columns():
    mean, variance = np.array([100.0, -5.0] * 8), np.array([16.0, 0.0] * 8)
    model = build_model(ModelParams(family="conv2d"), 16, 16, 4, mean, variance)
    layer = model.get_layer("standardisation")
    np.testing.assert_allclose(layer(mean[None, None] + 1.0), np.full((1, 1, 16), 1 / np.sqrt(8.0)), rtol=1e-5)


def standardised(mean, variance, frame, params=None):
    model = build_model(params or ModelParams(), 8, len(frame), 3, np.array(mean), np.array(variance))
    return model.get_layer("standardisation")(np.array([[frame]], np.float32)).numpy()[0, 0].tolist()


@pytest.mark.parametrize("noise", [0.0, 1e-15])
def test_what_a_column_holds_that_was_constant_in_training_is_as_loud_as_in_the_others(noise):
    assert standardised([-80.0, 0, 0, 0], [noise, 4, 16, 36], [-80, 2, 4, 6]) == [0, 1, 1, 1]
    assert standardised([-80.0, 0, 0, 0], [noise, 4, 16, 36], [-40, 2, 4, 6]) == [10, 1, 1, 1]


def test_of_columns_that_all_are_constant_only_the_mean_is_taken():
    assert standardised([-80.0, 0], [0.0, 0], [-77, 2]) == [3, 2]


def test_a_column_that_varies_little_keeps_its_scale():
    assert standardised([0.5, 0], [1e-6, 1e6], [0.501, 1000]) == pytest.approx([1, 1], rel=1e-4)


def test_in_mixed_bfloat16_weights_and_logits_stay_float32():
    for name in ("lstm_optim", "conv2d"):
        params = preset(name)
        mixed = ModelParams(**{**vars(params.model), "mixed_bfloat16": True})
        model = build_model(mixed, params.window_frames, FEATURE_DIMS[params.features], 4)
        assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
        hidden = model.layers[2]
        assert hidden.compute_dtype == "bfloat16"
        assert model(windows(params)).dtype == "float32"
        # Loops in a graph, unlike eager ones, must keep the types that they begin with.
        assert np.isfinite(model.predict(windows(params), verbose=0)).all()


def test_cudnn_may_run_just_the_presets_without_recurrent_dropout():
    eligible = {name for name, params in PRESETS.items() if params.model.cudnn_eligible}
    assert eligible == PRESETS.keys() - {"lstm_original", "conv2d", "short_chunk_cnn"}


@pytest.mark.parametrize("name", ["lstm_basic", "lstm_optim"])
def test_the_networks_for_cudnn_and_for_a_cpu_are_one_function_of_the_same_weights(name):
    params = preset(name)
    keras.utils.set_random_seed(2)
    stacked, layered = build(params), build(params, use_cudnn=True)
    assert sum(isinstance(layer, keras.layers.LSTM) for layer in layered.layers) == 2
    layered.set_weights(stacked.get_weights())
    x = windows(params)
    np.testing.assert_allclose(layered.predict(x, verbose=0), stacked.predict(x, verbose=0), atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_saved_network_says_the_same_in_a_clean_process_without_this_package(name, tmp_path):
    params = preset(name)
    x = windows(params)
    dims = x.shape[-1]
    model = build(params, mean=np.full(dims, 0.5), variance=np.full(dims, 2.0))
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    code = (
        "import keras, numpy, sys; model = keras.models.load_model('model.keras');"
        "numpy.save('y.npy', model.predict(numpy.load('x.npy'), verbose=0));"
        "assert not any(name.startswith('keras_genre') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model.predict(x, verbose=0), atol=1e-5)


def test_windows_too_small_for_the_pooling_are_refused_with_what_to_do():
    with pytest.raises(ParameterError, match="--window-frames"):
        build_model(ModelParams(family="conv2d"), 4, 13, 8)


LSTM_VARIANTS = [
    ModelParams(lstm_units=(6, 5), dropout=0.0, lstm_bidirectional=bidirectional, pooling=pooling)
    for bidirectional in (False, True)
    for pooling in POOLINGS
]


@pytest.mark.parametrize("params", LSTM_VARIANTS, ids=lambda p: f"{p.pooling}-{p.lstm_bidirectional}")
def test_every_kind_of_lstm_is_the_same_function_for_cudnn_and_for_a_cpu_and_after_saving(params, tmp_path):
    plain, fused = build_model(params, 9, 4, 3), build_model(params, 9, 4, 3, use_cudnn=True)
    fused.set_weights(plain.get_weights())
    x = np.random.default_rng(0).standard_normal((2, 9, 4)).astype(np.float32)
    logits = plain.predict(x, verbose=0)
    np.testing.assert_allclose(fused.predict(x, verbose=0), logits, atol=1e-6)
    plain.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(loaded.predict(x, verbose=0), logits, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "max", "mean_max"])
def test_pooling_takes_the_mean_and_the_maximum_over_time(pooling):
    model = build_model(ModelParams(lstm_units=(5,), dropout=0.0, pooling=pooling), 9, 4, 3)
    steps = keras.Model(model.input, model.get_layer("lstm").output)
    x = np.random.default_rng(0).standard_normal((2, 9, 4)).astype(np.float32)
    found = steps.predict(x, verbose=0)
    parts = [found.mean(axis=1)] * ("mean" in pooling) + [found.max(axis=1)] * ("max" in pooling)
    dense = model.get_layer("logits")
    expected = np.concatenate(parts, axis=1) @ dense.kernel.numpy() + dense.bias.numpy()
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-6)


def test_a_bidirectional_network_sees_both_ends():
    params = ModelParams(lstm_units=(5,), dropout=0.0, lstm_bidirectional=True)
    model = build_model(params, 30, 2, 3)
    x = np.zeros((3, 30, 2), np.float32)
    x[1, 0], x[2, -1] = 3.0, 3.0
    logits = model.predict(x, verbose=0)
    assert np.abs(logits[1] - logits[0]).max() > 1e-4
    assert np.abs(logits[2] - logits[0]).max() > 1e-4


def test_log_odds_are_finite_and_those_of_the_probabilities():
    found = keras.ops.convert_to_numpy(log_odds(np.array([0.0, 0.25, 0.5, 0.9, 1.0], np.float32)))
    np.testing.assert_allclose(found[1:4], [-np.log(3), 0.0, np.log(9)], rtol=1e-4)
    np.testing.assert_allclose(found[[0, 4]], [-9.21, 9.21], atol=0.01)


def test_a_network_may_standardise_log_odds_in_the_place_of_probabilities():
    mean, variance = np.array([-2.0, 1.0]), np.array([4.0, 0.5])
    keras.utils.set_random_seed(0)
    inside = build_model(ModelParams(log_odds=True), 8, 2, 3, mean, variance)
    outside = build_model(ModelParams(), 8, 2, 3, mean, variance)
    outside.set_weights(inside.get_weights())
    outside.get_layer("standardisation").finalize_state()
    x = np.random.default_rng(0).uniform(size=(4, 8, 2)).astype(np.float32)
    expected = outside.predict(np.log(x / (1 - x)), verbose=0)
    np.testing.assert_allclose(inside.predict(x, verbose=0), expected, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_added_to_all_frames_of_a_window_counts_by_the_share_of_the_mean_that_stays(name):
    params = preset(name)
    x = np.random.default_rng(0).uniform(0.2, 0.4, windows(params).shape).astype(np.float32)
    added = np.random.default_rng(1).uniform(0.0, 0.4, x.shape[-1]).astype(np.float32)

    def logits(share, x):
        network = dataclasses.replace(params.model, mean_subtraction=share, log_odds=False)
        keras.utils.set_random_seed(0)
        return build(dataclasses.replace(params, model=network)).predict(x, verbose=0)

    np.testing.assert_allclose(logits(1.0, x + added), logits(1.0, x), atol=1e-4)
    assert np.abs(logits(0.0, x + added) - logits(0.0, x)).max() > 1e-3
    halfway = x - 0.5 * x.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(logits(0.5, x), logits(0.0, halfway), atol=1e-4)
    np.testing.assert_allclose(logits(0.5, x + added), logits(0.0, halfway + 0.5 * added), atol=1e-4)


def test_noise_on_the_inputs_acts_in_training_alone():
    model = build_model(ModelParams(dropout=0.0, input_noise=1.0), 8, 2, 3)
    x = np.ones((2, 8, 2), np.float32)
    assert not np.allclose(model(x, training=True), model(x, training=True))
    np.testing.assert_array_equal(model(x), model(x))


@pytest.mark.parametrize("name", ["short_chunk_cnn", "crnn"])
def test_the_networks_from_scratch_have_at_most_a_million_parameters(name):
    assert network_parameters(build(preset(name), genres=10)) <= 1_000_000


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(ParameterError, match="lstm_optim"):
        preset("lstm_optimal")
