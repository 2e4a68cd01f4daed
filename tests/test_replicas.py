"""Several devices train one network as one device does with the same batches, and the run says which they were."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from toys import make_toy_store, make_untrained_run, toy_params

from keras_genre.errors import ParameterError, RunError
from keras_genre.params import ModelParams, ScheduleParams
from keras_genre.pipeline import steps_per_epoch
from keras_genre.replicas import devices_named, divide
from keras_genre.runs import load_model, read_history, read_run
from keras_genre.train import main
from keras_genre.training import make_plan, train

PLAIN_LSTM = ModelParams(lstm_units=(8,), dropout=0.0)
IMAGES = ModelParams(family="conv2d", conv_filters=4, dense_units=8, dropout=0.0)
SGD = {"optimizer": "sgd", "schedule": ScheduleParams("step", step_epochs=1), "epochs": 2}

# Twelve training clips with three windows each. Without dropout, which draws other numbers in each replica. Adam would
# blow rounding up where a gradient is close to 0, so the optimizer is one that does not divide by it.
RECIPES = {
    # 36 windows in batches of 7: the last is one window, fewer than there are devices.
    "one window left": toy_params(batch_size=7, model=PLAIN_LSTM, **SGD),
    # In batches of 11 three are left, which cannot be halved.
    "averaged and mixed": toy_params(
        batch_size=11, model=PLAIN_LSTM, mixup_alpha=0.3, label_smoothing=0.1, ema_momentum=0.8, mask_frames=4, **SGD
    ),
    "batch normalisation": toy_params(batch_size=12, model=IMAGES, **SGD),
}


def resumed_params(epochs):
    """A recipe with all that a checkpoint must keep."""
    model = ModelParams(family="conv2d", conv_filters=4, dense_units=8, dropout=0.3, input_noise=0.1)
    return toy_params(batch_size=11, epochs=epochs, model=model, mixup_alpha=0.3, ema_momentum=0.8, weight_decay=0.01)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """The folder of runs on two devices."""
    folder = tmp_path_factory.mktemp("two devices")
    script = Path(__file__).with_name("two_devices.py")
    done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (folder / "said.txt").write_text(done.stdout + done.stderr)
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_two_devices_give_the_weights_of_one_with_the_same_batches(two, toy_store, tmp_path, name):
    params = RECIPES[name]
    train(make_plan(toy_store, params), "toy", tmp_path / "one")
    # Sums of two halves are rounded otherwise than sums of the whole: by single bits a step.
    for ours, theirs in zip(_weights(two / name), _weights(tmp_path / "one"), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    columns = ["learning_rate", "val_loss", "val_accuracy"]
    if steps_per_epoch(36, params) * params.batch_size == 36:
        # Otherwise the mean of an epoch counts the windows that fill up its last batch.
        columns += ["loss", "accuracy"]
    for ours, theirs in zip(read_history(two / name), read_history(tmp_path / "one"), strict=True):
        for column in columns:
            assert ours[column] == pytest.approx(theirs[column], rel=1e-4), column


def test_another_division_of_the_windows_would_be_noticed(toy_store, tmp_path):
    params = RECIPES["one window left"]
    train(make_plan(toy_store, params), "toy", tmp_path / "one")
    train(make_plan(toy_store, toy_params(batch_size=9, model=PLAIN_LSTM, **SGD)), "toy", tmp_path / "other")
    pairs = zip(_weights(tmp_path / "one"), _weights(tmp_path / "other"), strict=True)
    assert max(np.abs(a - b).max() for a, b in pairs) > 1e-3


def test_a_run_on_two_devices_goes_on_to_the_same_weights_bit_for_bit(two):
    for ours, theirs in zip(_weights(two / "whole"), _weights(two / "resumed"), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [row["loss"] for row in read_history(two / "whole")] == [
        row["loss"] for row in read_history(two / "resumed")
    ]


def test_the_run_and_its_report_say_which_devices(two):
    assert read_run(two / "command").devices == ("CPU:0", "CPU:1")
    assert len(read_history(two / "command")) == 2
    assert json.loads((two / "command" / "report.json").read_text())["devices"] == ["CPU:0", "CPU:1"]
    assert "- devices: CPU:0, CPU:1\n" in (two / "command" / "report.md").read_text()
    assert "devices: CPU:0, CPU:1\n" in (two / "said.txt").read_text()


def test_a_run_goes_on_with_its_own_devices_only(two, toy_store):
    assert "devices: CPU:0,CPU:1 -> CPU:1" in (two / "said.txt").read_text()
    params = RECIPES["batch normalisation"]
    with pytest.raises(RunError, match="devices: CPU:0,CPU:1 -> none named"):
        train(make_plan(toy_store, params), "toy", two / "batch normalisation", resume=True)


def test_a_run_without_named_devices_does_not_speak_of_them(tmp_path):
    run = make_untrained_run(tmp_path / "run", toy_params())
    assert "devices" not in json.loads((run / "run.json").read_text())
    assert read_run(run).devices == ()


@pytest.mark.parametrize(("size", "replicas"), [(8, 2), (7, 2), (1, 2), (2, 3), (5, 1)])
def test_a_batch_is_divided_in_order_and_the_weighted_mean_stays(size, replicas):
    values = np.arange(1.0, size + 1, dtype=np.float32)
    batches = tf.data.Dataset.from_tensors((values, np.arange(size)))
    parts = [tuple(part.numpy() for part in element) for element in divide(batches, replicas)]
    assert len(parts) == replicas
    assert len({len(windows) for windows, _, _ in parts}) == 1
    windows, targets, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
    np.testing.assert_array_equal(windows[weights > 0], values)
    np.testing.assert_array_equal(targets[weights > 0], np.arange(size))
    # Whatever fills up is real, and is not counted.
    assert set(windows) == set(values)
    means = [(part * weight).mean() for part, _, weight in parts]
    assert np.mean(means) == pytest.approx(values.mean())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("all", "TensorFlow sees no GPU here; it sees CPU:0"),
        ("GPU:7", "there is no GPU:7; known: CPU:0"),
        ("CPU:0,cpu:0", "CPU:0 is named twice"),
        ("CPU:0,", "there is no device without a name"),
    ],
)
def test_devices_that_are_not_there_are_refused_with_those_that_are(words, message):
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    with pytest.raises(ParameterError, match=message):
        devices_named(words)


def test_a_batch_of_fewer_windows_than_devices_is_refused(toy_store, tmp_path):
    with pytest.raises(ParameterError, match="--batch-size 1 is less than one window for each of 2 devices"):
        train(make_plan(toy_store, toy_params(batch_size=1)), "toy", tmp_path / "run", devices=["CPU:0", "CPU:1"])
    assert not (tmp_path / "run").exists()


def test_the_flag_is_refused_before_anything_is_written(tmp_path, capsys):
    make_toy_store(tmp_path / "store")
    flags = ["--data", tmp_path / "store", "--out", tmp_path / "run", "--window-frames", "16", "--devices", "GPU:99"]
    assert main([*map(str, flags)]) == 2
    assert "there is no GPU:99" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def _weights(run: Path) -> list[np.ndarray]:
    return load_model(run).get_weights()
