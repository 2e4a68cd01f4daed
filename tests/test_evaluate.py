"""A report is about whole clips of one split, complete, and refuses what would make it dishonest."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from toys import make_toy_store, toy_clips, toy_params

from keras_genre import evaluate
from keras_genre.errors import StoreError
from keras_genre.evaluation import store_of_run
from keras_genre.metrics import Scores, wilson_interval
from keras_genre.params import FrontEndParams
from keras_genre.runs import read_run
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


def test_test_clips_of_another_store_that_were_trained_on_are_refused_by_name(run, tmp_path):
    clips = [dataclasses.replace(clip, split="test") for clip in toy_clips()]
    make_toy_store(tmp_path / "store", clips)
    with pytest.raises(StoreError, match=r"had a part in the training.*bebop\.00"):
        store_of_run(read_run(run), tmp_path / "store")


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
