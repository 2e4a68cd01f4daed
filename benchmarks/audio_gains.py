"""What audio at hand is worth beyond features that others made: altered waveforms, and the tagger's last hidden layer.

Command: `python -m benchmarks.audio_gains --audio FOLDER`; `FOLDER` holds the embedded tracks as `blues.00000.flac`.

`short_chunk_cnn` trains on the clips alone and on copies of them in noise, at another pitch and at another tempo, for
as many steps; `transfer` on the tag activations, and on what the hidden layer says beside them. Both in the folds of
the embedded data. Each run is a line of `RESULTS/embedded.jsonl`, written when it is done: an interrupted command goes
on where it was.
"""

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import seed_systems
from benchmarks.accuracies import accuracy_cells, accuracy_of, clip_hits, difference_cell, mean_difference
from benchmarks.systems import DATA_SETS, Task, kind_of
from keras_genre import cli, files
from keras_genre.clips import clips_to_csv
from keras_genre.errors import ParameterError, StoreError
from keras_genre.models.presets import preset
from keras_genre.store import MANIFEST, open_store

RESULTS = Path(__file__).resolve().parent / "results" / "audio_gains"
DATA_SET = DATA_SETS["embedded"]

COPIES: dict[str, tuple[str, ...]] = {
    "the clips alone": (),
    "and in noise": ("noise",),
    "and at another pitch": ("pitch",),
    "and at another tempo": ("tempo",),
    "and all three": ("noise", "pitch", "tempo"),
}
FEATURES = {
    "tag activations": "preset:transfer",
    "and the last hidden layer": "preset:transfer features=musicnn250 model.log_odds=false",
}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = cli.parser("benchmarks.audio_gains", "Hold features of altered and of whole audio against the plain ones.")
    parser.add_argument("--audio", type=Path, metavar="FOLDER", help="the embedded tracks, as blues.00000.flac")
    seed_systems.add_run_flags(parser, RESULTS)
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    seed_systems.check_run_flags(options)
    stores = options.stores / "audio_gains"
    variants = {
        "short_chunk_cnn": {name: (copies, recipe(len(copies))) for name, copies in COPIES.items()},
        "transfer": {name: ((), system) for name, system in FEATURES.items()},
    }
    tasks = {
        (preset_name, name): [
            Task("embedded", store, system, fold, seed)
            for seed in range(options.seeds)
            for fold in seed_systems.folds_of(DATA_SET)
        ]
        for preset_name, known in variants.items()
        for name, (copies, system) in known.items()
        for store in [str(_store(options.audio, stores, kind_of(DATA_SET, system), copies))]
    }
    with files.locked_folder(options.results):
        lines = options.results / "embedded.jsonl"
        if not options.table_only:
            # Seeds before variants: an interrupted comparison is then one of all variants.
            in_turn = [task for group in zip(*tasks.values(), strict=True) for task in group]
            seed_systems.run_missing(in_turn, lines, options.jobs)
        rows = {key: seed_systems.finished(lines, members) for key, members in tasks.items()}
        command = "python -m benchmarks.audio_gains --audio FOLDER"
        command += seed_systems.shown_flags(make_parser(), options, ("seeds",))
        summary = summarise(rows, command)
        if not summary["presets"]:
            raise StoreError(f"{lines}: holds no whole result of a variant yet")
        files.write_json(options.results / "embedded.json", summary)
        text = table(summary)
        files.write_text(options.results / "embedded.md", text)
    print(text, end="")
    return cli.DONE


def recipe(copies: int) -> str:
    """Return the preset with so many epochs that copies of each clip make no more steps."""
    epochs = preset("short_chunk_cnn").epochs // (1 + copies)
    return f"preset:short_chunk_cnn epochs={epochs} schedule.cosine_cycle_epochs={epochs}"


def _store(audio: Path | None, stores: Path, kind: str, copies: tuple[str, ...]) -> Path:
    """Make the store of a kind with some copies of every clip, if it is not there yet.

    Raises
    ------
    ParameterError
        If audio is needed and not named.
    """
    from keras_genre.precompute import main as precompute

    out = stores / "_".join((kind, *copies))
    if (out / MANIFEST).is_file():
        return out
    if audio is None:
        raise ParameterError("features are made of the embedded tracks here: name their folder with --audio FOLDER")
    assert DATA_SET.stores is not None
    # All of them train as far as this store is concerned, or not all would have copies; the folds divide them anew.
    clips = [
        dataclasses.replace(clip, split="train", file=str((audio / f"{clip.track}.flac").resolve()))
        for clip in open_store(DATA_SET.stores, preset("transfer").features).clips
    ]
    augment = ["--augment", "--variants", *copies] if copies else []
    with tempfile.TemporaryDirectory() as temporary:
        index = Path(temporary) / "clips.csv"
        index.write_text(clips_to_csv(clips), encoding="utf-8")
        if precompute([str(index), "--features", kind, "--out", str(out), *augment]) != cli.DONE:
            raise StoreError(f"{audio}: not all tracks have features")
    return out


def summarise(rows: dict[tuple[str, str], list[dict[str, Any]]], command: str) -> dict[str, Any]:
    """Return the figures of every variant, as JSON values; a preset's first is what its others are held against."""
    presets: dict[str, dict[str, Any]] = {}
    bases: dict[str, dict[int, Any]] = {}
    for (name, variant), found in rows.items():
        if not found:
            continue
        hits = clip_hits(found, found[0]["system"], seed_systems.folds_of(DATA_SET))
        if not hits:
            continue
        base = bases.setdefault(name, hits)
        over = mean_difference(hits, base) if hits is not base else None
        presets.setdefault(name, {})[variant] = {**accuracy_of(hits), "over_first": over}
    dates = [row["date"] for found in rows.values() for row in found]
    return {"title": DATA_SET.title, "command": command, "date": max(dates, default=""), "presets": presets}


def table(summary: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    lines = [
        f"Made by `{summary['command']}`, {summary['date']}: {summary['title']}; "
        f"{DATA_SET.folds} artist-grouped folds.",
        "",
        "| preset | trained on | accuracy | 95 % interval | seeds (deviation) | over the first, same seeds |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, variants in summary["presets"].items():
        for variant, row in variants.items():
            cells = [f"`{name}`", variant, *accuracy_cells(row), difference_cell(row["over_first"])]
            lines.append(f"| {' | '.join(cells)} |")
    clips = next(iter(next(iter(summary["presets"].values())).values()))["clips"]
    lines += ["", f"{clips} clips, each tested once a seed."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
