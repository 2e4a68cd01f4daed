"""Label audio files with genres.

Command: `python -m keras_genre.predict FILE...`; takes files and folders.
"""

import argparse
import contextlib
import io
import json
import math
import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_genre import cli
from keras_genre.errors import AudioError, ParameterError
from keras_genre.extract import Extracted, Job, LocalWorkers, decode
from keras_genre.label_table import NAMES, label_table, remove_rows, require_no_rows, rows_of
from keras_genre.metrics import UNSURE_BELOW
from keras_genre.places import local_path
from keras_genre.progress import Progress
from keras_genre.runs import read_run, require_audio_run
from keras_genre.saved_models import SHIPPED, is_saved_model, read_saved_model, require_waveforms

if TYPE_CHECKING:
    from keras_genre.prediction import Predictor


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = cli.parser("keras_genre.predict", "Label audio files with genres.")
    parser.formatter_class = argparse.HelpFormatter
    parser.add_argument("files", type=local_path, nargs="+", metavar="FILE", help="audio files, and folders of them")
    parser.add_argument(
        "--model",
        type=local_path,
        metavar="RUN",
        default=SHIPPED,
        help="run folder, or a SavedModel of keras_genre.export: NAME/1, or NAME for its newest version (default: "
        f"saved_models/{SHIPPED.name}, the one that comes with keras_genre)",
    )
    parser.add_argument("--top", type=int, default=1, metavar="K", help="show the K most probable genres")
    parser.add_argument(
        "--unsure-below",
        type=float,
        default=UNSURE_BELOW,
        metavar="P",
        help=f"say 'not sure' of a file whose genre is less probable; a calibrated model is right on fewer than that "
        f"share of such files (default: {UNSURE_BELOW})",
    )
    parser.add_argument("--timeline", action="store_true", help="show the course over time")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument(
        "--csv",
        type=local_path,
        metavar="OUT",
        help="write file, genre and all probabilities to a CSV, a row as soon as a file is done; one that is there "
        "already is left alone, unless one of the next three says what to do with it",
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="label only the files that have no row in --csv yet")
    existing.add_argument(
        "--retry-failed",
        action="store_true",
        help="the same, and label those files again whose row says why they failed",
    )
    existing.add_argument("--overwrite", action="store_true", help="start --csv anew, whatever it holds")
    parser.add_argument(
        "--max-seconds",
        type=float,
        default=3600.0,
        metavar="S",
        help="refuse longer files (3600); the lower, the more files are decoded ahead",
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="processes that read files (default: one a core)")
    return parser


def listed_files(names: Sequence[Path]) -> tuple[list[Path], dict[Path, str]]:
    """Find the files that names stand for: a folder for the audio files in it, at any depth.

    Returns
    -------
    paths : list of Path
        In the order of `names`, those of a folder by name.
    failures : dict
        Folders that hold no audio file, with the reason; they are among `paths`.
    """
    from keras_genre.audio import AUDIO_EXTENSIONS

    paths: list[Path] = []
    failures: dict[Path, str] = {}
    for path in names:
        if not path.is_dir():
            paths.append(path)
            continue
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in AUDIO_EXTENSIONS and p.is_file())
        inside = [p for p in inside if not p.name.startswith(".")]
        if not inside:
            failures[path] = f"{path}: is a folder without audio files"
        paths += inside or [path]
    return paths, failures


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    if options.top < 1 or (options.jobs is not None and options.jobs < 1):
        raise ParameterError("--top and --jobs must be at least 1")
    if not 0 <= options.unsure_below <= 1:
        raise ParameterError("--unsure-below must be a probability, from 0 to 1")
    if not 0 < options.max_seconds < math.inf:
        raise ParameterError(f"--max-seconds must be a positive number, not {options.max_seconds:g}")
    goes_on = options.resume or options.retry_failed
    if options.csv is None and (goes_on or options.overwrite):
        raise ParameterError(
            "--resume, --retry-failed and --overwrite go with --csv OUT, the table to go on with or to replace"
        )
    if options.csv and not (goes_on or options.overwrite):
        require_no_rows(options.csv)
    require_audio_model(options.model)
    paths, failures = listed_files(options.files)
    from keras_genre.prediction import open_predictor

    predictor = open_predictor(options.model)
    require_room_for_a_window(options.max_seconds, predictor, options.model)
    if goes_on:
        paths = files_to_do(paths, options.csv, predictor.genres, retry_failed=options.retry_failed)
    table = label_table(options.csv, predictor.genres, resume=goes_on) if options.csv else no_table()
    shown = json_list() if options.json else lines_for_people(options.top, options.timeline)
    results = contextlib.closing(predict_files(predictor, paths, failures, options))
    failed = 0
    with table as add_row, shown as show, results as each:
        for result in each:
            add_row(result)
            show(result)
            failed += "error" in result
    if failed and len(paths) > 1:
        cli.say(f"{failed} of {len(paths)} files failed")
    return cli.SOME_FAILED if failed else cli.DONE


def files_to_do(paths: Sequence[Path], table: Path, genres: Sequence[str], *, retry_failed: bool) -> list[Path]:
    """Return the files that have no row in a table yet, and tell how many have; by wish those that failed lose theirs.

    Raises
    ------
    ParameterError
        If it is no table of a model with these genres.
    """
    rows = rows_of(table, genres)
    if retry_failed and (again := {str(path) for path in paths if rows.get(str(path))}):
        remove_rows(table, again)
        rows = {name: failure for name, failure in rows.items() if name not in again}
    wanted = [path for path in paths if str(path) not in rows]
    cli.say(f"{len(paths) - len(wanted)} of {len(paths)} files are in {table} already")
    return wanted


def require_room_for_a_window(max_seconds: float, predictor: "Predictor", model: Path) -> None:
    """Refuse a limit that no file could keep which the model takes.

    Raises
    ------
    ParameterError
    """
    window_seconds = predictor.minimum_samples / predictor.sample_rate_hz
    if max_seconds < window_seconds:
        raise ParameterError(
            f"--max-seconds {max_seconds:g}: is below the window of {model}, which takes files of {window_seconds:.3f} "
            "s and more"
        )


def require_audio_model(model: Path) -> None:
    """Refuse what is neither a run nor a SavedModel, or does not take audio, before TensorFlow is started for it.

    Raises
    ------
    RunError, SavedModelError
    """
    if is_saved_model(model):
        require_waveforms(model, read_saved_model(model))
    else:
        require_audio_run(model, read_run(model))


def predict_files(
    predictor: "Predictor", paths: Sequence[Path], failures: dict[Path, str], options: argparse.Namespace
) -> Generator[dict[str, Any]]:
    """Classify files one after the other; say of each that fails why.

    Yields
    ------
    dict
        For each file what `Prediction.to_json` gives, or `{"file", "error"}`.
    """
    rate = predictor.sample_rate_hz
    shortest = predictor.minimum_samples / rate
    jobs = [Job(path, str(path), rate, shortest, options.max_seconds) for path in paths if path not in failures]
    extracted = LocalWorkers(options.jobs or os.cpu_count() or 1).run(jobs, decode)
    with Progress(len(paths), "files") as progress:

        def result_of(path: Path) -> dict[str, Any]:
            # No longer than in here is a waveform in hand.
            if path in failures:
                return {"file": str(path), "error": failures[path]}
            found = next(extracted)
            for warning in found.warnings:
                progress.say(f"warning: {warning}")
            return _result(predictor, str(path), found, options.unsure_below)

        for path in paths:
            result = result_of(path)
            progress.advance()
            if "error" in result:
                progress.say(f"failed: {result['error']}")
            yield result


def _result(predictor: "Predictor", file: str, found: Extracted, unsure_below: float) -> dict[str, Any]:
    if found.error:
        return {"file": file, "error": found.error}
    try:
        return predictor.predict(file, found).to_json(unsure_below)
    except AudioError as error:
        return {"file": file, "error": str(error)}


def result_lines(result: dict[str, Any], top: int, timeline: bool) -> list[str]:
    """Return a prediction as lines for people: file, genre, probability; by wish the course over time."""
    best = list(result["probabilities"].items())[:top]
    lines = [f"{result['file']}\t" + "\t".join(f"{genre} {probability:.2f}" for genre, probability in best)]
    if result["unsure"]:
        lines[0] += "\tnot sure"
    if timeline:
        for window in result["windows"]:
            ranked = sorted(window["probabilities"].items(), key=lambda item: -item[1])[:top]
            shares = "\t".join(f"{genre} {probability:.2f}" for genre, probability in ranked)
            lines.append(f"  {window['start_seconds']:8.1f} - {window['end_seconds']:.1f} s\t{shares}")
    return lines


Show = Callable[[dict[str, Any]], None]


@contextlib.contextmanager
def no_table() -> Iterator[Show]:
    """Do nothing with results."""
    yield lambda result: None


@contextlib.contextmanager
def lines_for_people(top: int, timeline: bool) -> Iterator[Show]:
    """Print `result_lines` of every result that is no failure."""

    def show(result: dict[str, Any]) -> None:
        if "error" not in result:
            print("\n".join(result_lines(result, top, timeline)), flush=True)

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=NAMES)
    yield show


@contextlib.contextmanager
def json_list() -> Iterator[Show]:
    """Print results as a JSON list, each as it comes; the list is closed however the block ends."""
    before = "["

    def show(result: dict[str, Any]) -> None:
        nonlocal before
        # A name that is not UTF-8 has JSON's own escapes then.
        text = json.dumps(result, indent=2, ensure_ascii=False).encode(errors="backslashreplace").decode()
        text = text.replace("\n", "\n  ")
        print(f"{before}\n  {text}", end="", flush=True)
        before = ","

    try:
        yield show
    finally:
        print("[]" if before == "[" else "\n]", flush=True)


if __name__ == "__main__":
    sys.exit(main())
