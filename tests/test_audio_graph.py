"""Decoding in a pipeline gives what `audio.load` gives, with tensorflow_io and without, and errors keep their words."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from keras_genre import audio, audio_graph  # noqa: E402
from keras_genre.audio import AudioLimits  # noqa: E402
from keras_genre.errors import AudioError, ParameterError  # noqa: E402

RATE = 22050
SERVED_BY_TENSORFLOW_IO = [
    ("WAV", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("MP3", "MPEG_LAYER_III"),
]
SERVED_BY_SOUNDFILE = [
    ("WAV", "PCM_U8"),
    ("WAV", "PCM_24"),
    ("WAV", "PCM_32"),
    ("WAV", "FLOAT"),
    ("WAVEX", "PCM_16"),
    ("AU", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("OGG", "OPUS"),
]
DAMAGED = {
    "empty": (lambda encode: b"", "has no bytes"),
    "text": (lambda encode: b"this is not audio", "is of no known audio format"),
    "a WAV of garbage": (lambda encode: b"RIFF\x10\0\0\0WAVE\xff\xfe\xfd\xfc\xfb\xfa" * 9, "looks like wav"),
    "half a WAV": (lambda encode: encode("WAV")[:5000], "of the 176400 bytes"),
    "half an Ogg": (lambda encode: encode("OGG", seconds=3)[:20000], "ends inside a page"),
    "half an MP3": (lambda encode: encode("MP3", seconds=3)[:20000], "MP3 frames"),
    "half a FLAC": (lambda encode: encode("FLAC")[:50000], "ends or is damaged"),
    "half an AU": (lambda encode: encode("AU")[:5000], "of the 176400 bytes"),
}

needs_tensorflow_io = pytest.mark.skipif(
    not audio_graph.tensorflow_io_available(), reason="tensorflow_io is absent or not made for this TensorFlow"
)


@pytest.fixture(params=["as installed", "without tensorflow_io"])
def either_way(request, monkeypatch):
    if request.param == "without tensorflow_io":
        monkeypatch.setattr(audio_graph, "tensorflow_io_available", lambda: False)


@pytest.fixture
def only_tensorflow_io(monkeypatch):
    def refuse(*_):
        raise AssertionError("went to soundfile")

    monkeypatch.setattr(audio, "load", refuse)


@pytest.mark.parametrize(("name", "subtype"), SERVED_BY_TENSORFLOW_IO + SERVED_BY_SOUNDFILE)
@pytest.mark.parametrize(("source_rate_hz", "channels"), [(48000, 2), (8000, 1)])
def test_decode_gives_what_load_gives(name, subtype, source_rate_hz, channels, encode, either_way):
    encoded = encode(name, subtype, source_rate_hz, channels)
    decoded = audio_graph.decode(tf.constant(encoded), RATE)
    np.testing.assert_allclose(decoded, audio.load(encoded, RATE), rtol=0, atol=2e-6)


@needs_tensorflow_io
@pytest.mark.parametrize(("name", "subtype"), SERVED_BY_TENSORFLOW_IO)
@pytest.mark.parametrize(("source_rate_hz", "channels"), [(44100, 2), (48000, 1), (22050, 1), (8000, 2)])
def test_tensorflow_io_gives_what_soundfile_gives(name, subtype, source_rate_hz, channels, encode, request):
    encoded = encode(name, subtype, source_rate_hz, channels, seconds=2)
    expected = audio.load(encoded, RATE)
    request.getfixturevalue("only_tensorflow_io")
    np.testing.assert_allclose(audio_graph.decode(tf.constant(encoded), RATE), expected, rtol=0, atol=2e-6)


@needs_tensorflow_io
def test_real_music_is_the_same_through_tensorflow_io(shared_data, request):
    paths = sorted((shared_data / "gtzan_mini").glob("*.00000.flac"))[:4]
    expected = [audio.load(path, RATE) for path in paths]
    request.getfixturevalue("only_tensorflow_io")
    for (name, waveform), path, wanted in zip(audio_graph.waveforms(paths, RATE), paths, expected, strict=True):
        assert name.numpy().decode() == str(path)
        np.testing.assert_allclose(waveform, wanted, rtol=0, atol=2e-6)


def test_waveforms_keep_order_shape_and_names(encode, tmp_path, either_way):
    paths = []
    for number, name in enumerate(["WAV", "AU", "FLAC", "OGG", "MP3"] * 2):
        paths.append(tmp_path / f"größe {number}.{name.lower()}")
        paths[-1].write_bytes(encode(name, seconds=0.2 + number / 10))
    dataset = audio_graph.waveforms(paths, RATE)
    assert [(spec.shape.as_list(), spec.dtype) for spec in dataset.element_spec] == [
        ([], tf.string),
        ([None], tf.float32),
    ]
    elements = list(dataset.as_numpy_iterator())
    assert [name.decode() for name, _ in elements] == [str(path) for path in paths]
    for path, (_, waveform) in zip(paths, elements, strict=True):
        np.testing.assert_allclose(waveform, audio.load(path, RATE), rtol=0, atol=2e-6)


def test_no_paths_give_an_empty_data_set():
    assert list(audio_graph.waveforms([], RATE)) == []


def test_decode_works_in_a_map_and_in_a_function(encode):
    encoded = encode("WAV", seconds=0.2)
    expected = audio.load(encoded, RATE)
    mapped = tf.data.Dataset.from_tensors(encoded).map(lambda content: audio_graph.decode(content, RATE))
    np.testing.assert_allclose(next(iter(mapped)), expected, rtol=0, atol=2e-6)
    traced = tf.function(lambda content: audio_graph.decode(content, RATE))
    np.testing.assert_allclose(traced(tf.constant(encoded)), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("case", DAMAGED)
def test_what_load_refuses_is_an_op_error_with_its_message(case, encode, either_way):
    make, words = DAMAGED[case]
    encoded = make(encode)
    with pytest.raises(AudioError) as refused:
        audio.load(encoded, RATE, name="song")
    with pytest.raises(tf.errors.OpError) as raised:
        audio_graph.decode(tf.constant(encoded), RATE, name="song")
    assert words in str(refused.value)
    assert str(refused.value) in raised.value.message
    assert type(refused.value).__name__ in raised.value.message


def test_a_bad_file_stops_the_data_set_with_its_name_and_can_be_skipped(encode, tmp_path, either_way):
    paths = [tmp_path / name for name in ("first.wav", "bad.ogg", "missing.mp3", "last.wav")]
    paths[0].write_bytes(encode("WAV"))
    paths[1].write_bytes(b"OggS and nothing else")
    paths[3].write_bytes(encode("WAV"))
    dataset = audio_graph.waveforms(paths, RATE)
    with pytest.raises(tf.errors.OpError, match=r"bad\.ogg: ends inside a page"):
        list(dataset)
    assert len(list(dataset.ignore_errors())) == 2


def test_limits_hold(encode, either_way):
    encoded = tf.constant(encode("MP3", seconds=2))
    with pytest.raises(tf.errors.OpError, match="more than the limit of 1 s"):
        audio_graph.decode(encoded, RATE, AudioLimits(max_seconds=1))
    with pytest.raises(tf.errors.OpError, match="at least 3 s are needed"):
        audio_graph.decode(encoded, RATE, AudioLimits(min_seconds=3))


def test_a_rate_out_of_range_is_refused_before_anything_runs():
    with pytest.raises(ParameterError, match="sample rate"):
        audio_graph.waveforms([], 0)
    with pytest.raises(ParameterError, match="sample rate"):
        audio_graph.decode(tf.constant(b""), 10**7)


@needs_tensorflow_io
@pytest.mark.parametrize(("name", "subtype"), SERVED_BY_TENSORFLOW_IO)
def test_damage_gives_what_load_gives_or_its_error(name, subtype, encode):
    generator = np.random.default_rng(0)
    content = encode(name, subtype, seconds=0.3)
    for _ in range(25):
        damaged = bytearray(content)
        for place in generator.integers(len(damaged), size=generator.integers(1, 5)):
            damaged[place] = generator.integers(256)
        damaged = bytes(damaged[: generator.integers(len(damaged)) if generator.random() < 0.3 else None])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                waveform = audio_graph.decode(tf.constant(damaged), RATE, AudioLimits(max_seconds=60))
            except tf.errors.OpError as error:
                assert "keras_genre.errors" in error.message or "Error: <bytes>" in error.message
            else:
                assert waveform.shape == audio.load(damaged, RATE, AudioLimits(max_seconds=60)).shape


def test_importing_the_module_does_not_import_tensorflow_io():
    code = "import sys; import keras_genre.audio_graph; print('tensorflow_io' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"
