"""Train, calibrate, export and measure the models that the repository ships.

Command: `python -m benchmarks.shipped_models MODEL --source FILE.npz [--audio FOLDER]`; `MODEL` is `gtzan10` or
`gtzan10_scratch`.

It goes on where it was interrupted. `FILE.npz` is described in docs/results.md: tag activations for `gtzan10`, log-mel
spectra for `gtzan10_scratch`. `FOLDER` holds audio files by track name, as `blues.00000.flac`, of which those outside
the training split are labelled and counted.
"""

import argparse
import contextlib
import csv
import dataclasses
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.seed_systems import import_source
from benchmarks.systems import DATA_SETS, REPOSITORY
from keras_genre import cli, files
from keras_genre.datasets import lists, splits
from keras_genre.errors import AudioError
from keras_genre.metrics import Scores
from keras_genre.models.presets import preset
from keras_genre.runs import MODEL, read_calibration, read_run, write_run
from keras_genre.saved_models import read_saved_model
from keras_genre.store import Store, open_store

PRESETS = {"gtzan10": "transfer", "gtzan10_scratch": "short_chunk_cnn"}
DATA = {"gtzan10": "gtzan_taggrams", "gtzan10_scratch": "gtzan_logmel"}
RESULTS = REPOSITORY / "benchmarks" / "results"

RMS_DBFS = -17.0
"""The median level of GTZAN's tracks at hand. The tag activations of the training tracks are of tracks as loud as they
are; this level moves them little, and a song gets the same label however loud its copy is."""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=PRESETS, metavar="MODEL", help=" or ".join(PRESETS))
    parser.add_argument("--source", type=Path, required=True, metavar="FILE.npz", help="features of GTZAN's tracks")
    parser.add_argument("--audio", type=Path, metavar="FOLDER", help="tracks to measure the exported model on")
    parser.add_argument("--work", type=Path, default=Path("runs/shipped"), metavar="FOLDER", help="of the runs")
    parser.add_argument("--out", type=Path, metavar="NAME/1", help="where the model goes (saved_models/MODEL/1)")
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    name = options.model
    store = open_store(import_source(DATA_SETS[DATA[name]], options.source, Path("data/benchmarks") / DATA[name]))
    out = options.out or REPOSITORY / "saved_models" / name / "1"
    work = options.work / name
    said = transfer(store, work, out) if name == "gtzan10" else from_scratch(store, work, out)
    command = f"python -m benchmarks.shipped_models {name} --source FILE.npz --audio FOLDER"
    lines = [f"Made by `{command}`, {time.strftime('%Y-%m-%d')}.", "", said]
    if options.audio:
        lines += ["", *audio_lines(out, options.audio)]
    text = "\n".join(lines) + "\n"
    files.write_text(RESULTS / f"{name}.md", text)
    print(text, end="")
    return cli.DONE


def transfer(store: Store, work: Path, out: Path) -> str:
    """Cross-validate the recipe, train on all tracks, calibrate by the folds, export; return what was found."""
    from keras_genre import calibration, training
    from keras_genre.exporting import export_saved_model
    from keras_genre.pipeline import label_rows
    from keras_genre.runs import load_model
    from keras_genre.scoring import score_clips

    name = PRESETS["gtzan10"]
    params = preset(name)
    folds = DATA_SETS[DATA["gtzan10"]].folds
    numbers = splits.grouped_folds(store.clips, folds)
    logits = np.zeros((len(store.clips), len(store.genres)))
    for fold in range(folds):
        divided = _divided(store, ["test" if number == fold else "train" for number in numbers])
        run = work / f"fold_{fold}"
        training.train(training.make_plan(divided, params), name, run, resume=True)
        rows = divided.rows_of("test")
        logits[rows] = score_clips(load_model(run), divided, rows)
    labels = label_rows(store)
    run = work / "all"
    training.train(training.make_plan(_divided(store, ["train"] * len(numbers)), params), name, run, resume=True)
    found = read_calibration(run) or calibration.divide_logits(run, logits, labels)
    levelled = _levelled(run, work / "levelled")
    cli.say(export_saved_model(levelled, out, replace=True).sentence())
    scores = Scores.of(store.genres, labels, logits.argmax(axis=1))
    return (
        f"In {folds} artist-grouped folds of the training tracks, one seed: {_found(scores, found)} "
        "The temperature was fitted on these answers."
    )


def from_scratch(store: Store, work: Path, out: Path) -> str:
    """Train on the training tracks, calibrate by the validation tracks, export; return what was found."""
    from keras_genre import calibration, training
    from keras_genre.evaluation import evaluate
    from keras_genre.exporting import export_saved_model

    name = PRESETS["gtzan10_scratch"]
    training.train(training.make_plan(store, preset(name)), name, work, resume=True)
    found = calibration.calibrate(work)
    assert found is not None
    cli.say(export_saved_model(work, out, replace=True).sentence())
    return (
        f"On the validation tracks, which chose the epoch and the temperature, one seed: "
        f"{_found(evaluate(work, 'validation'), found)}"
    )


def _found(scores: Scores, calibration: dict[str, Any]) -> str:
    by_genre = ", ".join(f"{genre} {row['recall']:.2f}" for genre, row in scores.per_genre().items())
    return (
        f"{scores.sentence()}. Of each genre found: {by_genre}. Temperature {calibration['temperature']:.3f}; expected "
        f"calibration error {calibration['error_before']:.3f} before it, {calibration['error_after']:.3f} after."
    )


def _levelled(run: Path, out: Path) -> Path:
    """Copy a run whose front end shall bring clips to one level; return the copy."""
    info = read_run(run)
    assert info.header.front_end is not None
    front_end = dataclasses.replace(info.header.front_end, rms_dbfs=RMS_DBFS)
    out.mkdir(exist_ok=True)
    shutil.copy(run / MODEL, out / MODEL)
    write_run(out, dataclasses.replace(info, header=dataclasses.replace(info.header, front_end=front_end)))
    return out


def _divided(store: Store, sides: Sequence[str]) -> Store:
    return store.with_clips(
        [dataclasses.replace(clip, split=side) for clip, side in zip(store.clips, sides, strict=True)]
    )


def audio_lines(model: Path, folder: Path) -> list[str]:
    """Label the tracks in a folder that the model was not trained on, as `predict` does, and say how many are right.

    Raises
    ------
    AudioError
        If a track cannot be labelled.
    """
    from keras_genre.predict import main as predict

    training = {row["track"] for row in lists.FAULT_FILTERED.rows() if row["split"] == "train"}
    paths = [str(path) for path in sorted(folder.glob("*.flac")) if path.stem not in training]
    with tempfile.TemporaryDirectory() as temporary:
        table = Path(temporary) / "labels.csv"
        with contextlib.redirect_stdout(sys.stderr):
            if predict([*paths, "--model", str(model), "--csv", str(table)]) != cli.DONE:
                raise AudioError(f"{folder}: not all tracks could be labelled")
        rows = list(csv.DictReader(table.open(encoding="utf-8", newline="")))
    genres = list(read_saved_model(model).genres)
    expected = np.array([genres.index(Path(row["file"]).name.split(".")[0]) for row in rows])
    predicted = np.array([genres.index(row["genre"]) for row in rows])
    sure = np.array([row["unsure"] == "0" for row in rows])
    scores = Scores.of(genres, expected, predicted)
    right = expected == predicted
    return [
        f"From audio to genre, on the {len(rows)} tracks at hand that are not training tracks of the fault-filtered "
        f"split: {scores.sentence()}.",
        f"It says 'not sure' of {(~sure).sum()} of them, of which {right[~sure].sum()} are right; of the others "
        f"{right[sure].sum()} of {sure.sum()}.",
        "",
        "| true \\ found | " + " | ".join(genres) + " |",
        "|---" + "|---:" * len(genres) + "|",
        *(
            f"| {genre} | " + " | ".join(str(count) if count else "" for count in row) + " |"
            for genre, row in zip(genres, scores.confusion, strict=True)
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
