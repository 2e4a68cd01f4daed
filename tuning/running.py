"""The ways in which a search runs: in this process, with worker processes, as a worker."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_genre import cli
from keras_genre.progress import Progress
from tuning.plan import SearchPlan
from tuning.project import TUNER, WORKERS, claim, read_failure

if TYPE_CHECKING:
    from tuning.oracles import Lasting
    from tuning.tuner import GenreTuner


def oracle_of(plan: SearchPlan) -> Any:
    """Make the oracle of a search."""
    from tuning.oracles import make_oracle

    method = plan.method
    return make_oracle(
        method.tuner,
        f"val_{method.objective}",
        plan.space.hyperparameters(),
        trials=method.trials,
        epochs=plan.space.base.epochs,
        factor=method.factor,
        seed=method.seed,
    )


def tuner_of(plan: SearchPlan, oracle: "Lasting", out: Path, renew_after: int) -> "GenreTuner":
    """Make the tuner of a search: what runs its trials in this process."""
    from tuning.hparams import write_hparams
    from tuning.trials import TrialRunner
    from tuning.tuner import GenreTuner

    method = plan.method
    runner = TrialRunner(plan.data(out), out, plan.preset, method.seeds, keep=method.tuner == "hyperband")
    return GenreTuner(
        oracle,
        plan.space,
        runner,
        method.objective,
        out,
        renew_after,
        on_result=lambda result: write_hparams(out, result),
    )


def search_alone(plan: SearchPlan, out: Path, renew_after: int = 0) -> bool:
    """Search in this process; return whether it left to be renewed."""
    from tuning.tuner import RenewalError

    with kerastuner_silent():
        oracle = oracle_of(plan)
        tuner = tuner_of(plan, oracle, out, renew_after)
        with reporting(plan, oracle, out):
            try:
                tuner.search()
            except RenewalError:
                return True
    return False


@contextlib.contextmanager
def kerastuner_silent() -> Iterator[None]:
    """Hide what KerasTuner prints: no data, and its protocol prints the value of every condition."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


@contextlib.contextmanager
def reporting(plan: SearchPlan, oracle: Any, out: Path) -> Iterator[None]:
    """Show the trials as they end: which, the best so far, the time left."""
    objective = plan.method.objective

    def ended(trial) -> None:
        if trial.score is None:
            why = trial.message or read_failure(out, trial.trial_id) or "why is known where it ran"
            progress.say(f"trial {trial.trial_id} failed: {why}")
        best = oracle.best()
        note = f"best {objective} {best.score:.3f} (trial {best.trial_id})" if best else "none has succeeded"
        own = f"trial {trial.trial_id}: {trial.score:.3f}, " if trial.score is not None else ""
        progress.advance(note=own + note)

    with Progress(plan.trials, "trials", done=len(oracle.end_order), plain_seconds=1.0) as progress:
        oracle.on_end = ended
        yield


def search_with_workers(plan: SearchPlan, options: argparse.Namespace, words: list[str]) -> None:
    """Search by worker processes, here or elsewhere."""
    from tuning.chief import listening
    from tuning.workers import LocalWorkers, address_of, visible_gpus

    host, port = address_of(options.chief) if options.chief else ("127.0.0.1", 0)
    with contextlib.ExitStack() as stack:
        stack.enter_context(kerastuner_silent())
        oracle = oracle_of(plan)
        oracle.take_up(options.out, TUNER)
        stack.enter_context(reporting(plan, oracle, options.out))
        chief = stack.enter_context(listening(oracle, host, port, plan.identity()))
        if options.workers:
            plan.data(options.out)
            command = [sys.executable, "-m", "tuning.search", *without_flag(words, "--workers")]
            command += ["--worker", f"127.0.0.1:{chief.port}"]
            workers = stack.enter_context(LocalWorkers(options.workers, command, options.out / WORKERS, visible_gpus()))
            chief.watch(
                options.silence_seconds,
                options.wait_seconds,
                lambda: workers.look_after(chief, len(oracle.end_order), chief.is_over),
            )
        else:
            cli.say(f"listening on {host}:{chief.port} for workers")
            chief.watch(options.silence_seconds, options.wait_seconds)


def without_flag(words: Sequence[str], flag: str) -> list[str]:
    """Return the words of a command without a flag and its value."""
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word == flag:
            skip = True
        elif not word.startswith(f"{flag}="):
            kept.append(word)
    return kept


def run_worker(plan: SearchPlan, options: argparse.Namespace) -> None:
    """Run trials for a chief until it has no more."""
    from tuning.workers import address_of, asking, check_chief, end_with_parent, start_again, worker_environment

    end_with_parent()
    host, port = address_of(options.worker)
    os.environ.update(worker_environment(host, port))
    claim(options.out, plan.identity())

    from tuning.tuner import RenewalError

    with kerastuner_silent(), asking(host, port, options.wait_seconds):
        tuner = tuner_of(plan, oracle_of(plan), options.out, options.renew_after)
        check_chief(tuner, plan.identity())
        cli.say(f"working for {host}:{port} as {tuner.tuner_id}")
        try:
            tuner.search()
        except RenewalError:
            start_again()
