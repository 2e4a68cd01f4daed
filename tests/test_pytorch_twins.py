"""The PyTorch twins are the same networks as ours: of one size, and one function of the same weights."""

import dataclasses

import numpy as np
import pytest

from keras_genre.models.networks import build_model
from keras_genre.models.presets import preset
from keras_genre.params import FEATURE_DIMS, ModelParams

torch = pytest.importorskip("torch", reason="needs PyTorch (the extra benchmarks)")
from benchmarks import pytorch_twins  # noqa: E402
from benchmarks.systems import DATA_SETS  # noqa: E402


def size(network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", sorted({name for each in DATA_SETS.values() for name in each.presets}))
def test_a_twin_has_the_size_of_its_preset_and_pytorchs_second_biases(name):
    params = preset(name)
    dims = FEATURE_DIMS[params.features]
    ours = build_model(params.model, params.window_frames, dims, 8)
    own = ours.count_params() - ours.get_layer("standardisation").count_params()
    second_biases = 4 * sum(params.model.lstm_units) if params.model.family == "lstm" else 0
    # Batch normalisation's means and variances are buffers in PyTorch, weights in Keras.
    moments = 6 * params.model.conv_filters if params.model.family == "conv2d" else 0
    assert (
        size(pytorch_twins.make_network(params.model, params.window_frames, dims, 8)) == own + second_biases - moments
    )


def test_an_lstm_twin_is_our_network_if_it_has_its_weights():
    params = ModelParams(lstm_units=(16, 16), dropout=0.3)
    ours = build_model(params, 20, 5, 4)
    twin = pytorch_twins.make_network(params, 20, 5, 4).eval()
    weights = ours.get_weights()[3:]
    state = {}
    for layer in range(2):
        kernel, recurrent, bias = weights[3 * layer : 3 * layer + 3]
        state[f"layers.weight_ih_l{layer}"] = kernel.T
        state[f"layers.weight_hh_l{layer}"] = recurrent.T
        state[f"layers.bias_ih_l{layer}"] = bias
        state[f"layers.bias_hh_l{layer}"] = np.zeros_like(bias)
    state["logits.weight"], state["logits.bias"] = weights[6].T, weights[7]
    twin.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in state.items()})
    x = np.random.default_rng(0).standard_normal((3, 20, 5)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(twin(torch.from_numpy(x)).numpy(), ours.predict(x, verbose=0), atol=1e-5)


def test_the_conv2d_twin_is_our_network_if_it_has_its_weights_and_averages_at_its_pace():
    params = preset("conv2d").model
    ours = build_model(params, 60, 13, 4)
    twin = pytorch_twins.make_network(params, 60, 13, 4).eval()
    generator = np.random.default_rng(0)
    blocks = [layer for layer in twin.blocks if isinstance(layer, torch.nn.Conv2d | torch.nn.BatchNorm2d)]
    for number in (1, 2, 3):
        convolution, norm = blocks[2 * number - 2 : 2 * number]
        kernel, bias = ours.get_layer(f"conv_{number}").get_weights()
        convolution.load_state_dict(
            {"weight": torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()), "bias": torch.from_numpy(bias)}
        )
        layer = ours.get_layer(f"norm_{number}")
        assert layer.momentum == 1 - norm.momentum
        moments = [generator.uniform(0.1, 2.0, 32).astype(np.float32) for _ in range(4)]
        layer.set_weights(moments)
        names = ("weight", "bias", "running_mean", "running_var")
        norm.load_state_dict(dict(zip(names, map(torch.from_numpy, moments), strict=True)), strict=False)
    height, width = ours.get_layer("pool_3").output.shape[1:3]
    kernel, bias = ours.get_layer("dense").get_weights()
    # Keras flattens channels last, PyTorch channels first.
    kernel = kernel.reshape(height, width, 32, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
    last, last_bias = ours.get_layer("logits").get_weights()
    for layer, (weight, offset) in zip((twin.head[0], twin.head[3]), ((kernel, bias), (last, last_bias)), strict=True):
        layer.load_state_dict({"weight": torch.from_numpy(weight.T.copy()), "bias": torch.from_numpy(offset)})
    x = generator.standard_normal((3, 60, 13)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(twin(torch.from_numpy(x)).numpy(), ours.predict(x, verbose=0), atol=1e-4)


def test_the_stepped_lstm_is_pytorchs_own_where_nothing_is_dropped():
    stepped = pytorch_twins.SteppedLSTM(5, (8, 8), 0.05, 0.35).eval()
    own = torch.nn.LSTM(5, 8, num_layers=2, batch_first=True)
    own.load_state_dict(
        {
            f"{name}_l{layer}": value
            for layer, cell in enumerate(stepped.cells)
            for name, value in cell.state_dict().items()
        }
    )
    x = torch.randn(3, 12, 5)
    with torch.no_grad():
        np.testing.assert_allclose(stepped(x).numpy(), own(x)[0][:, -1].numpy(), atol=1e-6)
        assert not torch.equal(stepped.train()(x), stepped(x))


def test_a_twin_learns_to_tell_two_kinds_of_clips_apart():
    generator = np.random.default_rng(0)
    labels = {"train": [0, 1] * 12, "validation": [0, 1] * 4, "test": [0, 1] * 8}
    clips = {
        split: [generator.standard_normal((30, 4)).astype(np.float32) + 2 * label for label in members]
        for split, members in labels.items()
    }
    params = dataclasses.replace(
        preset("lstm_optim"), window_frames=16, batch_size=8, model=ModelParams(lstm_units=(8, 8)), learning_rate=1e-2
    )
    numbers = {split: np.array(members, np.int64) for split, members in labels.items()}
    twin = pytorch_twins.train_twin(params, clips, numbers, 2, epochs=15, patience=0)
    assert (twin.logits.argmax(axis=1) == numbers["test"]).mean() == 1
    again = pytorch_twins.train_twin(params, clips, numbers, 2, epochs=15, patience=0)
    np.testing.assert_array_equal(twin.logits, again.logits)
