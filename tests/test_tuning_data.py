"""A search is given clips among which no test clip is, and folds that keep artists apart."""

import dataclasses

import numpy as np
import pytest
from searches import clips_without_test, make_store_with_copies
from toys import GENRES, make_toy_store, toy_clips, toy_frames

from keras_genre.errors import SplitError, SplitLeakError, StoreError
from keras_genre.params import FrontEndParams
from keras_genre.store import StoreHeader, open_store
from tuning.data import (
    SearchData,
    check_folds,
    copy_for_search,
    describe_data,
    feature_stores,
    make_folds,
    search_clips,
)


def test_the_copy_for_a_search_holds_no_byte_of_a_test_clip(toy_store, tmp_path):
    copy = copy_for_search(toy_store, search_clips(toy_store.clips), tmp_path / "data" / "spectral33")
    assert {clip.track for clip in copy.clips} == {clip.track for clip in clips_without_test()}
    content = b"".join(path.read_bytes() for path in copy.path.rglob("*") if path.is_file())
    for clip in toy_clips():
        is_there = clip.track.encode() in content or toy_frames(clip).tobytes() in content
        assert is_there == (clip.split != "test")
    for clip, frames in copy.read():
        np.testing.assert_array_equal(frames, toy_frames(clip))


def test_the_copies_of_test_clips_are_left_out_too(tmp_path):
    store = make_store_with_copies(tmp_path / "store")
    seen = search_clips(store.clips)
    assert {clip.split for clip in toy_clips() if clip.track in {c.original_track for c in seen}} == {
        "train",
        "validation",
    }
    assert sum(bool(clip.variant) for clip in seen) == 2 * len(clips_without_test())


def test_altered_copies_train_in_the_folds_where_their_originals_do(tmp_path):
    store = make_store_with_copies(tmp_path / "store")
    clips = search_clips(store.clips)
    data = SearchData((copy_for_search(store, clips, tmp_path / "data" / "x"),), make_folds(clips, 3))
    for fold in range(3):
        divided = data.fold("spectral33", fold)
        sides = {clip.track: clip.split for clip in divided.clips}
        for clip in divided.clips:
            if clip.variant:
                assert clip.split == ("train" if sides[clip.original_track] == "train" else "")


def test_quantised_features_stay_what_they_were(tmp_path):
    header = StoreHeader.of(FrontEndParams(), "uint8")
    store = make_toy_store(tmp_path / "store", header=header)
    copy = copy_for_search(store, search_clips(store.clips), tmp_path / "data" / "x")
    before = {clip.track: frames for clip, frames in store.read()}
    for clip, frames in copy.read():
        np.testing.assert_array_equal(frames, before[clip.track])


def test_every_clip_validates_once_and_no_artist_is_on_both_sides_of_a_fold():
    clips = [
        dataclasses.replace(clip, group=f"{clip.genre} {int(clip.track[-2:]) // 2}") for clip in clips_without_test()
    ]
    folds = make_folds(clips, 3)
    assert len(folds) == 3
    for clip in clips:
        assert sorted(fold[clip.track] for fold in folds) == ["train", "train", "validation"]
    for fold in folds:
        groups = {side: {clip.group for clip in clips if fold[clip.track] == side} for side in ("train", "validation")}
        assert not groups["train"] & groups["validation"]


def test_another_seed_makes_other_folds():
    one, other = (make_folds(clips_without_test(), 3, seed) for seed in (0, 5))
    assert one == make_folds(clips_without_test(), 3)
    assert one != other
    assert set(one[0]) == set(other[0])


def test_a_genre_of_one_artist_in_the_folds_is_noted_once():
    one_artist = [
        dataclasses.replace(clip, group="one" if clip.genre == GENRES[0] else clip.track)
        for clip in clips_without_test()
    ]
    (note,) = check_folds(one_artist, make_folds(one_artist, 3))
    assert note.startswith(f"folds that validate: {GENRES[0]}: the clips of each are of one artist group")
    apart = [dataclasses.replace(clip, group=clip.track) for clip in one_artist]
    assert check_folds(apart, make_folds(apart, 3)) == []


def test_folds_that_divide_an_artist_are_refused():
    clips = [
        dataclasses.replace(clip, group=f"{clip.genre} {int(clip.track[-2:]) % 2}") for clip in clips_without_test()
    ]
    fold = {clip.track: "train" for clip in clips} | {clips[0].track: "validation"}
    with pytest.raises(SplitLeakError, match="on two sides"):
        check_folds(clips, [fold])


def test_without_folds_the_split_of_the_data_validates():
    (fold,) = make_folds(clips_without_test(), 0)
    assert fold == {clip.track: clip.split for clip in clips_without_test()}
    with pytest.raises(StoreError, match="--folds"):
        make_folds([clip for clip in clips_without_test() if clip.split == "train"], 0)


def test_too_few_groups_are_refused():
    with pytest.raises(SplitError):
        make_folds([dataclasses.replace(clip, group="one") for clip in clips_without_test()][:3], 4)


def test_a_copy_is_written_once_and_one_of_other_clips_is_refused(toy_store, tmp_path):
    clips = search_clips(toy_store.clips)
    first = copy_for_search(toy_store, clips, tmp_path / "data" / "x")
    written = (first.path / "store.json").stat().st_mtime_ns
    again = copy_for_search(toy_store, clips, tmp_path / "data" / "x")
    assert (again.path / "store.json").stat().st_mtime_ns == written
    with pytest.raises(StoreError, match="other clips"):
        copy_for_search(toy_store, clips[1:], tmp_path / "data" / "x")


def test_stores_side_by_side_must_hold_the_same_clips(tmp_path):
    make_toy_store(tmp_path / "spectral33")
    log_mel = StoreHeader.of(FrontEndParams("log_mel128"))
    make_toy_store(tmp_path / "log_mel128", header=log_mel)
    kinds = ["log_mel128", "spectral33"]
    assert [s.header.kind for s in feature_stores(tmp_path, "log_mel128", kinds)] == kinds
    assert [s.header.kind for s in feature_stores(tmp_path, "log_mel128", ["mfcc13"])] == kinds
    assert [s.header.kind for s in feature_stores(tmp_path, "mfcc13")] == ["spectral33"]
    make_toy_store(tmp_path / "other", toy_clips()[:5], StoreHeader("mine", 3, 0.1, None))
    assert [s.header.kind for s in feature_stores(tmp_path, "log_mel128", kinds)] == kinds
    with pytest.raises(StoreError, match="other clips"):
        feature_stores(tmp_path, "log_mel128", ["mine"])


def test_what_identifies_the_data_changes_with_features_clips_and_folds(toy_store, tmp_path):
    clips = search_clips(toy_store.clips)
    folds = make_folds(clips, 3)
    known = describe_data([toy_store], clips, folds)
    assert describe_data([open_store(toy_store.path)], list(reversed(clips)), folds) == known
    assert describe_data([toy_store], clips[1:], folds) != known
    assert describe_data([toy_store], clips, make_folds(clips, 2)) != known
    relabelled = [dataclasses.replace(clip, genre=GENRES[0]) for clip in clips]
    assert describe_data([toy_store], relabelled, folds) != known
    other = make_toy_store(tmp_path / "other", header=StoreHeader.of(FrontEndParams(), "float16"))
    assert describe_data([other], clips, folds) != known
