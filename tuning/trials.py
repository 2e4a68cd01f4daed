"""One trial: the network that its parameters name, trained on every fold from every seed, scored on whole clips."""

import contextlib
import dataclasses
import gc
import json
import logging
import os
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_genre import files
from keras_genre.errors import FolderInUseError, RunError
from keras_genre.metrics import Scores
from keras_genre.params import TrainParams, to_json
from keras_genre.runs import CHECKPOINT, MODEL
from keras_genre.store import Store
from tuning.data import SearchData
from tuning.project import RESULT, TRIALS

OUTCOME = "outcome.json"
LOCK_WAIT_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Budget:
    """How far a trial is trained.

    Attributes
    ----------
    epochs : int > 0
        Up to the end of this epoch; a schedule goes by the trial's own number of epochs, the whole budget.
    continues : str
        Trial of the same parameters whose networks are trained further; empty: none.
    """

    epochs: int
    continues: str = ""


class TrialRunner:
    """Runs trials and keeps what they give.

    Parameters
    ----------
    data : SearchData
    out : Path
        The search folder.
    preset : str
        Name for the records.
    seeds : int > 0
        Trainings of each fold, from the parameters' seed on.
    keep : bool
        Keep the networks of finished trials, so that other trials can continue them.
    """

    def __init__(self, data: SearchData, out: Path, preset: str, seeds: int = 1, keep: bool = False):
        self._data = data
        self._out = out
        self._preset = preset
        self._seeds = seeds
        self._keep = keep

    def run(self, trial: str, params: TrainParams, chosen: dict[str, Any], budget: Budget) -> dict[str, Any]:
        """Run a trial, or what is missing of it.

        Parameters
        ----------
        trial : str
            Its number.
        params : TrainParams
        chosen : dict
            The values that were searched for, for the record.
        budget : Budget

        Returns
        -------
        dict
            As `result.json` holds it: `accuracy`, `macro_f1` and `loss` over the validation clips of all folds and
            seeds, `runs`, and facts of the trial.

        Raises
        ------
        RunError
            If the training diverges, or the machine has not the memory.
        ParameterError
            If the parameters cannot be trained.
        StoreError
            If the data are damaged.
        """
        folder = self._out / TRIALS / trial
        started = time.monotonic()
        runs = []
        for fold in range(len(self._data.folds)):
            for seed in range(params.seed, params.seed + self._seeds):
                name = f"fold{fold}-seed{seed}"
                self._continue(budget.continues, name, folder)
                store = self._data.fold(params.features, fold)
                each = dataclasses.replace(params, seed=seed)
                runs.append({"fold": fold, "seed": seed} | run_once(store, each, self._preset, folder / name, budget))
        result = summarise(runs) | {
            "trial": trial,
            "values": chosen,
            "params": to_json(params),
            "epochs": budget.epochs,
            "continues": budget.continues,
            "seconds": round(time.monotonic() - started, 3),
            "facts": facts_of(params, runs),
            "runs": runs,
        }
        files.write_json(folder / RESULT, result)
        if not self._keep:
            clear_networks(self._out, trial)
        return result

    def _continue(self, earlier: str, name: str, folder: Path) -> None:
        """Begin a run with what an earlier trial left of it, if it is there."""
        source = self._out / TRIALS / earlier / name
        # Without a checkpoint the run begins anew and gives the same, later.
        if earlier and (source / CHECKPOINT).is_file() and not (folder / name).exists():
            with files.atomic_folder(folder / name) as temporary:
                for path in source.iterdir():
                    if path.is_file() and path.name != OUTCOME:
                        shutil.copy2(path, temporary / path.name)


def clear_networks(out: Path, trial: str = "*") -> None:
    """Remove the networks and checkpoints of a trial, or of all: their results stay."""
    for name in (CHECKPOINT, MODEL):
        for path in (out / TRIALS).glob(f"{trial}/*/{name}"):
            path.unlink()


def run_once(store: Store, params: TrainParams, preset: str, out: Path, budget: Budget) -> dict[str, Any]:
    """Train a network on a fold up to the budget, going on where it was interrupted, and score the validation clips.

    Returns
    -------
    dict
        `expected` and `predicted` labels, `loss`, the cross-entropy, `epochs`, `best_epoch`, `parameters`, `seconds`,
        `memory_mib`.
    """
    if (out / OUTCOME).is_file():
        with contextlib.suppress(OSError, ValueError):
            return json.loads((out / OUTCOME).read_text(encoding="utf-8"))
    started = time.monotonic()
    import keras

    if keras.config.backend() == "tensorflow":
        from tuning.tensorflow_runs import train_and_score
    else:
        from tuning.neutral_runs import train_and_score

    try:
        with _quiet():
            outcome = _unlocked(lambda: train_and_score(store, params, preset, out, budget.epochs))
    except MemoryError as error:
        raise RunError(f"{out}: not enough memory for this network") from error
    finally:
        # A trial leaves nothing behind in memory, on a GPU least of all.
        keras.backend.clear_session()
        gc.collect()
    outcome |= {"seconds": round(time.monotonic() - started, 3), "memory_mib": peak_memory_mib()}
    files.write_json(out / OUTCOME, outcome)
    return outcome


def _unlocked(work):
    """Do work in a folder that a killed process may hold for another moment."""
    ends = time.monotonic() + LOCK_WAIT_SECONDS
    while True:
        try:
            return work()
        except FolderInUseError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.5)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the progress of single trainings: the search has its own."""
    with (
        without_retracing_warnings(),
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stderr(nowhere),
    ):
        yield


@contextlib.contextmanager
def without_retracing_warnings() -> Iterator[None]:
    """Keep TensorFlow from warning of a graph for each network, where many are trained."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def peak_memory_mib() -> int:
    """Return the most memory that this process has had, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # In KiB on Linux, in bytes on macOS.
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the runs of a trial say together, all their validation clips counted alike."""
    expected = np.concatenate([run["expected"] for run in runs])
    predicted = np.concatenate([run["predicted"] for run in runs])
    genres = [str(label) for label in range(max(*expected, *predicted) + 1)]
    scores = Scores.of(genres, expected, predicted)
    clips = [len(run["expected"]) for run in runs]
    return {
        "accuracy": scores.accuracy,
        "macro_f1": scores.macro_f1,
        "loss": float(np.average([run["loss"] for run in runs], weights=clips)),
        "clips": scores.clips,
    }


def facts_of(params: TrainParams, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how a trial was computed."""
    return {
        "parameters": runs[0]["parameters"],
        "mixed_bfloat16": params.model.mixed_bfloat16,
        "cudnn_eligible": params.model.cudnn_eligible,
        "cudnn": runs[0]["cudnn"],
        "steps_per_execution": runs[0]["steps_per_execution"],
        "peak_memory_mib": max(run["memory_mib"] for run in runs),
    }
