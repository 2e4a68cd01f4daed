"""How long exported models take from a waveform to its genres, for a clip and for a song.

Command: `python -m benchmarks.model_latency SAVED_MODEL ...`; the models take waveforms. They are loaded as anybody
would load them, and called one after the other, in one process with its default number of threads.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from keras_genre import cli, files
from keras_genre.errors import ParameterError
from keras_genre.extract import Extracted
from keras_genre.saved_models import version_folder

RESULTS = Path(__file__).resolve().parent / "results" / "model_latency.md"
LENGTHS_SECONDS = (30, 240)
WARM_UP, CALLS = 2, 10


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, metavar="SAVED_MODEL")
    parser.add_argument("--calls", type=int, default=CALLS, metavar="N", help=f"timed of each length ({CALLS})")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE.md", help="where the table goes")
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    if options.calls < 1:
        raise ParameterError("--calls must be at least 1")
    from keras_genre.prediction import SavedModelPredictor

    lines = []
    for folder in map(version_folder, options.models):
        model = SavedModelPredictor(folder)
        for seconds in LENGTHS_SECONDS:
            clip = made_up_music(seconds, model.sample_rate_hz)
            taken = seconds_taken(model.predict, "made up", clip, calls=options.calls)
            low, median, high = np.quantile(taken, (0.25, 0.5, 0.75))
            lines.append(
                f"| {folder.parent.name}/{folder.name} | {seconds} s | {median:.3f} s ({low:.3f} to {high:.3f}) | "
                f"{seconds / median:.0f} |"
            )
    text = "\n".join(
        [
            f"Made by `python -m benchmarks.model_latency SAVED_MODEL ...`, {time.strftime('%Y-%m-%d')}: "
            f"{os.cpu_count()} cores; medians of {options.calls} calls, quartiles in brackets.",
            "",
            "| model | music | time | times faster than it plays |",
            "|---|---:|---:|---:|",
            *lines,
        ]
    )
    files.write_text(options.out, text + "\n")
    print(text)
    return cli.DONE


def made_up_music(seconds: int, sample_rate_hz: int) -> Extracted:
    """Return a decoded file: what it holds has no part in how long it takes."""
    from keras_genre.verification import made_up_clips

    return Extracted(waveform=made_up_clips(seconds * sample_rate_hz, sample_rate_hz)["music"], seconds=float(seconds))


def seconds_taken(call: Callable[..., object], *arguments: object, calls: int) -> list[float]:
    """Return how long calls took, after some that are not counted."""
    for _ in range(WARM_UP):
        call(*arguments)
    taken = []
    for _ in range(calls):
        started = time.perf_counter()
        call(*arguments)
        taken.append(time.perf_counter() - started)
    return taken


if __name__ == "__main__":
    sys.exit(main())
