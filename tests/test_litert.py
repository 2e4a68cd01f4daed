"""The network alone says in LiteRT what it says in the run."""

import dataclasses
import json

import numpy as np
import pytest
from toys import GENRES, NETWORKS, make_untrained_run, toy_params

from keras_genre.__main__ import main as keras_genre
from keras_genre.errors import ExportError
from keras_genre.exporting import cpu_twin
from keras_genre.litert import PROBE, converted, verify_litert
from keras_genre.metrics import softmax
from keras_genre.models.networks import build_model
from keras_genre.models.presets import PRESETS
from keras_genre.runs import load_model
from keras_genre.verification import CleanProcess, plausible_frames


def answers(content, windows):
    from keras_genre.litert_probe import Interpreter

    forward = Interpreter(model_content=content).get_signature_runner("serving_default")
    assert list(forward.get_input_details()) == ["frames"]
    outputs = [forward(frames=window[np.newaxis]) for window in windows]
    return {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_preset_is_converted_to_operations_of_litert_alone(name, tmp_path):
    params = PRESETS[name]
    model = load_model(make_untrained_run(tmp_path / "run", params))
    content = converted(cpu_twin(model, params.model, fused=False))
    assert b"Flex" not in content
    windows = plausible_frames(model, 3 * params.window_frames, log_odds=params.model.log_odds)
    windows = windows.reshape(3, params.window_frames, -1)
    found, expected = answers(content, windows), model.predict(windows, verbose=0)
    assert set(found) == {"logits", "probabilities"}
    np.testing.assert_allclose(found["probabilities"], softmax(expected), atol=1e-5)
    np.testing.assert_allclose(softmax(found["logits"]), softmax(expected), atol=1e-5)


@pytest.mark.parametrize("log_odds", [False, True])
def test_frames_to_check_a_network_by_vary_as_those_that_it_was_trained_on(log_odds):
    params = dataclasses.replace(PRESETS["transfer"].model, log_odds=log_odds)
    mean, variance = np.linspace(-3, 3, 50), np.linspace(0.5, 2, 50)
    model = build_model(params, 10, 50, 4, mean, variance)
    frames = plausible_frames(model, 4000, log_odds=log_odds)
    seen = np.log(frames / (1 - frames)) if log_odds else frames
    np.testing.assert_allclose(seen.mean(axis=0), mean, atol=0.1)
    np.testing.assert_allclose(seen.var(axis=0), variance, rtol=0.15)


def test_the_command_writes_network_labels_and_parameters(tmp_path, capsys):
    params = toy_params()
    params = dataclasses.replace(params, model=dataclasses.replace(params.model, mixed_bfloat16=True))
    run, out = make_untrained_run(tmp_path / "run", params), tmp_path / "lite"
    assert keras_genre(["export", str(run), "--format", "litert", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert sorted(path.name for path in out.iterdir()) == ["labels.txt", "network.tflite", "params.json"]
    assert (out / "labels.txt").read_text().splitlines() == list(GENRES)
    assert json.loads((out / "params.json").read_text())["window_frames"] == 16
    assert keras_genre(["export", str(run), "--format", "litert", "--out", str(out)]) == 1
    assert "exists already" in capsys.readouterr().err
    (out / "labels.txt").write_text("old")
    assert keras_genre(["export", str(run), "--format", "litert", "--out", str(out), "--overwrite"]) == 0
    assert (out / "labels.txt").read_text().splitlines() == list(GENRES)


def test_a_file_of_another_network_is_found_out(tmp_path):
    model = load_model(make_untrained_run(tmp_path / "run", toy_params()))
    (tmp_path / "network.tflite").write_bytes(converted(cpu_twin(model, toy_params().model, fused=False)))
    model.get_layer("logits").bias.assign([0.0, 0.001, 0.0])
    with pytest.raises(ExportError, match="from the run's"), CleanProcess(PROBE) as process:
        verify_litert(tmp_path / "network.tflite", model, False, 1e-5, process)
