"""How long the audio in a file of PCM is, by its header: nothing is decoded to know it."""

import struct

_UNKNOWN_SIZE = 0xFFFFFFFF
_AU_PCM_16 = 3
_MOST_CHUNKS = 10_000


def pcm_seconds(content: bytes) -> float | None:
    """Return the duration of a WAV or Sun `.au` file as `keras_genre.pcm_graph` reads its header.

    Parameters
    ----------
    content : bytes
        Anything.

    Returns
    -------
    float >= 0 or None
        Of what is there, if the header announces more. None for all that the graph refuses by its header: other bytes,
        AU of another coding than 16-bit PCM, headers that are cut or without a rate.
    """
    if content[:4] == b".snd":
        return _au_seconds(content)
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        return _wav_seconds(content)
    return None


def _au_seconds(content: bytes) -> float | None:
    if len(content) < 24:
        return None
    start, announced, encoding, rate, channels = struct.unpack_from(">5I", content, 4)
    return _seconds(content, start, announced, 2 * channels * rate) if encoding == _AU_PCM_16 else None


def _wav_seconds(content: bytes) -> float | None:
    offset, bytes_per_second = 12, 0
    for _ in range(_MOST_CHUNKS + 1):
        if offset + 8 > len(content):
            return None
        identifier = content[offset : offset + 4]
        (size,) = struct.unpack_from("<I", content, offset + 4)
        if identifier == b"data":
            return _seconds(content, offset + 8, size, bytes_per_second)
        if identifier == b"fmt " and offset + 24 <= len(content):
            # The header's own bytes a second are not what the graph goes by.
            rate, _, frame_bytes = struct.unpack_from("<IIH", content, offset + 12)
            bytes_per_second = rate * frame_bytes
        offset += 8 + size + size % 2
    return None


def _seconds(content: bytes, start: int, announced: int, bytes_per_second: int) -> float | None:
    if not bytes_per_second or start > len(content):
        return None
    present = len(content) - start
    return (present if announced == _UNKNOWN_SIZE else min(announced, present)) / bytes_per_second
