"""Label audio files with genres.

Command: `python -m keras_genre.predict FILE...`; takes files and folders.
"""

import argparse
import csv
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_genre import cli, files
from keras_genre.errors import AudioError, ParameterError
from keras_genre.extract import Extracted, Job, LocalWorkers, decode
from keras_genre.metrics import UNSURE_BELOW
from keras_genre.progress import Progress
from keras_genre.runs import read_run, require_audio_run
from keras_genre.saved_models import SHIPPED, is_saved_model, read_saved_model, require_waveforms

if TYPE_CHECKING:
    from keras_genre.prediction import Predictor


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = cli.parser("keras_genre.predict", "Label audio files with genres.")
    parser.formatter_class = argparse.HelpFormatter
    parser.add_argument("files", nargs="+", metavar="FILE", help="audio files, and folders of them")
    parser.add_argument(
        "--model",
        type=Path,
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
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write file, genre and all probabilities to a CSV")
    parser.add_argument("--max-seconds", type=float, default=3600.0, metavar="S", help="refuse longer files (3600)")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes that read files (default: one a core)")
    return parser


def listed_files(names: Sequence[str]) -> tuple[list[Path], dict[Path, str]]:
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
    for path in map(Path, names):
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
    require_audio_model(options.model)
    paths, failures = listed_files(options.files)
    from keras_genre.prediction import open_predictor

    predictor = open_predictor(options.model)
    results = predict_files(predictor, paths, failures, options)
    if options.csv:
        files.write_text(options.csv, results_csv(results, predictor.genres))
    if options.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    failed = [result for result in results if "error" in result]
    if failed and len(results) > 1:
        cli.say(f"{len(failed)} of {len(results)} files failed")
    return cli.SOME_FAILED if failed else cli.DONE


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
) -> list[dict[str, Any]]:
    """Classify files one after the other; print each result as it comes, unless JSON is wanted.

    Returns
    -------
    list of dict
        For each file what `Prediction.to_json` gives, or `{"file", "error"}`.
    """
    rate = predictor.sample_rate_hz
    shortest = predictor.minimum_samples / rate
    jobs = [Job(path, str(path), rate, shortest, options.max_seconds) for path in paths if path not in failures]
    results: list[dict[str, Any]] = []
    extracted = LocalWorkers(options.jobs or os.cpu_count() or 1).run(jobs, decode)
    with Progress(len(paths), "files") as progress:
        for path in paths:
            result: dict[str, Any]
            if path in failures:
                result = {"file": str(path), "error": failures[path]}
            else:
                found = next(extracted)
                for warning in found.warnings:
                    progress.say(f"warning: {warning}")
                result = _result(predictor, str(path), found, options.unsure_below)
            progress.advance()
            if "error" in result:
                progress.say(f"failed: {result['error']}")
            elif not options.json:
                print("\n".join(result_lines(result, options.top, options.timeline)), flush=True)
            results.append(result)
    return results


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


def results_csv(results: Sequence[dict[str, Any]], genres: Sequence[str]) -> str:
    """Return results as CSV text: file, genre, probability, unsure, error, then the probability of every genre."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["file", "genre", "probability", "unsure", "error", *genres])
    for result in results:
        if "error" in result:
            writer.writerow([result["file"], "", "", "", result["error"], *[""] * len(genres)])
        else:
            shares = [f"{result['probabilities'][genre]:.6f}" for genre in genres]
            sure = [f"{result['probability']:.6f}", int(result["unsure"]), ""]
            writer.writerow([result["file"], result["genre"], *sure, *shares])
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
