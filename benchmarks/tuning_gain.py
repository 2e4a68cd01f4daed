"""What a search gains: its winner beside its preset's defaults, on artist-grouped folds that the search did not see.

Command: `python -m benchmarks.tuning_gain [--data-set embedded|gtzan_taggrams] [--source FILE.npz]`.

Every fold of the data set is held out once: a search runs on the other clips, then its winner and the defaults are
trained on them from several seeds and tested on the fold. Both parts go on where they were interrupted.
"""

import argparse
import concurrent.futures
import contextlib
import csv
import dataclasses
import io
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracies import accuracy_cells, accuracy_of, clip_hits, difference_cell, mean_difference
from benchmarks.seed_systems import folds_of, import_source, shown_flags
from benchmarks.systems import DATA_SETS, DataSet, data_digest, divided, threads_of_worker, unusual
from keras_genre import cli, files
from keras_genre.errors import ParameterError, SearchError
from keras_genre.extract import end_with_parent
from keras_genre.models.presets import preset
from keras_genre.params import TrainParams, from_json, to_json
from keras_genre.progress import Progress
from keras_genre.store import Store, open_store
from tuning.project import read_result
from tuning.trials import without_retracing_warnings

RESULTS = Path(__file__).resolve().parent / "results" / "tuning_gain"

SPACES: dict[str, dict[str, Any]] = {
    "embedded": {},
    # A clip is 28 probabilities a tag: one window.
    "gtzan_taggrams": {"model.log_odds": [False, True]},
}
"""What varies on a data set beside the default space."""

SHOWN_FLAGS = ("preset", "tuner", "trials", "inner_folds", "seeds", "epochs", "outer_folds")


@dataclasses.dataclass(frozen=True)
class Run:
    """A training to be tested: parameters, on the clips outside a fold, from a seed."""

    data_set: str
    stores: str
    system: str
    params: TrainParams
    fold: int

    def key(self) -> str:
        """Return what tells it from others, features and split included."""
        kind = kind_of(Path(self.stores), self.params) or ""
        data = data_digest(self.data_set, self.stores, kind, self.fold)
        return json.dumps([self.data_set, self.system, unusual(self.params), self.fold, data], sort_keys=True)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = cli.parser("benchmarks.tuning_gain", "Test the winners of searches on folds that they did not see.")
    parser.add_argument("--data-set", choices=SPACES, default="embedded")
    parser.add_argument("--source", type=Path, metavar="FILE.npz", help="the features, for data sets not embedded here")
    parser.add_argument("--preset", default="lstm_optim", metavar="P")
    parser.add_argument("--tuner", choices=("random", "hyperband", "bayesian"), default="random")
    parser.add_argument("--trials", type=int, default=40, metavar="N", help="of each search")
    parser.add_argument("--inner-folds", type=int, default=2, metavar="K", help="that validate a trial")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="of the test: seeds 0 to N - 1")
    parser.add_argument("--epochs", type=int, metavar="N", help="at most (the preset's)")
    parser.add_argument("--outer-folds", type=int, nargs="+", metavar="N", help="only these")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes, a thread each")
    parser.add_argument("--searches", type=Path, default=Path("data/searches"), metavar="FOLDER")
    parser.add_argument("--stores", type=Path, default=Path("data/benchmarks"), metavar="FOLDER", help="of --source")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    if min(options.seeds, options.jobs, options.trials) < 1:
        raise ParameterError("--seeds, --jobs and --trials must be at least 1")
    data_set = DATA_SETS[options.data_set]
    stores = data_set.stores or import_source(data_set, options.source, options.stores / options.data_set)
    folds = options.outer_folds or list(folds_of(data_set))
    base = base_params(data_set, options)
    runs = []
    for fold in folds:
        out = options.searches / f"{options.data_set}-{options.preset}-{options.tuner}-fold{fold}"
        search(data_set, stores, fold, base, out, options)
        winner, trial = winner_of(out)
        cli.say(f"fold {fold}: trial {trial} won")
        runs += [
            Run(options.data_set, str(stores), system, dataclasses.replace(params, seed=seed), fold)
            for seed in range(options.seeds)
            for system, params in (("winner", winner), ("defaults", base))
        ]
    lines = options.results / f"{options.data_set}.jsonl"
    with files.locked_folder(options.results):
        rows = run_missing(runs, lines, options.jobs)
        summary = summarise(rows, options, data_set, runs)
        files.write_json(options.results / f"{options.data_set}.json", summary)
        text = table(summary)
        files.write_text(options.results / f"{options.data_set}.md", text)
    print(text, end="")
    return cli.DONE


def base_params(data_set: DataSet, options: argparse.Namespace) -> TrainParams:
    """Return the preset's defaults, which a search varies; both stop early alike."""
    params = preset(options.preset)
    changes = {"epochs": options.epochs} if options.epochs else {}
    return dataclasses.replace(params, early_stopping_epochs=data_set.early_stopping_epochs, **changes)


def search(
    data_set: DataSet, stores: Path, fold: int, base: TrainParams, out: Path, options: argparse.Namespace
) -> None:
    """Search on the clips outside a fold, which is the test split that a search never sees.

    Raises
    ------
    SearchError
        If it fails.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    split, space = out.with_suffix(".split.csv"), out.with_suffix(".space.json")
    files.write_text(split, split_list(data_set, open_store(stores, kind_of(stores, base)), fold))
    files.write_json(space, SPACES[options.data_set])
    words = [
        *(sys.executable, "-m", "tuning.search", "--preset", options.preset, "--data", str(stores)),
        *("--tuner", options.tuner, "--trials", str(options.trials), "--folds", str(options.inner_folds)),
        *("--epochs", str(base.epochs), "--set", f"early_stopping_epochs={base.early_stopping_epochs}"),
        *("--space", str(space), "--split-list", str(split), "--allow-shared-groups", "--out", str(out)),
        *(("--workers", str(options.jobs)) if options.jobs > 1 else ()),
    ]
    cli.say(f"searching outside fold {fold}: {out}")
    if status := subprocess.run(words, env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}).returncode:
        raise SearchError(f"{out}: the search ended with status {status}; run the command again, it goes on")


def kind_of(stores: Path, params: TrainParams) -> str | None:
    """Return the feature kind to take out of several stores; None for a lone store."""
    return None if (stores / "store.json").is_file() else params.features


def split_list(data_set: DataSet, store: Store, fold: int) -> str:
    """Return the division of the clips for a fold as a split list."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["track", "split"])
    writer.writerows([clip.track, clip.split] for clip in divided(store, data_set, fold))
    return buffer.getvalue()


def winner_of(out: Path) -> tuple[TrainParams, str]:
    """Return the parameters of the best trial of a search, and its name."""
    state = json.loads((out / "tuner" / "oracle.json").read_text(encoding="utf-8"))
    done = [trial for trial in state["trials"] if trial["status"] == "COMPLETED"]
    best = min(done, key=lambda trial: (-trial["score"], trial["trial_id"]))["trial_id"]
    result = read_result(out, best)
    if result is None:
        raise SearchError(f"{out}: trial {best} has left no result")
    return from_json(TrainParams, result["params"]), best


def run_missing(runs: Sequence[Run], lines: Path, jobs: int) -> list[dict[str, Any]]:
    """Run what has no line in the file yet, several at a time; return the lines of all runs."""
    found = read_lines(lines)
    missing = [run for run in runs if run.key() not in found]
    if missing:
        os.environ.update(threads_of_worker(1))
        context = multiprocessing.get_context("spawn")
        with (
            Progress(len(runs), "runs", done=len(runs) - len(missing)) as progress,
            concurrent.futures.ProcessPoolExecutor(jobs, context, initializer=end_with_parent) as pool,
            lines.open("a", encoding="utf-8") as file,
        ):
            futures = {pool.submit(tested, run): run for run in missing}
            for future in concurrent.futures.as_completed(futures):
                run, row = futures[future], future.result()
                found[run.key()] = row
                file.write(json.dumps({"key": run.key(), **row}) + "\n")
                file.flush()
                progress.advance(note=f"{run.system} fold {run.fold} seed {run.params.seed}")
    return [found[run.key()] | {"system": run.system, "fold": run.fold, "seed": run.params.seed} for run in runs]


def read_lines(lines: Path) -> dict[str, dict[str, Any]]:
    """Return the results in a file by their keys; a line that was cut short counts for nothing."""
    found = {}
    if lines.is_file():
        whole = []
        for line in lines.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            whole.append(line)
            found[row["key"]] = row
        files.write_text(lines, "".join(f"{line}\n" for line in whole))
    return found


def tested(run: Run) -> dict[str, Any]:
    """Train on the clips outside the fold, by their own validation clips, and test on the fold."""
    import keras

    from keras_genre import training
    from keras_genre.runs import load_model, read_history
    from keras_genre.scoring import score_clips

    data_set, started = DATA_SETS[run.data_set], time.perf_counter()
    stores = Path(run.stores)
    store = open_store(stores, kind_of(stores, run.params))
    store = store.with_clips(divided(store, data_set, run.fold))
    rows = sorted(store.rows_of("test"), key=lambda row: store.clips[row].track)
    keras.backend.clear_session()
    with tempfile.TemporaryDirectory() as name, without_retracing_warnings():
        folder = Path(name)
        with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):
            training.train(training.make_plan(store, run.params), run.system, folder)
        logits = score_clips(load_model(folder), store, rows)
        epochs = len(read_history(folder))
    expected = [store.genres.index(store.clips[row].genre) for row in rows]
    return {
        "expected": "".join(np.base_repr(label, 36) for label in expected),
        "predicted": "".join(np.base_repr(label, 36) for label in logits.argmax(axis=1)),
        "epochs": epochs,
        "seconds": round(time.perf_counter() - started, 2),
        "date": time.strftime("%Y-%m-%d"),
    }


def summarise(
    rows: Sequence[dict[str, Any]], options: argparse.Namespace, data_set: DataSet, runs: Sequence[Run]
) -> dict[str, Any]:
    """Return the figures, as JSON values; those of a clip are means over seeds, differences are paired clip by clip."""
    folds = sorted({run.fold for run in runs})
    hits = {system: clip_hits(rows, system, folds) for system in ("winner", "defaults")}
    winners = {str(run.fold): to_json(run.params) for run in runs if run.system == "winner" and not run.params.seed}
    return {
        "title": data_set.title,
        "command": f"python -m benchmarks.tuning_gain --data-set {options.data_set}"
        + (" --source FILE.npz" if data_set.archive else "")
        + shown_flags(make_parser(), options, SHOWN_FLAGS),
        "date": max(row["date"] for row in rows),
        "preset": options.preset,
        "tuner": options.tuner,
        "trials": options.trials,
        "folds": folds,
        "systems": {system: accuracy_of(by_seed) for system, by_seed in hits.items()},
        "gain": mean_difference(hits["winner"], hits["defaults"]),
        "winners": winners,
    }


def table(summary: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    lines = [
        f"Made by `{summary['command']}`, {summary['date']}: {summary['title']}; {len(summary['folds'])} "
        f"artist-grouped folds, each held out of a {summary['tuner']} search of {summary['trials']} trials.",
        "",
        f"| `{summary['preset']}` | accuracy | 95 % interval | seeds (deviation) | over the defaults |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, row in summary["systems"].items():
        gain = difference_cell(summary["gain"] if name == "winner" else None)
        lines.append(f"| {' | '.join([name, *accuracy_cells(row), gain])} |")
    clips = summary["systems"]["winner"]["clips"]
    lines += ["", f"{clips} clips, each tested once a seed."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
