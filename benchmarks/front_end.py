"""Measure how many clips a second each front end gets through: librosa's calls, our reference, the graph.

Command: `python -m benchmarks.front_end [--clip FILE] [--out benchmarks/results/front_end.json]`. It prints a table in
Markdown and writes the same numbers as JSON. Without a clip it takes 30 s of made-up music.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

RATE = 22050
BATCH = 8
CALLS = "librosa, the four calls apart"
"""What the others are compared with: the features as the original system asked for them."""


def made_up_music(seconds: float = 30.0) -> np.ndarray:
    """Return chords of decaying partials with noise on the beat [shape=(samples,), float32]."""
    random = np.random.default_rng(0)
    time_in_beat = np.arange(RATE // 2) / RATE
    beats = []
    for _ in range(round(2 * seconds)):
        pitches_hz = 220 * 2 ** (random.integers(0, 24, 3) / 12)
        partials = [np.sin(2 * np.pi * k * hz * time_in_beat) / k for hz in pitches_hz for k in range(1, 9)]
        noise = random.standard_normal(time_in_beat.size) * np.exp(-40 * time_in_beat)
        beats.append(0.1 * np.sum(partials, axis=0) * np.exp(-3 * time_in_beat) + 0.1 * noise)
    return np.concatenate(beats).astype(np.float32)


def contestants(clip: np.ndarray) -> dict[str, tuple[int, Callable[[], object]]]:
    """Return what is measured: name -> (clips a call, the call)."""
    import librosa
    import scipy.fft
    import tensorflow as tf

    from keras_genre.features import filters, graph
    from keras_genre.features.reference import waveform_to_frames
    from keras_genre.params import FrontEndParams

    spectral, mel = FrontEndParams("spectral33"), FrontEndParams("log_mel128")

    def four_calls() -> None:
        librosa.feature.mfcc(y=clip, sr=RATE, n_mfcc=13)
        librosa.feature.spectral_centroid(y=clip, sr=RATE)
        librosa.feature.chroma_stft(y=clip, sr=RATE)
        librosa.feature.spectral_contrast(y=clip, sr=RATE)

    def log_mel() -> None:
        librosa.power_to_db(librosa.feature.melspectrogram(y=clip, sr=RATE), ref=np.max)

    def traced(params: FrontEndParams) -> Callable[[tf.Tensor], tf.Tensor]:
        signature = [tf.TensorSpec([None, None], tf.float32)]
        return tf.function(lambda clips: graph.waveforms_to_frames(clips, params), signature)

    one, batch = tf.constant(clip[None]), tf.constant(np.stack([clip] * BATCH))
    spectral_graph, mel_graph = traced(spectral), traced(mel)
    padded = np.pad(clip, 1024)
    frames = np.lib.stride_tricks.sliding_window_view(padded, 2048)[::512] * filters.hann_window(2048)
    in_float64, in_float32 = tf.constant(frames), tf.constant(frames, tf.float32)
    fft = tf.function(tf.signal.rfft)
    return {
        CALLS: (1, four_calls),
        "our reference, one transform": (1, lambda: waveform_to_frames(clip, spectral)),
        "graph": (1, lambda: spectral_graph(one)),
        f"graph, batch of {BATCH}": (BATCH, lambda: spectral_graph(batch)),
        "librosa, log-mel": (1, log_mel),
        "graph, log-mel": (1, lambda: mel_graph(one)),
        "FFT alone, TensorFlow, float64": (1, lambda: fft(in_float64)),
        "FFT alone, TensorFlow, float32": (1, lambda: fft(in_float32)),
        "FFT alone, SciPy, float64": (1, lambda: scipy.fft.rfft(frames)),
        "FFT alone, NumPy": (1, lambda: np.fft.rfft(frames)),
    }


def measure(clip: np.ndarray, rounds: int) -> dict[str, dict[str, float]]:
    """Time all in turn, round after round, so that a busy moment of the machine meets everyone.

    Returns
    -------
    dict of name -> {"clips_per_second", "cpu_ms", "wall_ms"}
        Medians; the times are for one clip.
    """
    calls = contestants(clip)
    wall: dict[str, list[float]] = {name: [] for name in calls}
    cpu: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 2):
        for name, (clips, call) in calls.items():
            begun, begun_cpu = time.perf_counter(), time.process_time()
            call()
            # The first two rounds trace, compile and warm up.
            if number >= 2:
                wall[name].append((time.perf_counter() - begun) / clips)
                cpu[name].append((time.process_time() - begun_cpu) / clips)
    return {
        name: {
            "clips_per_second": 1 / statistics.median(wall[name]),
            "wall_ms": 1e3 * statistics.median(wall[name]),
            "cpu_ms": 1e3 * statistics.median(cpu[name]),
        }
        for name in calls
    }


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return the results as Markdown."""
    lines = ["| | " + " | ".join(f"{cores}: clips/s | ms a clip | times the four calls" for cores in results) + " |"]
    lines.append("|---" * (1 + 3 * len(results)) + "|")
    for name in next(iter(results.values())):
        cells = []
        for measured in results.values():
            ratio = measured[CALLS]["wall_ms"] / measured[name]["wall_ms"]
            cells.append(f"{measured[name]['clips_per_second']:.1f} | {measured[name]['wall_ms']:.1f} | {ratio:.1f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _in_process(threads: int, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Measure in a process of its own, because threads can only be set before the libraries are loaded."""
    variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    environment = {**os.environ, **dict.fromkeys(variables, str(threads)), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "benchmarks.front_end", "--measure", "--rounds", str(options.rounds)]
    command += ["--clip", str(options.clip)] if options.clip else []
    if threads == 1 and hasattr(os, "sched_setaffinity"):
        command = ["taskset", "-c", str(max(os.sched_getaffinity(0))), *command]
    return json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.front_end", description=__doc__)
    parser.add_argument("--clip", type=Path, metavar="FILE", help="audio to measure with")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/front_end.json"), metavar="FILE")
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="how often each is timed")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        from keras_genre import audio

        clip = audio.load(options.clip, RATE) if options.clip else made_up_music()
        print(json.dumps(measure(clip, options.rounds)))
        return
    cores = len(os.sched_getaffinity(0))
    results = {"one core": _in_process(1, options), f"all {cores} cores": _in_process(cores, options)}
    words = " --clip FILE" if options.clip else ""
    how = (
        f"Made by `python -m benchmarks.front_end{words}`, {time.strftime('%Y-%m-%d')}; one clip of 30 s, "
        f"{cores} cores ({platform.machine()}), medians of {options.rounds} rounds in turn."
    )
    text = f"{how}\n\n{table(results)}\n"
    print(text, end="")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".md").write_text(text, encoding="utf-8")
    about = {
        "machine": platform.machine(),
        "cores": cores,
        "python": platform.python_version(),
        "rounds": options.rounds,
    }
    options.out.write_text(json.dumps({"about": about, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
