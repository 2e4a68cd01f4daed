"""Train, calibrate, export and measure the models that the repository ships.

Command: `python -m benchmarks.shipped_models MODEL --taggrams FILE.npz --log-mel FILE.npz [--audio FOLDER]`; `MODEL` is
`gtzan10`, the mean of networks on tag activations and on log-mel spectra, or `gtzan10_scratch`, the mean of networks
on log-mel spectra alone. Networks of one kind differ in their seeds.

It goes on where it was interrupted. The files are described in docs/results.md. `FOLDER` holds audio files by track
name, as `blues.00000.flac`, of which those outside the training split are labelled and counted.
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

import numpy as np

from benchmarks.accuracies import hits_of, paired_difference
from benchmarks.seed_systems import import_source
from benchmarks.systems import DATA_SETS, REPOSITORY, params_of
from keras_genre import cli, files
from keras_genre.datasets import lists, splits
from keras_genre.errors import AudioError
from keras_genre.metrics import Scores, expected_calibration_error, softmax
from keras_genre.runs import MODEL, read_run, write_run
from keras_genre.saved_models import read_saved_model
from keras_genre.store import Store, open_store

MODELS = ("gtzan10", "gtzan10_scratch")
TAGS, MEL = "gtzan_taggrams", "gtzan_logmel"
PRESETS = {TAGS: "transfer", MEL: "short_chunk_cnn"}
# A stranger's file is seldom encoded as GTZAN's are.
STEADY = "short_chunk_cnn level_stretch=0.25 low_pass_bands=8"
"""The networks on log-mel spectra of `gtzan10`: a preset and what they have besides."""
RECIPES = DATA_SETS["embedded"]
"""A data set on which both presets keep all of their recipe."""
FOLDS = DATA_SETS[TAGS].folds
SEEDS = range(2)
"""Of the networks of each kind of `gtzan10`: as many of both, as the mean is one of networks."""
SCRATCH_SEEDS = range(5)
"""Of those of `gtzan10_scratch`, which have a million parameters together."""
RESULTS = REPOSITORY / "benchmarks" / "results"

RMS_DBFS = -17.0
"""The median level of GTZAN's tracks at hand. The tag activations of the training tracks are of tracks as loud as they
are; this level moves them little, and a song gets the same label however loud its copy is."""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS, metavar="MODEL", help=" or ".join(MODELS))
    parser.add_argument("--taggrams", type=Path, metavar="FILE.npz", help="tag activations of GTZAN's training tracks")
    parser.add_argument("--log-mel", type=Path, metavar="FILE.npz", help="log-mel spectra of GTZAN's tracks")
    parser.add_argument("--audio", type=Path, metavar="FOLDER", help="tracks to measure the exported model on")
    parser.add_argument("--work", type=Path, default=Path("runs/shipped"), metavar="FOLDER", help="of the runs")
    parser.add_argument("--out", type=Path, metavar="NAME/1", help="where the model goes (saved_models/MODEL/1)")
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    name = options.model
    tracks = tracks_to_label(options.audio) if options.audio else []
    out = options.out or REPOSITORY / "saved_models" / name / "1"
    mel = _store(MEL, options.log_mel)
    if name == "gtzan10":
        said = transfer_and_scratch(_store(TAGS, options.taggrams), mel, options.work, out)
        sources = "--taggrams FILE.npz --log-mel FILE.npz"
    else:
        said = from_scratch(mel, options.work, out)
        sources = "--log-mel FILE.npz"
    command = f"python -m benchmarks.shipped_models {name} {sources} --audio FOLDER"
    lines = [f"Made by `{command}`, {time.strftime('%Y-%m-%d')}.", "", said]
    if tracks:
        lines += ["", *audio_lines(out, tracks)]
    text = "\n".join(lines) + "\n"
    files.write_text(RESULTS / f"{name}.md", text)
    print(text, end="")
    return cli.DONE


def _store(data_set: str, source: Path | None) -> Store:
    return open_store(import_source(DATA_SETS[data_set], source, Path("data/benchmarks") / data_set))


def transfer_and_scratch(tags: Store, mel: Store, work: Path, out: Path) -> str:
    """Cross-validate both recipes, train them on all training tracks, calibrate by the folds, export their mean."""
    from keras_genre.calibration import fit_temperature
    from keras_genre.exporting import export_saved_model

    numbers = _fold_numbers(tags)
    recipes = [
        calibrated(tags, numbers, PRESETS[TAGS], SEEDS, work, rms_dbfs=RMS_DBFS),
        calibrated(mel, numbers, STEADY, SEEDS, work),
    ]
    shared = [track for track in numbers if all(track in recipe.logits for recipe in recipes)]
    labels = np.array([tags.genres.index(track.split(".")[0]) for track in shared])
    # (networks, clips, genres)
    networks = [np.stack([recipe.logits[track] for track in shared], axis=1) for recipe in recipes]
    mean = np.concatenate(networks).mean(axis=0)
    temperature = fit_temperature(mean, labels)
    runs = [run for recipe in recipes for run in recipe.runs]
    cli.say(export_saved_model(runs, out, replace=True, temperature=temperature).sentence())
    alone = "; ".join(
        f"{len(logits)} of `{PRESETS[name]}` {hits_of(logits.mean(axis=0), labels).mean():.3f} "
        f"(one {np.mean([hits_of(each, labels) for each in logits]):.3f} on average), the mean of all over them "
        f"{_difference(hits_of(mean, labels), hits_of(logits.mean(axis=0), labels))}"
        for name, logits in zip((TAGS, MEL), networks, strict=True)
    )
    return (
        f"In {FOLDS} artist-grouped folds of the training tracks: {_found(tags.genres, mean, labels, temperature)} The "
        f"temperature was fitted on these answers. Its networks alone: {alone}."
    )


def from_scratch(mel: Store, work: Path, out: Path) -> str:
    """Train on the training tracks from several seeds, calibrate the mean by the validation tracks, export it."""
    from keras_genre.calibration import fit_temperature
    from keras_genre.exporting import export_saved_model
    from keras_genre.pipeline import label_rows
    from keras_genre.runs import load_model
    from keras_genre.scoring import score_clips

    runs = [_trained(mel, PRESETS[MEL], work, seed) for seed in SCRATCH_SEEDS]
    rows = mel.rows_of("validation")
    labels = label_rows(mel)[rows]
    by_seed = [score_clips(load_model(run), mel, rows) for run in runs]
    mean = np.mean(by_seed, axis=0)
    temperature = fit_temperature(mean, labels)
    cli.say(export_saved_model(runs, out, replace=True, temperature=temperature).sentence())
    hits = np.array([hits_of(logits, labels) for logits in by_seed])
    return (
        "On the validation tracks, by which recipe, temperature and number of networks were chosen: "
        f"{_found(mel.genres, mean, labels, temperature)} Its {len(runs)} networks alone: "
        f"{', '.join(f'{value:.3f}' for value in hits.mean(axis=1))}, on average {hits.mean():.3f}; the mean over it "
        f"{_difference(hits_of(mean, labels), hits.mean(axis=0))}."
    )


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Networks of all training tracks, one a seed, and what their recipe says in the folds.

    Attributes
    ----------
    runs : list of Path
        Calibrated together by the folds.
    logits : dict
        Of the tracks by name, (seeds, genres), calibrated, by networks that have not seen the track's fold.
    """

    runs: list[Path]
    logits: dict[str, np.ndarray]


def calibrated(
    store: Store, numbers: dict[str, int], name: str, seeds: Sequence[int], work: Path, rms_dbfs: float | None = None
) -> Recipe:
    """Train a preset on all folds but one, each in turn, and on all; calibrate the latter by what the former say.

    Parameters
    ----------
    store : Store
    numbers : dict
        The fold of every training track.
    name : str
        Of the preset; behind it there may be changes, `NAME=VALUE` each.
    seeds : sequence of int
    work : Path
        Where the runs go.
    rms_dbfs : float, optional
        The level that the networks' front end shall bring clips to.
    """
    from keras_genre import calibration
    from keras_genre.pipeline import label_rows

    logits: dict[str, np.ndarray] = {}
    for fold in range(FOLDS):
        sides = {track: "test" if number == fold else "train" for track, number in numbers.items()}
        divided = _divided(store, sides)
        by_seed = [_tested(divided, name, work / _folder(name) / f"fold_{fold}_{seed}", seed) for seed in seeds]
        tracks = [divided.clips[row].track for row in divided.rows_of("test")]
        logits |= dict(zip(tracks, np.stack(by_seed, axis=1), strict=True))
    whole = _divided(store, dict.fromkeys(numbers, "train"))
    runs = [
        _copied(_trained(whole, name, work, seed), work / _folder(name) / f"member_{seed}", rms_dbfs) for seed in seeds
    ]
    label_of = dict(zip([clip.track for clip in store.clips], label_rows(store), strict=True))
    labels = np.array([label_of[track] for track in logits])
    mean = np.stack([rows.mean(axis=0) for rows in logits.values()])
    for run in runs:
        calibration.divide_logits(run, mean, labels)
    temperature = calibration.fit_temperature(mean, labels)
    return Recipe(runs, {track: rows / temperature for track, rows in logits.items()})


def _tested(store: Store, name: str, run: Path, seed: int) -> np.ndarray:
    """Train a preset and return its logits of the test clips."""
    from keras_genre import training
    from keras_genre.runs import load_model
    from keras_genre.scoring import score_clips

    training.train(training.make_plan(store, params_of(RECIPES, name, seed)), name.split()[0], run, resume=True)
    return score_clips(load_model(run), store, store.rows_of("test"))


def _trained(store: Store, name: str, work: Path, seed: int) -> Path:
    """Train a preset on the training tracks, to the last epoch: no other track has a part in it."""
    from keras_genre import training

    sides = {clip.track: "train" for clip in store.clips if clip.split == "train"}
    run = work / _folder(name) / f"all_{seed}"
    training.train(
        training.make_plan(_divided(store, sides), params_of(RECIPES, name, seed)), name.split()[0], run, resume=True
    )
    return run


def _folder(name: str) -> str:
    return name.replace(" ", "_")


def _fold_numbers(store: Store) -> dict[str, int]:
    return dict(zip([clip.track for clip in store.clips], splits.grouped_folds(store.clips, FOLDS), strict=True))


def _copied(run: Path, out: Path, rms_dbfs: float | None) -> Path:
    """Copy a run, the front end of which shall bring clips to a level; return the copy."""
    info = read_run(run)
    assert info.header.front_end is not None
    front_end = dataclasses.replace(info.header.front_end, rms_dbfs=rms_dbfs)
    out.mkdir(parents=True, exist_ok=True)
    shutil.copy(run / MODEL, out / MODEL)
    write_run(out, dataclasses.replace(info, header=dataclasses.replace(info.header, front_end=front_end)))
    return out


def _difference(ours: np.ndarray, theirs: np.ndarray) -> str:
    found = paired_difference(ours, theirs)
    return f"{found['difference']:+.3f} (95 % interval {found['low']:+.3f} to {found['high']:+.3f})"


def _found(genres: Sequence[str], logits: np.ndarray, labels: np.ndarray, temperature: float) -> str:
    scores = Scores.of(genres, labels, logits.argmax(axis=1))
    by_genre = ", ".join(f"{genre} {row['recall']:.2f}" for genre, row in scores.per_genre().items())
    before, after = (expected_calibration_error(softmax(each), labels) for each in (logits, logits / temperature))
    return (
        f"{scores.sentence()}. Of each genre found: {by_genre}. Temperature {temperature:.3f}; expected calibration "
        f"error {before:.3f} before it, {after:.3f} after."
    )


def _divided(store: Store, sides: dict[str, str]) -> Store:
    return store.with_clips([dataclasses.replace(clip, split=sides.get(clip.track, "")) for clip in store.clips])


def tracks_to_label(folder: Path) -> list[Path]:
    """Return the files in a folder that are no training tracks of the fault-filtered split.

    Raises
    ------
    AudioError
        If there is none.
    """
    sides = _sides()
    paths = [path for path in sorted(folder.glob("*.flac")) if sides.get(path.stem) != "train"]
    if not paths:
        raise AudioError(f"--audio {folder}: holds no FLAC file but of training tracks")
    return paths


def _sides() -> dict[str, str]:
    return {row["track"]: row["split"] for row in lists.FAULT_FILTERED.rows()}


def audio_lines(model: Path, tracks: Sequence[Path]) -> list[str]:
    """Label tracks that the model was not trained on, as `predict` does, and say how many are right.

    Raises
    ------
    AudioError
        If a track cannot be labelled.
    """
    from keras_genre.predict import main as predict

    sides = _sides()
    with tempfile.TemporaryDirectory() as temporary:
        table = Path(temporary) / "labels.csv"
        with contextlib.redirect_stdout(sys.stderr):
            if predict([*map(str, tracks), "--model", str(model), "--csv", str(table)]) != cli.DONE:
                raise AudioError(f"{tracks[0].parent}: not all tracks could be labelled")
        rows = list(csv.DictReader(table.open(encoding="utf-8", newline="")))
    genres = list(read_saved_model(model).genres)
    expected = np.array([genres.index(Path(row["file"]).name.split(".")[0]) for row in rows])
    predicted = np.array([genres.index(row["genre"]) for row in rows])
    sure = np.array([row["unsure"] == "0" for row in rows])
    in_split = np.array([Path(row["file"]).stem in sides for row in rows])
    scores = Scores.of(genres, expected, predicted)
    right = expected == predicted
    return [
        f"From audio to genre, on the {len(rows)} tracks at hand that are not training tracks of the fault-filtered "
        f"split: {scores.sentence()}. {(~in_split).sum()} of them are on no side of it, as GTZAN's exact and near "
        f"repetitions are, also those of training tracks; of its validation and test tracks {right[in_split].sum()} "
        f"of {in_split.sum()} are right.",
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
