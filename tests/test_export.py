"""What is exported says what the run says, to anybody who has TensorFlow and nothing else; or there is no export."""

import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from toys import GENRES, NETWORKS, make_untrained_run, toy_params

from keras_genre import files
from keras_genre.__main__ import main as keras_genre
from keras_genre.errors import ExportError, SavedModelError
from keras_genre.exporting import cpu_twin, export_saved_model, load_for_cpu, saved_model_params, write_saved_model
from keras_genre.features.layers import FrontEnd
from keras_genre.models.presets import PRESETS
from keras_genre.params import FrontEndParams
from keras_genre.pipeline import window_starts, window_starts_in_graph
from keras_genre.runs import load_model, read_run
from keras_genre.saved_model_probe import unknown_operations
from keras_genre.saved_models import is_version, read_saved_model, version_folder, versions
from keras_genre.scoring import ClipScorer
from keras_genre.serving_graph import CHUNK_WINDOWS
from keras_genre.store import StoreHeader
from keras_genre.verification import PROBE, Checks, CleanProcess, clip_outputs, made_up_clips, verify

OUTPUTS = {"probabilities", "window_probabilities"}

FEW = Checks(seconds=(1.0,), batch_size=1, against_librosa=False)


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(str(exported.version))


@pytest.fixture(scope="module")
def scorer(exported):
    return ClipScorer(load_model(exported.run))


def ask(loaded, signature, tensor):
    name = {"serving_default": "waveform", "features": "frames", "encoded": "encoded"}[signature]
    outputs = loaded.signatures[signature](**{name: tf.constant(tensor)})
    assert set(outputs) == OUTPUTS
    return {name: value.numpy() for name, value in outputs.items()}


def assert_same(found, expected, tolerance=1e-5):
    for name in OUTPUTS:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=tolerance, err_msg=name)


def music(seconds, sample_rate_hz=22050):
    return made_up_clips(round(seconds * sample_rate_hz), sample_rate_hz)["music"]


def as_file(samples, sample_rate_hz, kind):
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate_hz, format=kind, subtype="PCM_16")
    return file.getvalue()


def test_a_clean_process_gives_what_the_run_gives(exported):
    found = exported.verification
    # Three lengths of four clips and the real one, each alone and in a batch of eight; frames, files, refusals.
    assert found.requests == 3 * (4 + 1) + 2 * len(exported.music) + (4 + 1) + 2 + 3
    assert 0 < found.difference < 1e-5
    assert 0 < found.reference_difference < 1e-3


def test_the_clips_that_are_asked_get_answers_of_all_kinds(scorer):
    front_end = FrontEnd(FrontEndParams())
    clips = made_up_clips(30 * 22050, 22050)
    answers = [clip_outputs(scorer, front_end(clip[np.newaxis]).numpy()[0])["probabilities"] for clip in clips.values()]
    assert set(clips) == {"silence", "noise", "sine", "music"}
    assert all(np.abs(clip).max() <= 1 for clip in clips.values())
    for number, answer in enumerate(answers):
        assert answer.max() < 0.999
        assert all(np.abs(answer - other).max() > 1e-3 for other in answers[:number])


def test_the_signatures_are_those_of_the_contract(loaded):
    inputs = {name: f.structured_input_signature[1] for name, f in loaded.signatures.items()}
    assert inputs == {
        "serving_default": {"waveform": tf.TensorSpec((None, None), tf.float32, "waveform")},
        "features": {"frames": tf.TensorSpec((None, None, 33), tf.float32, "frames")},
        "encoded": {"encoded": tf.TensorSpec(None, tf.string, "encoded")},
    }
    for function in loaded.signatures.values():
        outputs = function.structured_outputs
        assert {name: spec.dtype for name, spec in outputs.items()} == dict.fromkeys(OUTPUTS, tf.float32)
        assert outputs["probabilities"].shape.as_list()[1:] == [3]
        assert outputs["window_probabilities"].shape.as_list()[2:] == [3]


@pytest.mark.parametrize("seconds", [1.0, 2.5, 7.77])
def test_a_waveform_gives_the_arithmetic_of_predict(loaded, scorer, seconds):
    clips = np.stack([music(seconds), np.flip(music(seconds))])
    frames = FrontEnd(FrontEndParams())(clips).numpy()
    found = ask(loaded, "serving_default", clips)
    windows = len(window_starts(1 + clips.shape[1] // 512, 43))
    assert found["window_probabilities"].shape == (2, windows, 3)
    for row in range(2):
        expected = clip_outputs(scorer, frames[row])
        assert_same({name: value[row] for name, value in found.items()}, expected)
    assert_same(ask(loaded, "features", frames), found)


def test_windows_in_the_graph_start_where_they_start_elsewhere():
    for frames in (43, 44, 85, 86, 87, 1000):
        assert window_starts_in_graph(tf.constant(frames), 43).numpy().tolist() == window_starts(frames, 43)


def test_more_windows_than_go_through_at_a_time_are_all_answered_in_order(loaded, scorer):
    frames = np.random.default_rng(0).standard_normal((3, 43 * 100 + 5, 33)).astype(np.float32) * 50
    found = ask(loaded, "features", frames)
    assert found["window_probabilities"].shape == (3, 101, 3)
    assert found["window_probabilities"][..., 0].size > CHUNK_WINDOWS
    for row in range(3):
        assert_same({name: value[row] for name, value in found.items()}, clip_outputs(scorer, frames[row]))


@pytest.mark.parametrize("kind", ["WAV", "AU"])
def test_the_bytes_of_a_file_give_what_its_samples_give(loaded, kind):
    integers = np.round(music(2.0) * 32767).astype(np.int16)
    content = as_file(integers, 22050, kind)
    expected = ask(loaded, "serving_default", integers[np.newaxis].astype(np.float32) / 32768)
    assert_same(ask(loaded, "encoded", [content]), expected, 1e-7)
    assert_same(ask(loaded, "encoded", content), expected, 1e-7)


@pytest.mark.parametrize(
    ("signature", "tensor", "words"),
    [
        ("serving_default", np.zeros((2, 42 * 512 - 1), np.float32), "at least 21504 samples"),
        ("serving_default", np.zeros((2, 0), np.float32), "at least 21504 samples"),
        ("serving_default", np.zeros((0, 22050), np.float32), "no waveform"),
        ("serving_default", np.full((1, 22050), np.nan, np.float32), "not finite"),
        ("serving_default", np.full((1, 22050), np.inf, np.float32), "not finite"),
        ("features", np.zeros((1, 42, 33), np.float32), "at least 43 frames"),
        ("features", np.zeros((0, 43, 33), np.float32), "no clip"),
        ("features", np.full((1, 43, 33), np.nan, np.float32), "not finite"),
        ("encoded", [b"", b""], "one file at a time"),
        ("encoded", [b"no audio at all"], "."),
        ("encoded", [as_file(np.zeros(4000, np.int16), 22050, "WAV")], "at least 21504 samples"),
    ],
)
def test_what_has_no_answer_is_refused_with_the_reason(loaded, signature, tensor, words):
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        ask(loaded, signature, tensor)


def test_the_shortest_waveform_is_answered(loaded):
    found = ask(loaded, "serving_default", music(1.0)[np.newaxis, : 42 * 512])
    np.testing.assert_array_equal(found["probabilities"], found["window_probabilities"][:, 0])


def test_the_assets_say_what_a_server_must_know(exported):
    assert (exported.version / "assets" / "labels.txt").read_text().splitlines() == list(GENRES)
    params = json.loads((exported.version / "assets" / "params.json").read_text())
    assert params["genres"] == list(GENRES)
    assert params["signatures"] == ["serving_default", "features", "encoded"]
    assert (params["sample_rate_hz"], params["window_frames"], params["minimum_samples"]) == (22050, 43, 42 * 512)
    assert params["hop_seconds"] == 512 / 22050
    assert params["window_seconds"] == 43 * 512 / 22050
    assert params["front_end"] == {
        "kind": "spectral33",
        "rms_dbfs": None,
        "sample_rate_hz": 22050,
        "fft_samples": 2048,
        "hop_samples": 512,
    }
    assert {"tensorflow", "keras", "keras_genre"} <= set(params["versions"]["export"])
    read = read_saved_model(exported.name)
    assert json.loads(json.dumps(dataclasses.asdict(read))) == params


def test_operations_that_only_this_process_knows_would_be_noticed(exported, tmp_path):
    assert unknown_operations(str(exported.version)) == []

    class Cheating(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((), tf.float32)])
        def call(self, x):
            return tf.numpy_function(lambda value: value, [x], tf.float32)

    cheating = Cheating()
    tf.saved_model.save(cheating, str(tmp_path), cheating.call)
    assert unknown_operations(str(tmp_path)) == ["PyFunc"]


@pytest.mark.parametrize("name", [*NETWORKS, "lstm_optim in bfloat16", "conv2d in bfloat16"])
def test_every_preset_is_exported(name, tmp_path):
    params = PRESETS[name.split()[0]]
    if "bfloat16" in name:
        params = dataclasses.replace(params, model=dataclasses.replace(params.model, mixed_bfloat16=True))
    # The columns of mfcc13 are the first of the store's, as they often are.
    kind = "spectral33" if params.features == "mfcc13" else params.features
    run = make_untrained_run(tmp_path / "run", params, StoreHeader.of(FrontEndParams.of(kind)))
    model, info = load_model(run), read_run(run)
    described = saved_model_params(info)
    rate = described.sample_rate_hz
    clip = music(max(7.0, 1.2 * described.minimum_samples / rate), rate)
    write_saved_model(tmp_path / "1", [cpu_twin(model, params.model)], described, "toy")
    clips = np.stack([clip, np.flip(clip)])
    frames = FrontEnd(described.front_end)(clips).numpy()
    assert frames.shape[2] == described.dims
    found = ask(tf.saved_model.load(str(tmp_path / "1")), "serving_default", clips)
    scorer = ClipScorer(model)
    for row in range(2):
        expected = clip_outputs(scorer, frames[row])
        assert_same({name: value[row] for name, value in found.items()}, expected, 2e-2 if "bfloat16" in name else 1e-5)
    assert unknown_operations(str(tmp_path / "1")) == []


def draws_random_numbers(model):
    graph = tf.function(lambda x: model(x, training=False)).get_concrete_function(tf.TensorSpec((1, 128, 33))).graph
    nodes = [*graph.as_graph_def().node, *(n for f in graph.as_graph_def().library.function for n in f.node_def)]
    return any("Random" in node.op for node in nodes)


@pytest.mark.parametrize("name", ["lstm_optim", "lstm_original"])
def test_the_twin_needs_neither_a_gpu_nor_random_numbers(name, tmp_path):
    run = make_untrained_run(tmp_path / "run", PRESETS[name], use_cudnn=True)
    model = load_model(run)
    twin = cpu_twin(model, PRESETS[name].model)
    is_for_cudnn = [any(isinstance(layer, keras.layers.LSTM) for layer in network.layers) for network in (model, twin)]
    assert is_for_cudnn == [name == "lstm_optim", False]
    assert draws_random_numbers(model) == (name == "lstm_original")
    assert not draws_random_numbers(twin)
    frames = np.random.default_rng(0).standard_normal((2, 128, 33)).astype(np.float32) * 50
    np.testing.assert_allclose(twin.predict(frames, verbose=0), model.predict(frames, verbose=0), atol=1e-5)


def test_what_an_export_is_held_against_is_computed_by_the_cpu_whatever_else_there_is(exported):
    command = [sys.executable, Path(__file__).with_name("other_device.py"), exported.run]
    # Whoever runs the tests may have silenced TensorFlow.
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "0"}
    log = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stderr
    made, after = (
        set(re.findall(r"/device:(\w+:\d)", part)) for part in log.split("expectations are made\n", maxsplit=1)
    )
    assert made == {"CPU:0"}
    assert after == {"CPU:1"}


def test_an_exported_graph_is_bound_to_no_device(exported):
    content = saved_model_pb2.SavedModel.FromString((exported.version / "saved_model.pb").read_bytes())
    functions = [each for meta in content.meta_graphs for each in meta.graph_def.library.function]
    # Files are for the CPU alone.
    computing = [each for each in functions if not re.search("traced_(save|restore)", each.signature.name)]
    assert sum(len(each.node_def) for each in computing) > 100
    assert {node.device for each in computing for node in each.node_def} == {""}


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_network_that_was_trained_for_cudnn_is_asked_without_it(bidirectional, tmp_path):
    layers = dataclasses.replace(toy_params().model, lstm_recurrent_dropout=0.0, lstm_bidirectional=bidirectional)
    run = make_untrained_run(tmp_path / "run", toy_params(model=layers), use_cudnn=True)
    models = load_model(run), load_for_cpu(run)
    choices = [
        {layer.use_cudnn for layer in model._flatten_layers() if isinstance(layer, keras.layers.LSTM)}
        for model in models
    ]
    assert choices == [{"auto"}, {False}]
    frames = np.random.default_rng(0).standard_normal((2, 16, 33)).astype(np.float32) * 50
    np.testing.assert_array_equal(*(ClipScorer(model).windows(frames) for model in models))


def test_a_run_on_imported_features_is_exported_for_features_and_says_so(tmp_path, capsys):
    run = make_untrained_run(tmp_path / "run", toy_params(), StoreHeader("spectral33", 33, 0.0, None))
    assert keras_genre(["export", str(run), "--out", str(tmp_path / "toy" / "1")]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'toy' / '1'}\n"
    assert "takes feature frames, not audio" in captured.err
    params = read_saved_model(tmp_path / "toy")
    assert params.signatures == ("features",)
    assert (params.sample_rate_hz, params.minimum_samples, params.front_end) == (None, None, None)
    assert list(tf.saved_model.load(str(tmp_path / "toy" / "1")).signatures) == ["features"]
    assert keras_genre(["predict", "song.mp3", "--model", str(tmp_path / "toy")]) == 1
    assert "takes features (spectral33), not audio" in capsys.readouterr().err


@pytest.fixture
def broken(exported, tmp_path):
    """A run whose network gives NaN."""
    run = tmp_path / "broken"
    shutil.copytree(exported.run, run)
    model = load_model(run)
    model.get_layer("logits").bias.assign([np.nan] * 3)
    model.save(run / "model.keras")
    return run


def test_an_export_that_answers_wrongly_leaves_nothing(broken, tmp_path):
    with pytest.raises(ExportError, match="are not probabilities"):
        export_saved_model(broken, tmp_path / "models" / "toy" / "1", checks=FEW)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_version_that_exists_is_replaced_by_wish_only_and_by_a_good_one_only(exported, broken, tmp_path):
    version = tmp_path / "toy" / "1"
    shutil.copytree(exported.version, version)
    before = files.sha256_of(version / "saved_model.pb")
    with pytest.raises(ExportError, match="exists already"):
        export_saved_model(exported.run, version, checks=FEW)
    with pytest.raises(ExportError, match="are not probabilities"):
        export_saved_model(broken, version, replace=True, checks=FEW)
    assert files.sha256_of(version / "saved_model.pb") == before
    assert [path.name for path in version.parent.iterdir()] == ["1"]
    (version / "saved_model.pb").write_bytes(b"old")
    export_saved_model(exported.run, version, replace=True, checks=FEW)
    assert (version / "saved_model.pb").stat().st_size > 3
    assert [path.name for path in version.parent.iterdir()] == ["1"]


LITERT = ["--format", "litert"]


@pytest.mark.parametrize(
    ("files", "flags", "words"),
    [
        (["other.txt"], LITERT, "holds other.txt, which no export wrote"),
        (["network.tflite", "labels.txt", "params.json", "notes/mine.txt"], LITERT, "holds notes,"),
        (["labels.txt"], LITERT, "is no earlier export (network.tflite is missing)"),
        (["saved_model.pb", "assets/labels.txt"], LITERT, "holds assets,"),
        (["photo.jpg"], [], "holds photo.jpg,"),
        (["saved_model.pb", "assets/labels.txt", "assets/vocabulary.txt"], [], "holds assets/vocabulary.txt,"),
        (["saved_model.pb", "variables/variables.index", "assets.extra/old/1"], [], "holds assets.extra/old,"),
        (["assets/labels.txt"], [], "is no earlier export (saved_model.pb is missing)"),
        (["network.tflite", "labels.txt", "params.json"], [], "holds labels.txt,"),
    ],
)
def test_overwriting_replaces_no_folder_that_holds_anything_but_an_export(
    exported, tmp_path, files, flags, words, capsys
):
    out = tmp_path / "1"
    for file in files:
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        (out / file).write_text("mine")
    assert keras_genre(["export", str(exported.run), *flags, "--out", str(out), "--overwrite"]) == 1
    assert f"error: {out}: is not replaced, as it {words}" in capsys.readouterr().err
    assert all((out / file).read_text() == "mine" for file in files)


def test_overwriting_replaces_no_file(exported, tmp_path, capsys):
    (tmp_path / "1").write_text("mine")
    assert keras_genre(["export", str(exported.run), "--out", str(tmp_path / "1"), "--overwrite"]) == 1
    assert f"{tmp_path / '1'}: is a file" in capsys.readouterr().err
    assert (tmp_path / "1").read_text() == "mine"


@pytest.mark.parametrize("features", ["mfcc13", "spectral33"])
def test_a_window_of_one_frame_takes_a_sample_at_least(features, tmp_path):
    params = toy_params(features=features, window_frames=1)
    run = make_untrained_run(tmp_path / "run", params)
    export_saved_model(run, tmp_path / "1", checks=dataclasses.replace(FEW, against_librosa=True))
    assert read_saved_model(tmp_path / "1").minimum_samples == 1
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    assert ask(loaded, "serving_default", np.ones((1, 1), np.float32))["window_probabilities"].shape == (1, 1, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least 1 sample"):
        ask(loaded, "serving_default", np.ones((1, 0), np.float32))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder, _: (folder / "assets" / "labels.txt").write_text("polka\nbebop\nzydeco\n"), "labels"),
        (lambda folder, _: (folder / "assets" / "params.json").write_text("{}"), "damaged"),
        (lambda folder, _: (folder / "variables" / "variables.index").write_bytes(b""), "clean process cannot use"),
        (lambda _, model: model.get_layer("logits").bias.assign([0.0, 0.001, 0.0]), "from the run's"),
    ],
)
def test_any_difference_to_the_run_is_found(exported, tmp_path, change, words):
    folder = tmp_path / "1"
    shutil.copytree(exported.version, folder)
    model = load_model(exported.run)
    change(folder, model)
    params = saved_model_params(read_run(exported.run))
    with pytest.raises((ExportError, SavedModelError), match=words), CleanProcess(PROBE) as process:
        verify(folder, [model], params, FEW, process)


@pytest.mark.parametrize("name", ["latest", "0", "01", "-1", "1.0", "²"])
def test_a_destination_that_a_server_would_not_find_is_refused_with_one_that_it_would(name, exported, capsys):
    assert not is_version(name)
    out = exported.run / name
    assert keras_genre(["export", str(exported.run), f"--out={out}"]) == 2
    assert f"give {out / '1'}" in capsys.readouterr().err


def test_the_newest_version_is_the_highest_number(tmp_path):
    for name in ("2", "10", "9", "011", "latest", ".partial-12.x"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").write_bytes(b"")
    (tmp_path / "12").mkdir()
    assert versions(tmp_path) == [2, 9, 10]
    assert version_folder(tmp_path) == tmp_path / "10"
    assert version_folder(tmp_path / "latest") == tmp_path / "latest"
    with pytest.raises(SavedModelError, match=r"keras_genre\.export"):
        version_folder(tmp_path / "12")
    with pytest.raises(SavedModelError, match="was not exported by keras_genre"):
        read_saved_model(tmp_path)


def test_a_clean_process_imports_from_where_this_one_does_but_for_the_folder_it_is_in(tmp_path, monkeypatch):
    program, answer = tmp_path / "program.py", tmp_path / "answer.json"
    program.write_text(
        "import importlib.util, json, sys\n"
        "if __name__ == '__main__':\n"
        "    found = [name for name in ('ours', 'mine') if importlib.util.find_spec(name)]\n"
        "    (answer,) = json.load(sys.stdin)\n"
        "    with open(answer, 'w') as file:\n"
        "        json.dump([found, sys.flags.isolated], file)\n"
    )
    for name in ("ours", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").write_text("")
        monkeypatch.syspath_prepend(tmp_path / name)
    monkeypatch.chdir(tmp_path / "mine")
    with CleanProcess(program) as process:
        process.run(answer)
    assert json.loads(answer.read_text()) == [["ours"], 1]


def test_a_programme_of_others_that_has_tensorflow_only_can_use_it(exported):
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('keras_genre', 'keras', 'tensorflow_io', 'librosa')))\n"
        "import tensorflow as tf\n"
        "model = tf.saved_model.load(sys.argv[1])\n"
        "sine = tf.sin(tf.range(44100, dtype=tf.float32) / 8)[tf.newaxis]\n"
        "print(model.signatures['serving_default'](waveform=sine)['probabilities'].numpy().sum())\n"
    )
    command = [sys.executable, "-I", "-c", code, str(exported.version)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(result.stdout) == pytest.approx(1)
