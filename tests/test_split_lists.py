"""The split lists that ship are complete and have the leaks that their README states, and no other."""

import collections
import csv
from pathlib import Path

import pytest

from keras_genre.clips import Clip
from keras_genre.datasets.index import add_groups
from keras_genre.datasets.splits import check_split, fold_split, split_counts, split_from_csv
from keras_genre.errors import SplitLeakError

FOLDER = Path(__file__).parents[1] / "data" / "splits"
EIGHT = ["classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae"]
ALL = sorted([*EIGHT, "blues", "rock"])
SPLIT_LISTS = ["gtzan_fault_filtered.csv", "gtzan_fault_filtered_8.csv", "gtzan_by_number.csv"]


def rows_of(name):
    with open(FOLDER / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def clips_of(name):
    """The clips of a list, with the groups and the split that it gives them."""
    clips = [Clip(row["track"], row["genre"]) for row in rows_of(name)]
    return split_from_csv(add_groups(clips, FOLDER / name), FOLDER / name)


def sums(name):
    return [sum(genres.values()) for genres in split_counts(clips_of(name)).values()]


@pytest.mark.parametrize("name", [*SPLIT_LISTS, "gtzan_artist_folds.csv"])
def test_rows_are_ordered_unique_and_named_after_their_genre(name):
    rows = rows_of(name)
    tracks = [row["track"] for row in rows]
    assert tracks == sorted(set(tracks))
    assert all(row["track"] == f"{row['genre']}.{int(row['track'][-5:]):05d}" for row in rows)
    assert all(row["group"] == "" or row["group"].isdecimal() for row in rows)


def test_fault_filtered_is_443_197_290_of_ten_genres():
    assert sums("gtzan_fault_filtered.csv") == [443, 197, 290]
    counts = split_counts(clips_of("gtzan_fault_filtered.csv"))
    assert all(list(genres) == ALL and min(genres.values()) > 0 for genres in counts.values())


def test_fault_filtered_8_is_its_part_without_blues_and_rock():
    assert rows_of("gtzan_fault_filtered_8.csv") == [
        row for row in rows_of("gtzan_fault_filtered.csv") if row["genre"] in EIGHT
    ]
    assert sums("gtzan_fault_filtered_8.csv") == [353, 150, 227]


@pytest.mark.parametrize("name", ["gtzan_fault_filtered.csv", "gtzan_fault_filtered_8.csv"])
def test_fault_filtered_has_one_leak_and_the_check_names_it(name):
    clips = clips_of(name)
    with pytest.raises(SplitLeakError, match="1 artist group ") as caught:
        check_split(clips)
    assert "138 in train (disco.00049, disco.00073) and test (disco.00069)" in str(caught.value)
    shared, unknown = check_split(clips, allow_shared_groups=True)
    assert "138" in shared
    assert f"unknown for 43 of {len(clips)} clips" in unknown


def test_by_number_has_70_20_and_10_of_each_of_eight_genres():
    assert split_counts(clips_of("gtzan_by_number.csv")) == {
        "train": dict.fromkeys(EIGHT, 70),
        "validation": dict.fromkeys(EIGHT, 20),
        "test": dict.fromkeys(EIGHT, 10),
    }
    sides = {clip.track: clip.split for clip in clips_of("gtzan_by_number.csv")}
    assert [sides[f"pop.{number:05d}"] for number in (0, 9, 10, 29, 30, 99)] == [
        "test",
        "test",
        "validation",
        "validation",
        "train",
        "train",
    ]


def test_by_number_does_not_separate_artists():
    clips = clips_of("gtzan_by_number.csv")
    with pytest.raises(SplitLeakError, match="15 artist groups stand"):
        check_split(clips)
    seen = {clip.group for clip in clips if clip.split != "test" and clip.group}
    assert sum(clip.group in seen for clip in clips if clip.split == "test") == 37


def test_published_folds_separate_artists():
    rows = rows_of("gtzan_artist_folds.csv")
    assert collections.Counter(row["fold"] for row in rows) == {"1": 315, "2": 316, "3": 317}
    folds_of_group = collections.defaultdict(set)
    for row in rows:
        folds_of_group[row["group"]].add(row["fold"])
    assert "" not in folds_of_group
    assert len(folds_of_group) == 412
    assert all(len(folds) == 1 for folds in folds_of_group.values())


def test_lists_agree_on_groups():
    groups = {row["track"]: row["group"] for row in rows_of("gtzan_artist_folds.csv")}
    for name in SPLIT_LISTS:
        assert all(row["group"] == groups.get(row["track"], "") for row in rows_of(name))


def test_readme_states_the_counts():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for genre, *sides in zip(ALL, *(g.values() for g in split_counts(clips_of(SPLIT_LISTS[0])).values()), strict=True):
        assert f"| {genre} | {' | '.join(map(str, sides))} | {sum(sides)} |" in text


def test_folds_of_gtzan_keep_every_artist_whole():
    clips = [clip for clip in clips_of("gtzan_fault_filtered.csv") if clip.split != "test"]
    for fold in range(5):
        divided = fold_split(clips, 5, fold)
        (warning,) = check_split(divided)
        assert "unknown" in warning
        assert 120 <= sum(clip.split == "validation" for clip in divided) <= 136
