"""Stored numbers are the given ones, to the accuracy that their encoding promises; the graph reads what NumPy reads."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_genre.encodings import ENCODINGS, LARGEST, decode, encode
from keras_genre.errors import ParameterError
from keras_genre.records import compression_of, parse, read_shard, write_shard

QUANTISED = ("uint16", "uint8")
SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 5))


def arrays(largest):
    bound = float(np.float32(largest))
    return hnp.arrays(np.float32, SHAPES, elements=st.floats(-bound, bound, width=32))


@given(arrays(LARGEST["float32"]))
def test_float32_is_exact(frames):
    decoded = decode(encode(frames, "float32"))
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded, frames)


@given(arrays(LARGEST["float16"]))
def test_float16_keeps_eleven_bits(frames):
    error = np.abs(decode(encode(frames, "float16")) - frames)
    assert (error <= np.maximum(np.abs(frames) * 2.0**-11, 2.0**-25)).all()


@pytest.mark.parametrize("encoding", QUANTISED)
@settings(max_examples=300)
@given(frames=st.one_of(arrays(1.0), arrays(3e4), arrays(LARGEST["uint16"])))
def test_no_value_moves_by_more_than_half_a_step_of_its_column(encoding, frames):
    exact = frames.astype(np.float64)
    half_step = (exact.max(axis=0) - exact.min(axis=0)) / np.iinfo(encoding).max / 2
    # The result is a float32: it cannot be nearer than the distance of two of those. Steps below the normal
    # float32 numbers (1e-38 x 65 535 levels) have few bits.
    spacing = np.spacing(np.abs(frames).max(axis=0)).astype(np.float64) + 1e-33
    decoded = decode(encode(frames, encoding))
    assert decoded.dtype == np.float32
    assert (np.abs(decoded - exact) <= half_step * 1.01 + spacing).all()


@pytest.mark.parametrize("encoding", QUANTISED)
@given(value=st.floats(-1e6, 1e6, width=32), frames=st.integers(1, 9))
def test_constant_columns_are_exact_whatever_stands_beside_them(encoding, value, frames):
    given_frames = np.stack([np.full(frames, value), np.arange(frames)], axis=1).astype(np.float32)
    np.testing.assert_array_equal(decode(encode(given_frames, encoding))[:, 0], given_frames[:, 0])


@pytest.mark.parametrize("encoding", QUANTISED)
@given(data=st.data())
def test_frames_that_are_whole_numbers_of_the_type_are_kept_exactly(encoding, data):
    frames = data.draw(hnp.arrays(np.dtype(encoding), SHAPES))
    encoded = encode(frames, encoding)
    np.testing.assert_array_equal(encoded.values, frames)
    np.testing.assert_array_equal(decode(encoded), frames.astype(np.float32))


@pytest.mark.parametrize("value", [65505.0, -65536.0, 1e30])
def test_what_float16_cannot_hold_is_refused_rather_than_made_infinite(value):
    with pytest.raises(ParameterError, match="beyond 65504, which float16 cannot keep"):
        encode(np.array([[0.0, value]], np.float32), "float16")
    assert decode(encode(np.array([[65504.0, -65504.0]], np.float32), "float16")).tolist() == [[65504.0, -65504.0]]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(encoding, value):
    frames = np.zeros((3, 2), np.float32)
    frames[1, 1] = value
    with pytest.raises(ParameterError, match=f"has NaN, infinity .* {encoding} cannot keep"):
        encode(frames, encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_graph_reads_from_a_shard_what_numpy_decodes(tmp_path, encoding):
    random = np.random.default_rng(0)
    scales = np.array([1e-4, 1.0, 300.0, 0.0, 5000.0])
    clips = {
        f"clip {number} ü": (random.standard_normal((length, 5)) * scales + 7).astype(np.float32)
        for number, length in enumerate((1, 40, 333))
    }
    encoded = {track: encode(frames, encoding) for track, frames in clips.items()}
    path = tmp_path / "shard"
    write_shard(path, encoding, encoded.items())
    in_graph = tf.data.TFRecordDataset(str(path), compression_of(encoding)).map(lambda r: parse(r, encoding, 5))
    read = [(track.decode(), frames) for track, frames in in_graph.as_numpy_iterator()]
    eager = list(read_shard(path, encoding, 5))
    for found in (read, eager):
        assert [track for track, _ in found] == list(clips)
        for track, frames in found:
            np.testing.assert_array_equal(frames, decode(encoded[track]), strict=True)
