"""Measure how many clips a second workers of a Ray cluster get through, one and two of them, beside local processes.

Command: `python -m benchmarks.ray_workers`. It writes a table in Markdown and the same numbers as JSON. The rate is
that of the clips after the first ones, which wait for the start of the workers; these must be more than are in hand at
a time.
"""

import argparse
import contextlib
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.front_end import RATE, made_up_music
from keras_genre import cli, files
from keras_genre.extract import Job, LocalWorkers, Workers
from keras_genre.params import FrontEndParams
from keras_genre.ray_workers import ray_workers

RESULTS = Path(__file__).resolve().parent / "results" / "ray_workers.json"
CLIP_SECONDS = 30.0

SIDES: dict[str, Callable[[], contextlib.AbstractContextManager[Workers]]] = {
    "Ray, 1 worker": lambda: ray_workers("local", 1),
    "Ray, 2 workers": lambda: ray_workers("local", 2),
    "local, 1 process": lambda: contextlib.nullcontext(LocalWorkers(1)),
    "local, 2 processes": lambda: contextlib.nullcontext(LocalWorkers(2)),
}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = cli.parser("benchmarks.ray_workers", "Compare one and two workers of a Ray cluster with local processes.")
    parser.add_argument("--clips", type=int, default=32, metavar="N", help="that are timed, each round")
    parser.add_argument("--warm-up", type=int, default=16, metavar="N", help="clips before them")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each side is timed, in turn")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        jobs = make_jobs(Path(folder), options.warm_up + options.clips)
        for number in range(options.rounds):
            for name, start in SIDES.items():
                measured[name].append(measure(start, jobs, options.warm_up))
                rate = measured[name][-1]["clips_per_second"]
                cli.say(f"round {number + 1}, {name}: {rate:.2f} clips/s")
    rows = {
        name: {key: statistics.median(row[key] for row in rounds) for key in rounds[0]}
        for name, rounds in measured.items()
    }
    about = {
        "command": f"python -m benchmarks.ray_workers --clips {options.clips} --warm-up {options.warm_up} "
        f"--rounds {options.rounds}",
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "ray": metadata.version("ray"),
        "load_average": round(os.getloadavg()[2], 1),
        **{name: getattr(options, name) for name in ("clips", "warm_up", "rounds")},
    }
    files.write_json(options.results, {"about": about, "medians": rows, "rounds": measured})
    files.write_text(options.results.with_suffix(".md"), table(about, rows))
    print(table(about, rows), end="")
    return cli.DONE


def make_jobs(folder: Path, count: int) -> list[Job]:
    """Write a file of music and return jobs that all compute its features."""
    path = folder / "clip.wav"
    soundfile.write(path, np.clip(made_up_music(CLIP_SECONDS), -1, 1), RATE)
    return [Job(path, f"clip {number}", 22050, 1.0, 60.0, FrontEndParams("spectral33")) for number in range(count)]


def measure(
    start: Callable[[], contextlib.AbstractContextManager[Workers]], jobs: Sequence[Job], warm_up: int
) -> dict[str, float]:
    """Return the rate after the first clips, and the seconds from the start of the workers to the first clip."""
    begun = time.perf_counter()
    moments = []
    with start() as workers:
        for result in workers.run(jobs):
            if result.frames is None:
                raise RuntimeError(result.error)
            moments.append(time.perf_counter())
    return {
        "clips_per_second": (len(jobs) - warm_up) / (moments[-1] - moments[warm_up - 1]),
        "first_clip_seconds": moments[0] - begun,
    }


def table(about: dict, rows: dict[str, dict[str, float]]) -> str:
    """Return the results as Markdown."""
    first = next(iter(rows.values()))["clips_per_second"]
    lines = [
        f"Made by `{about['command']}`, {about['date']}: `spectral33` of clips of {CLIP_SECONDS:.0f} s, "
        f"{about['cores']} cores ({about['machine']}), Ray {about['ray']}, medians of {about['rounds']} rounds of "
        f"{about['clips']} clips in turn; other work on the machine, load average {about['load_average']}.",
        "",
        "| workers | clips/s | times one Ray worker | first clip after |",
        "|---|---:|---:|---:|",
    ]
    for name, row in rows.items():
        rate = row["clips_per_second"]
        lines.append(f"| {name} | {rate:.1f} | {rate / first:.2f} | {row['first_clip_seconds']:.1f} s |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
