"""From a store to windows of frames, with tf.data.

In training every clip gives windows from random places, other ones in each epoch; all of the clip is used. In
evaluation every clip gives all its windows. Nothing is dropped: the last batch may be smaller.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_genre.errors import StoreError
from keras_genre.params import LEVEL_RANGES, TrainParams
from keras_genre.records import compression_of, parse
from keras_genre.store import Store
from keras_genre.window_augmentation import Values, augment

CACHE_BYTES = 4 << 30
"""Features of the clips in use are kept in memory up to this size, and read again each epoch above it."""

SHUFFLE_BYTES = 128 << 20
"""Windows are mixed with each other in blocks of this size."""


def window_starts(frames: int, window_frames: int) -> list[int]:
    """Return where the windows of a clip start in evaluation: one after the other, the last one ending with the clip.

    Every frame is in a window; only the last window may overlap the one before it.
    """
    starts = list(range(0, frames - window_frames + 1, window_frames))
    if (frames - window_frames) % window_frames:
        starts.append(frames - window_frames)
    return starts


def window_starts_in_graph(frames: tf.Tensor, window_frames: int) -> tf.Tensor:
    """Return what `window_starts` returns, int32 (windows,), for a number of frames that a graph finds out."""
    last = frames - window_frames
    return tf.unique(tf.concat([tf.range(0, last + 1, window_frames), last[tf.newaxis]], 0)).y


def check_lengths(store: Store, rows: Sequence[int], window_frames: int) -> None:
    """Refuse clips that have no whole window.

    Raises
    ------
    StoreError
        Naming the clips.
    """
    short = [store.clips[row].track for row in rows if store.frames[row] < window_frames]
    if short:
        raise StoreError(
            f"{store.path}: {len(short)} clips are shorter than a window of {window_frames} frames "
            f"({', '.join(short[:5])}{', ...' if len(short) > 5 else ''}); use shorter windows (--window-frames) "
            "or leave them out (precompute --min-seconds)"
        )


def steps_per_epoch(clips: int, params: TrainParams) -> int:
    """Return the batches of an epoch, the last, smaller one included."""
    return math.ceil(clips * params.windows_per_clip / params.batch_size)


def clip_frames(
    store: Store, rows: Sequence[int], columns: int, shard_seed: tf.Tensor | None = None
) -> tf.data.Dataset:
    """Read clips of a store.

    Parameters
    ----------
    store : Store
    rows : sequence of int
        Positions in `store.clips`.
    columns : int
        How many of the first columns to keep.
    shard_seed : tf.Tensor [shape=(2,), int64], optional
        Read the shards in a random order; else the clips come in the order of the records.

    Returns
    -------
    tf.data.Dataset
        Of (row int64, frames float32 (frames, columns)).
    """
    header = store.header
    wanted = np.zeros(len(store.clips), bool)
    wanted[list(rows)] = True
    shards, firsts, first = [], [], 0
    for shard in store.shards:
        if wanted[first : first + len(shard.clips)].any():
            shards.append(str(store.path / shard.file))
            firsts.append(first)
        first += len(shard.clips)
    order = tf.range(len(shards))
    if shard_seed is not None:
        order = tf.random.experimental.stateless_shuffle(order, shard_seed)

    def records_of(file: tf.Tensor, first: tf.Tensor) -> tf.data.Dataset:
        return tf.data.TFRecordDataset(file, compression_of(header.encoding)).enumerate(first)

    def frames_of(row: tf.Tensor, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        _, frames = parse(record, header.encoding, header.dims)
        return row, tf.ensure_shape(frames[:, :columns], (None, columns))

    return (
        tf.data.Dataset.from_tensor_slices((tf.gather(shards, order), tf.gather(np.array(firsts, np.int64), order)))
        .flat_map(records_of)
        .filter(lambda row, record: tf.gather(wanted, row))
        .map(frames_of, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    )


def fits_in_memory(store: Store, rows: Sequence[int], columns: int) -> bool:
    """Tell whether the frames of these clips take no more than `CACHE_BYTES`."""
    return 4 * columns * sum(store.frames[row] for row in rows) <= CACHE_BYTES


def training_windows(
    store: Store,
    rows: Sequence[int],
    columns: int,
    params: TrainParams,
    first_epoch: int = 0,
    statistics: tuple[np.ndarray, np.ndarray] | None = None,
) -> tf.data.Dataset:
    """Give the batches of a training, epoch after epoch.

    What an epoch holds depends on `params.seed` and the epoch's number alone, not on the epochs before: a run that is
    resumed sees what it would have seen.

    Parameters
    ----------
    store : Store
    rows : sequence of int
        The training clips, as positions in `store.clips`.
    columns : int
        Values a frame to use.
    params : TrainParams
        Windows, batch size, epochs, seed.
    first_epoch : int >= 0
        Epoch to begin with.
    statistics : pair of np.ndarray [shape=(columns,)], optional
        Mean and variance of the columns over the training frames, which alterations of windows follow: masked values
        become their means. 0 and 1 by default.

    Returns
    -------
    tf.data.Dataset
        Of (windows float32 (batch, window_frames, columns), targets): `steps_per_epoch` batches for each epoch from
        `first_epoch` to the last. The targets are labels int64 (batch,), or with `params.soft_targets` shares float32
        (batch, genres).

    Raises
    ------
    StoreError
        If a clip is shorter than a window.
    """
    check_lengths(store, rows, params.window_frames)
    labels = tf.constant(label_rows(store), tf.int64)
    cached = clip_frames(store, rows, columns).cache() if fits_in_memory(store, rows, columns) else None
    clip_bytes = 4 * columns * params.window_frames * params.windows_per_clip
    block_clips = min(len(rows), max(1, SHUFFLE_BYTES // clip_bytes))
    offsets = tf.range(params.window_frames)
    mean, variance = (np.zeros(columns), np.ones(columns)) if statistics is None else statistics
    values = Values(tf.constant(mean, tf.float32), float(np.sqrt(np.mean(variance))), LEVEL_RANGES.get(params.features))

    def epoch_clips(epoch: tf.Tensor) -> tf.data.Dataset:
        seed = (params.seed, epoch)
        if cached is None:
            return clip_frames(store, rows, columns, tf.stack([tf.constant(params.seed, tf.int64), epoch]))
        # Where the clips are more than a block, another beginning makes other blocks.
        start = tf.random.stateless_uniform((), seed, 0, len(rows), tf.int64)
        return cached.skip(start).concatenate(cached.take(start))

    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        def cut(row: tf.Tensor, frames: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            last = tf.shape(frames)[0] - params.window_frames
            seed = (params.seed, epoch * len(store.clips) + row)
            starts = tf.random.stateless_uniform((params.windows_per_clip,), seed, 0, last + 1, tf.int32)
            windows = tf.gather(frames, starts[:, tf.newaxis] + offsets)
            return windows, tf.repeat(tf.gather(labels, row), params.windows_per_clip)

        def mix(windows: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            windows = tf.reshape(windows, (-1, params.window_frames, columns))
            order = tf.random.experimental.stateless_shuffle(tf.range(tf.shape(windows)[0]), (params.seed, epoch))
            return tf.gather(windows, order), tf.gather(tf.reshape(labels, (-1,)), order)

        def alter(number: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            seed = (params.seed, number)
            windows, targets = augment(*batch, len(store.genres), values, params, seed)
            return tf.ensure_shape(windows, (None, params.window_frames, columns)), targets

        return (
            epoch_clips(epoch)
            .map(cut, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            .batch(block_clips)
            .map(mix)
            .rebatch(params.batch_size)
            .enumerate(epoch * steps_per_epoch(len(rows), params))
            .map(alter, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        )

    epochs = tf.data.Dataset.range(first_epoch, params.epochs)
    return epochs.flat_map(epoch_batches).prefetch(tf.data.AUTOTUNE)


def evaluation_windows(
    store: Store, rows: Sequence[int], columns: int, window_frames: int, batch_size: int = 256
) -> tf.data.Dataset:
    """Give every window of every clip once.

    Returns
    -------
    tf.data.Dataset
        Of (windows float32 (batch, window_frames, columns), rows int64 (batch,)): the clip that each window is of.

    Raises
    ------
    StoreError
        If a clip is shorter than a window.
    """
    check_lengths(store, rows, window_frames)
    offsets = tf.range(window_frames)

    def cut(row: tf.Tensor, frames: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        starts = window_starts_in_graph(tf.shape(frames)[0], window_frames)
        return tf.gather(frames, starts[:, tf.newaxis] + offsets), tf.repeat(row, tf.size(starts))

    return (
        clip_frames(store, rows, columns)
        .map(cut, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .unbatch()
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )


def label_rows(store: Store) -> np.ndarray:
    """Return the label of every clip of a store, int64 (clips,): the place of its genre in `store.genres`.

    Clips of genres that have no place in the split have -1.
    """
    number = {genre: position for position, genre in enumerate(store.genres)}
    return np.array([number.get(clip.genre, -1) for clip in store.clips], np.int64)


def frame_statistics(
    store: Store, rows: Sequence[int], columns: int, transform: Callable[[np.ndarray], Any] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of each column over all frames of the given clips, float32 (columns,).

    With a `transform`, those of what it makes of the frames.

    Raises
    ------
    StoreError
        If a value is not finite.
    """
    count, mean, squares = 0, np.zeros(columns), np.zeros(columns)
    for clip, frames in store.read(rows):
        part = frames[:, :columns].astype(np.float64)
        if not np.isfinite(part).all():
            raise StoreError(f"{store.path}: {clip.track} holds NaN or infinity")
        if transform:
            part = np.asarray(transform(part), np.float64)
        # Chan et al. (1979): merges the moments of two parts without cancellation.
        total = count + len(part)
        shift = part.mean(axis=0) - mean
        squares += ((part - part.mean(axis=0)) ** 2).sum(axis=0) + shift**2 * count * len(part) / total
        mean += shift * len(part) / total
        count = total
    return mean.astype(np.float32), (squares / count).astype(np.float32)


def describe(store: Store, rows: Sequence[int], columns: int, params: TrainParams) -> dict[str, Any]:
    """Return what `training_windows` will yield, as JSON values."""
    return {
        "clips": len(rows),
        "frames": sum(store.frames[row] for row in rows),
        "windows_per_epoch": len(rows) * params.windows_per_clip,
        "steps_per_epoch": steps_per_epoch(len(rows), params),
        "last_batch_size": (len(rows) * params.windows_per_clip - 1) % params.batch_size + 1,
        "windows": {"shape": [params.batch_size, params.window_frames, columns], "dtype": "float32"},
        "labels": {"shape": [params.batch_size], "dtype": "int64"},
        "genres": store.genres,
        "in_memory": fits_in_memory(store, rows, columns),
        "seed": params.seed,
    }
