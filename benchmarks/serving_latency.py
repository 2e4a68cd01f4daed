"""Latency of an exported model for one clip, against librosa and a PyTorch LSTM that do the same work.

Command: `python -m benchmarks.serving_latency SAVED_MODEL [--audio FILE]`; the model is one of an LSTM preset on
`spectral33`. Needs the extra `benchmarks`. Both sides have the same weights, so their answers are compared too; they
are timed in turns in one process, each with its own default number of threads.
"""

import argparse
import dataclasses
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import librosa
import numpy as np
import soundfile
import tensorflow as tf
import torch

from keras_genre import audio, files
from keras_genre.pipeline import window_starts
from keras_genre.saved_models import WAVEFORM, SavedModelParams, read_saved_model, require_waveforms, version_folder
from keras_genre.verification import made_up_clips

SECONDS = 30.0
MP3_RATE_HZ = 44100
WARM_UP = 5


class Original(torch.nn.Module):
    """librosa's four calls and LSTM layers in PyTorch, as the original had them, with an exported model's weights.

    Parameters
    ----------
    params : SavedModelParams
    weights : list of np.ndarray
        Mean, variance and count of the standardisation; kernel, recurrent kernel and bias of each LSTM layer; kernel
        and bias of the output layer: the order of the exported variables.
    """

    def __init__(self, params: SavedModelParams, weights: list[np.ndarray]):
        super().__init__()
        self._params = params
        self._mean, self._deviation = torch.tensor(weights[0]), torch.sqrt(torch.tensor(weights[1]))
        layers, dims = [], params.dims
        for number, units in enumerate(params.network.lstm_units):
            kernel, recurrent, bias = (torch.tensor(w) for w in weights[3 + 3 * number : 6 + 3 * number])
            layer = torch.nn.LSTM(dims, units, batch_first=True)
            # The gates are in the same order; PyTorch adds two biases.
            state = {"weight_ih_l0": kernel.T, "weight_hh_l0": recurrent.T, "bias_ih_l0": bias}
            layer.load_state_dict(state | {"bias_hh_l0": torch.zeros_like(bias)})
            layers.append(layer)
            dims = units
        self._layers = torch.nn.ModuleList(layers)
        self._logits = torch.nn.Linear(dims, len(params.genres))
        self._logits.load_state_dict({"weight": torch.tensor(weights[-2]).T, "bias": torch.tensor(weights[-1])})

    @torch.inference_mode()
    def forward(self, waveform: np.ndarray) -> np.ndarray:
        """Return the probabilities (genres,) of a waveform (samples,)."""
        rate, length = self._params.sample_rate_hz, self._params.window_frames
        feature = librosa.feature
        rows = [
            feature.mfcc(y=waveform, sr=rate, n_mfcc=13),
            feature.spectral_centroid(y=waveform, sr=rate),
            feature.chroma_stft(y=waveform, sr=rate),
            feature.spectral_contrast(y=waveform, sr=rate),
        ]
        frames = np.concatenate(rows).T.astype(np.float32)
        windows = np.stack([frames[start : start + length] for start in window_starts(len(frames), length)])
        x = (torch.tensor(windows) - self._mean) / self._deviation
        for layer in self._layers:
            x, _ = layer(x)
        return torch.softmax(self._logits(x[:, -1]).mean(dim=0), dim=0).numpy()


def in_turns(sides: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds that each side took in each of the repeats, which alternate between the sides."""
    for _ in range(WARM_UP):
        for run in sides.values():
            run()
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            started = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - started)
    return taken


def summary(taken: dict[str, list[float]]) -> dict[str, Any]:
    """Return medians, quartiles and the fastest call in milliseconds, and the ratios of medians and of the fastest."""
    found: dict[str, Any] = {}
    for name, seconds in taken.items():
        low, middle, high = (1e3 * value for value in statistics.quantiles(seconds, n=4))
        found[name] = {"median_ms": round(middle, 2), "quartiles_ms": [round(low, 2), round(high, 2)]}
        found[name]["fastest_ms"] = round(1e3 * min(seconds), 2)
    ours, theirs = (found[name] for name in ("saved_model", "librosa_pytorch"))
    return found | {
        "times_faster": round(theirs["median_ms"] / ours["median_ms"], 2),
        "times_faster_fastest": round(theirs["fastest_ms"] / ours["fastest_ms"], 2),
    }


def measure(model: Path, clip: np.ndarray | None, repeats: int) -> dict[str, Any]:
    """Measure a model on a clip, a made-up one by default, from its waveform and from an mp3 file."""
    params = read_saved_model(model)
    require_waveforms(model, params)
    if params.features != "spectral33" or params.network.family != "lstm":
        raise SystemExit(f"{model}: the comparison is with an LSTM on spectral33")
    assert params.sample_rate_hz is not None
    rate = params.sample_rate_hz
    if clip is None:
        clip = made_up_clips(round(SECONDS * rate), rate)["music"]
    loaded = tf.saved_model.load(str(version_folder(model)))
    signature = loaded.signatures[WAVEFORM]
    original = Original(params, [weight.numpy() for weight in loaded.weights])

    def classify(waveform: np.ndarray) -> np.ndarray:
        return signature(waveform=tf.constant(waveform[np.newaxis]))["probabilities"].numpy()[0]

    difference = float(np.abs(classify(clip) - original(clip)).max())
    waveform = in_turns({"saved_model": lambda: classify(clip), "librosa_pytorch": lambda: original(clip)}, repeats)
    with tempfile.TemporaryDirectory() as folder:
        mp3 = Path(folder) / "clip.mp3"
        stereo = np.repeat(librosa.resample(clip, orig_sr=rate, target_sr=MP3_RATE_HZ)[:, np.newaxis], 2, axis=1)
        soundfile.write(mp3, np.clip(stereo, -1, 1), MP3_RATE_HZ)
        from_mp3 = in_turns(
            {
                "saved_model": lambda: classify(audio.load(mp3, rate)),
                "librosa_pytorch": lambda: original(librosa.load(mp3, sr=rate)[0]),
            },
            repeats,
        )
    return {
        "clip_seconds": clip.size / rate,
        "network": dataclasses.asdict(params.network),
        "repeats": repeats,
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 2),
        "machine": platform.machine(),
        "versions": {name: metadata.version(name) for name in ("tensorflow", "keras", "librosa", "torch", "soxr")},
        "largest_difference_of_a_probability": difference,
        "waveform": summary(waveform),
        "mp3": summary(from_mp3),
    }


def markdown(found: dict[str, Any]) -> str:
    """Return the measurement as a Markdown page."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    units = " and ".join(map(str, found["network"]["lstm_units"]))
    lines = [
        "# Latency of a SavedModel",
        "",
        f"One clip of {found['clip_seconds']:.0f} s to its genre: `spectral33`, LSTM layers of {units} units. On the",
        "other side librosa's four calls and the same LSTM layers, with the same weights, in PyTorch. Medians of "
        f"{found['repeats']} calls,",
        "quartiles in brackets, in turns in one process; last, what the fastest calls of both sides say, which other",
        "work on the machine disturbs least.",
        "",
        "| from | SavedModel, ms | librosa + PyTorch, ms | times faster | the fastest, ms | times faster |",
        "|---|---|---|---|---|---|",
    ]
    for what, name in (("its waveform", "waveform"), (f"an mp3 file, {MP3_RATE_HZ} Hz stereo", "mp3")):
        row = found[name]
        cells = [
            f"{row[side]['median_ms']:.1f} ({row[side]['quartiles_ms'][0]:.1f} to {row[side]['quartiles_ms'][1]:.1f})"
            for side in ("saved_model", "librosa_pytorch")
        ]
        fastest = " and ".join(f"{row[side]['fastest_ms']:.1f}" for side in ("saved_model", "librosa_pytorch"))
        lines.append(
            f"| {what} | {cells[0]} | {cells[1]} | {row['times_faster']:.1f} | {fastest} "
            f"| {row['times_faster_fastest']:.1f} |"
        )
    lines += [
        "",
        f"The two sides' probabilities differ by at most {found['largest_difference_of_a_probability']:.1e}.",
        "",
        f"{found['cores']} cores ({found['machine']}), load average {found['load_average']} at the end; {versions}.",
        "",
        "`python -m benchmarks.serving_latency SAVED_MODEL`",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description="Latency of an exported model against librosa and PyTorch.")
    parser.add_argument("model", type=Path, metavar="SAVED_MODEL")
    parser.add_argument(
        "--audio", type=Path, metavar="FILE", help=f"a clip; its first {SECONDS:g} s (default: made up)"
    )
    parser.add_argument("--repeats", type=int, default=40, metavar="N")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", metavar="FOLDER")
    options = parser.parse_args()
    clip = None
    if options.audio:
        rate = read_saved_model(options.model).sample_rate_hz
        clip = audio.load(options.audio, rate)[: round(SECONDS * rate)]
    found = measure(options.model, clip, options.repeats)
    files.write_text(options.out / "serving_latency.json", json.dumps(found, indent=2) + "\n")
    files.write_text(options.out / "serving_latency.md", markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    main()
