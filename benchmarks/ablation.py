"""What each part of a recipe is worth: a preset beside itself with one thing changed, on the same folds and seeds.

Command: `python -m benchmarks.ablation PRESET [--source FILE.npz]`; `PRESET` is `transfer`, on GTZAN's tag activations
in artist-grouped folds, or `short_chunk_cnn`, on GTZAN's log-mel spectra, tested on the validation tracks. With `--set`
all trainings differ from the recipe, the preset's too: shorter ones say sooner which parts of it matter.

Each run is a line of `RESULTS/PRESET.jsonl`, written when it is done: an interrupted command goes on where it was.
The preset itself is taken from the results of `benchmarks.seed_systems` where they are.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import seed_systems
from benchmarks.accuracies import accuracy_cells, accuracy_of, clip_hits, difference_cell, mean_difference
from benchmarks.seed_systems import (
    add_run_flags,
    check_run_flags,
    finished,
    folds_of,
    import_source,
    run_missing,
    shown_flags,
)
from benchmarks.systems import DATA_SETS, DataSet, Task, params_of
from keras_genre import cli, files
from keras_genre.errors import ParameterError, StoreError
from keras_genre.params import TrainParams

RESULTS = Path(__file__).resolve().parent / "results" / "ablation"

DATA = {"transfer": "gtzan_taggrams", "short_chunk_cnn": "gtzan_logmel"}

VARIANTS: dict[str, dict[str, str]] = {
    "transfer": {
        "probabilities, not log-odds": "model.log_odds=false",
        "no noise on the input": "model.input_noise=0.0",
        "no mixup": "mixup_alpha=0.0",
        "no label smoothing": "label_smoothing=0.0",
        "label smoothing 0.1": "label_smoothing=0.1",
        "no weight decay": "weight_decay=0.0",
        "no averaged weights": "ema_momentum=0.0",
        "dropout 0.2": "model.dropout=0.2",
        "one direction": "model.lstm_bidirectional=false",
        "last state": "model.pooling=last",
        "attention": "model.pooling=attention",
        "windows of 28, the clip": "window_frames=28",
        "20 epochs": "epochs=20 schedule.cosine_cycle_epochs=20",
    },
    "short_chunk_cnn": {
        "no equalizer": "equalizer=0.0",
        "none of the mean subtracted": "model.mean_subtraction=0.0",
        "all of the mean subtracted": "model.mean_subtraction=1.0",
        "levels stretched, low-passes": "level_stretch=0.25 low_pass_bands=8",
        "no masks": "mask_frames=0 mask_bands=0",
        "no shift of bands": "shift_bands=0",
        "no mixup": "mixup_alpha=0.0",
        "no label smoothing": "label_smoothing=0.0",
        "no averaged weights": "ema_momentum=0.0",
        "no weight decay": "weight_decay=0.0",
        "mean only": "model.pooling=mean",
        "mean and maximum": "model.pooling=mean_max",
        "attention": "model.pooling=attention",
        "dropout 0.2": "model.dropout=0.2",
        "32 filters": "model.conv_filters=32",
    },
}
"""Name -> changes of the preset, `NAME=VALUE` each."""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = cli.parser("benchmarks.ablation", "Hold a preset against itself with one thing changed.")
    parser.add_argument("preset", choices=DATA)
    parser.add_argument("--source", type=Path, metavar="FILE.npz", help="the features of the data set")
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="only these")
    parser.add_argument(
        "--set", nargs="+", metavar="NAME=VALUE", default=[], help="parameters of all trainings, the preset's too"
    )
    add_run_flags(parser, RESULTS)
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    check_run_flags(options)
    known = VARIANTS[options.preset]
    if unknown := sorted(set(options.variants or ()) - set(known)):
        raise ParameterError(f"--variants: {', '.join(unknown)} unknown; known: {', '.join(known)}")
    name = DATA[options.preset]
    data_set = DATA_SETS[name]
    stores = import_source(data_set, options.source, options.stores / name)
    base = " ".join([f"preset:{options.preset}", *options.set])
    systems = systems_of(data_set, base, {each: known[each] for each in options.variants or known})
    # Seeds before folds: an interrupted comparison is then one of all variants.
    tasks = [
        Task(name, str(stores), system, fold, seed)
        for seed in range(options.seeds)
        for fold in folds_of(data_set)
        for system in systems
    ]
    with files.locked_folder(options.results):
        lines = options.results / f"{options.preset}.jsonl"
        elsewhere = seed_systems.RESULTS / f"{name}.jsonl"
        there = {(row["system"], row["fold"], row["seed"]) for row in finished(elsewhere, tasks)}
        missing = [task for task in tasks if (task.system, task.fold, task.seed) not in there]
        if not options.table_only:
            run_missing(missing, lines, options.jobs)
        rows = [*finished(elsewhere, tasks), *finished(lines, missing)]
        if not clip_hits(rows, base, folds_of(data_set)):
            raise StoreError(f"{lines}: holds no whole result of the preset itself yet")
        command = f"python -m benchmarks.ablation {options.preset} --source FILE.npz"
        command += shown_flags(make_parser(), options, ("variants", "set", "seeds"))
        summary = summarise(systems, rows, command, data_set)
        files.write_json(options.results / f"{options.preset}.json", summary)
        text = table(summary)
        files.write_text(options.results / f"{options.preset}.md", text)
    print(text, end="")
    return cli.DONE


def systems_of(data_set: DataSet, base: str, variants: dict[str, str]) -> dict[str, str]:
    """Return the names of the systems to compare and what tables call them: the base, and what differs from it."""
    named = {f"{base} {changes}": name for name, changes in variants.items()}
    own = _params(data_set, base)
    return {base: "the preset"} | {system: name for system, name in named.items() if _params(data_set, system) != own}


def _params(data_set: DataSet, system: str) -> TrainParams:
    return params_of(data_set, system.removeprefix("preset:"), 0)


def summarise(
    systems: dict[str, str], rows: Sequence[dict[str, Any]], command: str, data_set: DataSet
) -> dict[str, Any]:
    """Return the figures of every variant, as JSON values; the difference to the preset is of the seeds of both."""
    base, *_ = systems
    hits = {system: clip_hits(rows, system, folds_of(data_set)) for system in systems}
    variants = {}
    for system, name in systems.items():
        if not hits[system]:
            continue
        variants[name] = {
            "changes": system.removeprefix(base).strip(),
            **accuracy_of(hits[system]),
            "over_preset": mean_difference(hits[system], hits[base]) if system != base else None,
        }
    return {"title": data_set.title, "command": command, "date": max(row["date"] for row in rows), "variants": variants}


def table(summary: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    lines = [
        f"Made by `{summary['command']}`, {summary['date']}: {summary['title']}.",
        "",
        "| variant | accuracy | 95 % interval | seeds (deviation) | over the preset, same seeds |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, row in summary["variants"].items():
        lines.append(f"| {' | '.join([name, *accuracy_cells(row), difference_cell(row['over_preset'])])} |")
    clips = next(iter(summary["variants"].values()))["clips"]
    lines += ["", f"{clips} clips, each tested once a seed."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
