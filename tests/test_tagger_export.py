"""A run on tag activations takes audio, exports to one SavedModel, and is served like any other."""

import io
import json
import types

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from toys import GENRES, make_untrained_run, toy_params

from keras_genre import audio
from keras_genre.__main__ import main as keras_genre
from keras_genre.exporting import export_saved_model
from keras_genre.features.reference import waveform_to_frames
from keras_genre.models.musicnn_weights import TAG_NAMES
from keras_genre.params import FrontEndParams
from keras_genre.runs import load_model
from keras_genre.saved_models import read_saved_model
from keras_genre.scoring import ClipScorer
from keras_genre.serving.contract import read_contract
from keras_genre.serving.protocol import Signature, TensorSpec
from keras_genre.verification import Checks, clip_outputs, made_up_clips

RATE = 16000
WINDOW_FRAMES = 3
PARAMS = FrontEndParams.of("taggram50")
MINIMUM_SAMPLES = (2 * 61 + 186) * 256


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A run on tag activations and its export."""
    folder = tmp_path_factory.mktemp("exported")
    run = make_untrained_run(folder / "run", toy_params(features="taggram50", window_frames=WINDOW_FRAMES))
    version = folder / "saved_models" / "tagger" / "1"
    found = export_saved_model(run, version, checks=Checks(seconds=(1.0, 7.0), batch_size=2))
    return types.SimpleNamespace(run=run, version=version, verification=found)


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(str(exported.version))


def music(seconds, sample_rate_hz=RATE):
    return made_up_clips(round(seconds * sample_rate_hz), sample_rate_hz)["music"]


def ask(loaded, signature, name, tensor):
    outputs = loaded.signatures[signature](**{name: tf.constant(tensor)})
    return {name: value.numpy() for name, value in outputs.items()}


def test_a_clean_process_gives_what_the_run_gives(exported):
    found = exported.verification
    # Two lengths of four clips, each alone and in a batch; frames, embeddings, files, refusals.
    assert found.requests == 2 * (4 + 1) + (4 + 1) + (4 + 1) + 2 + 3
    assert 0 <= found.difference < 1e-5
    assert 0 < found.reference_difference < 1e-3


def test_the_model_says_what_it_takes(exported):
    params = read_saved_model(exported.version)
    assert params.signatures == ("serving_default", "features", "encoded", "embeddings")
    assert (params.features, params.dims, params.sample_rate_hz) == ("taggram50", 50, RATE)
    assert (params.window_frames, params.minimum_samples) == (WINDOW_FRAMES, MINIMUM_SAMPLES)
    assert params.hop_seconds == 61 * 256 / RATE
    assert params.window_seconds == (2 * 61 + 187) * 256 / RATE
    assert sum(path.stat().st_size for path in exported.version.rglob("*") if path.is_file()) < 20e6


def test_a_waveform_its_tag_activations_and_its_file_get_one_answer(loaded, exported):
    clip = np.round(music(9.0) * 32767) / 32768
    clip = clip.astype(np.float32)
    frames = waveform_to_frames(clip, PARAMS)
    found = ask(loaded, "serving_default", "waveform", clip[np.newaxis])
    expected = clip_outputs(ClipScorer(load_model(exported.run)), frames)
    file = io.BytesIO()
    soundfile.write(file, clip, RATE, format="WAV", subtype="PCM_16")
    others = [
        ask(loaded, "features", "frames", frames[np.newaxis]),
        ask(loaded, "encoded", "encoded", [file.getvalue()]),
    ]
    for name in ("probabilities", "window_probabilities"):
        for other in others:
            np.testing.assert_allclose(other[name], found[name], rtol=0, atol=1e-4)
        np.testing.assert_allclose(found[name][0], expected[name], rtol=0, atol=1e-4)


def test_a_file_at_another_rate_gets_nearly_the_answer_of_its_resampled_waveform(loaded):
    file = io.BytesIO()
    soundfile.write(file, music(9.0, 44100), 44100, format="WAV", subtype="PCM_16")
    found = ask(loaded, "encoded", "encoded", [file.getvalue()])
    expected = ask(loaded, "serving_default", "waveform", audio.load(file.getvalue(), RATE)[np.newaxis])
    assert np.abs(found["probabilities"] - expected["probabilities"]).max() < 0.01


def test_embeddings_are_all_that_the_network_offers_of_every_patch(loaded):
    clips = np.stack([music(5.0), np.flip(music(5.0))])
    found = ask(loaded, "embeddings", "waveform", clips)
    assert {name: value.shape for name, value in found.items()} == {"tags": (2, 3, 50), "penultimate": (2, 3, 200)}
    assert found["tags"].shape[-1] == len(TAG_NAMES)
    for row, clip in enumerate(clips):
        expected = waveform_to_frames(clip, FrontEndParams.of("musicnn250"))
        got = np.concatenate([found["tags"][row], found["penultimate"][row]], axis=-1)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("signature", "samples", "words"),
    [
        ("serving_default", MINIMUM_SAMPLES - 1, f"at least {MINIMUM_SAMPLES} samples"),
        ("embeddings", 47_615, "at least 47616 samples"),
    ],
)
def test_a_waveform_without_a_window_is_refused(loaded, signature, samples, words):
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        ask(loaded, signature, "waveform", np.zeros((1, samples), np.float32))
    assert ask(loaded, signature, "waveform", np.zeros((1, samples + 1), np.float32))


def test_predict_gives_one_answer_from_the_run_and_from_its_export_with_the_times_of_the_windows(
    exported, tmp_path, capsys
):
    soundfile.write(tmp_path / "song.flac", music(9.0, 44100), 44100)
    soundfile.write(tmp_path / "short.wav", music(4.0, 44100), 44100)
    answers = []
    for model in (exported.run, exported.version):
        words = ["predict", str(tmp_path / "song.flac"), str(tmp_path / "short.wav"), "--model", str(model), "--json"]
        assert keras_genre([*words, "--jobs", "1"]) == 1
        song, short = json.loads(capsys.readouterr().out)
        assert "at least 4.93 s are needed" in short["error"]
        answers.append(song)
    first, second = answers
    assert set(first["probabilities"]) == set(GENRES)
    for genre, probability in first["probabilities"].items():
        assert second["probabilities"][genre] == pytest.approx(probability, abs=1e-4)
    # Nine seconds are seven frames: windows from the first, the fourth and, with the end, the fifth.
    times = [(window["start_seconds"], window["end_seconds"]) for window in first["windows"]]
    assert times == [(0.0, 4.944), (2.928, 7.872), (3.904, 8.848)]
    assert [(window["start_seconds"], window["end_seconds"]) for window in second["windows"]] == times


def test_a_server_gives_the_windows_the_same_times(exported):
    outputs = {name: TensorSpec("DT_FLOAT") for name in ("probabilities", "window_probabilities")}
    signature = Signature("serving_default", {"waveform": TensorSpec("DT_FLOAT")}, outputs)
    contract = read_contract(exported.version, {signature.name: signature})
    answer = contract.answer("song", 9 * RATE, np.full(3, 1 / 3), np.full((3, 3), 1 / 3))
    times = [(window["start_seconds"], window["end_seconds"]) for window in answer["windows"]]
    assert times == [(0.0, 4.944), (2.928, 7.872), (3.904, 8.848)]
