"""MSD-musicnn: its weights are the published ones, the network says what was published of the same music."""

import shutil
import subprocess
import sys
import zipfile

import keras
import librosa
import numpy as np
import pytest
import soxr
import tensorflow as tf

from benchmarks.taggram_agreement import AS_PUBLISHED, VARIANTS, kaiser_best, patches
from keras_genre import audio
from keras_genre import musicnn as command
from keras_genre.__main__ import main as keras_genre
from keras_genre.errors import ParameterError, WeightsError
from keras_genre.features import filters, graph
from keras_genre.features.layers import FrontEnd
from keras_genre.features.reference import waveform_to_frames
from keras_genre.models import musicnn_weights
from keras_genre.models.musicnn import musicnn
from keras_genre.models.musicnn_weights import EMBEDDED, TAG_NAMES, read_weights, without_dead_filters
from keras_genre.params import FrontEndParams
from keras_genre.store import open_store
from keras_genre.verification import made_up_clips

RATE = 16000
MEL, TAGGRAM, ALL = (FrontEndParams.of(kind) for kind in ("musicnn_mel96", "taggram50", "musicnn250"))


@pytest.fixture(scope="module")
def weights():
    return read_weights()


@pytest.fixture(scope="module")
def clips():
    """Made-up waveforms of four seconds, which are two patches."""
    return made_up_clips(4 * RATE, RATE)


@pytest.fixture(scope="module")
def published(shared_data):
    """The published tag activations by clip."""
    with np.load(shared_data / "gtzan_taggrams" / "train.npz") as stored:
        values, names = stored["X"], stored["IDS"]
    return lambda track: values[names == f"{track.split('.')[0]}/{track}.au"]


def as_here(waveform):
    return soxr.resample(waveform, 22050, RATE, quality="HQ")


# The weights.


def test_the_package_has_all_values_of_the_published_network(weights):
    assert len(weights) == 64
    assert sum(array.size for array in weights.values()) == 792_079
    assert EMBEDDED.stat().st_size < 4e6
    assert len(TAG_NAMES) == 50 == len(set(TAG_NAMES))


def test_without_its_dead_filters_the_network_is_a_quarter_and_says_the_same(weights, clips):
    slim = without_dead_filters(weights)
    front = [slim[f"{layer}/bias"].size for layer in musicnn_weights.FRONT]
    assert front == [23, 14, 3, 7, 17]
    assert sum(array.size for array in slim.values()) < 792_079 / 3
    spectra = np.stack([waveform_to_frames(clip, MEL)[:187] for clip in clips.values()])
    whole, part = musicnn(weights), musicnn(slim)
    assert whole.count_params() == 792_079
    expected, found = (network.predict_on_batch(spectra) for network in (whole, part))
    for name, shape in (("tags", (4, 50)), ("penultimate", (4, 200))):
        assert found[name].shape == shape
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=2e-5, err_msg=name)


def test_tags_are_a_logistic_regression_of_the_last_hidden_layer(weights, clips):
    outputs = musicnn().predict_on_batch(waveform_to_frames(clips["music"], MEL)[np.newaxis, :187])
    logits = outputs["penultimate"] @ weights["tags/kernel"] + weights["tags/bias"]
    np.testing.assert_allclose(outputs["tags"], 1 / (1 + np.exp(-logits)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path, weights: None, "missing or damaged"),
        (lambda path, weights: path.write_bytes(EMBEDDED.read_bytes()[:100_000]), "missing or damaged"),
        (lambda path, weights: np.savez(path, **{**weights, "more": np.zeros(1)}), "not the weights of MSD-musicnn"),
        (lambda path, weights: np.savez(path, **{**weights, "tags/bias": np.zeros(51)}), "not the weights of MSD"),
        (
            lambda path, weights: np.savez(path, **{**weights, "tags/bias": np.full(50, np.nan, np.float32)}),
            "NaN or infinite",
        ),
        (lambda path, weights: np.savez(path, **{**weights, "tags/bias": np.array([{}] * 50)}), "missing or damaged"),
    ],
)
def test_weights_that_are_not_those_are_refused(damage, words, weights, tmp_path):
    path = tmp_path / "weights.npz"
    damage(path, weights)
    with pytest.raises(WeightsError, match=words):
        read_weights(path)


def test_a_checkpoint_in_a_wheel_is_read_by_the_names_of_its_variables(weights, tmp_path):
    names = musicnn_weights.variable_names()
    assert len(set(names.values())) == 64
    assert names["timbre_38/kernel"] == "conv2d/kernel"
    assert names["hidden_norm/gamma"] == "batch_normalization_10/gamma"
    prefix = str(tmp_path / "checkpoint")
    stored = [(names[name], array) for name, array in weights.items()] + [("beta1_power", np.float32(0))]
    variables, arrays = zip(*stored, strict=True)
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=variables, shape_and_slices=[""] * len(arrays), tensors=arrays)
    wheel = tmp_path / "some.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for part in (".index", ".data-00000-of-00001"):
            archive.write(prefix + part, f"musicnn/MSD_musicnn/{part}")
    found = command.weights_of(wheel)
    assert set(found) == set(weights)
    for name, array in weights.items():
        np.testing.assert_array_equal(found[name], array)


def test_a_wheel_of_another_checksum_is_refused_before_it_is_opened(tmp_path, capsys):
    wheel, out = tmp_path / "musicnn-0.1.0-py3-none-any.whl", tmp_path / "weights.npz"
    wheel.write_bytes(b"PK\5\6" + bytes(18))
    assert keras_genre(["musicnn", "--wheel", str(wheel), "--out", str(out)]) == 1
    assert "is not the published musicnn-0.1.0-py3-none-any.whl" in capsys.readouterr().err
    assert not out.exists()


# The features.


@pytest.mark.parametrize("samples", [0, 1, 255, 256, 47_615, 47_616, 47_616 + 61 * 256 - 1, 47_616 + 61 * 256])
def test_a_frame_is_187_spectra_and_begins_61_behind_the_one_before(samples, clips):
    waveform = np.resize(clips["music"], samples)
    spectra = waveform_to_frames(waveform, MEL)
    assert len(spectra) == 1 + samples // 256
    expected = len(range(0, len(spectra) - 186, 61))
    assert TAGGRAM.frames_of(samples) == expected
    assert waveform_to_frames(waveform, ALL).shape == (expected, 250)


def test_frames_stand_for_three_seconds_each_and_follow_each_other_about_every_second():
    assert TAGGRAM.hop_seconds == 61 * 256 / 16000
    assert TAGGRAM.window_seconds(1) == 187 * 256 / 16000
    assert TAGGRAM.window_seconds(28) == pytest.approx(TAGGRAM.window_seconds(1) + 27 * TAGGRAM.hop_seconds)
    for frames in (1, 2, 28):
        assert TAGGRAM.frames_of(TAGGRAM.samples_of(frames)) == frames
        assert TAGGRAM.frames_of(TAGGRAM.samples_of(frames) - 1) == frames - 1


@pytest.mark.parametrize("transform", [(22050, 512, 256), (16000, 1024, 256), (16000, 512, 160)])
@pytest.mark.parametrize("kind", ["musicnn_mel96", "taggram50", "musicnn250"])
def test_the_network_has_one_transform(kind, transform):
    with pytest.raises(ParameterError, match="the network was trained with"):
        FrontEndParams(kind, *transform)


def test_its_log_mel_is_the_logarithm_of_librosas_and_damped_in_the_highest_bands(clips):
    highest_hz = librosa.mel_frequencies(98, fmax=8000)[2:]
    below = highest_hz <= 7150
    assert 85 < below.sum() < 96
    for name, clip in clips.items():
        mel = librosa.feature.melspectrogram(y=clip, sr=RATE, n_fft=512, hop_length=256, n_mels=96)
        expected, found = np.log10(10000 * mel.T + 1), waveform_to_frames(clip, MEL)
        np.testing.assert_allclose(found[:, below], expected[:, below], rtol=0, atol=1e-5, err_msg=name)
        assert (found <= expected + 1e-5).all()
        if name == "noise":
            assert (found[:, ~below] < expected[:, ~below]).all()


def test_the_damping_is_what_the_resampler_of_the_training_does_more_than_ours():
    pytest.importorskip("resampy", reason="needs the extra benchmarks")
    damping = filters.musicnn_damping(MEL)
    assert damping.shape == (257,)
    time = np.arange(22050)
    for number in (100, 200, *range(228, 250)):
        sine = np.sin(2 * np.pi * number * 31.25 * time / 22050).astype(np.float32)
        theirs, ours = (resample(sine)[2000:-2000].std() for resample in (lambda y: kaiser_best(y, 22050), as_here))
        assert damping[number] == pytest.approx(min(1.0, theirs / ours), abs=0.003), number


@pytest.mark.parametrize("kind", ["musicnn_mel96", "taggram50", "musicnn250"])
def test_the_graph_gives_what_the_reference_gives(kind, clips):
    params = FrontEndParams.of(kind)
    frames = FrontEnd(params)(np.stack(list(clips.values()))).numpy()
    assert frames.shape == (len(clips), params.frames_of(4 * RATE), params.dims)
    for found, (name, clip) in zip(frames, clips.items(), strict=True):
        np.testing.assert_allclose(found, waveform_to_frames(clip, params), rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("patches", [0, 1, 7, 8, 9, 17])
def test_the_graph_has_a_frame_for_every_patch_however_many_there_are(patches, clips):
    samples = TAGGRAM.samples_of(patches) if patches else 1000
    waveform = np.resize(clips["music"], samples)
    found = FrontEnd(TAGGRAM)(waveform[np.newaxis]).numpy()[0]
    assert found.shape == (patches, 50)
    np.testing.assert_allclose(found, waveform_to_frames(waveform, TAGGRAM), rtol=0, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-38, 1e-10, 1e10, 1e18])
def test_no_finite_waveform_gives_a_number_that_is_not_finite(scale, clips):
    frames = FrontEnd(ALL)(np.stack([clips["noise"], clips["sine"]]) * np.float32(scale)).numpy()
    assert np.isfinite(frames).all()
    assert ((frames[..., :50] >= 0) & (frames[..., :50] <= 1)).all()


def test_without_a_network_the_graph_says_what_is_missing(clips):
    with pytest.raises(ParameterError, match="computed by a network"):
        graph.waveforms_to_frames(clips["music"][np.newaxis], TAGGRAM)


def test_a_model_with_the_layer_is_saved_and_loaded_with_its_network(clips, tmp_path):
    waveforms = keras.Input([None])
    model = keras.Model(waveforms, FrontEnd(TAGGRAM)(waveforms))
    assert model.output_shape == (None, None, 50)
    assert model.trainable_weights == []
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    clip = clips["music"][np.newaxis]
    np.testing.assert_array_equal(loaded(clip), model(clip))


def test_the_reference_needs_no_tensorflow():
    code = "import sys, keras_genre.features.reference\nassert not {'tensorflow', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# On music.


@pytest.mark.parametrize("track", ["metal.00002", "hiphop.00004", "reggae.00001", "rock.00003"])
def test_tag_activations_of_music_are_the_published_ones(track, shared_data, published):
    waveform = audio.load(shared_data / "gtzan_mini" / f"{track}.flac", RATE)
    found, expected = waveform_to_frames(waveform, TAGGRAM), published(track)
    assert found.shape == expected.shape == (28, 50)
    # The first patch begins with a mirror image there, with silence here.
    assert np.abs(found - expected)[1:].max() < 0.005
    assert np.median(np.abs(found - expected)) < 1e-4


def test_at_the_published_resamplers_samples_nothing_but_rounding_is_left(shared_data, published):
    pytest.importorskip("resampy", reason="needs the extra benchmarks")
    variant = next(variant for variant in VARIANTS if variant.name == AS_PUBLISHED)
    spectra = patches(shared_data / "gtzan_mini" / "pop.00003.flac", variant)
    assert len(spectra) == 28
    difference = np.abs(musicnn().predict_on_batch(spectra)["tags"] - published("pop.00003"))
    assert difference.max() < 2e-4


def test_the_names_of_the_tags_are_in_their_order(published):
    for track, tag, other in (
        ("metal.00002", "metal", "jazz"),
        ("hiphop.00004", "hip-hop", "country"),
        ("rock.00003", "rock", "hip-hop"),
    ):
        mean = published(track).mean(axis=0)
        assert mean[TAG_NAMES.index(tag)] > 10 * mean[TAG_NAMES.index(other)]


def test_a_store_of_tag_activations_is_what_the_published_ones_make(shared_data, encode, tmp_path):
    folder = tmp_path / "music" / "metal"
    folder.mkdir(parents=True)
    shutil.copy(shared_data / "gtzan_mini" / "metal.00002.flac", folder)
    # Two seconds are no frame, whatever --min-seconds allows.
    (folder / "short.wav").write_bytes(encode("WAV", seconds=2.0))
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    words = ["precompute", str(tmp_path / "music"), "--features", "taggram50", "--out", str(ours), "--jobs", "1"]
    assert keras_genre([*words, "--min-seconds", "1"]) == 1
    archive = str(shared_data / "gtzan_taggrams" / "train.npz")
    assert keras_genre(["store", "import", archive, "--features", "taggram50", "--out", str(theirs)]) == 0
    ours, theirs = open_store(ours), open_store(theirs)
    assert ours.header == theirs.header
    assert ours.header.front_end == TAGGRAM
    ((_, found),) = ours.read()
    row = next(row for row, clip in enumerate(theirs.clips) if clip.track == "metal.00002")
    ((_, expected),) = theirs.read([row])
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 0.001
    assert ours.failures == [("metal/short.wav", "lasts 2 s; at least 2.98 s are needed")]
