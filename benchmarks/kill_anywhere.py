"""Kill commands at random moments, run them again, and compare what is there in the end with an uninterrupted run.

Command: `python -m benchmarks.kill_anywhere [COMMAND ...] [--rounds N] [--seconds S]`. It goes on where it was
interrupted, writes a table, and ends with status 1 if any end state was another. A round starts the command, sends
SIGKILL to it and its workers at a random moment of the processor time that it takes, so that other load does not move
the moments, and starts it again until it is done. Commands are forks of this process, which has the libraries loaded:
a kill falls into their work and not into imports.
"""

import argparse
import contextlib
import csv
import dataclasses
import importlib
import io
import json
import os
import random
import runpy
import shutil
import signal
import sys
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.front_end import RATE, made_up_music
from benchmarks.processes import usage
from benchmarks.search_runs import trials_of
from keras_genre import cli, files
from keras_genre.progress import Progress
from keras_genre.saved_models import require_whole

RESULTS = Path(__file__).resolve().parent / "results" / "kill_anywhere.json"
POLL_SECONDS = 0.02
PRELOADED = (
    "keras_genre.training",
    "keras_genre.evaluation",
    "keras_genre.exporting",
    "keras_genre.report",
    "h5py",
    "tuning.tuner",
    "tuning.report",
)
CLIPS = 72
SMALL = ["--window-frames", "32", "--epochs", "6", "--set", "model.lstm_units=16", "--set", "model.dropout=0.3"]

SPACE = {
    "only": True,
    "learning_rate": {"low": 1e-3, "high": 2e-2, "log": True},
    "model.dropout": {"low": 0.0, "high": 0.5},
}
SEARCH = ["--preset", "conv2d", "--trials", "2", "--epochs", "2"]
for _value in (
    "features=mfcc13",
    "window_frames=16",
    "windows_per_clip=1",
    "batch_size=32",
    "model.conv_filters=2",
    "model.dense_units=4",
):
    SEARCH += ["--set", _value]

State = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """A command that is killed.

    Attributes
    ----------
    arguments : callable
        Gets the folder of all cases and the one to write to, and gives the arguments of `python`.
    state_of : callable
        Gets what was written, and gives all that must be equal.
    is_done : callable
        Whether the command has nothing left to do there.
    """

    arguments: Callable[[Path, Path], list[str]]
    state_of: Callable[[Path], State]
    is_done: Callable[[Path], bool] = lambda out: False


def _precompute(folder: Path, out: Path) -> list[str]:
    return [
        "keras_genre.precompute",
        str(folder / "music"),
        "--features",
        "mfcc13",
        "--out",
        str(out),
        "--jobs",
        "2",
    ]


def _train(folder: Path, out: Path) -> list[str]:
    go_on = ["--resume"] if (out / "run.json").is_file() else []
    data = str(folder / "precompute" / "reference")
    return ["keras_genre.train", "--data", data, "--out", str(out), *SMALL, "--no-export", *go_on]


def _export(folder: Path, out: Path) -> list[str]:
    return ["keras_genre.export", str(folder / "train" / "reference"), "--out", str(out / "model" / "1")]


def _search(folder: Path, out: Path) -> list[str]:
    files.write_json(folder / "space.json", SPACE)
    data = ["--data", str(folder / "precompute" / "reference"), "--space", str(folder / "space.json")]
    return ["tuning.search", *data, "--out", str(out), *SEARCH]


def _bytes_of(out: Path) -> State:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def _run_of(out: Path) -> State:
    """Return weights, optimizer, schedule, history and what was predicted; not durations, dates and drawings."""
    import h5py

    state: State = {"files": sorted(path.name for path in out.iterdir())}
    with (
        zipfile.ZipFile(out / "model.keras") as archive,
        h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file,
    ):
        file.visititems(lambda name, item: state.update({name: item[()]}) if hasattr(item, "shape") else None)
    with np.load(out / "checkpoint.npz", allow_pickle=False) as stored:
        state |= {f"checkpoint {name}": stored[name] for name in stored if name != "progression"}
        progression = json.loads(stored["progression"].tobytes())
    progression["history"] = [_without_time(row) for row in progression["history"]]
    state["progression"] = json.dumps(progression, sort_keys=True)
    with (out / "history.csv").open(newline="") as lines:
        state["history"] = [_without_time(row) for row in csv.DictReader(lines)]
    state["predictions"] = (out / "predictions.csv").read_bytes()
    return state


def _without_time(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "seconds"}


def _export_of(out: Path) -> State:
    require_whole(out / "model" / "1")
    return {"files": sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())}


def _search_of(out: Path) -> State:
    """Return every trial by its values: how it ended, with what score, and what its trainings found."""
    state: State = dict(trials_of(out))
    for path in sorted((out / "trials").glob("*/result.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        runs = [{name: run[name] for name in run if name not in ("seconds", "memory_mib")} for run in result["runs"]]
        state[f"runs of {json.dumps(result['values'], sort_keys=True)}"] = json.dumps(runs, sort_keys=True)
    state["files"] = sorted(path.name for path in out.iterdir() if path.name != "workers")
    return state


CASES = {
    "precompute": Case(_precompute, _bytes_of),
    "train": Case(_train, _run_of),
    "export": Case(_export, _export_of, lambda out: (out / "model" / "1").exists()),
    "search": Case(_search, _search_of),
    "search-workers": Case(lambda folder, out: [*_search(folder, out), "--workers", "2"], _search_of),
}


def difference(found: State, expected: State) -> str:
    """Name what differs between two states; nothing if they are equal, bit for bit."""
    if found.keys() != expected.keys():
        return f"other entries: {sorted(found.keys() ^ expected.keys())}"
    return ", ".join(name for name in expected if not _is_equal(found[name], expected[name]))


def _is_equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    return one == other


def preload() -> None:
    """Load what the commands need, and start nothing of it: a fork of a process that runs TensorFlow could hang."""
    os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    for name in PRELOADED:
        importlib.import_module(name)


def _start(arguments: list[str], log: Path) -> int:
    """Run `python -m ARGUMENTS` in a fork, in a session of its own, so that its workers can be found and killed."""
    sys.stdout.flush()
    sys.stderr.flush()
    if child := os.fork():
        return child
    status = 1
    try:
        os.setsid()
        with log.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.argv = ["", *arguments[1:]]
        # That a module is there already is what the fork is for.
        warnings.filterwarnings("ignore", category=RuntimeWarning, module="runpy")
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _watch(child: int, until_seconds: float = float("inf")) -> tuple[int | None, float]:
    """Wait until a command has ended or used so much processor time.

    Returns
    -------
    status : int or None
        None while it runs.
    seconds : float
        Processor time that it was seen to have used.
    """
    used = 0.0
    while used < until_seconds:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), used
        used = max(used, usage(child).seconds)
        time.sleep(random.uniform(0.0, 2 * POLL_SECONDS))
    return None, used


def _kill(session: int) -> None:
    """Kill a command that still runs, with all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(session, signal.SIGKILL)
    os.waitpid(session, 0)


def make_music(folder: Path) -> None:
    """Write short clips of four genres."""
    music = made_up_music(30.0)
    for number in range(CLIPS):
        path = folder / f"genre {number % 4}" / f"{number:03d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        start = number * RATE // 4
        soundfile.write(path, music[start : start + 4 * RATE] * (0.5 + number % 4 / 8), RATE)


def make_reference(name: str, folder: Path) -> float:
    """Run a command without interruption, if that is not done yet; return how much processor time it took."""
    record = folder / name / "seconds.json"
    if record.is_file():
        return json.loads(record.read_text())
    shutil.rmtree(folder / name, ignore_errors=True)
    (folder / name).mkdir(parents=True)
    arguments = CASES[name].arguments(folder, folder / name / "reference")
    status, seconds = _watch(_start(arguments, folder / name / "log"))
    if status:
        raise SystemExit(f"{name}: status {status}; see {folder / name / 'log'}")
    files.write_json(record, seconds)
    return seconds


def kill_once(name: str, folder: Path, moment_seconds: float) -> dict[str, Any]:
    """Kill a command when it has used so much processor time, run it again and compare.

    Returns
    -------
    dict
        The moment, whether the command was still running then, and what differs: nothing if all is well.
    """
    case = CASES[name]
    out, log = folder / name / "killed", folder / name / "log"
    shutil.rmtree(out, ignore_errors=True)
    child = _start(case.arguments(folder, out), log)
    status, _ = _watch(child, moment_seconds)
    was_running = status is None
    if was_running:
        _kill(child)
    wrong = ""
    if not case.is_done(out):
        status, _ = _watch(_start(case.arguments(folder, out), log))
        wrong = f"the second run has status {status}" if status else ""
    wrong = wrong or difference(case.state_of(out), case.state_of(folder / name / "reference"))
    if not wrong:
        shutil.rmtree(out)
    return {"moment_seconds": round(moment_seconds, 3), "was_running": was_running, "wrong": wrong}


Found = dict[str, dict[str, Any]]
"""Of every command the processor time of an uninterrupted run, and its rounds."""


def run(
    names: list[str], rounds: int, seed: int, seconds: float, folder: Path, kept: Found, keep: Callable[[Found], None]
) -> None:
    """Do what is missing of so many rounds of each command, until the time is over.

    Parameters
    ----------
    names : list of str
    rounds, seed : int
    seconds : float
    folder : Path
        For what the commands write.
    kept : dict
        What was found before, also of other commands.
    keep : callable
        Called after every round with all that is found.
    """
    end = time.monotonic() + seconds
    if not (folder / "music").is_dir():
        make_music(folder / "music.partial")
        (folder / "music.partial").rename(folder / "music")
    durations = {name: make_reference(name, folder) for name in CASES if name in (*names, *_needed(names))}
    found = {name: kept.get(name, {"rounds": []}) for name in CASES if name in (*kept, *names)}
    for name in names:
        found[name] |= {"seconds": durations[name]}
    done = sum(len(found[name]["rounds"]) for name in names)
    with Progress(rounds * len(names), "rounds", done=done) as progress:
        for number in range(rounds):
            for name in names:
                results = found[name]["rounds"]
                if len(results) > number or time.monotonic() > end:
                    continue
                moment = random.Random(f"{name} {seed} {number}").uniform(0.0, 1.05 * durations[name])
                results.append(kill_once(name, folder, moment))
                keep(found)
                progress.advance()
                if results[-1]["wrong"]:
                    progress.say(f"{name}, killed after {moment:.3f} s: {results[-1]['wrong']}")
                    shutil.move(folder / name / "killed", folder / name / f"wrong {number}")


def _needed(names: list[str]) -> list[str]:
    """Return the commands whose results others take."""
    return ["precompute", "train"] if "export" in names else ["precompute"]


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return the results as Markdown."""
    lines = [
        "| command | processor time | rounds | killed while it ran | another end state |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, result in found.items():
        killed, wrong = (sum(bool(each[key]) for each in result["rounds"]) for key in ("was_running", "wrong"))
        command = name.replace("-", " --") + (" 2" if "-" in name else "")
        lines.append(f"| {command} | {result['seconds']:.1f} s | {len(result['rounds'])} | {killed} | {wrong} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kill_anywhere", description=__doc__)
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"{', '.join(CASES)}; all by default")
    parser.add_argument("--rounds", type=int, default=100, metavar="N", help="of each command")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments")
    parser.add_argument("--seconds", type=float, default=1e9, metavar="S", help="stop then; the same command goes on")
    parser.add_argument("--out", type=Path, default=Path("kill_anywhere"), metavar="FOLDER")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="JSON; a table beside it")
    options = parser.parse_args()
    if unknown := set(options.commands) - set(CASES):
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(CASES)}")
    names = [name for name in CASES if name in (options.commands or CASES)]
    preload()
    kept: Found = json.loads(options.results.read_text())["commands"] if options.results.is_file() else {}

    def keep(found: Found) -> None:
        result = {"command": "python -m benchmarks.kill_anywhere", "date": time.strftime("%Y-%m-%d"), "commands": found}
        files.write_json(options.results, result)
        files.write_text(options.results.with_suffix(".md"), table(found))
        kept.update(found)

    run(names, options.rounds, options.seed, options.seconds, options.out.resolve(), kept, keep)
    print(table(kept), end="")
    wrong = any(each["wrong"] for result in kept.values() for each in result["rounds"])
    return cli.SOME_FAILED if wrong else cli.DONE


if __name__ == "__main__":
    sys.exit(main())
