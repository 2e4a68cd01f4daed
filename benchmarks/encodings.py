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
    models = {f"{path.parent.name}/{path.name}": answerer(path) for path in map(version_folder, options.models)}
    answers: dict[str, list[list[np.ndarray]]] = {name: [] for name in models}
    with tempfile.TemporaryDirectory() as temporary, Progress(len(tracks), "recordings") as progress:
        for track in tracks:
            versions = [track, *write_copies(track, Path(temporary)).values()]
            for name, answer in models.items():
                answers[name].append([answer(version) for version in versions])
            progress.advance()
    text = table([track.stem for track in tracks], {name: np.array(rows) for name, rows in answers.items()})
    files.write_text(options.out, text)
    print(text, end="")
    return cli.DONE


def write_copies(track: Path, folder: Path) -> dict[str, Path]:
    """Write a mono recording in other encodings and return their files by name of the encoding."""
    y, rate = soundfile.read(track, dtype="float32")
    written = {}
    for name, encoding in ENCODINGS.items():
        written[name] = folder / f"copy.{encoding.suffix}"
        resampled = np.clip(soxr.resample(y, rate, encoding.rate_hz), -1, 1)
        sides = np.repeat(resampled[:, np.newaxis], encoding.channels, axis=1)
        soundfile.write(written[name], sides, encoding.rate_hz, format=encoding.format, subtype=encoding.subtype)
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
