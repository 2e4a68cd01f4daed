"""A data set is found by its name or by its folder, with the genres, artists and splits that were published for it."""

import collections
import csv
import json
import re
import shutil

import pytest
import soundfile
from copies import fma_file, write_audio, write_fma_table, write_gtzan

from keras_genre import evaluate, precompute, train
from keras_genre.datasets import catalogue
from keras_genre.datasets.fma import read_tracks
from keras_genre.datasets.gtzan import GENRES
from keras_genre.datasets.lists import FAULT_FILTERED, FOLDER
from keras_genre.datasets.options import apply_split_options
from keras_genre.datasets.sources import find_source
from keras_genre.errors import DatasetError, ParameterError
from keras_genre.store import open_store

TRACKS = ("blues.00000", "jazz.00002", "rock.00099")
ROWS = [
    (2, "Hip-Hop", 1, "training", "small"),
    (5, "Hip-Hop", 1, "training", "small"),
    (10, "Pop", 6, "validation", "small"),
    (140, "Folk", 54, "test", "small"),
    (155066, "Rock", 9, "test", "small"),
    (3, "Hip-Hop", 1, "training", "medium"),
    (20, "", 4, "training", "large"),
]


def found_in(folder, kind="auto"):
    return {clip.track: clip for clip in find_source(str(folder), kind).index.clips}


# GTZAN.


@pytest.mark.parametrize(
    ("named", "layout", "suffix"),
    [
        ("genres", "genres", ".au"),
        (".", "genres", ".au"),
        (".", "genres_original", ".wav"),
        ("genres_original", "genres_original", ".wav"),
        (".", "Data/genres_original", ".wav"),
        ("Data", "Data/genres_original", ".wav"),
        ("my music", "my music", ".flac"),
    ],
)
def test_gtzan_is_recognised_in_the_usual_layouts(tmp_path, named, layout, suffix):
    write_gtzan(tmp_path / layout, TRACKS, suffix, seconds=0.2)
    (tmp_path / layout / "jazz" / "jazz.mf").write_text("a list of another program")
    (tmp_path / "Data" / "images_original" / "jazz").mkdir(parents=True)
    source = find_source(str(tmp_path / named))
    assert [clip.track for clip in source.index.clips] == list(TRACKS)
    assert [clip.genre for clip in source.index.clips] == ["blues", "jazz", "rock"]
    assert source.default_list == FAULT_FILTERED
    assert source.notes == [f"{source.index.root} is taken as GTZAN"]
    assert source.index.failures == []
    assert source.index.strays == ["jazz/jazz.mf"]


def test_the_artists_of_gtzan_are_those_of_the_lists(tmp_path):
    with open(FOLDER / "gtzan_artist_folds.csv", newline="", encoding="utf-8") as file:
        groups = {row["track"]: row["group"] for row in csv.DictReader(file)}
    clips = found_in(write_gtzan(tmp_path, (*TRACKS, "jazz.00099", "disco.00050"), seconds=0.2))
    assert {track: clip.group for track, clip in clips.items()} == {track: groups.get(track, "") for track in clips}
    assert clips["blues.00000"].group == "0"


@pytest.mark.parametrize(
    "file", ["rock/my song.wav", "polka/polka.00000.wav", "jazz/rock.00000.wav", "rock/rock.1.wav"]
)
def test_a_folder_that_is_not_just_gtzan_is_a_folder_of_genres(tmp_path, file):
    write_gtzan(tmp_path, TRACKS, seconds=0.2)
    write_audio(tmp_path / file, 0.2)
    source = find_source(str(tmp_path))
    assert len(source.index.clips) == 4
    assert source.default_list is None
    assert source.notes == []
    assert all(clip.group == "" for clip in source.index.clips)


def test_the_flag_says_what_a_folder_is(tmp_path):
    write_gtzan(tmp_path / "genres", TRACKS, seconds=0.2)
    assert find_source(str(tmp_path / "genres"), "folder").default_list is None
    write_audio(tmp_path / "genres" / "rock" / "my song.wav", 0.2)
    source = find_source(str(tmp_path), "gtzan")
    assert [clip.track for clip in source.index.clips] == list(TRACKS)
    assert source.index.strays == ["rock/my song.wav"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no GTZAN here: tracks such as blues/blues"):
        find_source(str(tmp_path / "empty"), "gtzan")


def test_one_of_two_files_of_a_track_is_taken(tmp_path):
    write_gtzan(tmp_path, TRACKS, ".au", seconds=0.2)
    write_gtzan(tmp_path, TRACKS[:1], ".wav", seconds=0.2)
    source = find_source(str(tmp_path))
    assert [clip.track for clip in source.index.clips] == list(TRACKS)
    assert source.index.strays == ["blues/blues.00000.wav"]


def test_a_corrupt_clip_of_gtzan_is_named(tmp_path):
    write_gtzan(tmp_path, TRACKS, seconds=0.2)
    (tmp_path / "jazz" / "jazz.00054.au").write_bytes(bytes(1000))
    source = find_source(str(tmp_path))
    assert [failure.file for failure in source.index.failures] == ["jazz/jazz.00054.au"]
    assert len(source.index.clips) == 3


# FMA.


def write_fma(folder, table="fma_metadata/tracks.csv", audio="fma_small", numbers=(2, 5, 10, 140, 155066)):
    write_fma_table(folder / table, ROWS)
    for number in numbers:
        write_audio(folder / audio / fma_file(number), 0.5, seed=number)


@pytest.mark.parametrize(
    ("named", "table", "audio"),
    [
        (".", "fma_metadata/tracks.csv", "fma_small"),
        ("fma_small", "fma_metadata/tracks.csv", "fma_small"),
        (".", "tracks.csv", "fma_small"),
        ("fma_small", "fma_small/fma_metadata/tracks.csv", "fma_small"),
        (".", "fma_metadata/tracks.csv", "."),
        (".", "tracks.csv", "."),
    ],
)
def test_fma_is_recognised_in_the_usual_layouts(tmp_path, named, table, audio):
    write_fma(tmp_path, table, audio)
    (tmp_path / audio / "001").mkdir()
    source = find_source(str(tmp_path / named))
    assert [(clip.track, clip.genre, clip.group, clip.split, clip.file) for clip in source.index.clips] == [
        ("000002", "Hip-Hop", "1", "train", "000/000002.mp3"),
        ("000005", "Hip-Hop", "1", "train", "000/000005.mp3"),
        ("000010", "Pop", "6", "validation", "000/000010.mp3"),
        ("000140", "Folk", "54", "test", "000/000140.mp3"),
        ("155066", "Rock", "9", "test", "155/155066.mp3"),
    ]
    assert source.index.strays == []
    assert source.default_list is None


def test_what_the_table_of_fma_does_not_name_is_passed_over_and_what_is_not_there_is_counted(tmp_path):
    write_fma(tmp_path, numbers=(2, 3, 10))
    source = find_source(str(tmp_path))
    assert [clip.track for clip in source.index.clips] == ["000002", "000010"]
    assert source.index.strays == ["000/000003.mp3"]
    assert any("3 of the 5 tracks of FMA-small are not there" in note for note in source.notes)


def test_a_recording_that_fma_has_on_two_sides_is_left_out_of_the_earlier_one(tmp_path):
    write_fma(tmp_path)
    audio = tmp_path / "fma_small"
    shutil.copyfile(audio / fma_file(140), audio / fma_file(5))
    shutil.copyfile(audio / fma_file(140), audio / fma_file(10))
    source = find_source(str(tmp_path))
    splits = {clip.track: clip.split for clip in source.index.clips}
    assert splits == {"000002": "train", "000005": "", "000010": "", "000140": "test", "155066": "test"}
    assert any("000005, 000010" in note for note in source.notes)


def test_fma_without_its_table_is_refused_with_where_it_belongs(tmp_path):
    write_audio(tmp_path / "fma_small" / fma_file(2), 0.5)
    with pytest.raises(DatasetError, match=r"unpack fma_metadata.zip beside it.*fma_metadata/tracks.csv"):
        find_source(str(tmp_path))
    with pytest.raises(DatasetError, match="no FMA here"):
        find_source(str(tmp_path / "fma_small" / "000"), "fma_small")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda lines: [], "no column"),
        (lambda lines: [lines[0]], "no column"),
        (lambda lines: [lines[0].replace("artist", "singer"), *lines[1:]], r"no column \('artist', 'id'\)"),
        (lambda lines: lines[:3], "no track of the subset small"),
        (lambda lines: [*lines[:3], "2,3"], "line 4: no row of a track"),
        (lambda lines: [*lines[:3], "x,7,t,b,1,training,small,Rock,t"], "line 4: no row of a track"),
        (lambda lines: [*lines[:3], "2,7,t,b,1,training,small,,t"], "line 4: no genre or no split of track 000002"),
        (lambda lines: [*lines[:3], "2,7,t,b,1,train,small,Rock,t"], "line 4: no genre or no split of track 000002"),
    ],
)
def test_a_table_that_is_not_that_of_fma_is_refused(tmp_path, damage, words):
    lines = write_fma_table(tmp_path / "tracks.csv", ROWS[:1]).read_text().splitlines()
    (tmp_path / "tracks.csv").write_text("\n".join(damage(lines)) + "\n")
    with pytest.raises(DatasetError, match=words):
        read_tracks(tmp_path / "tracks.csv")


def test_reading_the_table_leaves_the_csv_module_as_it_was(tmp_path):
    before = csv.field_size_limit()
    assert len(read_tracks(write_fma_table(tmp_path / "tracks.csv", ROWS))) == 5
    assert csv.field_size_limit() == before
    (tmp_path / "tracks.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(DatasetError, match="not a CSV file in UTF-8"):
        read_tracks(tmp_path / "tracks.csv")
    assert csv.field_size_limit() == before


def test_a_store_of_fma_has_its_own_split_and_names_clips_that_are_too_short(tmp_path, capsys):
    write_fma(tmp_path)
    write_audio(tmp_path / "fma_small" / fma_file(5), 0.05)
    flags = ["--features", "mfcc13", "--out", str(tmp_path / "store"), "--min-seconds", "0.2", "--jobs", "1"]
    assert precompute.main([str(tmp_path), *flags]) == 1
    said = capsys.readouterr().err
    assert "note: split: FMA's own, whose sides have no artist in common" in said
    assert "failed: 000/000005.mp3: lasts 0.05" in said
    store = open_store(tmp_path / "store")
    assert {clip.track: (clip.split, clip.group) for clip in store.clips} == {
        "000002": ("train", "1"),
        "000010": ("validation", "6"),
        "000140": ("test", "54"),
        "155066": ("test", "9"),
    }


# Names.


@pytest.fixture
def empty_data(monkeypatch, tmp_path):
    monkeypatch.setattr(catalogue, "DATA", tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize("name", ["gtzan", "fma_small"])
def test_a_name_of_what_is_not_there_is_refused_with_the_command_that_gets_it(empty_data, tmp_path, capsys, name):
    assert precompute.main([name, "--out", str(tmp_path / "store")]) == 1
    said = capsys.readouterr().err
    assert f"is not in {empty_data / name}; python -m keras_genre.datasets download {name} puts it there" in said
    assert not (tmp_path / "store").exists()


def test_a_name_means_what_was_downloaded(empty_data):
    write_gtzan(empty_data / "gtzan" / "genres", TRACKS, seconds=0.2)
    write_fma(empty_data / "fma_small")
    assert list(found_in("gtzan")) == list(TRACKS)
    assert list(found_in("fma_small")) == ["000002", "000005", "000010", "000140", "155066"]
    assert list(found_in("gtzan", "gtzan")) == list(TRACKS)
    with pytest.raises(ParameterError, match=r"\./gtzan"):
        find_source("gtzan", "folder")


def test_a_name_means_a_copy_that_was_put_there_by_hand_too(empty_data):
    write_gtzan(empty_data / "gtzan" / "Data" / "genres_original", TRACKS, ".wav", seconds=0.2)
    assert list(found_in("gtzan")) == list(TRACKS)


# Real music.


@pytest.mark.parametrize(("layout", "suffix"), [("genres", ".au"), ("Data/genres_original", ".wav")])
def test_real_clips_of_gtzan_get_the_artists_and_sides_that_are_known_of_them(shared_data, tmp_path, layout, suffix):
    with open(shared_data / "gtzan_mini" / "index.csv", newline="", encoding="utf-8") as file:
        known = {row["track"]: row for row in csv.DictReader(file)}
    for track, row in known.items():
        samples, rate = soundfile.read(shared_data / "gtzan_mini" / row["file"], dtype="int16")
        path = tmp_path / layout / row["genre"] / f"{track}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, rate, format=suffix[1:].upper(), subtype="PCM_16")
    source = find_source(str(tmp_path))
    options = precompute.make_parser().parse_args([str(tmp_path), "--out", "store"])
    clips, notes = apply_split_options(source.index.clips, options, source.default_list)
    assert len(clips) == 61
    for clip in clips:
        row = known[clip.track]
        assert (clip.genre, clip.group, clip.split) == (row["genre"], row["artist_group"], row["fault_filtered_split"])
        assert clip.seconds == int(row["samples"]) / 22050
    assert any(note.startswith("split list gtzan_fault_filtered: ") for note in notes)


# All the way.


def test_gtzan_goes_from_its_name_to_a_report_that_says_what_its_split_does_not_separate(empty_data, tmp_path, capsys):
    places = {row["track"]: row["split"] for row in FAULT_FILTERED.rows()}
    by_side = collections.defaultdict(list)
    for track, split in places.items():
        by_side[track.partition(".")[0], split].append(track)
    tracks = [track for tracks in by_side.values() for track in (tracks[0], tracks[-1])]
    # One artist on two sides, one clip of an unknown artist, one that the list leaves out.
    groups = {row["track"]: row["group"] for row in FAULT_FILTERED.rows()}
    unknown = next(track for track, group in groups.items() if not group)
    tracks = sorted({*tracks, "disco.00049", "disco.00073", "disco.00069", unknown, "disco.00050"})
    nameless = sum(groups.get(track) == "" for track in tracks)
    write_gtzan(empty_data / "gtzan" / "genres", tracks, seconds=1.0)
    store = tmp_path / "store"
    flags = ["--features", "mfcc13", "--out", str(store), "--min-seconds", "0.5", "--jobs", "1"]
    assert precompute.main(["gtzan", *flags]) == 0
    said = capsys.readouterr().err
    shared = "138 in train (disco.00049, disco.00073) and test (disco.00069)"
    about = "split list gtzan_fault_filtered: the fault-filtered split of GTZAN"
    assert all(words in said for words in (shared, about, "tracks of gtzan_fault_filtered.csv are not in the data"))
    clips = open_store(store).clips
    assert sorted(clip.track for clip in clips) == tracks
    assert {clip.track: clip.split for clip in clips} == {clip.track: places.get(clip.track, "") for clip in clips}
    assert {clip.track for clip in clips if not clip.split} == {"disco.00050"}

    def train_and_read(*more):
        run = tmp_path / "runs" / "-".join(("run", *more))
        small = ["--features", "mfcc13", "--epochs", "1", "--window-frames", "40", "--windows-per-clip", "1"]
        assert train.main(["--data", str(store), "--out", str(run), *small, *more]) == 0
        report = json.loads((run / "report.json").read_text())
        text = (run / "report.md").read_text()
        assert all(f"- note: {note}" in text for note in report["notes"])
        assert evaluate.main([str(run), "--split", "validation", "--json"]) == 0
        assert json.loads((run / "report_validation.json").read_text())["notes"] == report["notes"]
        return report["notes"]

    notes = train_and_read()
    assert any(shared in note for note in notes)
    assert any(note.startswith(about) for note in notes)
    assert any(f"artist groups are unknown for {nameless} of" in note for note in notes)
    # Folds leave the test side, and with it the shared artist.
    notes = train_and_read("--folds", "2")
    assert notes[0].endswith("Of what it has beside the test clips, fold 0 of 2 validates.")
    assert any(re.search(r"138 in \w+ \(disco.00049, disco.00073\) and test \(disco.00069\)", note) for note in notes)
    # The other lists, on the same store; this one has no blues and no rock.
    notes = train_and_read("--split-list", "gtzan_by_number")
    assert any("does not separate artists" in note and "flattering" in note for note in notes)
    (run,) = (tmp_path / "runs").glob("*by_number")
    assert json.loads((run / "run.json").read_text())["genres"] == sorted({*GENRES} - {"blues", "rock"})
    notes = train_and_read("--split-list", "gtzan_artist_folds", "--fold", "2")
    assert any("Fold 2 tests." in note for note in notes)
    assert not any(shared in note for note in notes)
