"""Kill commands at random moments, run them again, and compare what is there in the end with an uninterrupted run.

Command: `python -m benchmarks.kill_anywhere [precompute|train|export ...] [--rounds N] [--seconds S]`. It goes on where
it was interrupted, prints a table, and ends with status 1 if any end state was another. A round starts the command,
sends SIGKILL to it and its workers at a random moment of the time that it takes, and starts it again until it is done.
"""

import argparse
import contextlib
import csv
import dataclasses
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.front_end import RATE, made_up_music
from keras_genre import cli, files
from keras_genre.progress import Progress
from keras_genre.saved_models import require_whole

CLIPS = 80
SMALL = ["--window-frames", "32", "--epochs", "6", "--set", "model.lstm_units=16", "--set", "model.dropout=0.3"]

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
        "spectral33",
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


CASES = {
    "precompute": Case(_precompute, _bytes_of),
    "train": Case(_train, _run_of),
    "export": Case(_export, _export_of, lambda out: (out / "model" / "1").exists()),
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


def _start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    with log.open("ab") as file:
        # A group of its own, so that the workers can be killed with it.
        return subprocess.Popen(
            [sys.executable, "-m", *arguments], stdout=file, stderr=file, env=environment, start_new_session=True
        )


def make_music(folder: Path) -> None:
    """Write short clips of four genres."""
    music = made_up_music(30.0)
    for number in range(CLIPS):
        path = folder / f"genre {number % 4}" / f"{number:03d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        start = number * RATE // 4
        soundfile.write(path, music[start : start + 4 * RATE] * (0.5 + number % 4 / 8), RATE)


def make_reference(name: str, folder: Path) -> float:
    """Run a command without interruption, if that is not done yet; return how long it took."""
    record = folder / name / "seconds.json"
    if record.is_file():
        return json.loads(record.read_text())
    shutil.rmtree(folder / name, ignore_errors=True)
    (folder / name).mkdir(parents=True)
    begin = time.monotonic()
    status = _start(CASES[name].arguments(folder, folder / name / "reference"), folder / name / "log").wait()
    if status:
        raise SystemExit(f"{name}: status {status}; see {folder / name / 'log'}")
    files.write_json(record, time.monotonic() - begin)
    return json.loads(record.read_text())


def kill_once(name: str, folder: Path, moment_seconds: float) -> dict[str, Any]:
    """Kill a command at a moment, run it again and compare.

    Returns
    -------
    dict
        The moment, whether the command was still running then, and what differs: nothing if all is well.
    """
    case = CASES[name]
    out, log = folder / name / "killed", folder / name / "log"
    shutil.rmtree(out, ignore_errors=True)
    process = _start(case.arguments(folder, out), log)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(moment_seconds)
    was_running = process.poll() is None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wrong = ""
    if not case.is_done(out):
        status = _start(case.arguments(folder, out), log).wait()
        wrong = f"the second run has status {status}" if status else ""
    wrong = wrong or difference(case.state_of(out), case.state_of(folder / name / "reference"))
    if not wrong:
        shutil.rmtree(out)
    return {"moment_seconds": round(moment_seconds, 3), "was_running": was_running, "wrong": wrong}


def run(names: list[str], rounds: int, seed: int, seconds: float, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Do what is missing of so many rounds of each command, until the time is over."""
    end = time.monotonic() + seconds
    record = folder / "rounds.json"
    found = json.loads(record.read_text()) if record.is_file() else {}
    if not (folder / "music").is_dir():
        make_music(folder / "music.partial")
        (folder / "music.partial").rename(folder / "music")
    durations = {}
    for name in CASES:
        # Each case takes what the one before has made.
        durations[name] = make_reference(name, folder)
        if name == names[-1]:
            break
    done = sum(len(found.get(name, [])) for name in names)
    with Progress(rounds * len(names), "rounds", done=done) as progress:
        for number in range(rounds):
            for name in names:
                results = found.setdefault(name, [])
                if len(results) > number or time.monotonic() > end:
                    continue
                moment = random.Random(f"{name} {seed} {number}").uniform(0.0, 1.1 * durations[name])
                results.append(kill_once(name, folder, moment))
                files.write_json(record, found)
                progress.advance()
                if results[-1]["wrong"]:
                    progress.say(f"{name}, killed after {moment:.3f} s: {results[-1]['wrong']}")
                    shutil.move(folder / name / "killed", folder / name / f"wrong {number}")
    return {name: found.get(name, []) for name in names}


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return the results as Markdown."""
    lines = ["| command | rounds | killed while it ran | another end state |", "|---|---:|---:|---:|"]
    for name, results in found.items():
        killed, wrong = (sum(bool(each[key]) for each in results) for key in ("was_running", "wrong"))
        lines.append(f"| {name} | {len(results)} | {killed} | {wrong} |")
    return "\n".join(lines)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kill_anywhere", description=__doc__)
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"{', '.join(CASES)}; all by default")
    parser.add_argument("--rounds", type=int, default=100, metavar="N", help="of each command")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments")
    parser.add_argument("--seconds", type=float, default=1e9, metavar="S", help="stop then; the same command goes on")
    parser.add_argument("--out", type=Path, default=Path("kill_anywhere"), metavar="FOLDER")
    options = parser.parse_args()
    if unknown := set(options.commands) - set(CASES):
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(CASES)}")
    names = [name for name in CASES if name in (options.commands or CASES)]
    found = run(names, options.rounds, options.seed, options.seconds, options.out)
    print(table(found))
    return cli.SOME_FAILED if any(each["wrong"] for results in found.values() for each in results) else cli.DONE


if __name__ == "__main__":
    sys.exit(main())
