"""Training speed against PyTorch on the same cores, and the share of it that the input pipeline takes.

Command: `python -m benchmarks.training_speed`.

Each framework has a process of its own; they take turns, so that both meet the machine in the same moods. Ours is
timed as `train` runs it: `fit` on windows from a store. PyTorch's is the usual loop over windows in memory.
"""

import argparse
import dataclasses
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from keras_genre import cli, files
from keras_genre.clips import Clip
from keras_genre.models.presets import preset
from keras_genre.params import FrontEndParams, TrainParams
from keras_genre.progress import Progress
from keras_genre.store import StoreHeader, StoreWriter, open_store

ROWS = [
    *(("lstm_basic", batch) for batch in (35, 64, 256)),
    *(("lstm_optim", batch) for batch in (35, 64, 256)),
    *(("conv2d", batch) for batch in (8, 32, 128)),
]
GENRES = tuple(f"genre {number}" for number in range(8))
CLIPS, FRAMES = 128, 1292
SECONDS_OF_A_TURN = 2.0

RESULTS = Path(__file__).resolve().parent / "results" / "training_speed"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = cli.parser("benchmarks.training_speed", "Compare the speed of training with PyTorch's.")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="turns of each framework in each row")
    parser.add_argument("--rows", nargs="+", metavar="PRESET:BATCH", help="only these")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="STEM", help="writes STEM.json and STEM.md")
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    rows = [row for row in ROWS if not options.rows or f"{row[0]}:{row[1]}" in options.rows]
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "store")
        workers = {name: Worker(serve, store) for name, serve in (("keras", keras_turns), ("pytorch", pytorch_turns))}
        results = []
        with Progress(len(rows) * (options.rounds + 1), "rounds", plain_seconds=20) as progress:
            for name, batch in rows:
                seconds: dict[str, list[dict[str, float]]] = {"keras": [], "pytorch": []}
                # The round before the first is the warm-up: graphs are made, threads started.
                for number in range(-1, options.rounds):
                    for framework, worker in workers.items():
                        turn = worker.ask((name, batch))
                        if number >= 0:
                            seconds[framework].append(turn)
                    progress.advance(note=f"{name} {batch}")
                results.append(summary(name, batch, seconds))
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "rounds": options.rounds,
        "versions": {name: worker.ask("version") for name, worker in workers.items()},
    }
    for worker in workers.values():
        worker.stop()
    files.write_json(options.results.with_suffix(".json"), {**facts, "rows": results})
    text = table(facts, results)
    files.write_text(options.results.with_suffix(".md"), text)
    print(text, end="")
    return cli.DONE


class Worker:
    """A process that answers questions one after the other."""

    def __init__(self, serve: Callable[[Connection, Path], None], store: Path):
        context = multiprocessing.get_context("spawn")
        self._end, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, store), daemon=True)
        self._process.start()

    def ask(self, question: Any) -> Any:
        """Return the answer."""
        self._end.send(question)
        return self._end.recv()

    def stop(self) -> None:
        """End the process."""
        self._end.send(None)
        self._process.join()


def make_store(path: Path) -> Path:
    """Write a store of noise, of clips of 30 s."""
    generator = np.random.default_rng(0)
    clips = [Clip(f"clip {n}", GENRES[n % len(GENRES)], split="train") for n in range(CLIPS)]
    with StoreWriter(path, StoreHeader.of(FrontEndParams()), clips) as writer:
        for number, members in writer.missing():
            writer.add(number, [generator.standard_normal((FRAMES, 33)).astype(np.float32) for _ in members])
        writer.finish()
    return path


def params_of(name: str, batch: int) -> TrainParams:
    """Return a preset's parameters with another batch size, and epochs without end."""
    return dataclasses.replace(preset(name), batch_size=batch, epochs=1_000_000)


def keras_turns(end: Connection, path: Path) -> None:
    """Answer with the seconds of a step of `fit`, and of the input pipeline alone."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras
    import tensorflow as tf

    from keras_genre.models.networks import build_model
    from keras_genre.normalisation_graph import fuse_normalisation
    from keras_genre.pipeline import training_windows

    store = open_store(path)
    models: dict[tuple[str, int], keras.Model] = {}

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.started = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.seconds = time.perf_counter() - self.started

    while question := end.recv():
        if question == "version":
            end.send(f"TensorFlow {tf.__version__}, Keras {keras.__version__}")
            continue
        params = params_of(*question)
        columns = store.header.columns_of(params.features)
        assert columns is not None
        if question not in models:
            model = build_model(params.model, params.window_frames, columns, len(GENRES))
            fuse_normalisation(model)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(keras.optimizers.Adam(params.learning_rate), loss, metrics=["accuracy"])
            models[question] = model
        model = models[question]
        windows = training_windows(store, range(CLIPS), columns, params)
        clock = Clock()
        options: dict[str, Any] = {"callbacks": [clock], "shuffle": False, "verbose": 0}
        model.fit(windows, steps_per_epoch=4, epochs=1, **options)
        model.fit(windows, steps_per_epoch=4, epochs=2, **options)
        steps = max(4, round(SECONDS_OF_A_TURN / (clock.seconds / 4)))
        model.fit(windows, steps_per_epoch=steps, epochs=2, **options)
        batches = iter(windows)
        for _ in range(4):
            next(batches)
        started = time.perf_counter()
        for _ in range(steps):
            next(batches)
        end.send({"step": clock.seconds / steps, "input": (time.perf_counter() - started) / steps})


def pytorch_turns(end: Connection, path: Path) -> None:
    """Answer with the seconds of a step of the usual loop."""
    import torch

    from benchmarks.pytorch_twins import make_network

    generator = np.random.default_rng(0)
    networks: dict[tuple[str, int], Any] = {}
    while question := end.recv():
        if question == "version":
            end.send(f"PyTorch {torch.__version__}")
            continue
        params = params_of(*question)
        dims = {"spectral33": 33, "mfcc13": 13}[params.features]
        if question not in networks:
            network = make_network(params.model, params.window_frames, dims, len(GENRES))
            networks[question] = network, torch.optim.Adam(network.parameters(), lr=params.learning_rate)
        network, optimizer = networks[question]
        shape = (max(512, 4 * params.batch_size), params.window_frames, dims)
        x = torch.from_numpy(generator.standard_normal(shape).astype(np.float32))
        y = torch.from_numpy(generator.integers(0, len(GENRES), shape[0]))
        loss_of = torch.nn.CrossEntropyLoss()
        network.train()

        def step(x=x, y=y, network=network, optimizer=optimizer, loss_of=loss_of, size=params.batch_size) -> None:
            chosen = torch.randint(len(x), (size,))
            optimizer.zero_grad()
            logits = network(x[chosen])
            loss = loss_of(logits, y[chosen])
            loss.backward()
            optimizer.step()
            # What `fit` keeps track of too.
            loss.item(), (logits.argmax(1) == y[chosen]).float().mean().item()

        for _ in range(4):
            step()
        started, steps = time.perf_counter(), 0
        while time.perf_counter() - started < SECONDS_OF_A_TURN:
            step()
            steps += 1
        end.send({"step": (time.perf_counter() - started) / steps})


def summary(name: str, batch: int, seconds: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return the medians of a row, as JSON values."""
    ours = statistics.median(turn["step"] for turn in seconds["keras"])
    theirs = statistics.median(turn["step"] for turn in seconds["pytorch"])
    pipeline = statistics.median(turn["input"] for turn in seconds["keras"])
    return {
        "preset": name,
        "batch_size": batch,
        "keras_samples_per_second": batch / ours,
        "pytorch_samples_per_second": batch / theirs,
        "ratio": theirs / ours,
        "ratios": sorted(b["step"] / a["step"] for a, b in zip(seconds["keras"], seconds["pytorch"], strict=True)),
        "input_share": pipeline / ours,
    }


def table(facts: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """Return the figures as Markdown."""
    lines = [
        f"Made by `python -m benchmarks.training_speed`, {facts['date']}; {', '.join(facts['versions'].values())}; "
        f"{facts['cores']} cores ({facts['machine']}), medians of {facts['rounds']} rounds in turn.",
        "",
        "| network | batch | ours, windows/s | PyTorch, windows/s | ratio | lowest to highest | input pipeline |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(
            f"| {row['preset']} | {row['batch_size']} | {row['keras_samples_per_second']:.0f} | "
            f"{row['pytorch_samples_per_second']:.0f} | {row['ratio']:.2f} | {row['ratios'][0]:.2f} to "
            f"{row['ratios'][-1]:.2f} | {row['input_share']:.1%} |"
        )
    lines += ["", "Input pipeline: its time alone as a share of a step's; it runs beside the step, so it costs less."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
