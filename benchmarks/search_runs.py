"""What the benchmarks of searches share: a search as a process, and what it left."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from keras_genre.errors import SearchError

SPACE: dict[str, Any] = {
    "only": True,
    "learning_rate": {"low": 3e-4, "high": 1e-2, "log": True},
    "model.dropout": {"low": 0.0, "high": 0.6},
    "batch_size": [8, 16, 32],
}
"""Of networks of one size, so that trials take about the same time."""


def words_of(out: Path, space: Path, trials: int, epochs: int, *more: str) -> list[str]:
    """Return the flags of a search of `conv2d` on the embedded clips, two folds a trial."""
    space.parent.mkdir(parents=True, exist_ok=True)
    space.write_text(json.dumps(SPACE))
    flags = ["--preset", "conv2d", "--set", "features=mfcc13", "--folds", "2", "--trials", str(trials)]
    return [*flags, "--epochs", str(epochs), "--out", str(out), "--space", str(space), *more]


def start(words: Sequence[str], log: TextIO) -> subprocess.Popen:
    """Start a search."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.Popen([sys.executable, "-m", "tuning.search", *words], stdout=log, stderr=log, env=environment)


def finish(process: subprocess.Popen, log: Path, limit_seconds: float) -> None:
    """Wait for a search.

    Raises
    ------
    SearchError
        If it fails or takes too long.
    """
    try:
        status = process.wait(limit_seconds)
    except subprocess.TimeoutExpired as error:
        process.kill()
        raise SearchError(f"a search took more than {limit_seconds:.0f} s; see {log}") from error
    if status:
        raise SearchError(f"a search ended with status {status}; see {log}")


def trials_of(out: Path) -> dict[str, dict[str, Any]]:
    """Return status and score of the trials that ended, by their values."""
    state = state_of(out)
    trials = {trial["trial_id"]: trial for trial in state["trials"]}
    return {
        json.dumps(trials[trial_id]["hyperparameters"]["values"], sort_keys=True): {
            "status": trials[trial_id]["status"],
            "score": trials[trial_id]["score"],
        }
        for trial_id in state["end_order"]
    }


def state_of(out: Path) -> dict[str, Any]:
    """Return the oracle's state; an empty one before there is any."""
    try:
        return json.loads((out / "tuner" / "oracle.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {"trials": [], "end_order": [], "ongoing_trials": {}, "losses": {}}


def wait_until(condition, process: subprocess.Popen, log: Path) -> None:
    """Wait until something is true, as long as a search runs.

    Raises
    ------
    SearchError
        If it ends before.
    """
    while not condition():
        if process.poll() is not None:
            raise SearchError(f"the search ended too early, with status {process.returncode}; see {log}")
        time.sleep(0.05)
