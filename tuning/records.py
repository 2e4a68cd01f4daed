"""The trials of a search as its folder has them, without KerasTuner."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_genre.errors import SearchError
from tuning.project import TUNER, read_failure, read_result
from tuning.space import Space


@dataclasses.dataclass(frozen=True)
class TrialRecord:
    """A trial that has ended.

    Attributes
    ----------
    trial : str
    values : dict
        The parameters that were chosen.
    objective : float
        NaN if it failed.
    message : str
        Why it failed.
    facts : dict
        How it was computed, and what it took.
    """

    trial: str
    values: dict[str, Any]
    objective: float
    message: str
    facts: dict[str, Any]

    @property
    def succeeded(self) -> bool:
        """Whether there is a result."""
        return self.objective == self.objective


def read_trials(out: Path, space: Space) -> list[TrialRecord]:
    """Read the trials that have ended, in that order.

    Raises
    ------
    SearchError
        If there are none yet, or the state is damaged.
    """
    file = out / TUNER / "oracle.json"
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        trials = {values["trial_id"]: values for values in state["trials"]}
        records = [_record(out, space, trials[trial_id]) for trial_id in state["end_order"]]
    except FileNotFoundError as error:
        raise SearchError(f"{out}: no trial has begun yet") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SearchError(f"{file}: damaged ({type(error).__name__}: {error})") from error
    if not records:
        raise SearchError(f"{out}: no trial has ended yet")
    return records


def count_ended(out: Path) -> int:
    """Return how many trials have ended; 0 where none has begun, or the state cannot be read."""
    try:
        return len(json.loads((out / TUNER / "oracle.json").read_text(encoding="utf-8"))["end_order"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _record(out: Path, space: Space, state: dict[str, Any]) -> TrialRecord:
    # Trials of a worker elsewhere have left no folder here.
    result = read_result(out, state["trial_id"]) or {}
    facts = {**result.get("facts", {}), **{name: result[name] for name in ("epochs", "seconds") if name in result}}
    done = state["status"] == "COMPLETED"
    return TrialRecord(
        state["trial_id"],
        space.chosen(state["hyperparameters"]["values"]),
        float(state["score"]) if done else float("nan"),
        "" if done else state.get("message") or read_failure(out, state["trial_id"]),
        facts,
    )


def best_first(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the trials that succeeded, the best first; of equal ones the one that began first."""
    # Not the one that ended first: with several workers that would be a matter of time.
    return sorted(
        (trial for trial in trials if trial.succeeded), key=lambda trial: (-trial.objective, int(trial.trial))
    )
