"""A container tells when it was cut, and is not suspected when it was not."""

import io
import struct

import numpy as np
import pytest
import soundfile

from keras_genre.containers import container_of, missing_part, sniff

KINDS = {
    "wav": ("WAV", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
EVERY_FORMAT = [
    (name, subtype)
    for name in soundfile.available_formats()
    for subtype in soundfile.available_subtypes(name)
    # libsndfile writes SD2 in two files, and RAW has no header.
    if name not in ("RAW", "SD2")
]


def missing(content: bytes) -> str | None:
    return missing_part(io.BytesIO(content))


def chunk(identifier: bytes, body: bytes) -> bytes:
    return identifier + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def wav(*chunks: bytes, riff_size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if riff_size is None else riff_size) + body


def data_with_size(size: int, body: bytes) -> bytes:
    return b"data" + struct.pack("<I", size) + body


def id3v2(size: int) -> bytes:
    syncsafe = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\x00\x00" + syncsafe + b"\0" * size


FMT = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16))
LIST = chunk(b"LIST", b"INFOISFT\x08\0\0\0abcdefgh")
ID3V1 = b"TAG" + b"\0" * 125
APE = b"APETAGEX" + struct.pack("<IIII8x", 2000, 32, 0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_each_container_is_known_by_its_first_bytes(kind, encode):
    content = encode(*KINDS[kind])
    assert sniff(content[:64]) == kind
    assert container_of(io.BytesIO(content)) == kind


@pytest.mark.parametrize("content", [b"", b"R", b"RIFF", b"\0" * 64, b"hello, world", b"%PDF-1.7", b"\x89PNG\r\n"])
def test_other_bytes_are_no_container(content):
    assert sniff(content) is None
    assert container_of(io.BytesIO(content)) is None
    assert missing(content) is None


def test_the_container_behind_an_id3v2_tag_is_found(encode):
    assert container_of(io.BytesIO(id3v2(500) + encode("FLAC"))) == "flac"
    assert container_of(io.BytesIO(id3v2(500) + encode("MP3"))) == "mp3"


@pytest.mark.parametrize("samples", [0, 777, 20_000])
@pytest.mark.parametrize(("name", "subtype"), EVERY_FORMAT)
def test_nothing_is_missing_from_what_libsndfile_writes(name, subtype, samples, tone):
    waveform = np.concatenate([tone(1, 20_000)] * 2, axis=1)[:samples]
    file = io.BytesIO()
    try:
        soundfile.write(file, waveform, 48000, format=name, subtype=subtype)
    except soundfile.LibsndfileError:
        pytest.skip("libsndfile does not write this format in stereo at 48 kHz")
    if (subtype, samples) == ("OPUS", 0):
        pytest.skip("libsndfile does not end an Opus stream that has no samples")
    assert missing(file.getvalue()) is None


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "flac"])
def test_a_cut_is_noticed_wherever_it_is(kind, share, encode):
    content = encode(*KINDS[kind], seconds=3)
    assert missing(content[: int(len(content) * share)])


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_inside_the_header_is_noticed(kind, encode):
    content = encode(*KINDS[kind])
    for size in (16, 20, 30) if kind == "w64" else (12, 20, 23):
        assert missing(content[:size]), size


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("flac", "mp3")])
def test_the_last_byte_counts(kind, encode):
    content = encode(*KINDS[kind])
    assert missing(content[:-1])


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_wav_from_a_streaming_writer_is_complete(size):
    assert missing(wav(FMT, data_with_size(size, b"\1\2" * 500), riff_size=size)) is None


def test_a_wav_may_have_chunks_around_its_audio():
    audio = chunk(b"data", b"\1\2" * 500)
    assert missing(wav(LIST, FMT, audio)) is None
    assert missing(wav(FMT, audio, LIST)) is None
    assert missing(wav(FMT, chunk(b"odd ", b"abc"), audio)) is None
    assert missing(wav(LIST, FMT, audio)[:-1])


def test_what_follows_the_audio_of_a_wav_may_be_cut():
    content = wav(FMT, chunk(b"data", b"\1\2" * 500), LIST)
    assert missing(content[:-5]) is None


def test_odd_audio_needs_no_padding():
    assert missing(wav(FMT, data_with_size(3, b"abc"))) is None
    assert missing(wav(FMT, data_with_size(3, b"abc\0"))) is None
    assert missing(wav(FMT, data_with_size(3, b"ab")))


def test_a_whole_wav_without_audio_is_not_called_cut():
    assert missing(wav(FMT)) is None
    assert missing(wav(FMT)[:-1])


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_au_of_unknown_size_is_complete_and_a_known_size_counts(order):
    magic = b".snd" if order == ">" else b"dns."

    def au(size: int) -> bytes:
        return magic + struct.pack(order + "5I", 28, size, 3, 8000, 1) + b"\0" * 4 + b"\1\2" * 500

    assert missing(au(0xFFFFFFFF)) is None
    assert missing(au(1000)) is None
    assert missing(au(999)) is None
    assert missing(au(1001)) == "has 1000 of the 1001 bytes of audio that its header announces"


@pytest.mark.parametrize("tag", [ID3V1, APE, APE + ID3V1, id3v2(100)])
@pytest.mark.parametrize("kind", ["mp3", "flac", "ogg", "wav", "au"])
def test_tags_behind_the_audio_are_no_cut(kind, tag, encode):
    assert missing(encode(*KINDS[kind]) + tag) is None


def test_a_cut_mp3_is_noticed_under_a_tag(encode):
    content = encode("MP3", seconds=3)
    tagged = id3v2(1000) + content
    assert missing(tagged) is None
    assert missing(tagged[:500]) == "ends inside its ID3v2 tag"
    assert missing(tagged[: len(tagged) // 2])


def test_an_mp3_that_announces_nothing_cannot_be_known_to_be_cut(encode):
    content = encode("MP3", seconds=3)
    first = content.index(b"\xff\xfb", 1)
    without_header = content[first:]
    assert missing(without_header) is None
    assert missing(without_header[: len(without_header) // 2]) is None


def test_an_ogg_needs_its_last_page(encode):
    content = encode("OGG", "VORBIS", seconds=3)
    last_page = content.rindex(b"OggS")
    assert missing(content[:last_page]) == "ends without the page that marks the end of its stream"
    assert missing(content[:-1]) == "ends inside a page"
    assert missing(content + content) is None


def test_a_flac_needs_its_metadata(encode):
    content = encode("FLAC")
    assert missing(content[:30]) == "ends inside its header"


def test_sizes_that_cannot_be_are_a_cut_and_no_error(encode):
    for kind, coding in KINDS.items():
        content = encode(*coding)
        for place in range(4, 64):
            damaged = content[:place] + b"\xff\xff\xff\xff" + content[place + 4 :]
            assert missing(damaged) is None or isinstance(missing(damaged), str), (kind, place)


def test_many_tiny_chunks_take_no_time():
    assert missing(wav(FMT, b"\0" * 40_000_000)) is None
