"""The split lists that ship are complete and have the leaks that their README states, and no other."""

import argparse
import collections
import csv
import dataclasses
import re
from pathlib import Path

import pytest

from keras_genre.clips import Clip
from keras_genre.datasets.index import add_groups
from keras_genre.datasets.lists import FAULT_FILTERED, PUBLISHED, list_of
from keras_genre.datasets.options import add_split_options, apply_split_options
from keras_genre.datasets.splits import check_split, fold_split, split_counts, split_from_csv
from keras_genre.errors import ParameterError, SplitError, SplitLeakError

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


REPEATED = [(3, 54), (5, 56), (8, 57), (10, 60), (13, 58), (41, 69), (73, 74), (80, 81, 82), (75, 91, 92)]
"""Numbers of the reggae tracks that are exact repetitions, by Sturm's catalogue."""


def places_of_repetitions(name, column):
    """For each set the places of those that a list names, by number."""
    places = {row["track"]: row[column] for row in rows_of(name)}
    tracks = [{number: f"reggae.{number:05d}" for number in each} for each in REPEATED]
    return [{number: places[track] for number, track in each.items() if track in places} for each in tracks]


def test_the_repetitions_are_where_the_readme_says():
    folds = places_of_repetitions("gtzan_artist_folds.csv", "fold")
    assert folds[0] == {3: "1", 54: "3"}
    assert [list(each) for each in folds[1:]] == [[each[0]] for each in REPEATED[1:]]
    assert "reggae.00054 in fold 3 repeats reggae.00003 in fold 1" in PUBLISHED["gtzan_artist_folds"].about

    filtered = places_of_repetitions("gtzan_fault_filtered.csv", "split")
    assert [list(each) for each in filtered] == [[each[-1]] for each in REPEATED]
    assert [list(each.values()) for each in filtered[:5]] == [["train"]] * 5
    of_352 = {row["split"] for row in rows_of("gtzan_fault_filtered.csv") if row["group"] == "352"}
    assert of_352 == {"train"}

    by_number = places_of_repetitions("gtzan_by_number.csv", "split")
    assert [each[number] for each, (number, _) in zip(by_number[:5], REPEATED[:5], strict=True)] == [
        *("test", "test", "test"),
        *("validation", "validation"),
    ]
    assert all(each[other] == "train" for each, (_, other) in zip(by_number[:5], REPEATED[:5], strict=True))


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


# By name, as commands take them.


def divided(clips, *flags, default=None):
    """Clips and notes that the flags make."""
    parser = argparse.ArgumentParser()
    add_split_options(parser, folds=True)
    return apply_split_options(clips, parser.parse_args([*flags]), default)


def bare(name="gtzan_fault_filtered.csv"):
    """The clips of a list, and nothing that it says of them."""
    return [Clip(row["track"], row["genre"]) for row in rows_of(name)]


@pytest.mark.parametrize("name", SPLIT_LISTS)
def test_a_name_and_a_path_mean_the_same_list(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    by_name = divided(bare(name), "--split-list", name.removesuffix(".csv"))
    assert by_name == divided(bare(name), "--split-list", str(FOLDER / name))
    # The artists come with the list.
    assert by_name[0] == clips_of(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gtzan_fault_filtered", ["fault-filtered", "138 in train (disco.00049, disco.00073) and test (disco.00069)"]),
        ("gtzan_fault_filtered_8", ["without blues and rock", "138 in train", "unknown for 43 of 730 clips"]),
        ("gtzan_by_number", ["does not separate artists", "flattering", "15 artist groups stand on two sides"]),
    ],
)
def test_what_a_published_split_shares_is_told_and_not_refused(name, words):
    clips, notes = divided(bare(f"{name}.csv"), "--split-list", name)
    assert all(word in " ".join(notes) for word in words)
    # Also later, by whoever gets the clips with their split; and by folds of what the test side leaves.
    assert divided(clips) == (clips, notes)
    _, folded = divided(clips, "--folds", "3", "--fold", "1")
    assert folded[0] == f"{notes[0]} Of what it has beside the test clips, fold 1 of 3 validates."
    assert "artist group" in folded[1]


def test_recordings_that_a_published_split_has_on_two_sides_are_told_too():
    clips, _ = divided(bare("gtzan_by_number.csv"), "--split-list", "gtzan_by_number")
    twice = {"pop.00000", "pop.00099"}
    clips = [dataclasses.replace(clip, sha256="0" * 64 if clip.track in twice else "") for clip in clips]
    assert any("byte for byte: train (pop.00099) and test (pop.00000)" in note for note in divided(clips)[1])


def test_the_default_list_is_for_clips_without_a_split_and_without_flags():
    clips, notes = divided(bare(), default=FAULT_FILTERED)
    assert clips == clips_of("gtzan_fault_filtered.csv")
    assert notes[0] == FAULT_FILTERED.about
    assert divided(clips, default=PUBLISHED["gtzan_by_number"])[0] == clips
    made, notes = divided(clips, "--fractions", "0.8", "0.1", "0.1", default=FAULT_FILTERED)
    assert made != clips
    assert FAULT_FILTERED.about not in notes


def test_a_split_of_ones_own_is_not_taken_for_a_published_one():
    clips = clips_of("gtzan_fault_filtered.csv")
    moved = [dataclasses.replace(clips[0], split="train" if clips[0].split != "train" else "test"), *clips[1:]]
    assert list_of(clips) == FAULT_FILTERED
    assert list_of(moved) is None
    assert list_of(bare()) is None
    with pytest.raises(SplitLeakError, match="138"):
        divided(moved)
    assert any("138" in note for note in divided(moved, "--allow-shared-groups")[1])


def test_a_copy_of_a_published_list_is_checked_like_any_other(tmp_path):
    copy = tmp_path / "mine.csv"
    copy.write_bytes((FOLDER / "gtzan_fault_filtered.csv").read_bytes())
    with pytest.raises(SplitLeakError, match="138"):
        divided(add_groups(bare(), copy), "--split-list", str(copy))


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_each_artist_fold_tests_and_a_quarter_of_the_others_validates(fold):
    clips, notes = divided(
        bare("gtzan_artist_folds.csv"), "--split-list", "gtzan_artist_folds", "--fold", str(fold), "--split-seed", "7"
    )
    folds = {row["track"]: int(row["fold"]) for row in rows_of("gtzan_artist_folds.csv")}
    assert all((clip.split == "test") == (folds[clip.track] == fold) for clip in clips)
    counts = {split: sum(genres.values()) for split, genres in split_counts(clips).items()}
    rest = 948 - counts["test"]
    assert abs(counts["validation"] - rest / 4) < 20
    assert check_split(clips) == []
    assert notes == [f"{PUBLISHED['gtzan_artist_folds'].about} Fold {fold} tests."]
    # Whoever gets the clips later is told the same.
    assert divided(clips) == (clips, notes)


@pytest.mark.parametrize(
    ("flags", "error", "words"),
    [
        (["--split-list", "gtzan_artist_folds"], ParameterError, "say with --fold N which of them tests"),
        (["--split-list", "gtzan_artist_folds", "--fold", "0"], ParameterError, "has the folds 1, 2, 3"),
        (["--split-list", "gtzan_fault_filtered", "--fold", "1"], ParameterError, "not a list of folds"),
        (["--fold", "1"], ParameterError, "--fold goes with --folds or with a --split-list of folds"),
        (["--split-list", "gtzan"], SplitError, "no name of a split list; these are gtzan_fault_filtered, "),
        (["--split-list", "gtzan_by_number", "--folds", "3"], ParameterError, "exclude each other"),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags, error, words):
    with pytest.raises(error, match=re.escape(words)):
        divided(bare("gtzan_artist_folds.csv"), *flags)


def test_a_list_without_places_is_refused(tmp_path):
    (tmp_path / "list.csv").write_text("track,genre\nblues.00000,blues\n")
    with pytest.raises(SplitError, match=r"no column split .* and no column fold"):
        divided(bare(), "--split-list", str(tmp_path / "list.csv"))


def test_the_readme_names_every_list_and_the_package_has_every_file():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert sorted(path.stem for path in FOLDER.glob("*.csv")) == sorted(PUBLISHED)
    assert all(f"`{name}.csv`" in text for name in PUBLISHED)
