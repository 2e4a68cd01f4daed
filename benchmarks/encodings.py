"""How far an exported model's probabilities move when the same recording comes in another file.

Command: `python -m benchmarks.encodings SAVED_MODEL [SAVED_MODEL ...] --audio FOLDER`. Each FLAC file of the folder is
written again as MP3 (44.1 kHz, stereo), Ogg Vorbis (48 kHz, mono) and FLAC 20 dB quieter, and every copy is read and
labelled as `predict` does it.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr

from keras_genre import audio, cli, files
from keras_genre.errors import AudioError
from keras_genre.progress import Progress
from keras_genre.saved_models import PROBABILITIES, WAVEFORM, read_saved_model, require_waveforms, version_folder

RESULTS = Path(__file__).resolve().parent / "results" / "encodings.md"

QUIETER = "FLAC, 20 dB quieter"
COPIES: dict[str, tuple[str, int, dict[str, str], int]] = {
    "MP3, 44.1 kHz, stereo": ("mp3", 44100, {"format": "MP3"}, 2),
    "Ogg Vorbis, 48 kHz": ("ogg", 48000, {"format": "OGG", "subtype": "VORBIS"}, 1),
}
"""Name of an encoding -> suffix, rate in Hz, what soundfile takes, channels."""

STEADY = 0.05
"""By how much probabilities of one recording may differ."""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, metavar="SAVED_MODEL")
    parser.add_argument("--audio", type=Path, required=True, metavar="FOLDER", help="of FLAC files")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE.md", help="where the table goes")
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    tracks = sorted(options.audio.glob("*.flac"))
    if not tracks:
        raise AudioError(f"--audio {options.audio}: holds no FLAC file")
    models = {f"{path.parent.name}/{path.name}": answerer(path) for path in map(version_folder, options.models)}
    # (tracks, copies) for each model
    moved: dict[str, list[list[float]]] = {name: [] for name in models}
    relabelled: dict[str, list[list[bool]]] = {name: [] for name in models}
    with tempfile.TemporaryDirectory() as temporary, Progress(len(tracks), "recordings") as progress:
        for track in tracks:
            versions = [track, *write_copies(track, Path(temporary)).values()]
            for name, answer in models.items():
                first, *others = [answer(version) for version in versions]
                moved[name].append([float(np.abs(other - first).max()) for other in others])
                relabelled[name].append([bool(other.argmax() != first.argmax()) for other in others])
            progress.advance()
    text = table([track.stem for track in tracks], moved, relabelled)
    files.write_text(options.out, text)
    print(text, end="")
    return cli.DONE


def write_copies(track: Path, folder: Path) -> dict[str, Path]:
    """Write a mono recording in other encodings and return their files by name of the encoding."""
    y, rate = soundfile.read(track, dtype="float32")
    written = {}
    for name, (suffix, other, options, channels) in COPIES.items():
        written[name] = folder / f"copy.{suffix}"
        sides = np.repeat(np.clip(soxr.resample(y, rate, other), -1, 1)[:, np.newaxis], channels, axis=1)
        soundfile.write(written[name], sides, other, **options)
    written[QUIETER] = folder / "quieter.flac"
    soundfile.write(written[QUIETER], y / 10, rate)
    return written


def answerer(folder: Path) -> Callable[[Path], np.ndarray]:
    """Return what gives the probabilities (genres,) of a file by an exported model."""
    import tensorflow as tf

    params = read_saved_model(folder)
    require_waveforms(folder, params)
    signature = tf.saved_model.load(str(folder)).signatures[WAVEFORM]

    def answer(file: Path) -> np.ndarray:
        waveform = audio.load(file, params.sample_rate_hz)[np.newaxis]
        return signature(waveform=tf.constant(waveform))[PROBABILITIES].numpy()[0]

    return answer


def table(tracks: Sequence[str], moved: dict[str, list[list[float]]], relabelled: dict[str, list[list[bool]]]) -> str:
    """Return the answers of models to copies of tracks as a text in Markdown."""
    lines = [
        f"Made by `python -m benchmarks.encodings SAVED_MODEL ... --audio FOLDER`, {time.strftime('%Y-%m-%d')}: "
        f"recordings: {len(tracks)}, each in its own file and in three others.",
        "",
        f"| model | copy | median | nine in ten below | largest | above {STEADY} | another label |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for model in moved:
        labels = np.array(relabelled[model]).sum(axis=0)
        for copy, values, others in zip([*COPIES, QUIETER], np.array(moved[model]).T, labels, strict=True):
            lines.append(
                f"| {model} | {copy} | {np.median(values):.3f} | {np.quantile(values, 0.9):.3f} | "
                f"{values.max():.3f} ({tracks[int(values.argmax())]}) | {(values > STEADY).sum()} | {others} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
