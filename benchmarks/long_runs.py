"""Memory and time of what runs for long: many epochs, many trials, many requests, many tracks.

Command: `python -m benchmarks.long_runs [epochs|trials|requests|tracks|lengths ...]`. Every part is kept
as soon as it is measured, so the same command goes on where it was interrupted. It ends with status 1 if the memory of
a part is not flat: if over the second half of the work it grows by more than the bound.
"""

import argparse
import contextlib
import dataclasses
import functools
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.front_end import RATE, made_up_music
from benchmarks.processes import usage
from keras_genre import cli, files
from keras_genre.report import TRAIN_COLOUR, save_figure

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results" / "long_runs.json"
FIGURE = REPOSITORY / "docs" / "images" / "long_runs.png"
SAMPLE_SECONDS = 0.5
BOUND_MIB = 32.0
"""Growth over the second half of a part that is still called flat: what allocators keep for themselves."""

KEPT_SAMPLES = 80
SPLIT = ("train", "train", "train", "validation", "test")
TRACK_SECONDS = 0.5
LONG_SECONDS = (0.5, 30.0, 600.0, 7200.0)
LONG_RATE = 8000
REQUEST_SECONDS = 2.0
BAD_REQUESTS = 10
"""One in so many requests is one that must be refused."""

SPACE: dict[str, Any] = {
    "only": True,
    "learning_rate": {"low": 1e-3, "high": 2e-2, "log": True},
    "model.dropout": {"low": 0.0, "high": 0.5},
}
SMALL_CONV = ("window_frames=16", "windows_per_clip=1", "batch_size=32", "model.conv_filters=2", "model.dense_units=4")

Sample = tuple[float, int, float]
"""Seconds since the start, units of work done, MiB of memory."""


@dataclasses.dataclass(frozen=True)
class Watched:
    """What was seen of a command.

    Attributes
    ----------
    samples : list of Sample
    wall_seconds, seconds : float
        Time, and processor time of all its processes.
    peak_mib : float
        The most memory that all its processes had at a time, what they share counted for each.
    """

    samples: list[Sample]
    wall_seconds: float
    seconds: float
    peak_mib: float


def watched(words: Sequence[str], log: Path, done: Callable[[], int] = lambda: 0) -> Watched:
    """Run `python -m WORDS` in a session of its own and watch it.

    Parameters
    ----------
    words : sequence of str
    log : Path
        Gets what it says.
    done : callable
        Says how many units of work it has done.

    Raises
    ------
    SystemExit
        If it fails.
    """
    begin = time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], stdout=file, stderr=file, env=_environment(), start_new_session=True
        )
    samples: list[Sample] = []
    seconds = peak = 0.0
    while process.poll() is None:
        used = usage(process.pid)
        seconds, peak = max(seconds, used.seconds), max(peak, used.mib)
        samples.append((round(time.monotonic() - begin, 1), done(), round(used.mib, 1)))
        time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        raise SystemExit(f"{words[0]} ended with status {process.returncode}:\n{log.read_text()[-2000:]}")
    return Watched(samples, time.monotonic() - begin, seconds, peak)


def _environment() -> dict[str, str]:
    return os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}


def flatness(samples: Sequence[Sample], units: int) -> dict[str, Any]:
    """Return how memory grows over the second half of the work, by a straight line through its samples."""
    half = [(done, mib) for _, done, mib in samples if units / 2 <= done < units]
    done, mib = (np.array(each, float) for each in zip(*half, strict=True))
    slope = float(np.polyfit(done, mib, 1)[0])
    return {
        "second_half_mib": [round(float(np.median(part)), 1) for part in (mib[: len(mib) // 4], mib[-len(mib) // 4 :])],
        "kib_per_unit": round(1024 * slope, 3),
        "growth_mib": round(slope * units / 2, 1),
        "is_flat": slope * units / 2 <= BOUND_MIB,
    }


def curve(seen: Watched, units: int) -> dict[str, Any]:
    """Return what is kept of a part."""
    step = max(1, len(seen.samples) // KEPT_SAMPLES)
    return {
        "units": units,
        "wall_seconds": round(seen.wall_seconds, 1),
        "seconds": round(seen.seconds, 1),
        "peak_mib": round(seen.peak_mib, 1),
        **flatness(seen.samples, units),
        "curve": seen.samples[::step],
    }


# --- The data ---


def make_tracks(folder: Path, number: int) -> Path:
    """Write so many different tracks of ten genres, and a list of them that says their split."""
    music = np.int16(20_000 * made_up_music(30.0).clip(-1, 1))
    length = round(TRACK_SECONDS * RATE)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    lines = ["track,genre,file,group,split"]
    for track in range(number):
        genre = f"genre {track % 10}"
        path = partial / genre / f"{track:06d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        start = track * 997 % (len(music) - length)
        samples = music[start : start + length].copy()
        # No two alike: identical recordings would be kept together.
        samples[:4] = [track % 100, track // 100 % 100, track // 10_000, track % 10]
        soundfile.write(path, samples, RATE)
        split = SPLIT[track // 10 % len(SPLIT)]
        lines.append(f"{track:06d},{genre},{genre}/{track:06d}.wav,artist {track},{split}")
    files.write_text(partial / "tracks.csv", "\n".join(lines) + "\n")
    partial.rename(folder)
    return folder


def store_of(folder: Path, number: int) -> tuple[Path, Watched | None]:
    """Return a store of so many tracks, and what its computation took if that was done now."""
    tracks, out = folder / f"tracks {number}", folder / f"store {number}"
    if (out / "store.json").is_file():
        return out, None
    shutil.rmtree(out, ignore_errors=True)
    if not tracks.is_dir():
        make_tracks(tracks, number)
    words = ["keras_genre.precompute", str(tracks / "tracks.csv"), "--features", "mfcc13", "--out", str(out)]

    def done() -> int:
        return 64 * len(list(out.glob("shard-*.tfrecord")))

    seen = watched([*words, "--min-seconds", "0.1", "--jobs", "2"], folder / f"precompute {number}.log", done)
    shutil.rmtree(tracks)
    return out, seen


# --- The parts ---


def epochs(folder: Path, units: int, model: Path | None) -> dict[str, Any]:
    """Train a small network for many epochs."""
    store, _ = store_of(folder, 200)
    out = folder / "epochs"
    shutil.rmtree(out, ignore_errors=True)
    words = ["keras_genre.train", "--data", str(store), "--out", str(out), "--epochs", str(units), "--no-export"]
    words += [
        "--window-frames",
        "16",
        "--windows-per-clip",
        "1",
        "--set",
        "model.lstm_units=8",
        "--early-stopping",
        "0",
    ]

    def done() -> int:
        with contextlib.suppress(OSError):
            return (out / "history.csv").read_bytes().count(b"\n") - 1
        return 0

    return curve(watched(words, folder / "epochs.log", done), units)


def trials(folder: Path, units: int, model: Path | None) -> dict[str, Any]:
    """Search with many trials in one process."""
    store, _ = store_of(folder, 200)
    out = folder / "trials"
    files.write_json(folder / "space.json", SPACE)
    shutil.rmtree(out, ignore_errors=True)
    words = ["tuning.search", "--data", str(store), "--out", str(out), "--space", str(folder / "space.json")]
    words += ["--preset", "conv2d", "--set", "features=mfcc13", "--epochs", "1", "--trials", str(units)]
    words += [word for value in SMALL_CONV for word in ("--set", value)]
    words += ["--renew-after", "0"]

    def done() -> int:
        return len(list(out.glob("trials/*/result.json")))

    return curve(watched(words, folder / "trials.log", done), units)


def requests(folder: Path, units: int, model: Path | None) -> dict[str, Any]:
    """Send a server many requests: uploads and calls, one in ten of them bad."""
    model = model or small_model(folder)
    log = folder / "requests.log"
    begin = time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "keras_genre.serve", "--model", str(model), "--port", "0"],
            stdout=file,
            stderr=file,
            env=_environment(),
            start_new_session=True,
        )
    try:
        while not (found := re.search(r" on http://.*:(\d+)\n", log.read_text())):
            if process.poll() is not None:
                raise SystemExit(f"the server did not start:\n{log.read_text()}")
            time.sleep(0.1)
        samples: list[Sample] = []
        path = folder / "request.wav"
        soundfile.write(path, made_up_music(REQUEST_SECONDS), RATE)
        bodies = [path.read_bytes(), path.read_bytes()[:2000] + bytes(500)]
        peak = 0.0
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=120)
        for number in range(units):
            is_bad = number % BAD_REQUESTS == BAD_REQUESTS - 1
            connection.request("POST", "/v1/audio", bodies[is_bad])
            answer = connection.getresponse()
            content = answer.read()
            if answer.status // 100 != (4 if is_bad else 2):
                raise SystemExit(f"request {number}: {answer.status} {content[:300]!r}")
            if number % 50 == 0:
                mib = usage(process.pid).mib
                peak = max(peak, mib)
                samples.append((round(time.monotonic() - begin, 1), number, round(mib, 1)))
        seconds = usage(process.pid).seconds
    finally:
        process.terminate()
        process.wait()
    return curve(Watched(samples, time.monotonic() - begin, seconds, peak), units)


def small_model(folder: Path) -> Path:
    """Train and export a small network, which takes clips of half a second."""
    store, _ = store_of(folder, 200)
    out = folder / "model"
    if not (out / "saved_model" / "1").is_dir():
        shutil.rmtree(out, ignore_errors=True)
        words = ["keras_genre.train", "--data", str(store), "--out", str(out), "--epochs", "1", "--window-frames", "16"]
        watched([*words, "--set", "model.lstm_units=8"], folder / "model.log")
    return out / "saved_model"


def tracks(folder: Path, units: int, model: Path | None) -> dict[str, Any]:
    """Compute a store of many tracks, read an epoch of it, and train one."""
    store, seen = store_of(folder, units)
    if seen is None:
        raise SystemExit(f"{store}: is there already, so its time is unknown; remove it")
    common = ["--window-frames", "16", "--windows-per-clip", "1", "--batch-size", "256"]
    found = {"units": units, "precompute": _costs(seen)}
    found["pipeline"] = _costs(watched(["benchmarks.long_runs", "--read-epoch", str(store)], folder / "pipeline.log"))
    out = folder / f"run {units}"
    shutil.rmtree(out, ignore_errors=True)
    words = ["keras_genre.train", "--data", str(store), "--out", str(out), "--epochs", "1", "--no-export", *common]
    words += ["--set", "model.lstm_units=8"]
    found["epoch"] = _costs(watched(words, folder / f"train {units}.log"))
    shutil.rmtree(store)
    return found


def _costs(seen: Watched) -> dict[str, float]:
    return {
        "wall_seconds": round(seen.wall_seconds, 1),
        "seconds": round(seen.seconds, 1),
        "peak_mib": round(seen.peak_mib, 1),
    }


def read_epoch(path: Path) -> None:
    """Read the training windows of an epoch of a store."""
    from keras_genre.params import ModelParams, TrainParams
    from keras_genre.pipeline import training_windows
    from keras_genre.store import open_store

    store = open_store(path)
    params = TrainParams(
        features="mfcc13", window_frames=16, windows_per_clip=1, batch_size=256, epochs=1, model=ModelParams()
    )
    windows = 0
    for batch, _ in training_windows(store, store.rows_of("train"), store.header.dims, params):
        windows += len(batch)
    print(windows)


def lengths(folder: Path, units: int, model: Path | None) -> dict[str, Any]:
    """Compute features of clips of very different lengths in one folder, without the longest and with it."""
    music = made_up_music(30.0)[:: RATE // LONG_RATE]
    root = folder / "lengths"
    shutil.rmtree(root, ignore_errors=True)
    found: dict[str, Any] = {"units": units, "longest_seconds": LONG_SECONDS[-1]}
    for name, chosen in (("without", LONG_SECONDS[:-1]), ("with", LONG_SECONDS)):
        for number, seconds in enumerate(chosen):
            path = root / name / f"genre {number % 2}" / f"{seconds:g} s.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.resize(music, round(seconds * LONG_RATE)), LONG_RATE)
        words = ["keras_genre.precompute", str(root / name), "--features", "mfcc13", "--jobs", "1"]
        words += ["--min-seconds", "0.1", "--max-seconds", str(LONG_SECONDS[-1]), "--out", str(root / f"store {name}")]
        found[name] = _costs(watched(words, folder / f"lengths {name}.log"))
    shutil.rmtree(root)
    return found


# --- The whole, kept part by part ---

PARTS: dict[str, Callable[[Path, int, Path | None], dict[str, Any]]] = {
    "epochs": epochs,
    "trials": trials,
    "requests": requests,
    "lengths": lengths,
}
UNITS = {"epochs": 500, "trials": 200, "requests": 10_000, "lengths": len(LONG_SECONDS)}
SIZES = (1_000, 5_000, 50_000)


def parts_of(names: Sequence[str]) -> dict[str, Callable[[Path, Path | None], dict[str, Any]]]:
    """Return what is to be measured, by the name that a result has: `tracks` is a part for each size."""
    chosen: dict[str, Callable[[Path, Path | None], dict[str, Any]]] = {
        name: functools.partial(lambda part, units, folder, model: part(folder, units, model), part, UNITS[name])
        for name, part in PARTS.items()
        if name in names
    }
    if "tracks" in names:
        for size in SIZES:
            chosen[f"tracks {size}"] = functools.partial(
                lambda units, folder, model: tracks(folder, units, model), size
            )
    return chosen


def table(parts: dict[str, dict[str, Any]]) -> str:
    """Return the results as Markdown."""
    lines = [
        "| part | processor time | most memory | third quarter to end | growth over the second half | flat |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for name, found in parts.items():
        if "is_flat" in found:
            first, last = found["second_half_mib"]
            lines.append(
                f"| {found['units']} {name} | {found['seconds']:.0f} s | {found['peak_mib']:.0f} MiB"
                f" | {first:.0f} to {last:.0f} MiB | {found['growth_mib']:+.1f} MiB | "
                f"{'yes' if found['is_flat'] else 'no'} |"
            )
    sizes = {name: found for name, found in parts.items() if name.startswith("tracks")}
    if sizes:
        steps = ("precompute", "pipeline", "epoch")
        lines += [
            "",
            f"| tracks of {TRACK_SECONDS:g} s | " + " | ".join(f"{step} | memory" for step in steps) + " |",
            "|---:" * (1 + 2 * len(steps)) + "|",
        ]
        for found in sizes.values():
            cells = [f"{found[step]['seconds']:.0f} s | {found[step]['peak_mib']:.0f} MiB" for step in steps]
            lines.append(f"| {found['units']} | " + " | ".join(cells) + " |")
    if "lengths" in parts:
        without, together = (parts["lengths"][name] for name in ("without", "with"))
        lines += [
            "",
            f"Clips of {', '.join(f'{seconds:g}' for seconds in LONG_SECONDS)} s in one folder: "
            f"{together['seconds']:.0f} s and {together['peak_mib']:.0f} MiB; without the longest "
            f"{without['seconds']:.0f} s and {without['peak_mib']:.0f} MiB.",
        ]
    return "\n".join(lines) + "\n"


def draw(parts: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw memory over the work done."""
    from matplotlib.figure import Figure

    curves = {name: found for name, found in parts.items() if "curve" in found}
    if not curves:
        return
    figure = Figure(figsize=(3.2 * len(curves), 2.8), layout="constrained")
    for place, (name, found) in enumerate(curves.items(), 1):
        title = f"{found['units']} {name}"
        axes = figure.add_subplot(1, len(curves), place, title=title, xlabel="done", ylabel="memory (MiB)")
        memory = [mib for *_, mib in found["curve"]]
        axes.plot([done for _, done, _ in found["curve"]], memory, color=TRAIN_COLOUR)
        axes.set_ylim(0, 1.1 * max(memory))
        axes.grid(alpha=0.3)
    save_figure(figure, path)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long_runs", description=__doc__)
    known = (*PARTS, "tracks")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(known)}; all by default")
    parser.add_argument("--model", type=Path, metavar="NAME", help="to serve; by default a small one, made for it")
    parser.add_argument("--out", type=Path, default=Path("long_runs"), metavar="FOLDER", help="for what is made")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="JSON; a table beside it")
    parser.add_argument("--figure", type=Path, default=FIGURE, metavar="PNG")
    parser.add_argument("--read-epoch", type=Path, metavar="STORE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read_epoch:
        read_epoch(options.read_epoch)
        return cli.DONE
    if unknown := set(options.parts) - set(known):
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    options.out.mkdir(parents=True, exist_ok=True)
    kept: dict[str, Any] = json.loads(options.results.read_text())["parts"] if options.results.is_file() else {}
    for name, measure in parts_of(options.parts or known).items():
        if name not in kept:
            cli.say(name)
            kept[name] = measure(options.out.resolve(), options.model and options.model.resolve())
            result = {"command": "python -m benchmarks.long_runs", "bound_mib": BOUND_MIB, "parts": kept}
            files.write_json(options.results, result)
            files.write_text(options.results.with_suffix(".md"), table(kept))
            draw(kept, options.figure)
    print(table(kept), end="")
    return cli.DONE if all(found.get("is_flat", True) for found in kept.values()) else cli.SOME_FAILED


if __name__ == "__main__":
    sys.exit(main())
