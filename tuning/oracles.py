"""KerasTuner's oracles, made to survive a SIGKILL at any moment and the loss of workers.

KerasTuner writes a file for each trial and one for the oracle, in place and one after the other: a process that is
killed in between leaves files that are cut or that contradict each other. Here the whole state is one file, which is
replaced at once.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner import synchronized
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_genre import files
from keras_genre.errors import SearchError

ORACLE = "oracle.json"

LOSSES_OF_A_TRIAL = 3
"""A trial that was lost so many times with its worker is not tried again: it may be what kills them."""

FAILURES_IN_A_ROW = 5
"""A search in which so many trials fail one after the other gives up."""

DIGITS = 6
"""Of a result: KerasTuner's protocol carries them in single precision."""


class Lasting(keras_tuner.Oracle):
    """What all oracles here have in addition to KerasTuner's.

    Attributes
    ----------
    losses : dict
        Trial -> how often it was lost with its worker.
    given_up_after : int
        So many trials had ended when failure after failure ended the search the last time: these are not counted again.
    on_end : callable
        Called with a trial when it has ended.
    """

    ongoing_trials: dict[str, Trial]

    def __init__(self, **options: Any):
        # Failures in a row are counted elsewhere: raised in here, an error would leave the oracle locked.
        super().__init__(**options, max_consecutive_failed_trials=1_000_000_000)
        self.losses: dict[str, int] = {}
        self.given_up_after = 0
        self.on_end: Callable[[Trial], None] = lambda trial: None
        self.verbose = 0

    def save(self) -> None:
        """Write the whole state."""
        files.write_json(self.file, self.get_state())

    def _save_trial(self, trial: Trial) -> None:
        """Do nothing: trials are part of the state."""

    def reload(self) -> None:
        """Read the whole state; trials that were running are to be run again.

        Raises
        ------
        SearchError
            If the file is damaged.
        """
        try:
            state = json.loads(self.file.read_text(encoding="utf-8"))
            self.trials = {values["trial_id"]: Trial.from_state(values) for values in state["trials"]}
            self.losses = dict(state["losses"])
            self.given_up_after = int(state.get("given_up_after", 0))
            self.set_state(state)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SearchError(
                f"{self.file}: damaged, or of another version of KerasTuner ({type(error).__name__}: {error}); "
                "start again in another --out"
            ) from error
        for trial in self.ongoing_trials.values():
            # It may have ended just before the process did.
            if trial.trial_id not in self.end_order and trial.trial_id not in self._retry_queue:
                self._retry_queue.append(trial.trial_id)
        self.ongoing_trials = {}
        if self._last_failed():
            self.given_up_after = len(self.end_order)

    def take_up(self, out: Path, project: str) -> None:
        """Keep the state below `out`, and go on from what is there."""
        self._set_project_dir(str(out), project)
        if self.file.is_file():
            self.reload()

    @property
    def file(self) -> Path:
        """Where the state is kept."""
        return Path(self._directory) / self._project_name / ORACLE

    def get_state(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        trials = [trial.get_state() for trial in self.trials.values()]
        return super().get_state() | {
            "trials": trials,
            "losses": self.losses,
            "given_up_after": self.given_up_after,
        }

    def best(self) -> Trial | None:
        """Return the best trial so far; of equal ones the one that began first."""
        done = [trial for trial in self.trials.values() if trial.status == TrialStatus.COMPLETED]
        return min(done, key=lambda trial: (-trial.score, int(trial.trial_id)), default=None)

    @synchronized
    def create_trial(self, tuner_id: str) -> Trial:
        """Give a tuner a trial to run; while others run the last ones, it waits in case one of these is lost."""
        trial = super().create_trial(tuner_id)
        if trial.status == TrialStatus.STOPPED and self.ongoing_trials:
            trial.status = TrialStatus.IDLE
            self.tuner_ids.add(tuner_id)
        return trial

    @synchronized
    def update_trial(self, trial_id: str, metrics: dict[str, float], step: int = 0) -> Trial:
        """Take in the results of a trial."""
        return super().update_trial(trial_id, {n: round(float(v), DIGITS) for n, v in metrics.items()}, step)

    @synchronized
    def end_trial(self, trial: Trial) -> None:
        """Take in that a trial has ended; a second time, by a worker that was thought lost, changes nothing."""
        if trial.trial_id in self.end_order:
            return
        own = self.trials[trial.trial_id]
        if trial.trial_id in self._retry_queue:
            self._retry_queue.remove(trial.trial_id)
        # The protocol does not keep the order of the space; and what is sent back is no news.
        trial.hyperparameters = own.hyperparameters
        super().end_trial(trial)
        self.save()
        self.on_end(own)

    @synchronized
    def take_back(self, tuner_id: str) -> Trial | None:
        """Take the trial of a lost worker back, to be run again; return it.

        A trial that was lost `LOSSES_OF_A_TRIAL` times has failed.
        """
        self.tuner_ids.discard(tuner_id)
        trial = self.ongoing_trials.pop(tuner_id, None)
        if trial is None or trial.trial_id in self.end_order:
            return None
        trial_id = trial.trial_id
        self.losses[trial_id] = self.losses.get(trial_id, 0) + 1
        if self.losses[trial_id] >= LOSSES_OF_A_TRIAL:
            trial.status = TrialStatus.FAILED
            trial.message = f"lost {self.losses[trial_id]} times with the process that ran it"
            self.end_order.append(trial_id)
            self.on_end(trial)
        else:
            self._retry_queue.append(trial_id)
        self.save()
        return trial

    @property
    def is_complete(self) -> bool:
        """Whether as many trials have ended as there may be."""
        return bool(self.max_trials) and len(self.end_order) >= self.max_trials

    def check_failures(self) -> None:
        """Give up where trial after trial fails. A search that was given up may be gone on with.

        Raises
        ------
        SearchError
            With what the last one failed of.
        """
        if last := self._last_failed():
            why = last[-1].message or "see its folder"
            raise SearchError(f"the last {len(last)} trials failed, trial {last[-1].trial_id} of: {why}")

    def _last_failed(self) -> list[Trial]:
        """Return the last trials if that many failed in a row that the search is to be given up; else none."""
        last = [self.trials[trial_id] for trial_id in self.end_order[self.given_up_after :][-FAILURES_IN_A_ROW:]]
        all_failed = len(last) == FAILURES_IN_A_ROW and all(trial.status == TrialStatus.FAILED for trial in last)
        return last if all_failed else []

    @synchronized
    def has_work(self) -> bool:
        """Tell whether trials run, or wait to be run again."""
        return bool(self.ongoing_trials or self._retry_queue)


class RandomOracle(Lasting, keras_tuner.oracles.RandomSearchOracle):
    """Random search."""


class HyperbandOracle(Lasting, keras_tuner.oracles.HyperbandOracle):
    """Hyperband: many trials of few epochs, the best of which go on (`plan.hyperband_trials` says how many)."""

    hyperband_iterations: float

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a state, but for the number of iterations: how far a search goes is what it is told each time."""
        iterations = self.hyperband_iterations
        super().set_state(state)
        self.hyperband_iterations = iterations

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Propose the values of the next trial."""
        # KerasTuner stops at the end of the last iteration alone, and never where it is past that already.
        if self._current_iteration >= self.hyperband_iterations:
            return {"status": TrialStatus.IDLE if self.ongoing_trials else TrialStatus.STOPPED}
        return super().populate_space(trial_id)


class BayesianOracle(Lasting, keras_tuner.oracles.BayesianOptimizationOracle):
    """Bayesian optimisation; what it proposes depends on the seed and the trials alone, also after a resume."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Propose the values of the next trial."""
        self._random_state = np.random.RandomState([self.seed, len(self.trials)])
        return super().populate_space(trial_id)


RESULT_NOISE = 0.1
"""Share of the variance between trials that is noise of a single one, for Bayesian optimisation."""


def make_oracle(
    tuner: str,
    objective: str,
    hyperparameters: Any,
    *,
    trials: int | None,
    epochs: int,
    factor: int,
    seed: int,
) -> Lasting:
    """Make an oracle.

    Parameters
    ----------
    tuner : str
        `random`, `hyperband` or `bayesian`.
    objective : str
        Name of the result to be maximised.
    hyperparameters : keras_tuner.HyperParameters
    trials : int or None
        How many at most; None, under Hyperband: those of one whole iteration.
    epochs, factor : int
        Of Hyperband: the whole budget of a trial, and the share of trials, one in `factor`, that go on.
    seed : int >= 0
    """
    options: dict[str, Any] = {
        "objective": keras_tuner.Objective(objective, "max"),
        "hyperparameters": hyperparameters,
        "allow_new_entries": False,
        # KerasTuner takes 0 for no seed.
        "seed": seed + 1,
    }
    if tuner == "hyperband":
        iterations = None if trials else 1
        oracle = HyperbandOracle(max_epochs=epochs, factor=factor, hyperband_iterations=iterations, **options)
        # Not among Hyperband's own parameters, but heeded.
        oracle.max_trials = trials
        return oracle
    if tuner == "bayesian":
        first = max(5, (trials or 0) // 4)
        return BayesianOracle(max_trials=trials, num_initial_points=first, alpha=RESULT_NOISE, **options)
    return RandomOracle(max_trials=trials, **options)
