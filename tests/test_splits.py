"""Splits keep artists and recordings whole, every genre in training, and say what they cannot separate."""

import collections
import dataclasses
import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_genre.clips import SPLITS, Clip
from keras_genre.datasets.splits import (
    absent_tracks,
    check_split,
    fold_split,
    grouped_folds,
    grouped_split,
    split_counts,
    split_from_csv,
    split_from_folds,
)
from keras_genre.errors import ParameterError, SplitError, SplitLeakError


def clips_of(*groups, genre="rock", split=""):
    """One clip for each group named."""
    return [Clip(f"{genre}.{number:05d}", genre, group=g, split=split) for number, g in enumerate(groups)]


@st.composite
def data_sets(draw):
    """Clips of few genres, groups that may span them, and few recordings that may stand twice."""
    rows = draw(
        st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 8), st.integers(0, 12)), min_size=1, max_size=40)
    )
    return [
        Clip(f"t{number:03d}", genre, group=f"g{group}" if group else "", sha256=f"{copy:064x}" if copy else "")
        for number, (genre, group, copy) in enumerate(rows)
    ]


shares = st.sampled_from(
    [(0.6, 0.2, 0.2), (0.8, 0.1, 0.1), (0.34, 0.33, 0.33), (0.7, 0.3, 0.0), (0.8, 0.0, 0.2), (1.0, 0.0, 0.0)]
)
seeds = st.integers(0, 5)


@given(data_sets(), shares, seeds)
def test_every_split_that_is_made_passes_the_check(clips, fractions, seed):
    check_split(grouped_split(clips, fractions, seed))


@given(data_sets(), st.integers(2, 4), seeds)
def test_every_fold_that_is_made_passes_the_check(clips, folds, seed):
    try:
        numbers = grouped_folds(clips, folds, seed)
    except SplitError:
        return
    for fold in range(folds):
        divided = fold_split(clips, folds, fold, seed)
        check_split(divided)
        validation = [clip.track for clip in divided if clip.split == "validation"]
        assert validation == [clip.track for clip, number in zip(clips, numbers, strict=True) if number == fold]


@given(data_sets(), st.integers(2, 3))
def test_folds_of_what_the_test_side_leaves_pass_the_check(clips, folds):
    divided = grouped_split(clips)
    try:
        folded = fold_split(divided, folds, 0)
    except SplitError:
        return
    check_split(folded)
    assert [c.track for c in folded if c.split == "test"] == [c.track for c in divided if c.split == "test"]


@given(data_sets(), shares, seeds)
def test_every_clip_is_on_one_side_and_otherwise_as_before(clips, fractions, seed):
    divided = grouped_split(clips, fractions, seed)
    assert [dataclasses.replace(clip, split="") for clip in divided] == clips
    used = {split for split, fraction in zip(SPLITS, fractions, strict=True) if fraction}
    assert {clip.split for clip in divided} <= used


@given(data_sets(), shares, seeds)
def test_training_has_every_genre(clips, fractions, seed):
    divided = grouped_split(clips, fractions, seed)
    assert {clip.genre for clip in divided if clip.split == "train"} == {clip.genre for clip in clips}


@given(data_sets(), shares, seeds, st.randoms(use_true_random=False))
def test_order_does_not_matter(clips, fractions, seed, generator):
    shuffled = generator.sample(clips, len(clips))
    assert set(grouped_split(shuffled, fractions, seed)) == set(grouped_split(clips, fractions, seed))


@given(data_sets(), shares, seeds)
def test_identical_recordings_are_never_separated(clips, fractions, seed):
    sides = collections.defaultdict(set)
    for clip in grouped_split(clips, fractions, seed):
        if clip.sha256:
            sides[clip.sha256].add(clip.split)
    assert all(len(where) == 1 for where in sides.values())


@given(st.lists(st.integers(1, 9), min_size=2, max_size=30), shares, seeds)
def test_no_side_exceeds_its_share_by_a_whole_group(sizes, fractions, seed):
    clips = clips_of(*(f"g{number}" for number, size in enumerate(sizes) for _ in range(size)))
    counts = split_counts(grouped_split(clips, fractions, seed))
    for split, fraction in zip(SPLITS, fractions, strict=True):
        assert counts[split]["rock"] <= fraction * len(clips) + max(sizes)


@given(st.integers(10, 60), seeds)
def test_clips_without_groups_are_divided_within_one_clip_of_the_shares(number, seed):
    counts = split_counts(grouped_split(clips_of(*[""] * number), seed=seed))
    for split, fraction in zip(SPLITS, (0.6, 0.2, 0.2), strict=True):
        assert abs(counts[split]["rock"] - fraction * number) < 1


@given(data_sets(), st.integers(2, 4), seeds, st.randoms(use_true_random=False))
def test_folds_do_not_depend_on_order(clips, folds, seed, generator):
    try:
        numbers = dict(zip(clips, grouped_folds(clips, folds, seed), strict=True))
    except SplitError:
        return
    assert set(numbers.values()) == set(range(folds))
    shuffled = generator.sample(clips, len(clips))
    assert dict(zip(shuffled, grouped_folds(shuffled, folds, seed), strict=True)) == numbers


@settings(max_examples=20)
@given(st.integers(20, 100), st.integers(2, 10), seeds)
def test_folds_of_single_clips_differ_by_one_at_most(number, folds, seed):
    clips = [*clips_of(*[""] * number), *clips_of(*[""] * (number + 3), genre="jazz")]
    sizes = collections.Counter(grouped_folds(clips, folds, seed))
    assert max(sizes.values()) - min(sizes.values()) <= 1
    for genre in ("rock", "jazz"):
        of_genre = [clip.genre == genre for clip in clips]
        sizes = collections.Counter(
            number for number, is_it in zip(grouped_folds(clips, folds, seed), of_genre, strict=True) if is_it
        )
        assert max(sizes.values()) - min(sizes.values()) <= 1


def test_the_seed_decides_among_equals():
    clips = clips_of(*[""] * 30)
    assert grouped_split(clips, seed=1) == grouped_split(clips, seed=1)
    assert grouped_split(clips, seed=1) != grouped_split(clips, seed=2)


@pytest.mark.parametrize(
    ("groups", "sides"),
    [
        (["a"], {"train": 1}),
        (["a", "b"], {"train": 1, "test": 1}),
        (["a", "b", "c"], {"train": 1, "test": 1, "validation": 1}),
        (["a", "b", "c", "d"], {"train": 2, "test": 1, "validation": 1}),
        (["a"] * 6 + ["b"] * 2 + ["c"] * 2, {"train": 6, "test": 2, "validation": 2}),
        (["a"] * 9 + ["b"], {"train": 9, "test": 1}),
    ],
)
def test_few_groups_go_to_training_then_test_then_validation(groups, sides):
    divided = grouped_split(clips_of(*groups))
    assert collections.Counter(clip.split for clip in divided) == sides


def test_a_genre_of_one_group_is_divided_by_clip_and_named():
    clips = [*clips_of(*["a"] * 10, genre="blues"), *clips_of(*"bcdefghijk")]
    divided = grouped_split(clips)
    assert split_counts(divided) == {
        "train": {"blues": 6, "rock": 6},
        "validation": {"blues": 2, "rock": 2},
        "test": {"blues": 2, "rock": 2},
    }
    (warning,) = check_split(divided)
    assert "blues" in warning
    assert "rock" not in warning


def test_a_group_of_one_recording_is_not_divided():
    clips = [dataclasses.replace(clip, sha256="0" * 64) for clip in clips_of(*["a"] * 10)]
    assert {clip.split for clip in grouped_split(clips)} == {"train"}


def test_one_clip_of_a_genre_follows_its_artist():
    clips = [Clip("odd", "jazz", group="a"), *clips_of("a", "a", "b", "c", "d")]
    for seed in range(10):
        sides = {clip.split for clip in grouped_split(clips, seed=seed) if clip.group == "a"}
        assert sides == {"train"}


def test_identical_recordings_join_groups():
    clips = clips_of("a", "a", "b", "b", "c", "d", "e", "f")
    clips[1] = dataclasses.replace(clips[1], sha256="1" * 64)
    clips[2] = dataclasses.replace(clips[2], sha256="1" * 64)
    for seed in range(10):
        divided = grouped_split(clips, seed=seed)
        assert len({clip.split for clip in divided[:4]}) == 1


@pytest.mark.parametrize(
    "fractions", [(0.6, 0.2), (0.6, 0.2, 0.3), (1.2, -0.1, -0.1), (60, 20, 20), (float("nan"), 0.5, 0.5)]
)
def test_fractions_that_cannot_be_are_refused(fractions):
    with pytest.raises(ParameterError, match="sum to 1"):
        grouped_split(clips_of("a", "b"), fractions)


def test_nothing_is_divided_into_nothing():
    assert grouped_split([]) == []
    assert check_split([]) == []
    assert split_counts([]) == {"train": {}, "validation": {}, "test": {}}


def test_folds_that_cannot_be_are_refused():
    clips = clips_of("a", "b", "c")
    with pytest.raises(ParameterError, match="at least 2"):
        grouped_folds(clips, 1)
    with pytest.raises(SplitError, match="too few artist groups for 4"):
        grouped_folds(clips, 4)
    for fold in (-1, 3):
        with pytest.raises(ParameterError, match="0 to 2"):
            fold_split(clips, 3, fold)


def test_clips_left_out_on_purpose_stay_out_of_folds():
    clips = [
        *clips_of("a", "b", "c", split="train"),
        Clip("faulty", "rock"),
        Clip("kept", "rock", split="test"),
    ]
    divided = fold_split(clips, 3, 0)
    assert [clip.split for clip in divided[3:]] == ["", "test"]
    assert collections.Counter(clip.split for clip in divided[:3]) == {"train": 2, "validation": 1}


def test_a_shared_group_is_refused_by_name():
    clips = [*clips_of("abba", "abba", "b", split="train"), Clip("x", "rock", group="abba", split="test")]
    with pytest.raises(SplitLeakError) as caught:
        check_split(clips)
    message = str(caught.value)
    for part in ("1 artist group stands", "abba", "train (rock.00000, rock.00001)", "test (x)"):
        assert part in message
    assert "--allow-shared-groups" in message
    (warning,) = check_split(clips, allow_shared_groups=True)
    assert "abba" in warning


def test_many_shared_groups_are_counted():
    names = [f"g{number:02d}" for number in range(25)]
    clips = [*clips_of(*names, split="train"), *clips_of(*names, split="validation")]
    with pytest.raises(SplitLeakError, match=r"25 artist groups .* and 15 more") as caught:
        check_split(clips)
    assert "g09" in str(caught.value)
    assert "g10" not in str(caught.value)


def test_identical_recordings_are_refused_whatever_is_allowed():
    clips = [
        Clip("a", "rock", group="1", split="train", sha256="0" * 64),
        Clip("b", "rock", group="2", split="test", sha256="0" * 64),
    ]
    for allowed in (False, True):
        with pytest.raises(SplitLeakError, match=r"byte for byte: train \(a\) and test \(b\)"):
            check_split(clips, allow_shared_groups=allowed)


def test_identical_recordings_may_be_told_instead(tmp_path):
    clips = [
        Clip("a", "rock", group="1", split="train", sha256="0" * 64),
        Clip("b", "rock", group="2", split="test", sha256="0" * 64),
    ]
    assert check_split(clips, allow_copies=True) == [
        "1 recording stands on two sides of the split, byte for byte: train (a) and test (b)."
    ]


def test_the_exception_does_not_cover_groups_that_could_be_separated():
    clips = [*clips_of("a", "a", "b", split="train"), Clip("x", "rock", group="a", split="test")]
    with pytest.raises(SplitLeakError, match="group"):
        check_split(clips)


def test_unassigned_clips_share_what_they_like():
    clips = [*clips_of("a", "b", split="train"), Clip("x", "rock", group="a", sha256="0" * 64)]
    assert check_split(clips) == []


def test_unknown_groups_are_counted():
    clips = [*clips_of("a", "", "", split="train"), Clip("x", "rock", split="test")]
    assert check_split(clips) == ["artist groups are unknown for 3 of 4 clips: the split may not separate artists."]


def test_counts_name_every_genre_on_every_side():
    clips = [Clip("a", "rock", split="train"), Clip("b", "jazz")]
    assert split_counts(clips) == {
        "train": {"jazz": 0, "rock": 1},
        "validation": {"jazz": 0, "rock": 0},
        "test": {"jazz": 0, "rock": 0},
        "": {"jazz": 1, "rock": 0},
    }


def test_a_list_assigns_its_tracks_and_leaves_the_others_out(tmp_path):
    path = tmp_path / "split.csv"
    path.write_text("track,split\nrock.00001,test\nrock.00000,train\ngone,train\nfaulty,\n")
    clips = clips_of("a", "b", "c", split="validation")
    assert [clip.split for clip in split_from_csv(clips, path)] == ["train", "test", ""]
    assert absent_tracks(clips, path) == ["gone"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("track,split\nelse,train\n", "names none of the 2 tracks .* 'else'.* 'rock.00000'"),
        ("track,split\n", "names none"),
        ("track,split\nrock.00000,train\nrock.00001,valid\n", "line 3: split 'valid'"),
        ("track,place\nrock.00000,train\n", "no column split"),
        ("track,split\nrock.00000,train\nrock.00000,test\n", "line 3: track 'rock.00000' stands in line 2"),
        ("track,split\n,train\n", "line 2: no track"),
        ("", "no column track, split"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(tmp_path, text, message):
    path = tmp_path / "split.csv"
    path.write_text(text)
    with pytest.raises(SplitError, match=message):
        split_from_csv(clips_of("a", "b"), path)


@given(data_sets(), st.integers(1, 3), seeds)
def test_a_fold_of_a_list_tests_and_the_rest_is_divided_without_a_common_artist(tmp_path_factory, clips, fold, seed):
    path = tmp_path_factory.getbasetemp() / "folds.csv"
    numbers = {clip.track: 1 + int(hashlib.sha256(clip.track.encode()).hexdigest(), 16) % 4 for clip in clips}
    # The fourth is left out, one way or another.
    rows = [f"{track},{number if number < 4 else ''}" for track, number in numbers.items() if number < 4 or fold == 2]
    path.write_text("\n".join(["track,fold", *rows, f"gone,{fold}"]) + "\n")
    if not any(number < 4 for number in numbers.values()):
        return
    divided = split_from_folds(clips, path, fold, seed)
    assert [dataclasses.replace(clip, split="") for clip in divided] == clips
    for clip in divided:
        number = numbers[clip.track]
        wanted = {""} if number == 4 else {"test"} if number == fold else {"train", "validation"}
        assert clip.split in wanted
    check_split([clip for clip in divided if clip.split != "test"])


def test_a_quarter_of_the_other_folds_validates(tmp_path):
    clips = clips_of(*(f"g{number}" for number in range(60)))
    rows = [f"{clip.track},{1 + number % 3}\n" for number, clip in enumerate(clips)]
    (tmp_path / "folds.csv").write_text("track,fold\n" + "".join(rows))
    for fold in (1, 2, 3):
        counts = split_counts(split_from_folds(clips, tmp_path / "folds.csv", fold))
        assert {split: genres["rock"] for split, genres in counts.items()} == {
            "train": 30,
            "validation": 10,
            "test": 20,
        }


@pytest.mark.parametrize(
    ("text", "fold", "error", "message"),
    [
        ("track,fold\nrock.00000,1\nrock.00001,2\n", 3, ParameterError, "--fold 3: .* has the folds 1, 2"),
        ("track,fold\nrock.00000,1\nrock.00001,two\n", 1, SplitError, "line 3: fold 'two' is no whole number"),
        ("track,fold\nelse,1\n", 1, SplitError, "names none of the 2 tracks"),
        ("track,fold\nrock.00000,\n", 1, SplitError, "names none of the 2 tracks"),
        ("track,split\nrock.00000,train\n", 1, SplitError, "no column fold"),
    ],
)
def test_folds_that_cannot_be_used_are_refused(tmp_path, text, fold, error, message):
    (tmp_path / "folds.csv").write_text(text)
    with pytest.raises(error, match=message):
        split_from_folds(clips_of("a", "b"), tmp_path / "folds.csv", fold)


def test_a_missing_list_is_refused(tmp_path):
    with pytest.raises(SplitError, match="no such file"):
        split_from_csv(clips_of("a"), tmp_path / "none.csv")


def test_a_large_data_set_is_divided_fast():
    generator = random.Random(0)
    clips = [
        Clip(f"{number:06d}", f"genre{number % 16}", group=f"g{generator.randrange(4000)}") for number in range(20000)
    ]
    assert {clip.split for clip in grouped_split(clips)} == set(SPLITS)
