"""The front end in TensorFlow operations gives what librosa gives, for every clip, length and batch."""

import functools
import subprocess
import sys
import textwrap
import warnings

import keras
import librosa
import numpy as np
import pytest
import soundfile
import tensorflow as tf

from keras_genre.errors import ParameterError
from keras_genre.features import filters, graph, reference
from keras_genre.features.graph import chroma, contrast
from keras_genre.features.layers import FrontEnd
from keras_genre.params import FEATURE_DIMS, FrontEndParams

KINDS = ("spectral33", "mfcc13", "log_mel128")
RATE = 22050
TOLERANCES = np.repeat([1e-3, 0.05, 1e-3, 0.1], [13, 1, 12, 7])
"""Largest difference in each column of `spectral33`; the log-mel bands have that of the MFCC."""

TIME = np.arange(3 * RATE) / RATE
NOISE = 0.1 * np.random.default_rng(0).standard_normal(TIME.size)
CHORD = sum(0.2 * np.sin(2 * np.pi * hz * TIME) for hz in (261.63, 329.63, 392.0))
SYNTHETIC = {
    "silence": np.zeros(TIME.size),
    "impulse": np.eye(1, TIME.size, 1000)[0],
    "noise": NOISE,
    "faint noise": 1e-5 * NOISE,
    "sine": 0.5 * np.sin(2 * np.pi * 440 * TIME),
    "sine 40 cents sharp": 0.5 * np.sin(2 * np.pi * 440 * 2 ** (0.4 / 12) * TIME),
    "low sine": 0.5 * np.sin(2 * np.pi * 50 * TIME),
    "chord": CHORD,
    "clipped noise": np.sign(NOISE),
    "clipped chord": np.clip(20 * CHORD, -1, 1),
    "constant": np.full(TIME.size, 0.5),
    "silence, then noise": np.where(TIME > 1.5, NOISE, 0.0),
}


@functools.cache
def traced(kind: str):
    params = FrontEndParams(kind)
    signature = [tf.TensorSpec([None, None], tf.float32)]
    return tf.function(lambda waveforms: graph.waveforms_to_frames(waveforms, params), input_signature=signature)


def twin(kind: str, *clips: np.ndarray) -> np.ndarray:
    """The frames of clips of one length, computed as one batch."""
    return traced(kind)(np.stack(clips).astype(np.float32)).numpy()


def librosas(kind: str, clip: np.ndarray) -> np.ndarray:
    return reference.waveform_to_frames(clip.astype(np.float32), FrontEndParams(kind))


def read(folder, track: str) -> np.ndarray:
    return soundfile.read(folder / "gtzan_mini" / f"{track}.flac", dtype="float32")[0]


def tuning_of(clip: np.ndarray) -> float:
    return float(chroma.tuning_of(graph.power_spectrogram(clip.astype(np.float32), FrontEndParams()), FrontEndParams()))


# The constants.


@pytest.mark.parametrize(("rate", "fft"), [(22050, 2048), (16000, 512), (44100, 4096)])
def test_the_tables_are_those_of_librosa(rate, fft):
    params = FrontEndParams(sample_rate_hz=rate, fft_samples=fft)
    assert np.allclose(filters.hann_window(fft), librosa.filters.get_window("hann", fft), rtol=0, atol=1e-15)
    with warnings.catch_warnings():
        # A short transform leaves some mel bands empty.
        warnings.simplefilter("ignore")
        mel = librosa.filters.mel(sr=rate, n_fft=fft).T
    assert np.allclose(filters.mel_filters(params, 128), mel, rtol=1e-5, atol=1e-9)
    for tuning in (-0.5, -0.07, 0.0, 0.49):
        bank = librosa.filters.chroma(sr=rate, n_fft=fft, tuning=tuning)
        assert np.allclose(chroma.chroma_filters(tf.constant(tuning, tf.float64), params), bank, rtol=1e-5, atol=1e-30)


def test_the_cosine_transform_is_orthonormal():
    matrix = filters.cosine_transform(128, 128).astype(np.float64)
    assert np.allclose(matrix.T @ matrix, np.eye(128), atol=1e-6)


# Against librosa.


@pytest.mark.parametrize("name", SYNTHETIC)
def test_made_up_signals_give_what_librosa_gives(name):
    expected = librosas("spectral33", SYNTHETIC[name])
    difference = np.abs(twin("spectral33", SYNTHETIC[name])[0] - expected)
    if name == "impulse":
        # Its spectrum is flat: where librosa finds peaks there, and with them a tuning, is a matter of rounding.
        difference[:, 14:26] = 0
    assert (difference <= TOLERANCES).all(), difference.max(axis=0)
    assert np.abs(twin("log_mel128", SYNTHETIC[name])[0] - librosas("log_mel128", SYNTHETIC[name])).max() <= 1e-3


def test_all_music_gives_what_librosa_gives_at_every_frame(shared_data):
    tracks = sorted(path.stem for path in (shared_data / "gtzan_mini").glob("*.flac"))
    assert len(tracks) == 61
    for track in tracks:
        clip = read(shared_data, track)
        magnitude = reference.magnitudes(clip, FrontEndParams())
        expected = reference.spectral33(magnitude, FrontEndParams()).T
        difference = np.abs(twin("spectral33", clip)[0] - expected)
        assert (difference <= TOLERANCES).all(), (track, difference.max(axis=0))
        expected = reference.log_mel128(magnitude, FrontEndParams("log_mel128")).T
        assert np.abs(twin("log_mel128", clip)[0] - expected).max() <= 1e-3, track


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [0, 1, 511, 512, 1024, 2047, 2048, 2049, 64 * 512 - 1, 64 * 512, 50_000])
def test_every_length_gives_one_frame_a_hop_and_what_librosa_gives(kind, samples):
    frames = twin(kind, NOISE[:samples])[0]
    assert frames.shape == (1 + samples // 512, FEATURE_DIMS[kind])
    tolerances = TOLERANCES[: frames.shape[1]] if kind != "log_mel128" else 1e-3
    assert (np.abs(frames - librosas(kind, NOISE[:samples])) <= tolerances).all()


@pytest.mark.parametrize(("rate", "fft", "hop"), [(16000, 512, 160), (44100, 4096, 3000), (14000, 1000, 999)])
def test_other_parameters_give_what_librosa_gives(rate, fft, hop):
    params = FrontEndParams("spectral33", rate, fft, hop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = reference.waveform_to_frames(NOISE[:30_000].astype(np.float32), params)
    difference = np.abs(graph.waveforms_to_frames(NOISE[None, :30_000].astype(np.float32), params)[0] - expected)
    assert (difference <= TOLERANCES).all(), difference.max(axis=0)


@pytest.mark.parametrize("front_end", [{"sample_rate_hz": 8000}, {"fft_samples": 64}])
def test_parameters_that_leave_a_contrast_band_without_bins_are_refused(front_end):
    with pytest.raises(ParameterError, match="spectral33 needs a"):
        graph.waveforms_to_frames(np.zeros((1, 100), np.float32), FrontEndParams(**front_end))


@pytest.mark.parametrize("levels", [1, 2, 3, 20, 10**6])
def test_contrast_averages_the_strongest_and_weakest_bins_also_where_many_are_equal(levels):
    power = np.random.default_rng(levels).integers(0, levels, (50, 1025)).astype(np.float32)
    expected = librosa.feature.spectral_contrast(S=np.sqrt(power).T, sr=RATE).T
    found = contrast.contrast7(tf.constant(power.T), FrontEndParams())
    np.testing.assert_allclose(found, expected.T, atol=1e-4)


@pytest.mark.parametrize("count", [*range(1, 20), 31, 32, 33])
def test_the_exchanges_of_lanes_sort_them(count):
    lanes = list(np.random.default_rng(count).integers(0, 2 * count, (count, 500)))
    for low, high in contrast.exchanges(count):
        lanes[low], lanes[high] = np.minimum(lanes[low], lanes[high]), np.maximum(lanes[low], lanes[high])
    assert (np.diff(lanes, axis=0) >= 0).all()


@pytest.mark.parametrize("count", [*range(1, 20), 31, 32, 33])
def test_the_merges_sort_what_is_the_smaller_of_two_sorted_columns(count):
    ordered = np.sort(np.random.default_rng(count).integers(0, 2 * count, (2, count, 500)), axis=1)
    lanes = list(np.minimum(ordered[0], ordered[1, ::-1]))
    for low, high in contrast.merges(count):
        lanes[low], lanes[high] = np.minimum(lanes[low], lanes[high]), np.maximum(lanes[low], lanes[high])
    np.testing.assert_array_equal(lanes, np.sort(ordered.reshape(2 * count, 500), axis=0)[:count])


# Tuning.


@pytest.mark.parametrize("cents", range(-45, 50, 15))
def test_the_tuning_estimate_follows_the_pitch_as_librosas_does(cents):
    hz = 440 * 2 ** (np.array([0, 3, 7, 10])[:, None] / 12 + cents / 1200)
    clip = 0.2 * np.sin(2 * np.pi * hz * TIME).sum(axis=0)
    tuning = tuning_of(clip)
    assert tuning == pytest.approx(cents / 100, abs=0.051)
    magnitude = reference.magnitudes(clip.astype(np.float32), FrontEndParams())
    assert tuning == pytest.approx(librosa.estimate_tuning(S=magnitude**2, sr=RATE), abs=1e-9)


def test_without_a_pitch_the_tuning_is_0():
    assert tuning_of(np.zeros(5000)) == 0.0
    assert tuning_of(np.ones(5000) * 0.5 - 0.5) == 0.0


def test_pitches_are_those_that_librosa_tracks(shared_data):
    power = reference.magnitudes(read(shared_data, "pop.00003")[: 5 * RATE], FrontEndParams()) ** 2
    pitches, strengths = chroma.spectral_peaks(tf.constant(power), FrontEndParams())
    tracked, magnitudes = librosa.piptrack(S=power, sr=RATE)
    np.testing.assert_allclose(pitches, tracked[tracked > 0], rtol=1e-6)
    np.testing.assert_allclose(strengths, magnitudes[tracked > 0], rtol=1e-5)


def test_each_clip_of_a_batch_has_its_own_tuning():
    clips = [SYNTHETIC["sine"], SYNTHETIC["sine 40 cents sharp"], SYNTHETIC["silence"]]
    for frames, clip in zip(twin("spectral33", *clips), clips, strict=True):
        np.testing.assert_allclose(frames[:, 14:26], librosas("spectral33", clip)[:, 14:26], atol=1e-3)


# What does not depend on what.


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_gets_the_same_bits_alone_and_in_any_batch(kind):
    clips = [SYNTHETIC[name] for name in ("chord", "noise", "silence", "clipped chord", "impulse")]
    for together, clip in zip(twin(kind, *clips), clips, strict=True):
        np.testing.assert_array_equal(together, twin(kind, clip)[0])


def test_a_kind_that_is_part_of_another_is_its_first_columns():
    np.testing.assert_array_equal(twin("spectral33", NOISE)[..., :13], twin("mfcc13", NOISE))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_changes_no_bit(threads, tmp_path):
    np.save(tmp_path / "clips.npy", np.stack([NOISE, CHORD]).astype(np.float32))
    code = f"""
        import numpy as np, tensorflow as tf
        tf.config.threading.set_intra_op_parallelism_threads({threads})
        tf.config.threading.set_inter_op_parallelism_threads({threads})
        from keras_genre.features import graph
        from keras_genre.params import FrontEndParams
        clips = np.load("{tmp_path}/clips.npy")
        frames = tf.function(lambda clips: graph.waveforms_to_frames(clips, FrontEndParams()))(clips)
        np.save("{tmp_path}/frames.npy", frames)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "frames.npy"), twin("spectral33", NOISE, CHORD))


# Extremes.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e-45, 1e-38, 1e-25, 1e-10, 1e10, 1e18, 3e38])
def test_no_finite_waveform_gives_a_number_that_is_not_finite(kind, scale):
    with np.errstate(over="ignore"):
        clips = [np.sign(NOISE) * scale, np.full(TIME.size, scale), SYNTHETIC["impulse"] * scale]
    frames = twin(kind, *clips)
    assert np.isfinite(frames).all()
    if scale <= 1e10 and scale >= 1e-10:
        assert (np.abs(frames[0] - librosas(kind, clips[0]))[:, :13] <= 1e-3).all()


def test_silence_has_the_values_that_librosa_gives_it():
    frames = twin("spectral33", SYNTHETIC["silence"])[0]
    np.testing.assert_allclose(frames[:, 0], -100 * np.sqrt(128), rtol=1e-6)
    np.testing.assert_allclose(frames[:, 1:], 0, atol=1e-3)
    np.testing.assert_array_equal(twin("log_mel128", SYNTHETIC["silence"]), 0)


# The layer.


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_with_the_layer_is_saved_and_loaded(kind, tmp_path):
    waveforms = keras.Input([None])
    model = keras.Model(waveforms, FrontEnd(FrontEndParams(kind))(waveforms))
    assert model.output_shape == (None, None, FEATURE_DIMS[kind])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[-1].front_end == FrontEndParams(kind)
    clips = np.stack([CHORD, NOISE]).astype(np.float32)
    # Without a graph, TensorFlow rounds in another order here and there.
    np.testing.assert_allclose(model(clips), twin(kind, *clips), atol=2e-5)
    np.testing.assert_array_equal(loaded(clips), model(clips))


def test_the_layer_knows_its_output_shape_and_has_no_weights():
    layer = FrontEnd(FrontEndParams("log_mel128"))
    assert layer.compute_output_shape((3, 1000)) == (3, 2, 128)
    assert layer.compute_output_shape((None, None)) == (None, None, 128)
    assert layer(np.zeros((3, 1000), np.float32)).shape == (3, 2, 128)
    assert layer.weights == []


def test_a_mixed_precision_policy_leaves_the_front_end_as_it_is():
    clips = NOISE[None].astype(np.float32)
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        frames = FrontEnd(FrontEndParams())(clips)
    finally:
        keras.config.set_dtype_policy(before)
    assert frames.dtype == tf.float32
    np.testing.assert_allclose(frames, twin("spectral33", NOISE), atol=2e-5)


def test_a_saved_model_of_core_operations_loads_without_this_package(tmp_path):
    model = keras.Sequential([keras.Input([None]), FrontEnd(FrontEndParams())])
    model.export(tmp_path / "saved", verbose=False)
    np.save(tmp_path / "clips.npy", np.stack([CHORD, NOISE]).astype(np.float32))
    code = f"""
        import sys
        sys.modules["keras_genre"] = None
        import numpy as np, tensorflow as tf
        loaded = tf.saved_model.load("{tmp_path}/saved")
        (frames,) = loaded.signatures["serving_default"](tf.constant(np.load("{tmp_path}/clips.npy"))).values()
        np.save("{tmp_path}/frames.npy", frames)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, cwd=tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "frames.npy"), twin("spectral33", CHORD, NOISE))
    assert sum(path.stat().st_size for path in (tmp_path / "saved").rglob("*")) < 3e6
