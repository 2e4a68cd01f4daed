"""The end of a search: the best trials as flags, and the winner trained anew and tested once."""

import argparse
import dataclasses
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_genre import cli, files
from keras_genre.errors import SearchError
from keras_genre.metrics import wilson_interval
from keras_genre.models.presets import preset
from keras_genre.params import ScheduleParams, TrainParams, to_json
from keras_genre.places import Place
from keras_genre.runs import HISTORY, REPORT, read_history
from keras_genre.store import Store
from tuning.plan import SearchPlan
from tuning.project import BEST, TRIALS, read_result
from tuning.records import TrialRecord
from tuning.space import flat, text_of

BEST_RESULT = "best.json"


def flags_of(
    preset_name: str, params: TrainParams, data: Place | None = None, division: Sequence[str] = ()
) -> list[str]:
    """Return the flags with which `keras_genre.train` trains with these parameters.

    Parameters
    ----------
    preset_name : str
    params : TrainParams
    data : Place, optional
        Without, the embedded data.
    division : sequence of str
        What `division_flags` gave: by another division, clips that chose the parameters would be tested on.
    """
    before, after = flat(to_json(preset(preset_name))), flat(to_json(params))
    flags = ["--preset", preset_name]
    if data is not None:
        flags += ["--data", str(data)]
    flags += division
    for name, value in after.items():
        if value != before[name]:
            flags += ["--set", f"{name}={text_of(value)}"]
    return flags


def division_flags(options: argparse.Namespace) -> list[str]:
    """Return the flags of `add_split_options` that divide clips as `options` does."""
    flags = []
    for name in ("groups", "split_list", "fold"):
        if (value := getattr(options, name)) is not None:
            flags += [f"--{name.replace('_', '-')}", str(value)]
    if options.fractions:
        flags += ["--fractions", *map(str, options.fractions)]
    if options.split_seed:
        flags += ["--split-seed", str(options.split_seed)]
    if options.allow_shared_groups:
        flags.append("--allow-shared-groups")
    return flags


def top_lines(
    plan: SearchPlan, trials: Sequence[TrialRecord], data: Place | None, division: Sequence[str] = ()
) -> list[str]:
    """Return a line of flags, as `flags_of` gives them, for each trial."""
    return [shlex.join(flags_of(plan.preset, plan.space.params_with(trial.values), data, division)) for trial in trials]


def without_validation(params: TrainParams, folder: Path, result: dict[str, Any]) -> TrainParams:
    """Return a trial's parameters for a training on all clips, where nothing is left to validate on.

    The training ends after as many epochs as the kept networks of the trial had, the median over folds and seeds. A
    plateau schedule becomes steps: at the epoch where the rate first fell, the median too, and as often again; none if
    in most trainings it had not fallen by then.

    Parameters
    ----------
    params : TrainParams
    folder : Path
        Of the trial.
    result : dict
        Its result.
    """
    epochs = round(float(np.median([run["best_epoch"] for run in result["runs"]])))
    params = dataclasses.replace(params, epochs=epochs, early_stopping_epochs=0)
    if params.schedule.name != "plateau":
        return params
    falls = []
    for run in result["runs"]:
        rates = [row["learning_rate"] for row in read_history(folder / f"fold{run['fold']}-seed{run['seed']}")]
        kept = rates[: run["best_epoch"]]
        falls.append(next((epoch for epoch, rate in enumerate(kept) if rate < kept[0]), None))
    known = [fall for fall in falls if fall is not None]
    if 2 * len(known) <= len(falls):
        return dataclasses.replace(params, schedule=ScheduleParams("none"))
    steps = ScheduleParams(
        "step", step_epochs=round(float(np.median(known))), step_factor=params.schedule.plateau_factor
    )
    return dataclasses.replace(params, schedule=steps)


def all_for_training(store: Store) -> Store:
    """Return a store whose validation clips, and altered copies of them, train too."""
    sides = {clip.track: clip.split for clip in store.clips}
    trained = {"train", "validation"}
    return store.with_clips(
        dataclasses.replace(clip, split="train") if sides.get(clip.original_track) in trained else clip
        for clip in store.clips
    )


def retrain(plan: SearchPlan, out: Path, winner: TrialRecord, seeds: int, *, export: bool = True) -> dict[str, Any]:
    """Train the winner on training and validation clips from several seeds; test each network once; export the first.

    What is finished is not done again: a test is not repeated.

    Parameters
    ----------
    plan : SearchPlan
    out : Path
        The search folder; runs go to `best/seedN`.
    winner : TrialRecord
    seeds : int > 0
    export : bool
        Write a SavedModel of the first seed's network: which one is decided before any is tested.

    Returns
    -------
    dict
        The content of `best/best.json`.

    Raises
    ------
    SearchError
        If the winner's folder is not here.
    """
    from keras_genre import training
    from keras_genre.evaluation import evaluate
    from keras_genre.export import export_after_training
    from keras_genre.saved_models import versions as exported_versions

    result = read_result(out, winner.trial)
    histories = out / TRIALS / winner.trial
    if result is None or not any(histories.glob(f"*/{HISTORY}")):
        raise SearchError(f"{histories}: the trial's folder is not here; copy it from the worker that ran it")
    params = without_validation(plan.space.params_with(winner.values), histories, result)
    store = all_for_training(store_for(plan, params.features))
    folder = out / BEST
    first = params.seed
    runs = []
    for seed in range(first, first + seeds):
        run = folder / f"seed{seed}"
        each = training.make_plan(store, dataclasses.replace(params, seed=seed), plan.notes)
        cli.say(f"training the winner, seed {seed}, on {len(each.train_rows)} clips for {params.epochs} epochs")
        training.train(each, plan.preset, run, resume=True)
        if store.rows_of("test") and not (run / REPORT).is_file():
            evaluate(run, "test")
        if store.rows_of("test"):
            runs.append({"seed": seed, **_figures(run)})
    summary = {"trial": winner.trial, "params": to_json(params), "seeds": seeds, "runs": runs, **_together(runs)}
    files.write_json(folder / BEST_RESULT, summary)
    if export and not exported_versions(folder / f"seed{first}" / "saved_model"):
        export_after_training(folder / f"seed{first}")
    return summary


def store_for(plan: SearchPlan, kind: str) -> Store:
    """Return the whole store that holds a feature kind."""
    return next(
        (store for store in plan.stores if store.header.kind == kind),
        next((store for store in plan.stores if store.header.columns_of(kind)), plan.stores[0]),
    )


def _figures(run: Path) -> dict[str, Any]:
    report = json.loads((run / REPORT).read_text(encoding="utf-8"))
    return {name: report[name] for name in ("accuracy", "macro_f1", "correct", "clips")}


def _together(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean over seeds; its interval is for that many clips, as seeds are no other clips."""
    if not runs:
        return {}
    accuracies = [run["accuracy"] for run in runs]
    low, high = wilson_interval(float(np.mean([run["correct"] for run in runs])), runs[0]["clips"])
    return {
        "test_accuracy": float(np.mean(accuracies)),
        "test_accuracy_95_low": low,
        "test_accuracy_95_high": high,
        "test_macro_f1": float(np.mean([run["macro_f1"] for run in runs])),
        "seed_deviation": float(np.std(accuracies, ddof=1)) if len(runs) > 1 else None,
        "test_clips": runs[0]["clips"],
    }
