"""Training sees random windows of whole clips, evaluation sees every window of every clip; one seed rules."""

import collections
import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import GENRES, make_toy_store, toy_clips, toy_frames, toy_params

from keras_genre import pipeline
from keras_genre.errors import StoreError
from keras_genre.pipeline import (
    describe,
    evaluation_windows,
    frame_statistics,
    label_rows,
    steps_per_epoch,
    training_windows,
    window_starts,
)

DIMS = 33


def batches_of(store, params, first_epoch=0, rows=None):
    rows = store.rows_of("train") if rows is None else rows
    return [(x.numpy(), y.numpy()) for x, y in training_windows(store, rows, DIMS, params, first_epoch)]


def assert_same_batches(ours, theirs):
    assert len(ours) == len(theirs)
    for (x, y), (u, v) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(x, u)
        np.testing.assert_array_equal(y, v)


@given(st.integers(1, 400), st.integers(1, 130))
def test_evaluation_windows_cover_every_frame_and_none_reaches_beyond_the_clip(frames, window):
    if frames < window:
        return
    starts = window_starts(frames, window)
    covered = {frame for start in starts for frame in range(start, start + window)}
    assert covered == set(range(frames))
    assert starts == sorted(set(starts))
    assert len(starts) == -(-frames // window)


def test_a_30_s_clip_gives_11_lstm_windows_and_5_segments_of_6_s():
    assert len(window_starts(1293, 128)) == 11
    assert len(window_starts(1293, 259)) == 5


def test_training_windows_are_pieces_of_their_clip_with_its_label(toy_store):
    for windows, labels in batches_of(toy_store, toy_params()):
        for window, label in zip(windows, labels, strict=True):
            clip = next(c for c in toy_store.clips if toy_frames(c)[0, 1] == window[0, 1] and c.genre == GENRES[label])
            start = int(window[0, 0])
            np.testing.assert_array_equal(window, toy_frames(clip)[start : start + 16])
            assert clip.split == "train"


def test_every_epoch_has_so_many_windows_of_every_training_clip_and_drops_no_batch(toy_store):
    params = toy_params(batch_size=7)
    batches = batches_of(toy_store, params)
    steps = steps_per_epoch(12, params)
    assert len(batches) == steps * params.epochs
    for epoch in range(params.epochs):
        own = batches[epoch * steps : (epoch + 1) * steps]
        assert [len(x) for x, _ in own] == [7, 7, 7, 7, 7, 1]
        clips = collections.Counter(window[0, 1] for x, _ in own for window in x)
        assert set(clips.values()) == {params.windows_per_clip}
        assert len(clips) == 12


def test_windows_come_from_all_of_a_clip_and_differ_between_epochs(toy_store):
    batches = batches_of(toy_store, toy_params(epochs=150))
    starts = collections.defaultdict(set)
    for x, _ in batches:
        for window in x:
            starts[window[0, 1]].add(int(window[0, 0]))
    for clip in toy_store.clips:
        if clip.split == "train":
            frames = toy_frames(clip)
            assert starts[frames[0, 1]] == set(range(len(frames) - 16 + 1))


def test_the_seed_decides_everything(toy_store):
    params = toy_params()
    assert_same_batches(batches_of(toy_store, params), batches_of(toy_store, params))
    other = batches_of(toy_store, toy_params(seed=1))
    assert not np.array_equal(batches_of(toy_store, params)[0][0], other[0][0])


@pytest.mark.parametrize("first_epoch", [1, 3])
def test_a_later_epoch_is_the_same_whether_or_not_the_earlier_ones_were_run(toy_store, first_epoch):
    params = toy_params()
    steps = steps_per_epoch(12, params)
    assert_same_batches(
        batches_of(toy_store, params)[first_epoch * steps :], batches_of(toy_store, params, first_epoch)
    )


def test_order_differs_between_epochs_and_genres_are_mixed(toy_store):
    params = toy_params(batch_size=36)
    first, second = (labels for _, labels in batches_of(toy_store, params)[:2])
    assert not np.array_equal(first, second)
    assert len(set(first[:12])) == 3


def test_a_store_too_big_for_memory_gives_windows_of_the_same_kind(toy_store, monkeypatch):
    monkeypatch.setattr(pipeline, "CACHE_BYTES", 0)
    monkeypatch.setattr(pipeline, "SHUFFLE_BYTES", 5 * 4 * DIMS * 16 * 3)
    params = toy_params(batch_size=7)
    batches = batches_of(toy_store, params)
    steps = steps_per_epoch(12, params)
    assert len(batches) == steps * params.epochs
    clips = collections.Counter(window[0, 1] for x, _ in batches[:steps] for window in x)
    assert set(clips.values()) == {params.windows_per_clip}
    assert_same_batches(batches[steps:], batches_of(toy_store, params, 1))


def test_small_blocks_hold_other_clips_in_other_epochs(toy_store, monkeypatch):
    monkeypatch.setattr(pipeline, "SHUFFLE_BYTES", 4 * 4 * DIMS * 16 * 3)
    params = toy_params(batch_size=12)
    firsts = [frozenset(x[:, 0, 1]) for x, _ in batches_of(toy_store, params)[:: steps_per_epoch(12, params)]]
    assert len(set(firsts)) > 1


@pytest.mark.parametrize("batch_size", [1, 5, 256])
def test_evaluation_gives_every_window_of_every_clip_once_and_drops_nothing(toy_store, batch_size):
    rows = toy_store.rows_of("test")
    found = collections.defaultdict(list)
    for windows, owners in evaluation_windows(toy_store, rows, DIMS, 16, batch_size):
        for window, owner in zip(windows.numpy(), owners.numpy(), strict=True):
            found[int(owner)].append(window)
    assert sorted(found) == sorted(rows)
    for row in rows:
        frames = toy_frames(toy_store.clips[row])
        expected = [frames[start : start + 16] for start in window_starts(len(frames), 16)]
        np.testing.assert_array_equal(found[row], expected)


def test_only_the_first_columns_are_given_where_the_kind_is_part_of_the_store(toy_store):
    windows, _ = next(iter(evaluation_windows(toy_store, toy_store.rows_of("test"), 13, 16)))
    assert windows.shape[1:] == (16, 13)
    np.testing.assert_array_equal(windows[0], toy_frames(toy_store.clips[toy_store.rows_of("test")[0]])[:16, :13])


def test_statistics_are_those_of_all_frames_of_the_given_clips_alone(toy_store):
    rows = toy_store.rows_of("train")
    frames = np.concatenate([toy_frames(toy_store.clips[row]) for row in rows]).astype(np.float64)
    mean, variance = frame_statistics(toy_store, rows, DIMS)
    np.testing.assert_allclose(mean, frames.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(variance, frames.var(axis=0), rtol=1e-6)


def test_labels_are_the_places_of_the_genres_in_alphabetical_order(toy_store):
    assert toy_store.genres == list(GENRES)
    assert [GENRES[label] for label in label_rows(toy_store)] == [clip.genre for clip in toy_store.clips]


def test_clips_shorter_than_a_window_are_refused_by_name(toy_store):
    with pytest.raises(StoreError, match=r"bebop\.00.*--window-frames"):
        training_windows(toy_store, toy_store.rows_of("train"), DIMS, toy_params(window_frames=21))
    with pytest.raises(StoreError, match="shorter than a window of 500 frames"):
        evaluation_windows(toy_store, toy_store.rows_of("test"), DIMS, 500)


def test_the_summary_says_what_the_pipeline_yields(toy_store):
    params = toy_params(batch_size=7)
    summary = json.loads(json.dumps(describe(toy_store, toy_store.rows_of("train"), DIMS, params)))
    batches = batches_of(toy_store, params)
    per_epoch = batches[: summary["steps_per_epoch"]]
    assert sum(len(x) for x, _ in per_epoch) == summary["windows_per_epoch"]
    assert list(batches[0][0].shape) == summary["windows"]["shape"]
    assert len(per_epoch[-1][0]) == summary["last_batch_size"]
    assert summary["clips"] == 12
    assert summary["genres"] == list(GENRES)


def test_splits_that_are_put_on_later_are_obeyed(toy_store):
    places = {"polka": "train", "zydeco": "test"}
    clips = [dataclasses.replace(clip, split=places.get(clip.genre, "")) for clip in toy_store.clips]
    changed = toy_store.with_clips(clips)
    # A genre without a place is no label.
    assert changed.genres == ["polka", "zydeco"]
    labels = np.concatenate([y for _, y in batches_of(changed, toy_params())])
    assert set(labels) == {changed.genres.index("polka")}
    assert toy_store.with_splits({}).genres == list(GENRES)


def test_several_shards_are_read_like_one(tmp_path):
    clips = [
        dataclasses.replace(clip, track=f"{clip.track[:-2]}{i}x{clip.track[-2:]}")
        for i in range(4)
        for clip in toy_clips()
    ]
    store = make_toy_store(tmp_path / "store", clips)
    assert len(store.shards) == 2
    owners = np.concatenate([o for _, o in evaluation_windows(store, store.rows_of("test"), DIMS, 16)])
    assert sorted(set(owners.tolist())) == store.rows_of("test")
