"""TFRecord shards of feature frames: the one place that knows the bytes of a record."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_genre.encodings import Encoded
from keras_genre.errors import StoreError
from keras_genre.places import Place

FEATURES = {
    "track": tf.io.FixedLenFeature((), tf.string),
    "values": tf.io.FixedLenFeature((), tf.string),
    "scale": tf.io.VarLenFeature(tf.float32),
    "offset": tf.io.VarLenFeature(tf.float32),
}
"""A record: the clip's name; its values, little endian, row by row; if quantised, each column's scale and offset."""


def compression_of(encoding: str) -> str:
    """Return the TFRecord compression of shards: the encodings that are meant to save room are compressed too."""
    return "GZIP" if encoding.startswith("uint") else ""


def write_shard(path: Path, encoding: str, records: Iterable[tuple[str, Encoded]]) -> None:
    """Write encoded clips to a TFRecord file, the same bytes for the same clips.

    Raises
    ------
    StoreError
        If the system does not let it: a full disk, for instance.
    """
    try:
        with tf.io.TFRecordWriter(str(path), compression_of(encoding)) as writer:
            for track, encoded in records:
                writer.write(_serialise(track, encoded))
    except tf.errors.OpError as error:
        raise StoreError(f"{path.parent}: a shard cannot be written ({error.message})") from error


def read_shard(path: Place, encoding: str, dims: int) -> Iterator[tuple[str, np.ndarray]]:
    """Read the clips of a shard as name and frames, float32 (frames, dims).

    Raises
    ------
    tf.errors.DataLossError
        If a record does not agree with its own checksum.
    """
    for record in tf.data.TFRecordDataset(str(path), compression_of(encoding)):
        track, frames = parse(record, encoding, dims)
        yield track.numpy().decode(), frames.numpy()


def parse(record: tf.Tensor, encoding: str, dims: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Turn one serialised record into its track name and its frames, in a graph or eagerly.

    Returns
    -------
    track : tf.Tensor [shape=(), string]
    frames : tf.Tensor [shape=(frames, dims), float32]
    """
    example = tf.io.parse_single_example(record, FEATURES)
    values = tf.io.decode_raw(example["values"], tf.dtypes.as_dtype(encoding))
    frames = tf.cast(tf.reshape(values, (-1, dims)), tf.float32)
    if encoding.startswith("uint"):
        frames = frames * tf.sparse.to_dense(example["scale"]) + tf.sparse.to_dense(example["offset"])
    return example["track"], frames


def _serialise(track: str, encoded: Encoded) -> bytes:
    values = encoded.values.astype(encoded.values.dtype.newbyteorder("<"), copy=False)
    feature = {
        "track": _bytes(track.encode()),
        "values": _bytes(values.tobytes()),
        "scale": tf.train.Feature(float_list=tf.train.FloatList(value=encoded.scale)),
        "offset": tf.train.Feature(float_list=tf.train.FloatList(value=encoded.offset)),
    }
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    # Protobuf promises an order of map entries only on request.
    return example.SerializeToString(deterministic=True)


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
