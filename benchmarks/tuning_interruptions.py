"""A search that is killed again and again beside one that is not: the same trials, with the same results.

Command: `python -m benchmarks.tuning_interruptions`.
"""

import argparse
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.search_runs import finish, start, state_of, trials_of, words_of
from keras_genre import cli, files

RESULTS = Path(__file__).resolve().parent / "results" / "tuning_interruptions.json"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = cli.parser("benchmarks.tuning_interruptions", "Kill a search at random moments; compare what it finds.")
    parser.add_argument("--trials", type=int, default=12, metavar="N")
    parser.add_argument("--epochs", type=int, default=8, metavar="N", help="of a trial")
    parser.add_argument("--kills", type=int, default=5, metavar="N")
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
        started = time.monotonic()
        with (folder / "whole.log").open("w") as log:
            words = words_of(folder / "whole", folder / "space.json", options.trials, options.epochs)
            finish(start(words, log), folder / "whole.log", options.limit_seconds)
        seconds = time.monotonic() - started
        cli.say(f"uninterrupted: {seconds:.0f} s")
        killed = interrupted(folder, options, seconds)
        whole, other = trials_of(folder / "whole"), trials_of(folder / "killed")
    result = {
        "command": f"python -m benchmarks.tuning_interruptions --trials {options.trials} --epochs {options.epochs}",
        "date": time.strftime("%Y-%m-%d"),
        "trials": options.trials,
        "uninterrupted_seconds": round(seconds),
        **killed,
        "same_trials": whole.keys() == other.keys(),
        "same_results": whole == other,
    }
    files.write_json(options.results, result)
    print(files.json_text(result), end="")
    return cli.DONE if result["same_results"] and len(whole) == options.trials else cli.SOME_FAILED


def interrupted(folder: Path, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """Run the search with SIGKILLs at random moments; return when they came and what had been done."""
    generator = random.Random(options.seed)
    words = words_of(folder / "killed", folder / "space.json", options.trials, options.epochs)
    kills = []
    started = time.monotonic()
    log_path = folder / "killed.log"
    with log_path.open("w") as log:
        for _ in range(options.kills):
            process = start(words, log)
            # Evenly over what the whole takes, the start of a process included.
            after = generator.uniform(0.0, 1.5 * seconds / (options.kills + 1))
            ends = time.monotonic() + after
            while time.monotonic() < ends and process.poll() is None:
                time.sleep(0.02)
            if process.poll() is not None:
                finish(process, log_path, options.limit_seconds)
                break
            process.send_signal(signal.SIGKILL)
            process.wait()
            done = len(state_of(folder / "killed")["end_order"])
            kills.append({"after_seconds": round(after, 1), "trials_done": done})
            cli.say(f"killed after {after:.1f} s, {done} trials done")
        finish(start(words, log), log_path, options.limit_seconds)
    return {"interrupted_seconds": round(time.monotonic() - started), "kills": kills}


if __name__ == "__main__":
    sys.exit(main())
