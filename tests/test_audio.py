"""Loading gives librosa's numbers or an error that says what is wrong, and nothing else."""

import io
import os
import struct
import sys
import tracemalloc
import warnings

import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_genre import audio
from keras_genre.audio import AUDIO_EXTENSIONS, AudioInfo, AudioLimits, load, probe
from keras_genre.errors import (
    AudioError,
    AudioNotFoundError,
    AudioTooLongError,
    AudioTooShortError,
    EmptyFileError,
    NonFiniteAudioError,
    NoSamplesError,
    NotAFileError,
    NotAudioError,
    ParameterError,
    SilentAudioWarning,
    TruncatedAudioError,
    UnreachableAudioError,
)

RATE = 22050
EVERY_FORMAT = [
    (name, subtype)
    for name in soundfile.available_formats()
    for subtype in soundfile.available_subtypes(name)
    # RAW has no header, and libsndfile writes SD2 in two files.
    if name not in ("RAW", "SD2")
]
COMMON_FORMATS = [
    ("WAV", "PCM_U8"),
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "PCM_32"),
    ("WAV", "FLOAT"),
    ("WAV", "DOUBLE"),
    ("WAVEX", "PCM_16"),
    ("AU", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]
ANNOUNCING = [
    ("WAV", "PCM_16"),
    ("RF64", "PCM_16"),
    ("W64", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("CAF", "PCM_16"),
    ("AU", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]


def encoded_or_skip(encode, *args, **kwargs) -> bytes:
    try:
        return encode(*args, **kwargs)
    except soundfile.LibsndfileError:
        pytest.skip("libsndfile does not write this combination")


def by_librosa(path, sample_rate_hz: int = RATE) -> np.ndarray:
    return librosa.load(path, sr=sample_rate_hz)[0]


# --- The numbers ---


@pytest.mark.parametrize(("name", "subtype"), EVERY_FORMAT)
def test_every_format_gives_what_librosa_gives(name, subtype, encode):
    content = encoded_or_skip(encode, name, subtype, 48000, 2, seconds=0.3)
    np.testing.assert_allclose(load(content, RATE), by_librosa(io.BytesIO(content)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "subtype"), COMMON_FORMATS)
@pytest.mark.parametrize(("source_rate_hz", "channels"), [(44100, 2), (48000, 1), (8000, 1), (22050, 2)])
def test_every_rate_gives_what_librosa_gives(name, subtype, source_rate_hz, channels, encode, tmp_path):
    path = tmp_path / f"song.{name.lower()}"
    path.write_bytes(encoded_or_skip(encode, name, subtype, source_rate_hz, channels, seconds=1.5))
    waveform = load(path, RATE)
    assert waveform.dtype == np.float32
    assert waveform.ndim == 1
    np.testing.assert_allclose(waveform, by_librosa(path), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(waveform, load(path.read_bytes(), RATE))


@pytest.mark.parametrize("name", ["WAV", "OGG", "MP3"])
def test_audio_of_many_blocks_gives_what_librosa_gives(name, encode):
    content = encode(name, seconds=15)
    np.testing.assert_allclose(load(content, 16000), by_librosa(io.BytesIO(content), 16000), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "subtype"), [*COMMON_FORMATS, ("CAF", "ALAC_16"), ("WAV", "IMA_ADPCM")])
def test_the_size_of_blocks_makes_no_difference(name, subtype, encode, monkeypatch):
    content = encode(name, subtype, 48000, 2, seconds=1)
    whole = load(content, RATE)
    monkeypatch.setattr(audio, "_BLOCK_VALUES", 2 * 777)
    np.testing.assert_array_equal(load(content, RATE), whole)


@pytest.mark.parametrize("channels", [3, 6, 8])
def test_many_channels_are_averaged(channels, encode):
    content = encode("WAV", "PCM_16", channels=channels)
    np.testing.assert_allclose(load(content, RATE), by_librosa(io.BytesIO(content)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("samples", [1, 2, 3, 100, 4409, 4410, 4411])
@pytest.mark.parametrize("source_rate_hz", [8000, 44100, 48000, 96000])
def test_the_length_is_the_ratio_rounded_up(samples, source_rate_hz, tone, encode):
    content = encode("WAV", "FLOAT", source_rate_hz, samples=tone(1)[:samples])
    waveform = load(content, RATE)
    assert waveform.shape == (int(np.ceil(samples * (RATE / source_rate_hz))),)
    np.testing.assert_allclose(waveform, by_librosa(io.BytesIO(content)), rtol=0, atol=1e-6)


def test_real_music_gives_what_librosa_gives(shared_data):
    for path in sorted((shared_data / "gtzan_mini").glob("*.00000.flac"))[:3]:
        for sample_rate_hz in (RATE, 16000):
            np.testing.assert_allclose(load(path, sample_rate_hz), by_librosa(path, sample_rate_hz), rtol=0, atol=1e-6)


def test_one_recording_as_au_and_as_flac_is_the_same(shared_data):
    as_au = load(shared_data / "disco.00000.au", RATE)
    np.testing.assert_array_equal(as_au, load(shared_data / "gtzan_mini" / "disco.00000.flac", RATE))


def test_a_constant_stays_one_and_opposite_channels_cancel(encode):
    half = np.full((44100, 1), 0.5, np.float32)
    middle = load(encode("WAV", "FLOAT", samples=half), RATE)[1000:-1000]
    np.testing.assert_allclose(middle, 0.5, atol=1e-5)
    with pytest.warns(SilentAudioWarning):
        assert not load(encode("WAV", "FLOAT", samples=np.concatenate([half, -half], axis=1)), RATE).any()


# --- Headers ---


def test_probe_tells_what_the_header_says(encode, tmp_path):
    content = encode("WAV", "PCM_24", 48000, 2, seconds=0.5)
    expected = AudioInfo(sample_rate_hz=48000, channels=2, frames=24000, format="WAV", subtype="PCM_24")
    assert probe(content) == expected
    path = tmp_path / "song.wav"
    path.write_bytes(content)
    assert probe(path) == probe(str(path)) == expected
    assert expected.seconds == 0.5


def test_a_flac_that_does_not_know_its_length_is_read_to_its_end(encode):
    content = bytearray(encode("FLAC"))
    expected = load(bytes(content), RATE)
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    assert probe(bytes(content)).frames is None
    assert probe(bytes(content)).seconds is None
    np.testing.assert_array_equal(load(bytes(content), RATE), expected)


@pytest.mark.parametrize(("riff_size", "data_size"), [(0xFFFFFFFF, 0xFFFFFFFF), (8, 0)])
def test_a_wav_whose_writer_could_not_go_back_is_read_to_its_end(riff_size, data_size, encode):
    content = encode("WAV", "PCM_16")
    sizes = [struct.pack("<I", size) for size in (riff_size, data_size)]
    streamed = content[:4] + sizes[0] + content[8:40] + sizes[1] + content[44:]
    np.testing.assert_array_equal(load(streamed, RATE), load(content, RATE))


def test_a_name_need_not_be_ascii(encode, tmp_path):
    path = tmp_path / "Мишель é 音楽.ogg"
    path.write_bytes(encode("OGG"))
    assert load(path, RATE).size == load(str(path), RATE).size == RATE


def test_the_suffix_does_not_matter(encode, tmp_path):
    for name in ("song.raw", "song.wav", "song.mp3", "song"):
        path = tmp_path / name
        path.write_bytes(encode("FLAC"))
        assert load(path, RATE).size == RATE


def test_extensions_are_lower_case_suffixes():
    assert {".au", ".wav", ".flac", ".mp3", ".ogg"} <= set(AUDIO_EXTENSIONS)
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in AUDIO_EXTENSIONS)


@pytest.mark.parametrize("name", ["WAV", "AU", "FLAC", "OGG", "MP3"])
def test_a_tag_behind_the_audio_changes_nothing(name, encode):
    content = encode(name)
    waveform = load(content + b"TAG" + b"title".ljust(125, b"\0"), RATE)
    np.testing.assert_array_equal(waveform, load(content, RATE))


@pytest.mark.parametrize("junk", [bytes(1000), b"hello" * 200], ids=["zeros", "text"])
def test_an_mp3_may_begin_with_junk(junk, encode, tmp_path):
    path = tmp_path / "song.MP3"
    path.write_bytes(junk + encode("MP3"))
    np.testing.assert_allclose(load(path, RATE), by_librosa(path), rtol=0, atol=1e-6)


# --- The errors ---


def refused(kind: type[AudioError], source, name: str, words: str, limits: AudioLimits | None = None) -> None:
    with pytest.raises(kind, match=words) as raised:
        load(source, RATE, limits)
    assert type(raised.value) is kind
    assert str(raised.value).startswith(f"{name}: ")


@pytest.mark.parametrize("name", ["missing.wav", "missing/song.wav", "nul\0.wav", "x" * 300 + ".wav"])
def test_a_missing_file(name, tmp_path):
    refused(AudioNotFoundError, tmp_path / name, str(tmp_path / name), "there is no such file")


def test_a_path_below_a_file(encode, tmp_path):
    (tmp_path / "song.wav").write_bytes(encode("WAV"))
    refused(AudioNotFoundError, tmp_path / "song.wav" / "x", str(tmp_path / "song.wav" / "x"), "no such file")


def test_a_folder(tmp_path):
    refused(NotAFileError, tmp_path, str(tmp_path), "is a folder")


def test_special_files(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no FIFOs")
    os.mkfifo(tmp_path / "pipe.wav")
    refused(NotAFileError, tmp_path / "pipe.wav", str(tmp_path / "pipe.wav"), "is a device, pipe or socket")
    refused(NotAFileError, "/dev/null", "/dev/null", "is a device, pipe or socket")


def test_a_file_that_may_not_be_read(encode, tmp_path, monkeypatch):
    path = tmp_path / "song.wav"
    path.write_bytes(encode("WAV"))

    def deny(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", deny)
    refused(UnreachableAudioError, path, str(path), "permission denied")


def test_a_symbolic_link_to_itself(tmp_path):
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    refused(UnreachableAudioError, tmp_path / "loop.wav", str(tmp_path / "loop.wav"), "cannot be read")


def test_no_bytes(tmp_path):
    (tmp_path / "empty.wav").touch()
    refused(EmptyFileError, tmp_path / "empty.wav", str(tmp_path / "empty.wav"), "has no bytes")
    refused(EmptyFileError, b"", "<bytes>", "has no bytes")


@pytest.mark.parametrize(
    "content",
    [b"x", b"\0", b"hello, world\n" * 100, b"%PDF-1.7" + b"\0" * 5000, np.random.default_rng(0).bytes(20_000)],
    ids=["x", "zero", "text", "pdf", "noise"],
)
@pytest.mark.parametrize("suffix", ["wav", "mp3", "ogg", "au", "snd", "raw", "vox", "gsm", "txt"])
def test_what_is_not_audio_is_not_guessed_to_be(content, suffix, tmp_path):
    path = tmp_path / f"song.{suffix}"
    path.write_bytes(content)
    refused(NotAudioError, path, str(path), "is of no known audio format")


def test_a_header_of_audio_before_something_else():
    refused(NotAudioError, b"RIFF\x10\0\0\0WAVE" + b"\xff\xfe" * 50, "<bytes>", "looks like wav")


@pytest.mark.parametrize("sample_rate_hz", [1, 999, 1_000_001, 0x7FFFFFFF])
def test_a_sample_rate_that_cannot_be(sample_rate_hz, encode):
    content = encode("WAV", "PCM_16")
    content = content[:24] + struct.pack("<I", sample_rate_hz) + content[28:]
    refused(NotAudioError, content, "<bytes>", "sample rate")


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize(("name", "subtype"), ANNOUNCING)
def test_a_cut_file(name, subtype, share, encode, tmp_path):
    content = encode(name, subtype, 48000, seconds=3)
    path = tmp_path / "song"
    path.write_bytes(content[: int(len(content) * share)])
    refused(TruncatedAudioError, path, str(path), r"has|ends|is damaged")


@pytest.mark.parametrize(("name", "subtype"), ANNOUNCING)
def test_a_file_without_its_last_bytes(name, subtype, encode):
    content = encode(name, subtype, 48000)
    refused(TruncatedAudioError, content[:-9], "<bytes>", r"has|ends|is damaged")


@pytest.mark.parametrize(("name", "subtype"), [("WAV", "PCM_16"), ("AU", "PCM_16"), ("AIFF", "PCM_16")])
def test_a_header_without_samples(name, subtype, encode):
    refused(NoSamplesError, encode(name, subtype, samples=np.zeros((0, 2))), "<bytes>", "holds no samples")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 500, 999])
@pytest.mark.parametrize("sample_rate_hz", [RATE, 44100])
def test_samples_that_are_no_numbers(value, place, sample_rate_hz, encode):
    samples = np.full((1000, 2), 0.1, np.float32)
    samples[place, 1] = value
    content = encode("WAV", "FLOAT", sample_rate_hz, samples=samples)
    refused(NonFiniteAudioError, content, "<bytes>", "NaN or infinite")


def test_samples_beyond_32_bit_floats(encode):
    refused(NonFiniteAudioError, encode("WAV", "DOUBLE", samples=np.full((1000, 1), 1e300)), "<bytes>", "infinite")
    both_largest = np.full((1000, 2), np.finfo(np.float32).max)
    refused(NonFiniteAudioError, encode("WAV", "FLOAT", samples=both_largest), "<bytes>", "infinite")


def test_silence_is_allowed_with_a_warning(encode):
    content = encode("WAV", "PCM_16", samples=np.zeros((4410, 2)))
    with pytest.warns(SilentAudioWarning, match=r"^song: all samples are zero$"):
        waveform = load(content, RATE, name="song")
    np.testing.assert_array_equal(waveform, np.zeros(2205, np.float32))


def test_sound_gives_no_warning(encode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(encode("WAV"), RATE)


def test_too_short_and_just_long_enough(encode):
    content = encode("WAV", seconds=0.5)
    refused(AudioTooShortError, content, "<bytes>", r"lasts 0\.5 s; at least 0\.51 s", AudioLimits(min_seconds=0.51))
    assert load(content, RATE, AudioLimits(min_seconds=0.5)).size == RATE // 2


def test_too_long_and_just_short_enough(encode):
    content = encode("WAV", seconds=0.5)
    refused(AudioTooLongError, content, "<bytes>", r"limit of 0\.49 s", AudioLimits(max_seconds=0.49))
    assert load(content, RATE, AudioLimits(max_seconds=0.5)).size == RATE // 2


def test_too_long_in_spite_of_its_header(encode):
    content = bytearray(encode("FLAC", seconds=3))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    refused(AudioTooLongError, bytes(content), "<bytes>", "whatever its header says", AudioLimits(max_seconds=1))


def test_the_name_given_is_the_one_in_the_error():
    with pytest.raises(NotAudioError, match=r"^upload 7: "):
        load(b"nothing", RATE, name="upload 7")


@pytest.mark.parametrize("sample_rate_hz", [0, -1, 999, 2_000_000])
def test_a_wanted_rate_that_cannot_be(sample_rate_hz):
    with pytest.raises(ParameterError, match="sample rate"):
        load(b"", sample_rate_hz)


@pytest.mark.parametrize("seconds", [(-1, 1), (2, 1), (0, 0), (0, float("inf")), (0, float("nan"))])
def test_limits_that_cannot_be(seconds):
    with pytest.raises(ParameterError, match="seconds"):
        AudioLimits(*seconds)


# --- Hostile bytes ---


def test_memory_is_bounded_whatever_the_channels_and_the_rate(encode):
    content = encode("WAV", "PCM_16", 1_000_000, 1000, samples=np.full((20_000, 1000), 0.1, np.float32))
    tracemalloc.start()
    try:
        load(content, RATE)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < len(content) + 10_000_000


def test_a_small_file_that_unpacks_to_a_lot_stops_at_the_limit(encode):
    content = encode("FLAC", "PCM_16", 655_350, 1, samples=np.full((5_000_000, 1), 0.25, np.float32))
    assert len(content) < 50_000
    tracemalloc.start()
    try:
        load(content, 1000)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 10_000_000


@pytest.fixture(scope="module")
def small_files(encode) -> list[bytes]:
    files = []
    for name, subtype in EVERY_FORMAT:
        try:
            files.append(encode(name, subtype, 48000, 2, seconds=0.05))
        except soundfile.LibsndfileError:
            continue
    return files


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_any_bytes_give_samples_or_a_typed_error(small_files, data):
    content = bytearray(data.draw(st.sampled_from(small_files)))
    for _ in range(data.draw(st.integers(0, 6))):
        place = data.draw(st.integers(0, min(len(content), 120) - 1) | st.integers(0, len(content) - 1))
        content[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    end = data.draw(st.just(len(content)) | st.integers(1, len(content)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SilentAudioWarning)
        try:
            waveform = load(bytes(content[:end]), RATE, AudioLimits(max_seconds=60))
        except AudioError as error:
            assert str(error).startswith("<bytes>: ")
        else:
            assert waveform.dtype == np.float32
            assert waveform.ndim == 1
            assert waveform.size
            assert np.isfinite(waveform).all()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=200))
def test_made_up_bytes_give_samples_or_a_typed_error(content):
    try:
        load(content, RATE, AudioLimits(max_seconds=60))
    except AudioError as error:
        assert str(error).startswith("<bytes>: ")


def test_librosa_is_not_needed_to_load():
    import subprocess

    code = "import sys; import keras_genre.audio; print({'librosa', 'tensorflow'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
