"""A chief and four workers beside one process: trials an hour; two workers are killed and nothing is lost.

Command: `python -m benchmarks.tuning_workers`.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.search_runs import finish, start, state_of, trials_of, wait_until, words_of
from keras_genre import cli, files

RESULTS = Path(__file__).resolve().parent / "results" / "tuning_workers.json"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = cli.parser("benchmarks.tuning_workers", "Compare one process with a chief and workers, of which some die.")
    parser.add_argument("--trials", type=int, default=24, metavar="N")
    parser.add_argument("--epochs", type=int, default=20, metavar="N", help="of a trial")
    parser.add_argument("--workers", type=int, default=4, metavar="N")
    parser.add_argument("--kills", type=int, default=2, metavar="N", help="workers that are killed, at random moments")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments")
    parser.add_argument("--limit-seconds", type=float, default=3600.0, metavar="S", help="for a search")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alone_seconds = alone(folder, options)
        cli.say(f"one process: {alone_seconds:.0f} s")
        spread_seconds, killed = spread(folder, options)
        one, many = trials_of(folder / "alone"), trials_of(folder / "spread")
        losses = state_of(folder / "spread")["losses"]
    result = {
        "command": f"python -m benchmarks.tuning_workers --trials {options.trials} --epochs {options.epochs}",
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "trials": options.trials,
        "one_process": {"seconds": round(alone_seconds), "trials_per_hour": round(3600 * len(one) / alone_seconds)},
        f"chief_and_{options.workers}_workers": {
            "seconds": round(spread_seconds),
            "trials_per_hour": round(3600 * len(many) / spread_seconds),
            "workers_killed": killed,
            "trials_run_again": losses,
        },
        "same_trials": one.keys() == many.keys(),
        "same_results": sum(one[values] == many.get(values) for values in one),
    }
    files.write_json(options.results, result)
    print(files.json_text(result), end="")
    whole = result["same_trials"] and len(many) == options.trials
    return cli.DONE if whole and all(trial["status"] == "COMPLETED" for trial in many.values()) else cli.SOME_FAILED


def alone(folder: Path, options: argparse.Namespace) -> float:
    """Search in one process, on all cores; return the seconds."""
    words = words_of(folder / "alone", folder / "space.json", options.trials, options.epochs)
    started = time.monotonic()
    with (folder / "alone.log").open("w") as log:
        finish(start(words, log), folder / "alone.log", options.limit_seconds)
    return time.monotonic() - started


def spread(folder: Path, options: argparse.Namespace) -> tuple[float, list[dict[str, Any]]]:
    """Search with workers of which some are killed while they have a trial; return the seconds and the killed."""
    generator = random.Random(options.seed)
    # Each in a part of its own of the search.
    share = options.trials / (options.kills + 1)
    moments = [generator.uniform(number * share, (number + 1) * share) for number in range(options.kills)]
    more = ("--workers", str(options.workers))
    words = words_of(folder / "spread", folder / "space.json", options.trials, options.epochs, *more)
    killed = []
    log_path = folder / "spread.log"
    started = time.monotonic()
    with log_path.open("w") as log:
        process = start(words, log)
        for moment in moments:
            wait_until(lambda moment=moment: is_time(folder / "spread", moment), process, log_path)
            busy = sorted(state_of(folder / "spread")["ongoing_trials"].items())
            worker, trial = generator.choice(busy)
            os.kill(pid_of(process.pid, worker), signal.SIGKILL)
            after = round(time.monotonic() - started, 1)
            killed.append({"worker": worker, "trial": trial, "after_seconds": after})
            cli.say(f"killed {worker} after {after} s, in trial {trial}")
        finish(process, log_path, options.limit_seconds)
    return time.monotonic() - started, killed


def is_time(out: Path, moment: float) -> bool:
    """Tell whether so many trials have ended and another runs."""
    state = state_of(out)
    return len(state["end_order"]) >= int(moment) and bool(state["ongoing_trials"])


def pid_of(parent: int, worker: str) -> int:
    """Return the process of a worker."""
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        if f"KERASTUNER_TUNER_ID={worker}".encode() in variables:
            return int(child)
    raise ProcessLookupError(worker)


if __name__ == "__main__":
    sys.exit(main())
