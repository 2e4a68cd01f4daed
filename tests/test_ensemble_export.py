"""Several runs exported as one model: it says of a waveform the mean of what they say."""

import json

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from toys import make_untrained_run, toy_params

from keras_genre import audio
from keras_genre.__main__ import main as keras_genre
from keras_genre.errors import ParameterError, RunError
from keras_genre.exporting import export_saved_model
from keras_genre.extract import Extracted
from keras_genre.metrics import softmax
from keras_genre.params import FrontEndParams
from keras_genre.prediction import RunPredictor, SavedModelPredictor
from keras_genre.saved_models import MemberParams, read_saved_model
from keras_genre.serving.contract import read_contract
from keras_genre.serving.protocol import Signature, TensorSpec
from keras_genre.verification import Checks, made_up_clips

SECONDS = 17.3
FEW = Checks(seconds=(1.0, 7.0), batch_size=2)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs whose front ends take different rates."""
    folder = tmp_path_factory.mktemp("runs")
    return (
        make_untrained_run(folder / "tags", toy_params(features="taggram50", window_frames=4)),
        make_untrained_run(folder / "mel", toy_params(features="log_mel128_levels", window_frames=40)),
    )


@pytest.fixture(scope="module")
def version(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("saved_models") / "both" / "1"
    assert export_saved_model(runs, out, checks=FEW).difference <= 1e-5
    return out


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    file = tmp_path_factory.mktemp("music") / "song.wav"
    soundfile.write(file, made_up_clips(round(SECONDS * 44100), 44100)["music"], 44100)
    return file


def probabilities_of(predictor, song):
    waveform = audio.load(song, predictor.sample_rate_hz)
    found = predictor.predict(str(song), Extracted(waveform=waveform, seconds=waveform.size / predictor.sample_rate_hz))
    return np.array([found.probabilities[genre] for genre in predictor.genres]), found


def test_it_takes_the_higher_rate_and_clips_with_a_window_of_every_network(runs, version):
    params = read_saved_model(version)
    assert [member.features for member in params.members] == ["taggram50", "log_mel128_levels"]
    assert params.sample_rate_hz == 22050
    needed = [member.samples_of(member.window_frames, 22050) for member in params.members]
    assert params.minimum_samples == max(needed)
    signature = tf.saved_model.load(str(version)).signatures["serving_default"]
    noise = np.random.default_rng(0).standard_normal((1, params.minimum_samples)).astype(np.float32) * 0.1
    assert np.isfinite(signature(waveform=tf.constant(noise))["probabilities"]).all()
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=rf"{params.minimum_samples} samples, as many as a window of each network takes",
    ):
        signature(waveform=tf.constant(noise[:, 1:]))


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
@pytest.mark.parametrize("features", ["taggram50", "log_mel128_levels", "spectral33"])
def test_the_shortest_waveform_of_so_many_frames_has_not_a_sample_too_many(features, rate):
    member = MemberParams("toy", features, 1, 1, FrontEndParams.of(features), toy_params().model)
    for frames in (2, 7, 40):
        samples = member.samples_of(frames, rate)
        assert member.frames_of(samples, rate) >= frames > member.frames_of(samples - 1, rate)


def test_it_says_the_mean_of_what_the_runs_say(runs, version, song):
    each = [np.log(probabilities_of(RunPredictor(run), song)[0]) for run in runs]
    found, _ = probabilities_of(SavedModelPredictor(version), song)
    # The runs hear the song resampled once, the model hears it at 22 050 Hz and resamples that.
    np.testing.assert_allclose(found, softmax(np.mean(each, axis=0)), atol=2e-3)
    assert np.abs(found - softmax(each[0])).max() > 0.01
    assert np.abs(found - softmax(each[1])).max() > 0.01


def test_its_windows_are_those_of_the_first_run(runs, version, song):
    _, first = probabilities_of(RunPredictor(runs[0]), song)
    _, found = probabilities_of(SavedModelPredictor(version), song)
    assert [window[:2] for window in found.windows] == [window[:2] for window in first.windows]
    assert len(found.windows) > 2


def features_probabilities(version, song):
    """What the `features` signature says of the tag activations of a song."""
    waveform = audio.load(song, read_saved_model(version).sample_rate_hz)
    signatures = tf.saved_model.load(str(version)).signatures
    tags = signatures["embeddings"](waveform=tf.constant(waveform[np.newaxis]))["tags"]
    return signatures["features"](frames=tags)["probabilities"][0]


def test_of_features_it_says_what_the_first_network_says(runs, version, song):
    alone, _ = probabilities_of(RunPredictor(runs[0]), song)
    np.testing.assert_allclose(features_probabilities(version, song), alone, atol=2e-3)


def test_of_features_it_says_the_mean_of_all_networks_that_get_them(runs, tmp_path, song):
    tags, mel = runs
    others = [
        make_untrained_run(tmp_path / f"tags {seed}", toy_params(features="taggram50", window_frames=4, seed=seed))
        for seed in (1, 2)
    ]
    export_saved_model([tags, others[0], mel, others[1]], tmp_path / "four" / "1", checks=FEW, temperature=0.5)
    export_saved_model([tags, *others], tmp_path / "three" / "1", checks=FEW, temperature=0.5)
    each = [np.log(probabilities_of(RunPredictor(run), song)[0]) for run in (tags, *others)]
    assert max(np.abs(one - each[0]).max() for one in each[1:]) > 0.01
    mean = np.mean(each, axis=0)
    np.testing.assert_allclose(features_probabilities(tmp_path / "four" / "1", song), softmax(mean), atol=2e-3)
    # The temperature is that of all together.
    np.testing.assert_allclose(features_probabilities(tmp_path / "three" / "1", song), softmax(mean / 0.5), atol=2e-3)


def test_a_run_beside_itself_says_what_it_says_alone_divided_by_the_temperature(runs, tmp_path):
    rate, run = 22050, runs[1]
    alone, twice = tmp_path / "alone" / "1", tmp_path / "twice" / "1"
    export_saved_model(run, alone, checks=FEW)
    export_saved_model([run, run], twice, checks=FEW, temperature=0.5)
    waveform = made_up_clips(round(30 * rate), rate)["music"][np.newaxis]
    expected, found = (
        tf.saved_model.load(str(path)).signatures["serving_default"](waveform=tf.constant(waveform))
        for path in (alone, twice)
    )
    np.testing.assert_allclose(found["probabilities"], sharpened(expected["probabilities"]), atol=1e-5)
    # Its last window overlaps with the one before it, which is of no account: both networks get the same windows.
    np.testing.assert_allclose(found["window_probabilities"], sharpened(expected["window_probabilities"]), atol=1e-5)
    with pytest.raises(ParameterError, match="temperature"):
        export_saved_model(run, tmp_path / "frozen" / "1", temperature=0.0)


def sharpened(probabilities):
    return softmax(2 * np.log(probabilities.numpy()))


def test_a_window_that_no_window_of_another_overlaps_is_averaged_with_the_nearest(runs, tmp_path):
    rate, seconds = 22050, 13.5
    short = make_untrained_run(tmp_path / "short", toy_params(features="spectral33", window_frames=32))
    tags, out = runs[0], tmp_path / "both" / "1"
    # Of clips of 13.5 s the last window of 0.7 s begins after the last one of the tags ends; of 13.9 s it does not.
    checks = Checks(seconds=(13.5, 13.9), batch_size=1, against_librosa=False)
    assert export_saved_model([short, tags], out, checks=checks).difference <= 1e-5
    music = made_up_clips(round(seconds * rate), rate)["music"]
    found = tf.saved_model.load(str(out)).signatures["serving_default"](waveform=tf.constant(music[np.newaxis]))
    soundfile.write(tmp_path / "song.wav", music, rate, subtype="FLOAT")
    (*_, last), (*_, nearest) = (
        probabilities_of(RunPredictor(run), tmp_path / "song.wav")[1].windows for run in (short, tags)
    )
    assert last[0] > nearest[1]
    mean = np.mean([np.log(list(window[2].values())) for window in (last, nearest)], axis=0)
    np.testing.assert_allclose(found["window_probabilities"][0, -1], softmax(mean), atol=2e-3)


def test_the_server_reads_the_same_windows_of_it(version, song):
    loaded = tf.saved_model.load(str(version)).signatures["serving_default"]
    signature = Signature(
        "serving_default",
        {"waveform": TensorSpec("float32", (None, None))},
        {"probabilities": TensorSpec("float32", (None, 3)), "window_probabilities": TensorSpec("float32", None)},
    )
    contract = read_contract(version, {"serving_default": signature})
    waveform = audio.load(song, contract.sample_rate_hz)
    outputs = loaded(waveform=tf.constant(waveform[np.newaxis]))
    answer = contract.answer(
        str(song),
        waveform.size,
        outputs["probabilities"].numpy()[0],
        outputs["window_probabilities"].numpy()[0],
    )
    _, expected = probabilities_of(SavedModelPredictor(version), song)
    assert answer == expected.to_json()


def test_runs_that_do_not_go_together_are_refused_by_name(runs, tmp_path):
    other = make_untrained_run(tmp_path / "other", toy_params(features="taggram50", window_frames=4))
    info = json.loads((other / "run.json").read_text())
    info["genres"] = ["bebop", "jazz", "zydeco"]
    (other / "run.json").write_text(json.dumps(info))
    with pytest.raises(RunError, match="other: its genres are not those of"):
        export_saved_model([runs[0], other], tmp_path / "both" / "1", checks=FEW)
    assert not (tmp_path / "both").exists()


def test_the_command_takes_several_runs_but_not_for_litert(runs, tmp_path, capsys):
    names = [str(run) for run in runs]
    assert keras_genre(["export", *names, "--out", str(tmp_path / "lite"), "--format", "litert"]) == 2
    assert "give one run" in capsys.readouterr().err
