"""Inputs that are nearly right: files of every kind that is read, damaged at random but repeatably.

Where a format carries checksums, some of the damage is put beneath them, with the checksum made anew: damage that a
checksum tells gets no further than that.
"""

import functools
import gzip
import io
import json
import random
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable

import numpy as np
import soundfile

RATE = 22050
AUDIO_FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "wav24": ("WAV", "PCM_24"),
    "wavfloat": ("WAV", "FLOAT"),
    "wavadpcm": ("WAV", "IMA_ADPCM"),
    "wavex": ("WAVEX", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "auulaw": ("AU", "ULAW"),
    "caf": ("CAF", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
"""Name -> what soundfile calls container and coding."""

INTERESTING = (0, 1, -1, 2, 16, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WORDS = (
    b"null", b"true", b"-0", b"1e999", b"-1e-999", b"NaN", b"Infinity", b"9" * 40, b"9" * 5000, b"1" + b"0" * 309,
    b"[]", b"{}", b"[[[[[[[[", b"]" * 50, b'""', b'"\\ud800"', b'"\\u0000"', b"\xff\xfe", b"\x00", b"../../etc/passwd",
    b"/dev/zero", b"\xef\xbb\xbf", b"\r", b"\n", b"\"", b",", b":", b"%n%s", b"\xe2\x80\xae",
)  # fmt: skip
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def tone(seconds: float, channels: int = 1) -> np.ndarray:
    """Return a tone in noise [shape=(samples, channels), float64]."""
    times = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(channels).standard_normal((times.size, channels))
    return 0.4 * np.sin(2 * np.pi * 300 * times)[:, None] + 0.05 * noise


@functools.cache
def audio_seed(name: str) -> bytes:
    """Return a whole file of one of `AUDIO_FORMATS`: a third of a second in stereo."""
    file_format, subtype = AUDIO_FORMATS[name]
    file = io.BytesIO()
    rate = 48000 if subtype == "OPUS" else RATE
    soundfile.write(file, tone(0.3, 2), rate, format=file_format, subtype=subtype)
    return file.getvalue()


def mutated(seed: bytes, generator: random.Random) -> bytes:
    """Damage bytes: one to eight times, half of the time near the beginning, where headers are."""
    data = bytearray(seed)
    for _ in range(generator.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        generator.choice(_DAMAGES)(data, generator)
    return bytes(data)


def _place(data: bytearray, generator: random.Random) -> int:
    reach = min(len(data), 128) if generator.random() < 0.5 else len(data)
    return generator.randrange(reach) if reach else 0


def _flip_bit(data: bytearray, generator: random.Random) -> None:
    if data:
        data[_place(data, generator)] ^= 1 << generator.randrange(8)


def _set_byte(data: bytearray, generator: random.Random) -> None:
    if data:
        data[_place(data, generator)] = generator.randrange(256)


def _set_number(data: bytearray, generator: random.Random) -> None:
    size = generator.choice((1, 2, 4, 8))
    value = generator.choice(INTERESTING) & ((1 << 8 * size) - 1)
    place = _place(data, generator)
    data[place : place + size] = value.to_bytes(size, generator.choice(("little", "big")))


def _cut(data: bytearray, generator: random.Random) -> None:
    del data[_place(data, generator) :]


def _delete(data: bytearray, generator: random.Random) -> None:
    place = _place(data, generator)
    del data[place : place + generator.randrange(1, 64)]


def _insert(data: bytearray, generator: random.Random) -> None:
    place = _place(data, generator)
    data[place:place] = generator.randbytes(generator.randrange(1, 64))


def _repeat(data: bytearray, generator: random.Random) -> None:
    place = _place(data, generator)
    block = data[place : place + generator.randrange(1, 256)]
    data[place:place] = block * generator.choice((1, 2, 50))


def _move(data: bytearray, generator: random.Random) -> None:
    first, second = _place(data, generator), _place(data, generator)
    size = generator.randrange(1, 256)
    data[first : first + size] = data[second : second + size]


def _zero(data: bytearray, generator: random.Random) -> None:
    place = _place(data, generator)
    size = min(generator.choice((4, 64, 1024)), len(data) - place)
    data[place : place + size] = bytes(size)


def _append(data: bytearray, generator: random.Random) -> None:
    data += generator.randbytes(generator.randrange(1, 256))


def _insert_word(data: bytearray, generator: random.Random) -> None:
    place = _place(data, generator)
    data[place:place] = generator.choice(WORDS)


def _replace_number(data: bytearray, generator: random.Random) -> None:
    found = list(_NUMBER.finditer(bytes(data)))
    if found:
        match = generator.choice(found)
        data[match.start() : match.end()] = generator.choice(WORDS)


_DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip_bit,
    _set_byte,
    _set_number,
    _set_number,
    _cut,
    _delete,
    _insert,
    _repeat,
    _move,
    _zero,
    _append,
    _insert_word,
    _replace_number,
)


def damaged_zip(seed: bytes, generator: random.Random) -> bytes:
    """Damage a member of a zip file and pack it anew, so that its checksum fits; sometimes the whole instead."""
    if generator.random() < 0.25:
        return mutated(seed, generator)
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(seed)) as source, zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as target:
        names = source.namelist()
        victim = generator.choice(names)
        for name in names:
            content = source.read(name)
            if name == victim:
                action = generator.random()
                if action < 0.05:
                    continue
                if action < 0.1:
                    name = generator.choice(("../" + name, "/tmp/" + name, name * 2, name + "\x00x", ""))
                content = mutated(content, generator)
            pack(target, name, content)
    return result.getvalue()


def pack(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add a member to a zip file, the same bytes at every time of the day."""
    archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


def damaged_gzip(seed: bytes, generator: random.Random) -> bytes:
    """Damage what is in a gzip file, or the whole."""
    if generator.random() < 0.25:
        return mutated(seed, generator)
    return gzip.compress(mutated(gzip.decompress(seed), generator), 1, mtime=0)


def damaged_json(seed: bytes, generator: random.Random) -> bytes:
    """Put something else in place of a value of a JSON document, or damage its text."""
    if generator.random() < 0.4:
        return mutated(seed, generator)
    document = json.loads(seed)
    for _ in range(generator.choice((1, 1, 2, 3))):
        document = _with_strange_value(document, generator)
    return json.dumps(document).encode("utf-8", "surrogatepass")


_STRANGE: tuple[object, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, -(10**400), 0.5, 1e308, float("inf"), float("nan"), "",
    "x", "\x00", "é" * 300, "../..", "\ud800", [], [[]], [[[]]], {}, {"b64": ""}, {"b64": "AAAA"}, {"b64": 1}, [None],
    [1, 2], ["a"], {"": {}}, "float32", "1",
)  # fmt: skip


def _with_strange_value(value: object, generator: random.Random) -> object:
    inner = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not inner or generator.random() < 0.1:
        return generator.choice(_STRANGE)
    key = generator.choice(inner)
    copy = dict(value) if isinstance(value, dict) else list(value)  # type: ignore[call-overload]
    action = generator.random()
    if action < 0.1:
        del copy[key]
    elif action < 0.15 and isinstance(copy, dict):
        copy[generator.choice(("", "x", "class_name", "b64", "track", "checksum"))] = copy[key]
    elif action < 0.2 and isinstance(copy, list):
        copy.insert(key, copy[key])
    else:
        copy[key] = _with_strange_value(copy[key], generator)
    return copy


def damaged_ogg(seed: bytes, generator: random.Random) -> bytes:
    """Damage an Ogg file and, mostly, make the checksums of its pages anew."""
    data = mutated(seed, generator)
    return data if generator.random() < 0.25 else with_ogg_checksums(data)


def with_ogg_checksums(data: bytes) -> bytes:
    """Return an Ogg file whose pages carry the checksums that fit them (RFC 3533)."""
    result = bytearray(data)
    place = 0
    while (place := result.find(b"OggS", place)) >= 0 and place + 27 <= len(result):
        segments = result[place + 26]
        end = place + 27 + segments + sum(result[place + 27 : place + 27 + segments])
        if end <= len(result):
            result[place + 22 : place + 26] = bytes(4)
            result[place + 22 : place + 26] = struct.pack("<I", _ogg_crc(bytes(result[place:end])))
        place += 4
    return bytes(result)


@functools.cache
def _ogg_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        remainder = value << 24
        for _ in range(8):
            remainder = (remainder << 1 ^ (0x04C11DB7 if remainder & 0x80000000 else 0)) & 0xFFFFFFFF
        table.append(remainder)
    return tuple(table)


def _ogg_crc(page: bytes) -> int:
    table, crc = _ogg_table(), 0
    for byte in page:
        crc = (crc << 8 & 0xFFFFFFFF) ^ table[crc >> 24 ^ byte]
    return crc


def tar_seed() -> bytes:
    """Return a `.tar.gz` of two files in a folder."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in (("genres/blues/a.au", b"abc" * 100), ("genres/readme", b"words")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(file.getvalue(), mtime=0)


def zip_seed() -> bytes:
    """Return a `.zip` of two files in a folder."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        pack(archive, "fma/000/1.mp3", b"abc" * 100)
        pack(archive, "fma/readme", b"words")
    return file.getvalue()
