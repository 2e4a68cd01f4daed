"""How far an exported model's probabilities move when the same recording comes in another file.

Command: `python -m benchmarks.encodings SAVED_MODEL [SAVED_MODEL ...] --audio FOLDER`. Each FLAC file of the folder is
written again as MP3 (44.1 kHz, stereo), Ogg Vorbis (48 kHz, mono) and FLAC 20 dB quieter, and every copy is read and
labelled as `predict` does it.
"""

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr

from keras_genre import audio, cli, files
from keras_genre.errors import AudioError, ParameterError
from keras_genre.extract import Extracted
from keras_genre.progress import Progress
from keras_genre.saved_models import version_folder

if TYPE_CHECKING:
    from keras_genre.prediction import SavedModelPredictor

RESULTS = Path(__file__).resolve().parent / "results" / "encodings.md"


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How a copy of a recording is written: what `soundfile.write` takes."""

    suffix: str
    rate_hz: int
    channels: int
    format: str
    subtype: str | None = None


ENCODINGS = {
    "MP3, 44.1 kHz, stereo": Encoding("mp3", 44100, 2, "MP3"),
    "Ogg Vorbis, 48 kHz": Encoding("ogg", 48000, 1, "OGG", "VORBIS"),
}
QUIETER = "FLAC, 20 dB quieter"

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
    from keras_genre.prediction import SavedModelPredictor

    models = {
        f"{path.parent.name}/{path.name}": SavedModelPredictor(path) for path in map(version_folder, options.models)
    }
    if len(models) < len(options.models):
        raise ParameterError("two models have the same name and version; the table could not tell them apart")
    answers: dict[str, list[list[np.ndarray]]] = {name: [] for name in models}
    with tempfile.TemporaryDirectory() as temporary, Progress(len(tracks), "recordings") as progress:
        for track in tracks:
            versions = [track, *write_copies(track, Path(temporary)).values()]
            for name, model in models.items():
                answers[name].append([answer(model, version) for version in versions])
            progress.advance()
    text = table([track.stem for track in tracks], {name: np.array(rows) for name, rows in answers.items()})
    files.write_text(options.out, text)
    print(text, end="")
    return cli.DONE


def write_copies(track: Path, folder: Path) -> dict[str, Path]:
    """Write a recording, mixed to mono, in other encodings and return their files by name of the encoding."""
    rate = audio.probe(track).sample_rate_hz
    y = audio.load(track, rate)
    written = {}
    for name, encoding in ENCODINGS.items():
        written[name] = folder / f"copy.{encoding.suffix}"
        resampled = np.clip(soxr.resample(y, rate, encoding.rate_hz), -1, 1)
        sides = np.repeat(resampled[:, np.newaxis], encoding.channels, axis=1)
        soundfile.write(written[name], sides, encoding.rate_hz, format=encoding.format, subtype=encoding.subtype)
    written[QUIETER] = folder / "quieter.flac"
    soundfile.write(written[QUIETER], y / 10, rate)
    return written


def answer(model: "SavedModelPredictor", file: Path) -> np.ndarray:
    """Return a model's probabilities (genres,) of a file."""
    limits = audio.AudioLimits(min_seconds=model.minimum_samples / model.sample_rate_hz)
    waveform = audio.load(file, model.sample_rate_hz, limits)
    extracted = Extracted(waveform=waveform, seconds=waveform.size / model.sample_rate_hz)
    probabilities = model.predict(str(file), extracted).probabilities
    return np.array([probabilities[genre] for genre in model.genres])


def table(tracks: Sequence[str], answers: dict[str, np.ndarray]) -> str:
    """Return how models' answers, (tracks, 1 + copies, genres), differ between files, as a text in Markdown."""
    lines = [
        f"Made by `python -m benchmarks.encodings SAVED_MODEL ... --audio FOLDER`, {time.strftime('%Y-%m-%d')}: "
        f"{len(tracks)} recordings, each in its own file and in three others.",
        "",
        f"| model | copy | median | nine in ten below | largest | above {STEADY} | another label |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for model, probabilities in answers.items():
        moved = np.abs(probabilities[:, 1:] - probabilities[:, :1]).max(axis=2)
        labels = probabilities.argmax(axis=2)
        relabelled = (labels[:, 1:] != labels[:, :1]).sum(axis=0)
        for copy, values, others in zip([*ENCODINGS, QUIETER], moved.T, relabelled, strict=True):
            lines.append(
                f"| {model} | {copy} | {np.median(values):.3f} | {np.quantile(values, 0.9):.3f} | "
                f"{values.max():.3f} ({tracks[int(values.argmax())]}) | {(values > STEADY).sum()} | {others} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
