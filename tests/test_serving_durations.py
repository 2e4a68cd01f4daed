"""A file's duration is known before anything decodes it, for every file that the graph would decode."""

import struct

import numpy as np
import pytest
import tensorflow as tf
from test_pcm_graph import GOOD, RATE, decode

from keras_genre.serving.durations import pcm_seconds


@pytest.mark.parametrize("name", GOOD)
def test_it_is_that_of_what_the_graph_decodes(name):
    assert pcm_seconds(GOOD[name]) == pytest.approx(decode(GOOD[name]).shape[0] / RATE, abs=1 / RATE)


@pytest.mark.parametrize("name", ["wav in stereo", "extensible wav", "au in stereo"])
def test_no_flipped_byte_of_a_header_hides_it(name):
    whole, decoded = GOOD[name], 0
    random = np.random.default_rng(0)
    for place in range(24 if name.startswith("au") else 44):
        for value in {0, 255, whole[place] ^ 1, int(random.integers(256))} - {whole[place]}:
            content = whole[:place] + bytes([value]) + whole[place + 1 :]
            seconds = pcm_seconds(content)
            try:
                found = decode(content).shape[0] / RATE
            except tf.errors.InvalidArgumentError:
                continue
            decoded += 1
            assert seconds == pytest.approx(found, abs=1 / RATE), (place, value)
    assert decoded >= 5


def test_it_takes_the_rate_and_channels_of_the_header_and_not_its_bytes_a_second():
    layout = struct.pack("<HHIIHH", 1, 2, 8000, 1, 4, 16)
    content = b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<I", 16) + layout + b"data" + struct.pack("<I", 64000)
    assert pcm_seconds(content + bytes(64000)) == 2


@pytest.mark.parametrize("whole", [GOOD["wav with chunks before, between and behind"], GOOD["au"]])
def test_a_file_cut_anywhere_has_what_is_there_or_none(whole):
    lengths = [pcm_seconds(whole[:end]) for end in range(len(whole))]
    assert lengths[0] is None
    known = [length for length in lengths if length is not None]
    assert known == sorted(known)
    assert 0 == known[0] < known[-1] <= 1000 / RATE


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RIFF",
        b".snd",
        b"fLaC" + bytes(100),
        b"RIFF\0\0\0\0WAVE" + b"LIST\0\0\0\0" * 20_000,
        GOOD["wav"][:24] + bytes(4) + GOOD["wav"][28:],
        GOOD["au"][:16] + bytes(4) + GOOD["au"][20:],
    ],
    ids=["nothing", "RIFF", "snd", "FLAC", "chunks without end", "WAV of rate 0", "AU of rate 0"],
)
def test_of_what_nobody_could_decode_it_is_not_known(content):
    assert pcm_seconds(content) is None
