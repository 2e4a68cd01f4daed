"""Audio containers, seen from outside: which one it is, and whether the file holds all that it announces.

Decoders give what is there of a file that was cut short, and say nothing. This module reads the sizes that
the container states and compares them with the bytes present. It decodes nothing, reads headers only, never
raises on any content and uses memory that does not grow with the file.
"""

import dataclasses
import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

SNIFF_BYTES = 64
"""As many leading bytes as `sniff` can make use of."""

_AU_MAGICS = {b".snd": ">", b"dns.": "<"}
_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_UNKNOWN_32 = 0xFFFFFFFF
_ALL_ONES_64 = 0xFFFFFFFFFFFFFFFF
_MOST_CHUNKS = 10_000


def sniff(head: bytes) -> str | None:
    """Name the container that a file's first bytes belong to.

    Parameters
    ----------
    head : bytes
        The beginning of the file, `SNIFF_BYTES` or more of it. An ID3v2 tag counts as that of an MP3.

    Returns
    -------
    str or None
        `wav`, `rf64`, `w64`, `aiff`, `au`, `caf`, `flac`, `ogg` or `mp3`; None for anything else, which may
        still be audio of a rarer kind.
    """
    if head[:4] in (b"RIFF", b"RIFX") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"RF64" and head[8:12] == b"WAVE":
        return "rf64"
    if head[:16] == _W64_RIFF:
        return "w64"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head[:4] in _AU_MAGICS:
        return "au"
    if head[:4] == b"caff":
        return "caf"
    if head[:4] == b"fLaC":
        return "flac"
    if head[:4] == b"OggS":
        return "ogg"
    if head[:3] == b"ID3" or _mpeg_frame(head) is not None:
        return "mp3"
    return None


def container_of(file: BinaryIO) -> str | None:
    """Name the container of an open file as `sniff` does, looking behind any ID3v2 tags in front."""
    start = _after_id3v2(file, _length(file))
    return sniff(_read(file, start, SNIFF_BYTES)) or ("mp3" if start else None)


def missing_part(file: BinaryIO) -> str | None:
    """Tell what a file announces and does not hold.

    Parameters
    ----------
    file : seekable binary file
        Its position is left anywhere.

    Returns
    -------
    str or None
        The second half of a sentence about the file, such as `has 1000 of the 4000 bytes of audio that its
        header announces`. None if nothing is missing or, see the notes, nothing can be known.

    Notes
    -----
    WAV, RF64, W64, AIFF, CAF and AU state the size of their audio. A size of 0 or of all ones is what a
    program leaves behind that wrote to a pipe: then nothing can be known. What follows the audio may be cut.

    Ogg: every page must be whole and the last one must be marked as the end of its stream.

    FLAC: only the metadata is looked at. How many samples follow shows in decoding.

    MP3: frames are counted if there is a Xing or Info header with their number. Without one, as most constant
    bit rate encoders of old wrote it, a file that was cut cannot be told from a shorter one.
    """
    length = _length(file)
    start = _after_id3v2(file, length)
    if start > length:
        return "ends inside its ID3v2 tag"
    kind = sniff(_read(file, start, SNIFF_BYTES))
    if kind in _CHUNKED:
        return _missing_from_chunks(file, start, length, _CHUNKED[kind])
    if kind == "au":
        return _missing_from_au(file, start, length)
    if kind == "flac":
        return _missing_from_flac(file, start, length)
    if kind == "ogg":
        return _missing_from_ogg(file, start, length)
    if kind == "mp3":
        return _missing_from_mp3(file, start, length)
    return None


def _length(file: BinaryIO) -> int:
    return file.seek(0, io.SEEK_END)


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _after_id3v2(file: BinaryIO, length: int) -> int:
    """Return where the ID3v2 tags at the beginning end; beyond `length` if they are cut."""
    offset = 0
    while (head := _read(file, offset, 10))[:3] == b"ID3" and len(head) == 10 and max(head[6:10]) < 0x80:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        has_footer = bool(head[5] & 0x10)
        offset += 10 + size + 10 * has_footer
        if offset > length:
            break
    return offset


def _shortfall(present: int, announced: int) -> str | None:
    if present >= announced:
        return None
    return f"has {max(present, 0)} of the {announced} bytes of audio that its header announces"


# --- Containers made of chunks: an identifier, a size, then so many bytes ---


@dataclasses.dataclass(frozen=True)
class _Chunked:
    """How a container writes its chunks.

    Attributes
    ----------
    id_bytes, size_bytes : int
        Of a chunk's header.
    order : str
        Byte order of sizes, for `struct`.
    first_chunk : int
        Where the first chunk begins.
    audio_id : bytes
        Identifier of the chunk with the audio.
    align : int
        Chunks begin at multiples of this.
    size_counts_header : bool
        Whether a chunk's size includes its header.
    """

    id_bytes: int
    size_bytes: int
    order: str
    first_chunk: int
    audio_id: bytes
    align: int
    size_counts_header: bool = False


_CHUNKED = {
    "wav": _Chunked(4, 4, "<", 12, b"data", 2),
    "rf64": _Chunked(4, 4, "<", 12, b"data", 2),
    "aiff": _Chunked(4, 4, ">", 12, b"SSND", 2),
    "caf": _Chunked(4, 8, ">", 8, b"data", 1),
    "w64": _Chunked(16, 8, "<", 40, _W64_DATA, 8, size_counts_header=True),
}


def _missing_from_chunks(file: BinaryIO, start: int, length: int, layout: _Chunked) -> str | None:
    head = _read(file, start, layout.first_chunk)
    order = ">" if head[:4] == b"RIFX" else layout.order
    header_bytes = layout.id_bytes + layout.size_bytes
    offset = start + layout.first_chunk
    long_audio_bytes = 0
    for _ in range(_MOST_CHUNKS):
        if offset + header_bytes > length:
            break
        chunk = _read(file, offset, header_bytes + 16)
        identifier = chunk[: layout.id_bytes]
        (size,) = struct.unpack_from(order + ("I" if layout.size_bytes == 4 else "Q"), chunk, layout.id_bytes)
        body = offset + header_bytes
        if head[:4] == b"RF64" and identifier == b"ds64" and len(chunk) == header_bytes + 16:
            # RF64 is RIFF with the sizes that 32 bits cannot hold moved here: whole file, then audio.
            long_audio_bytes = struct.unpack_from("<Q", chunk, header_bytes + 8)[0]
        if identifier == layout.audio_id:
            if size in (_UNKNOWN_32, _ALL_ONES_64):
                size = long_audio_bytes
            elif layout.size_counts_header:
                size -= header_bytes
            return _shortfall(length - body, size)
        if layout.size_counts_header:
            size = max(size - header_bytes, 0)
        offset = body + size
        offset += -(offset - start) % layout.align
    else:
        return None
    # Without an audio chunk nothing is left to compare but the size of the whole, where that is stated.
    if len(head) == layout.first_chunk and head[:4] in (b"RIFF", b"RIFX", b"FORM"):
        (size,) = struct.unpack_from(order + "I", head, 4)
        if size == _UNKNOWN_32 or start + 8 + size <= length:
            return None
    return "ends before its audio begins"


def _missing_from_au(file: BinaryIO, start: int, length: int) -> str | None:
    head = _read(file, start, 24)
    if len(head) < 24:
        return "ends inside its header"
    data_offset, size = struct.unpack_from(_AU_MAGICS[head[:4]] + "II", head, 4)
    if start + data_offset > length:
        return "ends inside its header"
    return None if size == _UNKNOWN_32 else _shortfall(length - start - data_offset, size)


# --- FLAC ---


def _missing_from_flac(file: BinaryIO, start: int, length: int) -> str | None:
    offset = start + 4
    is_last = False
    while not is_last:
        head = _read(file, offset, 4)
        offset += 4 + int.from_bytes(head[1:4], "big")
        if len(head) < 4 or offset > length:
            return "ends inside its header"
        is_last = bool(head[0] & 0x80)
    return None


# --- Ogg ---

_OGG_HEADER_BYTES = 27
_OGG_LAST_PAGE = 4


def _missing_from_ogg(file: BinaryIO, start: int, length: int) -> str | None:
    is_last_page = False
    offset: int | None = start
    while offset is not None and offset < length:
        head = _read(file, offset, _OGG_HEADER_BYTES + 255)
        if head[:4] != b"OggS":
            # Decoders skip what is between pages, a tag for instance, and so does this.
            offset = _find(file, b"OggS", offset + 1, length)
            continue
        if len(head) < _OGG_HEADER_BYTES:
            return "ends inside a page"
        segments = head[26]
        offset += _OGG_HEADER_BYTES + segments + sum(head[_OGG_HEADER_BYTES : _OGG_HEADER_BYTES + segments])
        if len(head) < _OGG_HEADER_BYTES + segments or offset > length:
            return "ends inside a page"
        is_last_page = bool(head[5] & _OGG_LAST_PAGE)
    return None if is_last_page else "ends without the page that marks the end of its stream"


def _find(file: BinaryIO, pattern: bytes, offset: int, length: int) -> int | None:
    block_bytes = 1 << 16
    while offset < length:
        place = _read(file, offset, block_bytes + len(pattern) - 1).find(pattern)
        if place >= 0:
            return offset + place
        offset += block_bytes
    return None


# --- MP3 ---

_KBITS_PER_SECOND = {
    # (MPEG version is 1, layer): by the index in the frame header; 0 is the free format, 15 does not exist.
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MPEG1_RATES_HZ = (44100, 48000, 32000)
_RATE_DIVISORS = {3: 1, 2: 2, 0: 4}
_TRAILING_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3", b"3DI")


@dataclasses.dataclass(frozen=True)
class _MpegFrame:
    frame_bytes: int
    xing_offset: int


def _mpeg_frame(head: bytes) -> _MpegFrame | None:
    """Read the four bytes in front of an MPEG audio frame; None if they are none, or of the free format."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    rate_index, bit_rate_index = head[2] >> 2 & 3, head[2] >> 4
    if version not in _RATE_DIVISORS or layer == 4 or rate_index == 3 or bit_rate_index in (0, 15):
        return None
    is_mpeg1, is_mono = version == 3, head[3] >> 6 == 3
    rate_hz = _MPEG1_RATES_HZ[rate_index] // _RATE_DIVISORS[version]
    bits_per_second = 1000 * _KBITS_PER_SECOND[is_mpeg1, layer][bit_rate_index]
    padding = head[2] >> 1 & 1
    if layer == 1:
        frame_bytes = 4 * (12 * bits_per_second // rate_hz + padding)
    else:
        samples = 1152 if is_mpeg1 or layer == 2 else 576
        frame_bytes = samples // 8 * bits_per_second // rate_hz + padding
    side_information = (17 if is_mono else 32) if is_mpeg1 else (9 if is_mono else 17)
    return _MpegFrame(frame_bytes, xing_offset=4 + side_information)


def _missing_from_mp3(file: BinaryIO, start: int, length: int) -> str | None:
    first = _mpeg_frame(_read(file, start, 4))
    if first is None:
        return None
    if start + first.frame_bytes > length:
        return "ends inside its first MP3 frame"
    announced = _announced_mp3_frames(_read(file, start, 64), first)
    if not announced:
        return None
    present = 0
    for is_whole in _mp3_frames(file, start + first.frame_bytes, length):
        if is_whole is None:
            return None
        present += is_whole
        if present >= announced:
            return None
        if not is_whole:
            break
    else:
        # Some encoders count the frame that holds the header as well, so that one may seem to be missing.
        present += 1
    if present >= announced:
        return None
    return f"has {present} of the {announced} MP3 frames that its header announces"


def _announced_mp3_frames(head: bytes, frame: _MpegFrame) -> int:
    """Return how many frames a Xing or Info header says to follow the first; 0 where there is none."""
    xing = head[frame.xing_offset : frame.xing_offset + 12]
    if xing[:4] not in (b"Xing", b"Info") or len(xing) < 12:
        return 0
    flags, frames = struct.unpack_from(">II", xing, 4)
    return frames if flags & 1 and frames != _UNKNOWN_32 else 0


def _mp3_frames(file: BinaryIO, offset: int, length: int) -> Iterator[bool | None]:
    """Go over the frames from `offset`: True for a whole one, False for one that is cut.

    It ends at the end of the file or at a tag; None comes last where what follows is neither frame nor tag.
    """
    while offset < length:
        head = _read(file, offset, 16)
        frame = _mpeg_frame(head)
        if frame is None:
            if len(head) < 4:
                yield False
            elif not head.startswith(_TRAILING_TAGS):
                yield None
            return
        offset += frame.frame_bytes
        yield offset <= length
