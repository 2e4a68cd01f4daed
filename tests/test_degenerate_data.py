"""Data that is strange but not damaged: it trains, or one sentence says why not."""

import csv
import json
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile

from keras_genre import precompute, predict, train
from keras_genre.clips import Clip
from keras_genre.params import FrontEndParams
from keras_genre.store import StoreHeader, StoreWriter, open_store

SMALL = ["--window-frames", "8", "--epochs", "1", "--windows-per-clip", "1", "--set", "model.lstm_units=4"]
# Without validation clips the plateau schedule and early stopping have nothing to follow, and training says so.
SMALL += ["--schedule", "none", "--early-stopping", "0", "--no-export"]


def make_store(path: Path, genres: dict[str, list[str]], frames: int = 10) -> Path:
    """A store of clips of random numbers: genre -> the split of each of its clips."""
    clips = [
        Clip(track=f"{genre}.{number}", genre=genre, group=f"{genre} {number}", split=split)
        for genre, splits in genres.items()
        for number, split in enumerate(splits)
    ]
    generator = np.random.default_rng(0)
    with StoreWriter(path, StoreHeader.of(FrontEndParams()), clips) as writer:
        for number, members in writer.missing():
            writer.add(number, [generator.standard_normal((frames, 33)).astype(np.float32) for _ in members])
        writer.finish()
    return path


def trained(store: Path, out: Path) -> int:
    return train.main(["--data", str(store), "--out", str(out), *SMALL])


def report(run: Path) -> dict:
    return json.loads((run / "report.json").read_text())


@pytest.mark.parametrize(
    ("genres", "words"),
    [
        ({"a": ["train", "test"]}, "all clips are a"),
        ({"a": ["train", "train"], "b": ["test"]}, "no training clip of b"),
        ({"a": ["validation"], "b": ["test"]}, "no clip is in the training split"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_with_the_reason(genres, words, tmp_path, capsys):
    assert trained(make_store(tmp_path / "store", genres), tmp_path / "run") == 1
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "genres",
    [
        {"a": ["train"], "b": ["train"]},
        {"a": ["train", "test"], "b": ["train", "test"]},
        {"a": ["train", "validation", "test"], "b": ["train", "test"]},
        {"a": ["train", "validation"], "b": ["train"], "c": ["train", "test"]},
    ],
    ids=["nothing but training", "no validation", "a genre missing from validation", "a genre in each split"],
)
def test_a_split_or_a_genre_that_is_missing_elsewhere_is_no_obstacle(genres, tmp_path, capsys):
    assert trained(make_store(tmp_path / "store", genres), tmp_path / "run") == 0
    assert (tmp_path / "run" / "model.keras").is_file()
    tested = sum(splits.count("test") for splits in genres.values())
    if tested:
        assert report(tmp_path / "run")["clips"] == tested
    elif not any("validation" in splits for splits in genres.values()):
        assert "no clips to test on" in capsys.readouterr().out


def test_one_clip_a_genre_trains_or_says_what_is_missing(tmp_path, capsys):
    store = make_store(tmp_path / "store", {genre: [""] for genre in "abc"})
    flags = ["--data", str(store), "--window-frames", "8", "--epochs", "1", "--no-export"]
    assert train.main([*flags, "--out", str(tmp_path / "refused")]) == 2
    assert "no validation clips, which the plateau schedule and early stopping follow" in capsys.readouterr().err
    assert not (tmp_path / "refused").exists()
    assert trained(store, tmp_path / "run") == 0
    assert "no clips to test on" in capsys.readouterr().out


def test_a_thousand_genres_train_and_the_report_stays_of_a_size_to_open(tmp_path):
    genres = {f"genre {number:04d}": ["train", *(["test"] if number < 20 else [])] for number in range(1000)}
    assert trained(make_store(tmp_path / "store", genres), tmp_path / "run") == 0
    found = report(tmp_path / "run")
    assert len(found["genres"]) == 1000
    assert np.sum(found["confusion"]) == found["clips"] == 20
    assert (tmp_path / "run" / "report.md").read_text().count("\n| genre ") == 1001
    assert max(path.stat().st_size for path in (tmp_path / "run").iterdir()) < 12 << 20
    assert (tmp_path / "run" / "confusion.png").stat().st_size < 3 << 20


# From audio on.

AUDIO_FLAGS = ["--features", "mfcc13", "--min-seconds", "0.1", "--jobs", "1"]


def write_clip(path: Path, number: int, seconds: float = 0.6, rate: int = 22050) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(number).uniform(-0.5, 0.5, round(seconds * rate)), rate)
    return path


def test_the_same_bytes_under_two_genres_are_told_by_both_names_and_stay_on_one_side(tmp_path, capsys):
    music, store = tmp_path / "music", tmp_path / "store"
    for number in range(10):
        write_clip(music / "ab"[number % 2] / f"{number}.wav", number)
    for number in (0, 2, 4):
        shutil.copy(music / "a" / f"{number}.wav", music / "b" / f"again {number}.wav")
    assert precompute.main([str(music), *AUDIO_FLAGS, "--out", str(store)]) == 0
    said = capsys.readouterr().err
    assert "3 recordings stand under several genres, byte for byte" in said
    assert all(f"a/{number}.wav" in said and f"b/again {number}.wav" in said for number in (0, 2, 4))
    side = {clip.file: clip.split for clip in open_store(store).clips}
    assert all(side[f"a/{number}.wav"] == side[f"b/again {number}.wav"] for number in (0, 2, 4))
    assert trained(store, tmp_path / "run") == 0
    assert "under several genres" in capsys.readouterr().err
    assert "a/0.wav and b/again 0.wav" in (tmp_path / "run" / "report.md").read_text()


def test_a_split_list_cannot_put_the_same_bytes_on_two_sides(tmp_path, capsys):
    music = tmp_path / "music"
    for number in range(4):
        write_clip(music / "ab"[number % 2] / f"{number}.wav", number)
    shutil.copy(music / "a" / "0.wav", music / "b" / "again.wav")
    rows = ["track,split", "0,train", "1,train", "2,test", "3,test", "again,test"]
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    flags = [str(music), *AUDIO_FLAGS, "--out", str(tmp_path / "store"), "--split-list", str(tmp_path / "list.csv")]
    assert precompute.main(flags) == 1
    assert "train (0) and test (again)" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


STRANGE = ("Überjazz", "ジャズ", "🎷 sax", "موسيقى", "cash$ $^^{", 'a|b "c", d')


def test_names_of_any_script_go_all_the_way(tmp_path, capsys):
    music, store, run = tmp_path / "music", tmp_path / "store", tmp_path / "run"
    for place, genre in enumerate(STRANGE):
        for number in range(3):
            write_clip(music / genre / f"{genre} {number}.wav", 10 * place + number)
    assert precompute.main([str(music), *AUDIO_FLAGS, "--out", str(store)]) == 0
    assert set(open_store(store).genres) == set(STRANGE)
    assert trained(store, run) == 0
    assert set(report(run)["genres"]) == set(STRANGE)
    table = (run / "report.md").read_text()
    assert all(f"\n| {genre.replace('|', '&#124;')} |" in table for genre in STRANGE)
    assert (run / "confusion.png").stat().st_size > 1000
    files = [str(music / genre / f"{genre} 0.wav") for genre in STRANGE]
    capsys.readouterr()
    assert predict.main([*files, "--model", str(run), "--json", "--csv", str(tmp_path / "out.csv"), "--jobs", "1"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [result["file"] for result in said] == files
    assert all(set(result["probabilities"]) == set(STRANGE) for result in said)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["file"] for row in rows] == files
    assert all(set(STRANGE) <= set(row) for row in rows)


def test_an_accent_is_the_same_genre_however_the_file_system_writes_it(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Électro") for form in ("NFC", "NFD"))
    assert composed != decomposed
    for number, genre in enumerate([composed, decomposed, "rock"] * 3):
        write_clip(tmp_path / "music" / genre / f"{number}.wav", number)
    store = tmp_path / "store"
    assert precompute.main([str(tmp_path / "music"), *AUDIO_FLAGS, "--out", str(store)]) == 0
    assert open_store(store).genres == ["rock", composed]
    assert len(open_store(store).clips) == 9


def test_clips_of_half_a_second_to_two_hours_in_one_folder(tmp_path, capsys):
    music = tmp_path / "music"
    for number, seconds in enumerate([0.5, 4.0, 5.0, 30.0]):
        write_clip(music / "ab"[number % 2] / f"{seconds:g} s.wav", number, seconds, 8000)
    # Two hours of a rate that makes them small: what is too long is refused before it is decoded.
    soundfile.write(music / "a" / "7200 s.wav", np.zeros(7200 * 1000, np.int16), 1000)
    flags = ["--features", "mfcc13", "--jobs", "1", "--out", str(tmp_path / "store")]
    assert precompute.main([str(music), *flags]) == 1
    said = capsys.readouterr().err
    assert "failed: a/7200 s.wav: " in said
    assert "failed: a/0.5 s.wav: " in said
    assert "more than the limit of 3600 s" in said
    assert {clip.seconds for clip in open_store(tmp_path / "store").clips} == {4.0, 5.0, 30.0}
