"""Data that is strange but not damaged: it trains, or one sentence says why not."""

import json
from pathlib import Path

import numpy as np
import pytest

from keras_genre import train
from keras_genre.clips import Clip
from keras_genre.params import FrontEndParams
from keras_genre.store import StoreHeader, StoreWriter

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
