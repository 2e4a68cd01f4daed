"""Every system of the original beside its PyTorch twin, an SVM and chance: the tables of README and docs/results.md.

Command: `python -m benchmarks.seed_systems [--data-set NAME] [--source FILE.npz]`.

Each run is a line of `RESULTS/DATA_SET.jsonl`, written when it is done: an interrupted command goes on where it was.
The tables are made of these lines alone.
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracies import accuracy_cells, accuracy_of, clip_hits, difference_cell, mean_difference
from benchmarks.systems import DATA_SETS, DataSet, Task, fingerprint, has_seeds, run, systems_of, threads_of_worker
from keras_genre import cli, files
from keras_genre.errors import ParameterError, StoreError
from keras_genre.extract import end_with_parent
from keras_genre.progress import Progress
from keras_genre.store import MANIFEST

RESULTS = Path(__file__).resolve().parent / "results" / "seed_systems"
RUNS_OF_A_WORKER = 20


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = cli.parser("benchmarks.seed_systems", "Compare every system of the original with its peers.")
    parser.add_argument("--data-set", choices=DATA_SETS, default="embedded")
    parser.add_argument("--source", type=Path, metavar="FILE.npz", help="the features, for data sets not embedded here")
    parser.add_argument(
        "--systems", nargs="+", metavar="S", help="only these (preset:NAME, pytorch:NAME, svm:NAME, chance)"
    )
    add_run_flags(parser, RESULTS)
    return parser


def add_run_flags(parser: argparse.ArgumentParser, results: Path) -> None:
    """Add the flags that say how often `run_missing` runs what, and where the results are kept."""
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds 0 to N - 1")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="runs at a time, a thread each"
    )
    parser.add_argument("--results", type=Path, default=results, metavar="FOLDER", help="where results are kept")
    parser.add_argument("--stores", type=Path, default=Path("data/benchmarks"), metavar="FOLDER", help="of --source")
    parser.add_argument("--table-only", action="store_true", help="make the tables of the results there are")


def check_run_flags(options: argparse.Namespace) -> None:
    """Refuse values of the flags of `add_run_flags` that make no run.

    Raises
    ------
    ParameterError
        Naming the flags.
    """
    if min(options.seeds, options.jobs) < 1:
        raise ParameterError("--seeds and --jobs must be at least 1")


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    check_run_flags(options)
    name = options.data_set
    data_set = DATA_SETS[name]
    systems = systems_of(data_set)
    if unknown := sorted(set(options.systems or ()) - set(systems)):
        raise ParameterError(f"--systems: {', '.join(unknown)} unknown; known for {name}: {', '.join(systems)}")
    stores = data_set.stores or import_source(data_set, options.source, options.stores / name)
    with files.locked_folder(options.results):
        lines = options.results / f"{name}.jsonl"
        # Seeds before folds: an interrupted comparison is then one of all systems.
        tasks = [
            Task(name, str(stores), system, fold, seed)
            for seed in range(options.seeds)
            for fold in folds_of(data_set)
            for system in systems
            if has_seeds(system) or not seed
        ]
        if not options.table_only:
            run_missing([task for task in tasks if task.system in (options.systems or systems)], lines, options.jobs)
        found = finished(lines, tasks)
        if not found:
            raise StoreError(f"{lines}: holds no result of these systems yet")
        command = f"python -m benchmarks.seed_systems --data-set {name}" + (
            " --source FILE.npz" if data_set.archive else ""
        )
        command += shown_flags(make_parser(), options, ("seeds",))
        summary = summarise(data_set, found, command)
        files.write_json(options.results / f"{name}.json", summary)
        text = table(summary)
        files.write_text(options.results / f"{name}.md", text)
    print(text, end="")
    return cli.DONE


def folds_of(data_set: DataSet) -> range:
    """Return the numbers of the folds that are tested in turn; the split of a data set counts as one."""
    return range(max(data_set.folds, 1))


def shown_flags(parser: argparse.ArgumentParser, options: argparse.Namespace, names: Sequence[str]) -> str:
    """Return those of the named flags that were not left at their default, as they are given, each after a space."""
    words = []
    for name in names:
        value = getattr(options, name)
        if value != parser.get_default(name):
            values = value if isinstance(value, list) else [value]
            words += [f" --{name.replace('_', '-')}", *(f" {shlex.quote(str(each))}" for each in values)]
    return "".join(words)


def import_source(data_set: DataSet, source: Path | None, store: Path) -> Path:
    """Make the store of a data set from its archive, if it is not there yet.

    Raises
    ------
    ParameterError
        If the archive is needed and not named.
    """
    from keras_genre.store import main as store_command

    if not (store / MANIFEST).is_file():
        if source is None:
            raise ParameterError("this data set is not in the repository: name its features with --source FILE.npz")
        words = [word for pair in data_set.archive.items() for word in pair]
        # The published split of GTZAN puts one artist on two sides; runs on folds make splits of their own.
        words.append("--allow-shared-groups")
        if store_command(["import", str(source), "--out", str(store), *words]) != cli.DONE:
            raise StoreError(f"{source}: could not be imported")
    return store


def run_missing(tasks: Sequence[Task], lines: Path, jobs: int) -> None:
    """Run the tasks that have no result yet, several at a time; add each result to the file as it comes."""
    mend(lines)
    by_fingerprint = {fingerprint(task): task for task in reversed(tasks)}
    have = {row["fingerprint"] for row in finished(lines, tasks)}
    missing = [
        task for task in tasks if by_fingerprint.get(fingerprint(task)) == task and fingerprint(task) not in have
    ]
    if not missing:
        return
    # Workers take the environment over when they start.
    os.environ.update(threads_of_worker(1))
    with Progress(len(by_fingerprint), "runs", done=len(by_fingerprint) - len(missing)) as progress:
        # Memory may grow from run to run, so workers are renewed; Python 3.11 deadlocks if its pool does that.
        for start in range(0, len(missing), jobs * RUNS_OF_A_WORKER):
            run_in_pool(missing[start : start + jobs * RUNS_OF_A_WORKER], lines, jobs, progress)


def run_in_pool(tasks: Sequence[Task], lines: Path, jobs: int, progress: Progress) -> None:
    """Run tasks in new worker processes; add each result to the file as it comes."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, context, initializer=end_with_parent) as pool:
        futures = {pool.submit(quiet_run, task): task for task in tasks}
        try:
            for future in concurrent.futures.as_completed(futures):
                result = future.result()
                with lines.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(result) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                share = np.mean([a == b for a, b in zip(result["expected"], result["predicted"], strict=True)])
                task = futures[future]
                progress.advance(note=f"{task.system} fold {task.fold} seed {task.seed}: {share:.3f}")
        except BrokenProcessPool as error:
            raise StoreError("a worker was killed; run the command again, it goes on") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def quiet_run(task: Task) -> dict[str, Any]:
    """Run a task without its progress display."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        shown, sys.stderr = sys.stderr, nowhere
        try:
            return run(task)
        finally:
            sys.stderr = shown


def mend(lines: Path) -> None:
    """Take a line out of a file of results that a killed process cut short; nobody else may be writing it."""
    if not lines.is_file():
        return
    text = lines.read_text(encoding="utf-8")
    whole = "".join(f"{line}\n" for line in text.splitlines() if _row(line))
    if whole != text:
        files.write_text(lines, whole)


def finished(lines: Path, tasks: Iterable[Task]) -> list[dict[str, Any]]:
    """Return the results of `tasks` that the file holds: of these parameters and data, and whole."""
    if not lines.is_file():
        return []
    rows = [row for line in lines.read_text(encoding="utf-8").splitlines() if (row := _row(line))]
    latest = {row["fingerprint"]: row for row in rows}
    return [
        latest[key] | {"system": task.system, "fold": task.fold, "seed": task.seed}
        for task in tasks
        if (key := fingerprint(task)) in latest
    ]


def _row(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except ValueError:
        return None


def summarise(data_set: DataSet, rows: Sequence[dict[str, Any]], command: str) -> dict[str, Any]:
    """Return the figures of every system, as JSON values; the difference to the twin is paired clip by clip."""
    folds = folds_of(data_set)
    hits = {system: clip_hits(rows, system, folds) for system in dict.fromkeys(row["system"] for row in rows)}
    systems = {}
    for system, by_seed in hits.items():
        if not by_seed:
            continue
        mine = [row for row in rows if row["system"] == system]
        systems[system] = {
            **accuracy_of(by_seed),
            "parameters": mine[0]["parameters"],
            "epochs": float(np.median([row["epochs"] for row in mine])),
            "seconds": float(np.median([row["seconds"] for row in mine])),
        }
        twin = hits.get(system.replace("preset:", "pytorch:"))
        if system.startswith("preset:") and twin:
            systems[system]["over_twin"] = mean_difference(by_seed, twin)
    return {
        "title": data_set.title,
        "folds": data_set.folds,
        "command": command,
        "date": max(row["date"] for row in rows),
        "systems": systems,
    }


def table(summary: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    how = f"{summary['folds']} artist-grouped folds" if summary["folds"] else "training -> validation split"
    lines = [
        f"Made by `{summary['command']}`, {summary['date']}: {summary['title']}; {how}.",
        "",
        "| system | accuracy | 95 % interval | seeds (deviation) | over its twin | parameters | epochs | time |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in summary["systems"].items():
        accuracy, interval, seeds = accuracy_cells(row)
        over = difference_cell(row.get("over_twin"))
        size = f"{row['parameters']:,}".replace(",", " ") if row["parameters"] else ""
        epochs = f"{row['epochs']:.0f}" if row["epochs"] else ""
        cells = [name, accuracy, interval, seeds if row["seeds"] > 1 else "-", over, size, epochs]
        cells.append(f"{row['seconds']:.0f} s")
        lines.append(f"| {' | '.join(cells)} |")
    clips = next(iter(summary["systems"].values()))["clips"]
    lines += ["", f"{clips} clips, each tested once a seed. Time: median of a run on one thread, training and scoring."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
