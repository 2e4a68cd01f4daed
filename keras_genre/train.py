"""Train a preset on a feature store, evaluate it on the test clips, draw its curves.

Command: `python -m keras_genre.train`; with no flag, the default preset on the embedded data.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from keras_genre import cli
from keras_genre.datasets.options import add_split_options, apply_split_options
from keras_genre.errors import ParameterError, RunError
from keras_genre.export import export_after_training
from keras_genre.models.presets import DEFAULT_PRESET, PRESETS, preset
from keras_genre.params import ScheduleParams, TrainParams, to_json, with_epochs, with_values
from keras_genre.places import RunFolder, place, run_folder
from keras_genre.progress import format_seconds
from keras_genre.runs import RunInfo, best_epoch, has_stopped_early, read_history, read_run
from keras_genre.store import MANIFEST, Store, open_store

EMBEDDED_DATA = Path(__file__).resolve().parent.parent / "data" / "gtzan_mini"
RUNS = Path("runs")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = cli.parser("keras_genre.train", "Train a genre classifier and evaluate it on the test clips.")
    # Defaults are the preset's: a flag that is not given must leave no trace.
    parser.formatter_class = argparse.HelpFormatter
    parser.add_argument("--preset", metavar="P", help="network and recipe (default: lstm_optim); --list-presets")
    parser.add_argument("--list-presets", action="store_true", help="print the presets with their parameters")
    parser.add_argument("--data", type=place, metavar="STORE", help="feature store (default: the embedded one)")
    parser.add_argument("--out", type=place, metavar="RUN", help="run folder (default: runs/PRESET-TIME)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--no-export", action="store_true", help="write no SavedModel into the run folder")
    parser.add_argument(
        "--devices",
        metavar="NAMES",
        help="divide every batch among devices: all (visible GPUs), or names such as GPU:0,GPU:1 (default: one)",
    )
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard logs into the run folder")
    recipe = parser.add_argument_group("recipe (default: the preset's)")
    recipe.add_argument("--features", metavar="KIND", help="feature kind")
    recipe.add_argument("--schedule", choices=("plateau", "cosine", "step", "none"), help="learning-rate schedule")
    recipe.add_argument(
        "--epochs", type=int, metavar="N", help="times through the clips; a rate that falls once falls over all of them"
    )
    recipe.add_argument("--batch-size", type=int, metavar="N", help="windows a step")
    recipe.add_argument("--learning-rate", type=float, metavar="X", help="of the first epoch")
    recipe.add_argument("--window-frames", type=int, metavar="N", help="frames that the network sees at a time")
    recipe.add_argument("--windows-per-clip", type=int, metavar="N", help="random windows of a clip in each epoch")
    recipe.add_argument(
        "--early-stopping", type=int, metavar="N", help="stop after N epochs without a better validation (0: never)"
    )
    recipe.add_argument(
        "--no-augmentation",
        action="store_false",
        dest="augmentation",
        default=None,
        help="leave the altered copies out that precompute --augment puts into a store",
    )
    recipe.add_argument("--seed", type=int, metavar="N", help="the one source of randomness")
    recipe.add_argument("--mixed-bfloat16", action="store_true", default=None, help="compute in bfloat16")
    recipe.add_argument("--dropout", type=float, metavar="X", help="before the output layer")
    recipe.add_argument(
        "--recurrent-dropout", type=float, metavar="X", help="on the LSTM state; 0 lets a GPU use cuDNN's kernels"
    )
    recipe.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other parameter by the name that --list-presets shows: model.lstm_units=128,32; may be repeated",
    )
    add_split_options(parser, folds=True)
    return parser


def params_from(options: argparse.Namespace, base: TrainParams) -> TrainParams:
    """Return a preset's parameters with those of the flags that were given in their place.

    Raises
    ------
    ParameterError
        If a value cannot work.
    """

    def given(**values):
        return {name: value for name, value in values.items() if value is not None}

    # The schedule of a run that goes on is settled, however long it goes on.
    if options.epochs is not None and not options.resume:
        base = with_epochs(base, options.epochs)
    model = dataclasses.replace(
        base.model,
        **given(
            mixed_bfloat16=options.mixed_bfloat16,
            dropout=options.dropout,
            lstm_recurrent_dropout=options.recurrent_dropout,
        ),
    )
    schedule = base.schedule
    if options.schedule and options.schedule != schedule.name:
        schedule = ScheduleParams(options.schedule)
    params = dataclasses.replace(
        base,
        model=model,
        schedule=schedule,
        **given(
            features=options.features,
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            window_frames=options.window_frames,
            windows_per_clip=options.windows_per_clip,
            early_stopping_epochs=options.early_stopping,
            augmentation=options.augmentation,
            seed=options.seed,
        ),
    )
    return with_values(params, options.set)


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    if options.list_presets:
        print(json.dumps({name: to_json(params) for name, params in PRESETS.items()}, indent=2))
        return cli.DONE
    if options.resume and options.out is None:
        raise ParameterError("--resume goes with --out RUN, the run to go on with")
    out = options.out or RUNS / f"{options.preset or DEFAULT_PRESET}-{time.strftime('%Y%m%d-%H%M%S')}"
    with run_folder(out) as run:
        return _train_evaluate_export(options, run)


def _train_evaluate_export(options: argparse.Namespace, run: RunFolder) -> int:
    started = time.monotonic()
    name = options.preset or DEFAULT_PRESET
    base = preset(name)
    before = None
    if options.resume:
        before = read_run(run.path)
        if options.preset and options.preset != before.preset:
            raise ParameterError(f"{options.out}: is a run of {before.preset}, not of {options.preset}")
        name, base = before.preset, before.params
    params = params_from(options, base)
    store, notes = _divided_store(options, params, before)

    cli.say(f"{name} on {store.path}, into {run.shown(run.path)}; starting TensorFlow")
    from keras_genre import training
    from keras_genre.calibration import calibrate
    from keras_genre.evaluation import evaluate
    from keras_genre.replicas import devices_named

    plan = training.make_plan(store, params, notes)
    for note in plan.notes:
        cli.say(f"note: {note}")
    devices = devices_named(options.devices) if options.devices else ()
    if before and before.devices and not devices:
        try:
            devices = devices_named(",".join(before.devices))
        except ParameterError as error:
            raise RunError(
                f"{run.path}: was started on {', '.join(before.devices)}, and goes on there ({error})"
            ) from error
    if devices:
        cli.say(f"devices: {', '.join(devices)}")
    info = training.train(
        plan,
        name,
        run.path,
        resume=options.resume,
        tensorboard=options.tensorboard,
        devices=devices,
        publish=run.publish,
    )
    for note in info.notes:
        if note not in plan.notes:
            cli.say(f"note: {note}")
    draw_history(run.path)
    _say_what_was_left_out(run.path, params)
    if found := calibrate(run.path):
        cli.say(
            f"temperature {found['temperature']:.3f} by {found['clips']:.0f} validation clips; calibration error there "
            f"{found['error_before']:.3f} before, {found['error_after']:.3f} after"
        )
    split = "test" if store.rows_of("test") else "validation"
    if not store.rows_of(split):
        print("no clips to test on")
    else:
        scores = evaluate(run.path, split)
        if split == "validation":
            cli.say("note: no test clips; the validation clips chose the epoch, so this figure flatters")
        print(f"{split} {scores.sentence()}")
    # An export takes a while, in which the command may be interrupted.
    run.publish()
    if not options.no_export:
        print(f"SavedModel: {run.shown(export_after_training(run.path))}")
    run.publish()
    print(f"run folder: {run.shown(run.path)} ({format_seconds(time.monotonic() - started)})")
    return cli.DONE


def _divided_store(options: argparse.Namespace, params: TrainParams, before: RunInfo | None) -> tuple[Store, list[str]]:
    """Open the store and divide its clips; a resumed run keeps its store and its split."""
    data = options.data or (before.data if before else EMBEDDED_DATA)
    # A preset takes a lone store as it is; out of several, or where a flag says so, it must be the kind.
    alone = (place(data) / MANIFEST).is_file() and not options.features
    store = open_store(data, None if alone else params.features)
    if before:
        _require_split_of_run(options, store, before)
        return store.with_splits(before.splits), list(before.notes)
    clips, notes = apply_split_options(store.clips, options)
    return store.with_clips(clips), notes


def _require_split_of_run(options: argparse.Namespace, store: Store, before: RunInfo) -> None:
    """Refuse flags that would divide the clips of a resumed run in another way than they are.

    Raises
    ------
    ParameterError
    """
    flags = {
        "--groups": options.groups is not None,
        "--split-list": options.split_list is not None,
        "--fractions": options.fractions is not None,
        "--folds": options.folds is not None,
        "--fold": options.fold is not None,
        "--split-seed": options.split_seed != 0,
    }
    if given := [flag for flag, is_given in flags.items() if is_given]:
        clips, _ = apply_split_options(store.clips, options)
        if {clip.track: clip.split for clip in clips if clip.split} != before.splits:
            raise ParameterError(
                f"--resume keeps the split of the run, and there would be another by {', '.join(given)}; leave that "
                "out, or train into another --out"
            )


def _say_what_was_left_out(run: Path, params: TrainParams) -> None:
    """Tell the user of a run that did not train up to the epoch that was asked for."""
    history = read_history(run)
    if has_stopped_early(history, params):
        cli.say(
            f"note: stopped early after epoch {len(history)} of {params.epochs}, the best being epoch "
            f"{best_epoch(history) + 1}; a resume leaves it so, whatever --epochs says"
        )
    elif len(history) > params.epochs:
        cli.say(f"note: nothing to train: {len(history)} epochs are done, --epochs asks for {params.epochs}")


def draw_history(run: Path) -> None:
    """Draw the curves of a run's history into its folder."""
    from keras_genre import report

    history = read_history(run)
    for name, figure in report.history_figures(history, best_epoch(history) + 1).items():
        report.save_figure(figure, run / f"{name}.png")


if __name__ == "__main__":
    sys.exit(main())
