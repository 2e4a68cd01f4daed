"""What is known of clips survives CSV, and a CSV that cannot be right is refused with the line."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_genre.clips import COLUMNS, Clip, clips_from_csv, clips_to_csv, genres_of
from keras_genre.errors import DatasetError

WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=8)
CLIPS = st.builds(
    Clip,
    track=WORDS,
    genre=WORDS,
    file=WORDS,
    seconds=st.integers(0, 10**10).map(lambda microseconds: microseconds / 10**6),
    group=WORDS,
    split=st.sampled_from(["", "train", "validation", "test"]),
    sha256=WORDS,
)

HEADER = ",".join(COLUMNS)


@given(st.lists(CLIPS, unique_by=lambda clip: clip.track))
def test_clips_come_back_from_csv_as_they_were(clips):
    assert clips_from_csv(clips_to_csv(clips), "clips.csv") == clips


def test_any_csv_reader_finds_the_values_by_name():
    text = clips_to_csv([Clip("a,b", 'the "jazz"', "jazz/a.wav", 1.25, "7", "test", "00ff", "noise")])
    assert list(csv.DictReader(io.StringIO(text))) == [
        {
            "track": "a,b",
            "genre": 'the "jazz"',
            "file": "jazz/a.wav",
            "seconds": "1.250000",
            "group": "7",
            "split": "test",
            "sha256": "00ff",
            "variant": "noise",
        }
    ]


def test_columns_may_be_in_any_order_and_more():
    text = "note,variant,sha256,split,group,seconds,file,genre,track\nx,,00ff,test,7,1.5,jazz/a.wav,jazz,a\n"
    assert clips_from_csv(text, "clips.csv") == [Clip("a", "jazz", "jazz/a.wav", 1.5, "7", "test", "00ff")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f"clips.csv: no column {', '.join(COLUMNS)}"),
        ("track,genre\na,jazz\n", "clips.csv: no column file, seconds, group, split, sha256, variant"),
        (f"{HEADER}\na,jazz,,long,,,,\n", "clips.csv, line 2: could not convert string to float: 'long'"),
        (f"{HEADER}\na,jazz,,1\n", "clips.csv, line 2: fewer values than columns"),
        (f"{HEADER}\na,jazz,,1,,,,\nb,jazz\n", "clips.csv, line 3: fewer values than columns"),
        (f"{HEADER}\na,jazz,,1,,,,\na,rock,,1,,,,\n", "clips.csv, line 3: track 'a' stands twice"),
    ],
)
def test_a_csv_that_cannot_be_right_is_refused_with_the_line(text, message):
    with pytest.raises(DatasetError) as caught:
        clips_from_csv(text, "clips.csv")
    assert str(caught.value) == message


def test_a_value_without_end_is_refused():
    with pytest.raises(DatasetError, match=r"^clips.csv, line \d+: field larger than"):
        clips_from_csv(f'{HEADER}\na,jazz,"{"x" * 200_000}\n', "clips.csv")


def test_genres_are_those_that_occur_in_alphabetical_order():
    assert genres_of([Clip("1", "rock"), Clip("2", "Jazz"), Clip("3", "blues"), Clip("4", "rock")]) == [
        "Jazz",
        "blues",
        "rock",
    ]
    assert genres_of([]) == []
