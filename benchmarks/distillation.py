"""Whether one network can learn what several know together (Hinton et al., 2015), on GTZAN's tag activations.

Command: `python -m benchmarks.distillation --source FILE.npz`.

In each artist-grouped fold the preset `transfer` trains from several seeds; these are the teachers. Students, the same
preset from as many other seeds, learn the mean of the teachers' answers on their own windows, noise and mixtures
included, alone or beside the true genres. All that is trained stays in the folder of `--work`: an interrupted command
goes on where it was.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.accuracies import accuracy_cells, accuracy_of, difference_cell, hits_of, mean_difference
from benchmarks.seed_systems import folds_of, import_source, shown_flags
from benchmarks.systems import DATA_SETS, REPOSITORY, divided
from keras_genre import cli, files
from keras_genre.errors import ParameterError
from keras_genre.models.presets import preset
from keras_genre.progress import Progress
from keras_genre.store import Store, open_store

if TYPE_CHECKING:
    import keras

    from keras_genre.training import Plan

DATA_SET, PRESET = "gtzan_taggrams", "transfer"
RESULTS = REPOSITORY / "benchmarks" / "results" / "distillation"
TEACHER_SHARES = {"student of their answers": 1.0, "student of their answers and the genres": 0.5}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = cli.parser("benchmarks.distillation", "Teach one network what several know.")
    parser.add_argument("--source", type=Path, metavar="FILE.npz", help="the features of the data set")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="teachers, and students of each kind")
    parser.add_argument("--work", type=Path, default=Path("runs/distillation"), metavar="FOLDER", help="of the runs")
    parser.add_argument("--stores", type=Path, default=Path("data/benchmarks"), metavar="FOLDER", help="of --source")
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    if options.seeds < 1:
        raise ParameterError("--seeds must be at least 1")
    data_set = DATA_SETS[DATA_SET]
    store = open_store(import_source(data_set, options.source, options.stores / DATA_SET))
    by_fold = []
    networks = options.seeds * (1 + len(TEACHER_SHARES)) * len(folds_of(data_set))
    with Progress(networks, "networks", plain_seconds=20) as progress:
        for fold in folds_of(data_set):
            side = store.with_clips(divided(store, data_set, fold, validates=False))
            by_fold.append(hits_of_fold(side, options.seeds, options.work / f"fold_{fold}", progress))
    hits = {
        name: {seed: np.concatenate([found[name][seed] for found in by_fold]) for seed in seeds}
        for name, seeds in by_fold[0].items()
    }
    base, *_ = hits
    systems = {
        name: {**accuracy_of(found), "over_teacher": mean_difference(found, hits[base]) if name != base else None}
        for name, found in hits.items()
    }
    command = "python -m benchmarks.distillation --source FILE.npz" + shown_flags(make_parser(), options, ("seeds",))
    title = f"{data_set.title}; {data_set.folds} artist-grouped folds"
    summary = {"title": title, "command": command, "date": time.strftime("%Y-%m-%d"), "systems": systems}
    files.write_json(RESULTS.with_suffix(".json"), summary)
    text = table(summary)
    files.write_text(RESULTS.with_suffix(".md"), text)
    print(text, end="")
    return cli.DONE


def hits_of_fold(store: Store, seeds: int, work: Path, progress: Progress) -> dict[str, dict[int, np.ndarray]]:
    """Train teachers and students on one side of a division; return which test clips each got right, by name and seed.

    The mean of all teachers stands under every seed: it is one system.
    """
    from keras_genre import training
    from keras_genre.pipeline import label_rows
    from keras_genre.runs import load_model
    from keras_genre.scoring import score_clips

    rows = store.rows_of("test")
    labels = label_rows(store)[rows]
    teachers = []
    for seed in range(seeds):
        run = work / f"teacher_{seed}"
        params = dataclasses.replace(preset(PRESET), seed=seed)
        training.train(training.make_plan(store, params), PRESET, run, resume=True)
        teachers.append(load_model(run))
        progress.advance(note=run.name)
    logits = [score_clips(teacher, store, rows) for teacher in teachers]
    found = {
        "teacher": {seed: hits_of(logits[seed], labels) for seed in range(seeds)},
        f"mean of {seeds} teachers": dict.fromkeys(range(seeds), hits_of(np.mean(logits, axis=0), labels)),
    }
    for name, share in TEACHER_SHARES.items():
        found[name] = {}
        for seed in range(seeds):
            path = work / f"student_{share}_{seed}.npy"
            if not path.is_file():
                # Not a teacher's own seed: a student would begin as its twin.
                params = dataclasses.replace(preset(PRESET), seed=seeds + seed)
                answers = taught(training.make_plan(store, params), teachers, share, rows)
                with files.atomic_path(path) as temporary, temporary.open("wb") as file:
                    np.save(file, answers)
            found[name][seed] = hits_of(np.load(path), labels)
            progress.advance(note=path.stem)
    return found


def taught(plan: "Plan", teachers: Sequence["keras.Model"], share: float, rows: Sequence[int]) -> np.ndarray:
    """Train a network on what others answer; return its logits of some clips, float32 (clips, genres).

    Parameters
    ----------
    plan : Plan
        Of a preset whose targets are shares, and whose schedule needs no validation.
    teachers : sequence of keras.Model
        Whose logits are averaged.
    share : float in [0, 1]
        Of their answers in the targets; the rest is the true genres, smoothed as the preset has it.
    rows : sequence of int
        The clips to answer.
    """
    import keras
    import tensorflow as tf

    from keras_genre.models.networks import build_model, log_odds
    from keras_genre.optimization import averaged_weights, make_optimizer
    from keras_genre.pipeline import frame_statistics, steps_per_epoch, training_windows
    from keras_genre.schedules import make_schedule
    from keras_genre.scoring import score_clips

    params, store, genres = plan.params, plan.store, len(plan.store.genres)
    keras.utils.set_random_seed(params.seed)
    transform = log_odds if params.model.log_odds else None
    statistics = frame_statistics(store, plan.train_rows, plan.columns, transform)
    untransformed = frame_statistics(store, plan.train_rows, plan.columns)
    model = build_model(params.model, params.window_frames, plan.columns, genres, *statistics)
    model.compile(make_optimizer(params), keras.losses.CategoricalCrossentropy(from_logits=True))
    model.optimizer.build(model.trainable_variables)

    def teach(windows: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        answers = tf.nn.softmax(tf.add_n([teacher(windows, training=False) for teacher in teachers]) / len(teachers))
        return windows, mixed_targets(targets, answers, share, params.label_smoothing)

    model.fit(
        training_windows(store, plan.train_rows, plan.columns, params, statistics=untransformed).map(teach),
        epochs=params.epochs,
        steps_per_epoch=steps_per_epoch(len(plan.train_rows), params),
        callbacks=[make_schedule(params.schedule, params.learning_rate)],
        shuffle=False,
        verbose=0,
    )
    with averaged_weights(model):
        return score_clips(model, store, rows)


def mixed_targets(targets: Any, answers: Any, share: float, smoothing: float) -> Any:
    """Return `share` of the answers and the rest of the targets, which are smoothed over all genres (last axis)."""
    smoothed = (1 - smoothing) * targets + smoothing / targets.shape[-1]
    return share * answers + (1 - share) * smoothed


def table(summary: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    lines = [
        f"Made by `{summary['command']}`, {summary['date']}: {summary['title']}.",
        "",
        "| network | accuracy | 95 % interval | seeds (deviation) | over a teacher |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, row in summary["systems"].items():
        lines.append(f"| {' | '.join([name, *accuracy_cells(row), difference_cell(row['over_teacher'])])} |")
    clips = next(iter(summary["systems"].values()))["clips"]
    lines += ["", f"{clips} clips, each tested once a seed."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
