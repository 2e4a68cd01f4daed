"""The tuner: takes trials from an oracle, here or at a chief, runs them and reports."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_genre.errors import ParameterError, RunError
from tuning.oracles import ORACLE, Lasting
from tuning.project import TUNER, write_failure
from tuning.space import Space
from tuning.trials import Budget, TrialRunner

IDLE_SECONDS = 0.5
"""Between two questions for a trial, where there is none yet."""

HEARTBEAT_SECONDS = 3.0
"""Between two signs of life that a worker gives the chief."""


class GenreTuner(BaseTuner):
    """Runs the trials of a search.

    Parameters
    ----------
    oracle : Lasting
        Asked here, or, where KerasTuner's variables name a chief, only for what every process knows.
    space : Space
    runner : TrialRunner
    objective : str
        Name in a trial's result of what is maximised: `accuracy` or `macro_f1`.
    out : Path
        The search folder.
    renew_after : int
        Leave the search, by `RenewalError`, after so many trials; 0: never.
    on_result : callable
        Called with every result.
    """

    def __init__(
        self,
        oracle: Lasting,
        space: Space,
        runner: TrialRunner,
        objective: str,
        out: Path,
        renew_after: int = 0,
        on_result: Callable[[dict[str, Any]], None] = lambda result: None,
    ):
        super().__init__(oracle=oracle, directory=str(out), project_name=TUNER)
        self._space = space
        self._runner = runner
        self._objective = objective
        self._out = out
        self._renew_after = renew_after
        self._on_result = on_result
        self._trials_run = 0
        self._idle = False

    def run_trial(self, trial: Trial, *fit_args: Any, **fit_kwargs: Any) -> dict[str, float]:
        """Run a trial; return its result for the oracle."""
        values = trial.hyperparameters.values
        params = self._space.params(values)
        budget = Budget(values.get("tuner/epochs", params.epochs), values.get("tuner/trial_id", ""))
        with self._signs_of_life(trial.trial_id):
            result = self._runner.run(trial.trial_id, params, self._space.chosen(values), budget)
        self._on_result(result)
        return {f"val_{self._objective}": result[self._objective]}

    def _try_run_and_update_trial(self, trial: Trial, *fit_args: Any, **fit_kwargs: Any) -> None:
        """Run a trial. Values that cannot work fail the trial; all other errors end the search."""
        try:
            self._run_and_update_trial(trial, *fit_args, **fit_kwargs)
            trial.status = TrialStatus.COMPLETED
        except (RunError, ParameterError) as error:
            trial.status = TrialStatus.FAILED
            trial.message = str(error)
            write_failure(self._out, trial.trial_id, trial.message)

    def pre_create_trial(self) -> None:
        """Wait a moment if there was no trial the last time, and leave if this process is to be renewed."""
        if self._renew_after and self._trials_run >= self._renew_after:
            raise RenewalError
        if self._idle:
            time.sleep(IDLE_SECONDS)
        self._idle = True

    def on_trial_begin(self, trial: Trial) -> None:
        """Note that there was a trial."""
        self._idle = False

    def on_trial_end(self, trial: Trial) -> None:
        """Report the end of a trial; the oracle saves itself."""
        self.oracle.end_trial(trial)
        self._trials_run += 1
        if not self._is_worker():
            self.oracle.check_failures()

    @contextlib.contextmanager
    def _signs_of_life(self, trial_id: str) -> Iterator[None]:
        """Ask the chief for the trial again and again while it runs, so that it knows that this worker lives."""
        if not self._is_worker():
            yield
            return
        done = threading.Event()

        def ask() -> None:
            while not done.wait(HEARTBEAT_SECONDS):
                # What is wrong with the chief shows when the trial is reported.
                with contextlib.suppress(Exception):
                    self.oracle.get_trial(trial_id)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def save(self) -> None:
        """Do nothing: the oracle saves itself whenever something happened."""

    def reload(self) -> None:
        """Take up the oracle's state."""
        if not self._is_worker():
            self.oracle.reload()

    def _get_tuner_fname(self) -> str:
        """Return the file whose presence says that there is a search to take up."""
        return os.path.join(self.project_dir, ORACLE)


class RenewalError(Exception):
    """The process has run its share of trials; a new one is to go on."""
