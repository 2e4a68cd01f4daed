"""How much faster networks of images train with their normalisation in one operation than with Keras's layers.

Command: `python -m benchmarks.normalisation_speed`. Both networks of a row take turns, in one process, on one thread.
"""

import argparse
import dataclasses
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.systems import threads_of_worker
from keras_genre import cli, files
from keras_genre.errors import ParameterError
from keras_genre.models.presets import preset
from keras_genre.params import FEATURE_DIMS, TrainParams

RESULTS = Path(__file__).resolve().parent / "results" / "normalisation_speed"
PRESETS = ("conv2d", "short_chunk_cnn", "crnn")
BATCH, GENRES = 32, 10
WARM_UP_STEPS = 3


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = cli.parser("benchmarks.normalisation_speed", "Compare fused batch normalisation with Keras's.")
    parser.add_argument("--steps", type=int, default=15, metavar="N", help="of each network, in turn")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="STEM", help="writes STEM.json and STEM.md")
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    if options.steps < 1:
        raise ParameterError("--steps must be at least 1")
    os.environ.update(threads_of_worker(1))
    import keras
    import tensorflow as tf

    rows = [
        {"preset": name, "mixed_bfloat16": mixed, **measured(name, mixed, options.steps)}
        for name in PRESETS
        for mixed in (False, True)
    ]
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": platform.machine(),
        "versions": f"TensorFlow {tf.__version__}, Keras {keras.__version__}",
        "steps": options.steps,
    }
    files.write_json(options.results.with_suffix(".json"), {**facts, "rows": rows})
    text = table(facts, rows)
    files.write_text(options.results.with_suffix(".md"), text)
    print(text, end="")
    return cli.DONE


def measured(name: str, mixed: bool, steps: int) -> dict[str, float]:
    """Return the median milliseconds of a training step with either normalisation."""
    params = preset(name)
    params = dataclasses.replace(params, model=dataclasses.replace(params.model, mixed_bfloat16=mixed))
    sides = {"keras": stepper(params, fused=False), "fused": stepper(params, fused=True)}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(-WARM_UP_STEPS, steps):
        for side, step in sides.items():
            started = time.perf_counter()
            step()
            if number >= 0:
                seconds[side].append(time.perf_counter() - started)
    return {f"{side}_ms": 1000 * statistics.median(each) for side, each in seconds.items()}


def stepper(params: TrainParams, *, fused: bool) -> Callable[[], Any]:
    """Return a function that trains a new network by a step, on noise."""
    import tensorflow as tf

    from keras_genre.models.networks import build_model
    from keras_genre.normalisation_graph import fuse_normalisation
    from keras_genre.optimization import make_loss, make_optimizer

    dims = FEATURE_DIMS[params.features]
    model = build_model(params.model, params.window_frames, dims, GENRES)
    if fused:
        fuse_normalisation(model)
    model.compile(make_optimizer(params), make_loss(params))
    generator = np.random.default_rng(0)
    windows = tf.constant(generator.standard_normal((BATCH, params.window_frames, dims)).astype(np.float32))
    labels = generator.integers(0, GENRES, BATCH)
    targets = tf.constant(np.eye(GENRES, dtype=np.float32)[labels] if params.soft_targets else labels)
    return lambda: model.train_on_batch(windows, targets)


def table(facts: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """Return the figures as Markdown."""
    lines = [
        f"Made by `python -m benchmarks.normalisation_speed`, {facts['date']}; {facts['versions']}; one thread of an "
        f"{facts['machine']} CPU, batches of {BATCH}, medians of {facts['steps']} steps in turn.",
        "",
        "| network | computed in | Keras's layers, ms a step | one operation | times faster |",
        "|---|---|---:|---:|---:|",
    ]
    for row in rows:
        kind = "mixed bfloat16" if row["mixed_bfloat16"] else "float32"
        lines.append(
            f"| {row['preset']} | {kind} | {row['keras_ms']:.0f} | {row['fused_ms']:.0f} | "
            f"{row['keras_ms'] / row['fused_ms']:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
