"""A report is about whole clips of one split, complete, and refuses what would make it dishonest."""

import csv
import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from toys import GENRES, make_toy_store, toy_clips, toy_params

from keras_genre import evaluate, files
from keras_genre.clips import Clip
from keras_genre.errors import StoreError
from keras_genre.evaluation import require_unseen, store_of_run
from keras_genre.metrics import Scores, wilson_interval
from keras_genre.params import FrontEndParams
from keras_genre.runs import RunInfo, contents_of, read_run
from keras_genre.store import StoreHeader
from keras_genre.training import make_plan, train


@pytest.fixture(scope="module")
def run(toy_store, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "evaluated"
    train(make_plan(toy_store, toy_params(), ["made up"]), "toy", out)
    return out


def test_the_report_is_complete_and_agrees_with_itself(run, capsys):
    assert evaluate.main([str(run), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((run / "report.json").read_text())
    assert report["split"] == "test"
    assert report["clips"] == 6
    assert (report["accuracy_95_low"], report["accuracy_95_high"]) == wilson_interval(report["correct"], 6)
    assert np.sum(report["confusion"]) == 6
    assert report["notes"] == ["made up"]
    assert report["seed"] == 0
    assert "tensorflow" in report["versions"]
    rows = list(csv.DictReader((run / "predictions.csv").open()))
    assert len(rows) == 6
    genres = report["genres"]
    scores = Scores.of(
        genres,
        np.array([genres.index(row["expected"]) for row in rows]),
        np.array([genres.index(row["predicted"]) for row in rows]),
    )
    assert scores.to_json() == {name: report[name] for name in scores.to_json()}
    for row in rows:
        shares = {genre: float(row[genre]) for genre in genres}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert max(shares, key=shares.get) == row["predicted"]
        assert int(row["correct"]) == (row["expected"] == row["predicted"])
    assert (run / "confusion.png").read_bytes().startswith(b"\x89PNG")
    text = (run / "report.md").read_text()
    assert "made up" in text
    # What repeats the figure.
    assert f"\n- seed: {report['seed']}\n" in text
    for name in ("python", "keras_genre", "tensorflow", "keras", "numpy"):
        assert f"\n- {name}: {report['versions'][name]}\n" in text


def test_other_splits_have_files_of_their_own(run, capsys):
    assert evaluate.main([str(run), "--split", "validation"]) == 0
    assert "of 6 clips" in capsys.readouterr().out
    assert json.loads((run / "report_validation.json").read_text())["split"] == "validation"
    assert (run / "predictions_validation.csv").exists()


def test_the_split_is_that_of_the_run_whatever_the_store_says_later(toy_store, tmp_path):
    swap = {"train": "train", "validation": "test", "test": "validation"}
    swapped = toy_store.with_splits({clip.track: swap[clip.split] for clip in toy_store.clips})
    train(make_plan(swapped, toy_params(epochs=1)), "toy", tmp_path / "run")
    evaluated = store_of_run(read_run(tmp_path / "run"), None)
    assert {c.track for c in evaluated.clips if c.split == "test"} == {
        c.track for c in toy_store.clips if c.split == "validation"
    }


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_clips_of_another_store_that_the_run_has_seen_are_refused_in_every_split(run, split, tmp_path, capsys):
    clips = [dataclasses.replace(clip, split=split) for clip in toy_clips()]
    make_toy_store(tmp_path / "store", clips)
    assert evaluate.main([str(run), "--data", str(tmp_path / "store"), "--split", split]) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path / 'store'}: 18 of 24 clips had a part in the training of this run (" in said
    assert "bebop.00" in said


def test_the_test_clips_of_a_run_are_unseen_in_another_store_too(run, tmp_path, capsys):
    clips = [dataclasses.replace(clip, split="test") for clip in toy_clips() if clip.split == "test"]
    make_toy_store(tmp_path / "store", clips)
    assert evaluate.main([str(run), "--data", str(tmp_path / "store")]) == 0
    assert "of 6 clips" in capsys.readouterr().out


def of_files(clips):
    """The clips as if each were of a file of its own."""
    return [
        dataclasses.replace(clip, file=f"{clip.track}.flac", sha256=hashlib.sha256(clip.track.encode()).hexdigest())
        for clip in clips
    ]


def run_on(clips):
    """What a run on these clips says of itself."""
    splits = {clip.track: clip.split for clip in clips}
    header = StoreHeader.of(FrontEndParams())
    return RunInfo("toy", toy_params(), header, 33, GENRES, "nowhere", splits, (), {}, contents=contents_of(clips))


OTHER_SHA256 = hashlib.sha256(b"something else").hexdigest()
RUN_ON_FILES = run_on(of_files(toy_clips()))
SEEN = of_files(toy_clips())[0]


@pytest.mark.parametrize(
    "clip",
    [
        SEEN,
        dataclasses.replace(SEEN, track="another name", file="elsewhere/a.flac"),
        # Nothing but the name can be compared.
        dataclasses.replace(SEEN, sha256=""),
        dataclasses.replace(SEEN, file="", sha256=OTHER_SHA256),
    ],
)
def test_a_clip_is_known_by_its_content_and_by_its_name_where_contents_cannot_be_compared(clip):
    with pytest.raises(StoreError, match=f"1 of 2 clips had a part in the training of this run .{clip.track}."):
        require_unseen(RUN_ON_FILES, [Clip("new", "polka", sha256=OTHER_SHA256), clip], Path("store"))


def test_another_file_of_the_same_name_is_another_clip_and_a_note_tells_of_it():
    clip = dataclasses.replace(SEEN, sha256=OTHER_SHA256)
    (note,) = require_unseen(RUN_ON_FILES, [clip, Clip("new", "polka")], Path("store"))
    assert note.startswith("clips with the name of one that the run was trained on, and other bytes (1: bebop.00): ")


def test_a_run_that_recorded_no_contents_knows_its_clips_by_name():
    old = dataclasses.replace(RUN_ON_FILES, contents={})
    assert "contents" not in old.to_json()
    with pytest.raises(StoreError, match=r"bebop\.00"):
        require_unseen(old, [dataclasses.replace(SEEN, sha256=OTHER_SHA256)], Path("store"))
    assert require_unseen(old, [dataclasses.replace(SEEN, track="new")], Path("store")) == []


def test_imported_features_are_known_by_their_frames():
    imported = [dataclasses.replace(clip, file="") for clip in of_files(toy_clips())]
    with pytest.raises(StoreError, match="had a part"):
        require_unseen(run_on(imported), [dataclasses.replace(imported[0], track="new")], Path("store"))
    # A checksum of frames says nothing of a file.
    assert require_unseen(run_on(imported), [dataclasses.replace(SEEN, track="new")], Path("store")) == []


def test_test_clips_of_the_run_may_have_any_name_elsewhere():
    clip = next(clip for clip in of_files(toy_clips()) if clip.split == "test")
    assert require_unseen(RUN_ON_FILES, [clip, dataclasses.replace(clip, track="new")], Path("store")) == []


def test_a_thousand_clips_take_less_than_a_hundred_kilobytes_of_the_record():
    clips = of_files([Clip(f"genre.{number:05d}", GENRES[number % 3], split="train") for number in range(1000)])
    assert len(files.json_text(run_on(clips).to_json())) < 100_000


def test_another_store_with_new_clips_is_evaluated(run, tmp_path, capsys):
    clips = [dataclasses.replace(c, track=f"new {c.track}", split="test") for c in toy_clips() if c.genre != "polka"]
    make_toy_store(tmp_path / "store", clips)
    assert evaluate.main([str(run), "--data", str(tmp_path / "store")]) == 0
    assert "of 16 clips" in capsys.readouterr().out
    note = f"the clips are of {tmp_path / 'store'}; whether their artists are in the training data is not known"
    assert json.loads((run / "report.json").read_text())["notes"] == ["made up", note]
    assert f"- note: {note}" in (run / "report.md").read_text()


def test_features_or_genres_that_are_not_those_of_the_run_are_refused(run, tmp_path, capsys):
    make_toy_store(tmp_path / "mel", header=StoreHeader.of(FrontEndParams("log_mel128")))
    make_toy_store(tmp_path / "hop", header=StoreHeader.of(FrontEndParams(hop_samples=256)))
    for store, why in (("mel", "log_mel128"), ("hop", "hop_samples: 512 -> 256")):
        assert evaluate.main([str(run), "--data", str(tmp_path / store)]) == 1
        assert why in capsys.readouterr().err


def test_an_empty_split_is_an_error_that_says_which_there_are(run, tmp_path, capsys):
    clips = [dataclasses.replace(c, track=f"new {c.track}", split="validation") for c in toy_clips()]
    make_toy_store(tmp_path / "store", clips)
    assert evaluate.main([str(run), "--data", str(tmp_path / "store")]) == 1
    assert "it has: validation" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_an_error_with_what_to_do(tmp_path, capsys):
    assert evaluate.main([str(tmp_path)]) == 1
    assert "keras_genre.train" in capsys.readouterr().err
