"""Searches that take seconds: a small space of a small network on made-up clips."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from toys import toy_clips, toy_frames

from keras_genre.augmentation import copies_of
from keras_genre.clips import Clip
from keras_genre.params import FrontEndParams
from keras_genre.store import Store, StoreHeader, StoreWriter

SPACE = {
    "only": True,
    "learning_rate": {"low": 1e-3, "high": 2e-2, "log": True},
    "model.dropout": {"low": 0.0, "high": 0.5},
}

FLAGS = (
    *("--preset", "conv2d", "--epochs", "2"),
    *("--set", "window_frames=16", "--set", "windows_per_clip=1", "--set", "batch_size=32"),
    *("--set", "model.conv_filters=2", "--set", "model.dense_units=4"),
)


def words_of(folder: Path, *more: str, space: dict[str, Any] | None = None) -> list[str]:
    """Return the flags of a search on the store `folder/store`, into `folder/search`."""
    (folder / "space.json").write_text(json.dumps(SPACE if space is None else space))
    return [
        *("--data", str(folder / "store"), "--out", str(folder / "search"), "--space", str(folder / "space.json")),
        *FLAGS,
        *more,
    ]


def start(words: list[str], log: Path) -> subprocess.Popen:
    """Start a search in a process of its own, what it says into a file."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "tuning.search", *words], stdout=file, stderr=file, env=quiet_environment()
        )


def quiet_environment() -> dict[str, str]:
    """Return the environment of a process that uses one thread and no GPU."""
    return os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}


def state_of(search: Path) -> dict[str, Any]:
    """Return the oracle's state of a search folder."""
    return json.loads((search / "tuner" / "oracle.json").read_text())


def results_of(search: Path) -> dict[str, tuple[str, float]]:
    """Return status and score of every trial, by its values."""
    return {
        json.dumps(trial["hyperparameters"]["values"], sort_keys=True): (trial["status"], trial["score"])
        for trial in state_of(search)["trials"]
    }


def clips_without_test() -> list[Clip]:
    """Return the toy clips that a search may see."""
    return [clip for clip in toy_clips() if clip.split != "test"]


def make_store_with_copies(path: Path) -> Store:
    """Write a store of the toy clips and altered copies of all of them."""
    originals = {clip.track: clip for clip in toy_clips()}
    clips = [*originals.values(), *copies_of(originals.values())]
    with StoreWriter(path, StoreHeader.of(FrontEndParams()), clips) as writer:
        for number, members in writer.missing():
            writer.add(number, [toy_frames(originals[clip.original_track]) + bool(clip.variant) for clip in members])
        return writer.finish()
