"""The decoder for graphs gives what `audio.load` gives of 16-bit PCM, and an error of everything else."""

import io
import struct

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from keras_genre import audio
from keras_genre.errors import AudioError
from keras_genre.pcm_graph import decode_pcm16

RATE = 22050
PCM = np.arange(-500, 500).astype("<i2").tobytes()
AU_PCM = np.arange(-500, 500).astype(">i2").tobytes()
GUID_TAIL = b"\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"

decode = tf.function(lambda content: decode_pcm16(content, RATE), input_signature=[tf.TensorSpec([], tf.string)])


def chunk(identifier: bytes, body: bytes, size: int | None = None) -> bytes:
    return identifier + struct.pack("<I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)


def fmt(tag=1, channels=1, rate=RATE, bits=16, align=None, extension=b"") -> bytes:
    align = 2 * channels if align is None else align
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * align, align, bits) + extension)


def extension(tag: int) -> bytes:
    return struct.pack("<HHIH", 22, 16, 4, tag) + GUID_TAIL


def wav(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def au(size=2000, encoding=3, rate=RATE, channels=1, start=24, body=AU_PCM):
    return b".snd" + struct.pack(">IIIII", start, size, encoding, rate, channels) + b"\0" * (start - 24) + body


DATA = chunk(b"data", PCM)
GOOD = {
    "wav": wav(fmt(), DATA),
    "wav with chunks before, between and behind": wav(
        chunk(b"LIST", b"odd"), fmt(), chunk(b"junk", b""), DATA, chunk(b"LIST", b"x")
    ),
    "wav with a tag behind": wav(fmt(), DATA) + b"TAG" + b"\0" * 125,
    "extensible wav": wav(fmt(tag=0xFFFE, extension=extension(1)), DATA),
    "wav with a fmt chunk of 18 bytes": wav(fmt(extension=b"\0\0"), DATA),
    "wav in stereo": wav(fmt(channels=2), DATA),
    "wav of 5 channels": wav(fmt(channels=5), DATA),
    "wav from a pipe": wav(fmt(), chunk(b"data", PCM, 0xFFFFFFFF)),
    "wav with half a sample at the end": wav(fmt(), chunk(b"data", PCM[:-1])),
    "wav with half a frame at the end": wav(fmt(channels=2), chunk(b"data", PCM[:-2])),
    "au": au(),
    "au in stereo": au(channels=2),
    "au with an annotation": au(start=40),
    "au from a pipe": au(size=0xFFFFFFFF),
    "au with something behind its audio": au(size=1000),
    "au with half a sample at the end": au(size=1999),
}
BAD = {
    "nothing": (b"", "neither a WAV nor an .au file"),
    "text": (b"these are words " * 50, "neither a WAV nor an .au file"),
    "four bytes": (b"RIFF", "neither a WAV nor an .au file"),
    "zeros": (b"\0" * 1000, "neither a WAV nor an .au file"),
    "a wav without chunks": (wav(), "ends before its audio begins"),
    "a wav without audio": (wav(fmt()), "ends before its audio begins"),
    "a chunk that goes beyond the end": (wav(b"LIST\xff\xff\xff\xff", fmt(), DATA), "ends before its audio begins"),
    "a wav without fmt": (wav(DATA), "no fmt chunk"),
    "a wav with fmt behind": (wav(DATA, fmt()), "no fmt chunk"),
    "a fmt chunk that is too short": (wav(chunk(b"fmt ", b"\1\0\1\0\0\0\0\0"), DATA), "not 16-bit PCM"),
    "8 bits": (wav(fmt(bits=8, align=1), DATA), "not 16-bit PCM"),
    "24 bits": (wav(fmt(bits=24, align=3), DATA), "not 16-bit PCM"),
    "float": (wav(fmt(tag=3, bits=32, align=4), DATA), "not 16-bit PCM"),
    "mu-law": (wav(fmt(tag=7, bits=8, align=1), DATA), "not 16-bit PCM"),
    "extensible float": (wav(fmt(tag=0xFFFE, extension=extension(3)), DATA), "not 16-bit PCM"),
    "extensible without its extension": (wav(fmt(tag=0xFFFE), DATA), "not 16-bit PCM"),
    "no channel": (wav(fmt(channels=0, align=2), DATA), "number of channels that cannot be"),
    "60 000 channels": (wav(fmt(channels=60_000, align=0), DATA), "number of channels that cannot be"),
    "frames of another size": (wav(fmt(align=4), DATA), "contradicts itself"),
    "a rate of 0": (wav(fmt(rate=0), DATA), "cannot be resampled"),
    "an uncommon rate": (wav(fmt(rate=44099), DATA), "cannot be resampled"),
    "a wav that was cut": (wav(fmt(), DATA)[:-100], "cut short"),
    "a wav with no samples": (wav(fmt(), chunk(b"data", b"")), "holds no samples"),
    "a wav with less than a frame": (wav(fmt(channels=2), chunk(b"data", b"\1\2")), "holds no samples"),
    "an au that was cut": (au()[:-1], "cut short"),
    "an au that ends in its header": (au()[:20], "ends inside its header"),
    "an au that begins in its header": (au().replace(b"\0\0\0\x18", b"\0\0\0\x0a", 1), "ends inside its header"),
    "an au of mu-law": (au(encoding=1), "not 16-bit PCM"),
    "an au without channels": (au(channels=0), "number of channels that cannot be"),
    "an au with no samples": (au(size=0), "holds no samples"),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_is_16_bit_pcm_is_decoded_as_audio_decodes_it(name):
    expected = audio.load(GOOD[name], RATE)
    np.testing.assert_array_equal(decode(GOOD[name]), expected, strict=True)
    np.testing.assert_array_equal(decode_pcm16(tf.constant(GOOD[name]), RATE), expected, strict=True)


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_is_an_error_that_says_why(name):
    content, reason = BAD[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"(?s){reason}"):
        decode(content)
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"(?s){reason}"):
        decode_pcm16(tf.constant(content), RATE)


@pytest.mark.parametrize("name", ["wav in stereo", "au in stereo"])
def test_no_flipped_byte_of_a_header_gives_what_audio_does_not_give(name):
    whole = GOOD[name]
    random = np.random.default_rng(0)
    for place in range(44 if name.startswith("wav") else 24):
        for value in {0, 255, whole[place] ^ 1, int(random.integers(256))} - {whole[place]}:
            content = whole[:place] + bytes([value]) + whole[place + 1 :]
            try:
                found = decode(content).numpy()
            except tf.errors.InvalidArgumentError:
                continue
            try:
                expected = audio.load(content, RATE)
            except AudioError as error:
                # A container that contradicts itself in a way that does not matter for the samples.
                assert "cannot be opened" in str(error), (place, value)
                continue
            assert found.shape == expected.shape, (place, value)


@pytest.mark.parametrize("subtype", ["WAV", "WAVEX", "AU"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000])
def test_every_common_rate_is_decoded_and_resampled(subtype, channels, rate, shared_data):
    music, _ = soundfile.read(shared_data / "gtzan_mini" / "rock.00002.flac", dtype="int16", stop=2 * 22050 * channels)
    file = io.BytesIO()
    soundfile.write(file, music.reshape(-1, channels), rate, "PCM_16", format=subtype)
    expected = audio.load(file.getvalue(), RATE)
    found = decode(file.getvalue()).numpy()
    assert found.shape == expected.shape
    assert np.square(found - expected).sum() <= 10**-7.5 * np.square(expected).sum()


def test_gtzans_own_files_are_decoded(shared_data):
    content = (shared_data / "disco.00000.au").read_bytes()
    np.testing.assert_array_equal(decode(content), audio.load(content, RATE), strict=True)
