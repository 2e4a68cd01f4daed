"""How closely the tag activations computed here agree with published ones of the same clips, and what the rest is.

Command: `python -m benchmarks.taggram_agreement AUDIO TAGGRAMS.npz`. It writes a table to
`benchmarks/results/taggram_agreement.md`.
"""

import argparse
import dataclasses
import datetime
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import librosa
import numpy as np
import scipy.signal
import soxr

from keras_genre import audio, cli, files
from keras_genre.errors import DatasetError
from keras_genre.features import filters
from keras_genre.params import FrontEndParams
from keras_genre.progress import Progress

PARAMS = FrontEndParams.of("taggram50")
AS_PUBLISHED = "kaiser_best of 2019, mirrored at the ends"
RESULTS = Path(__file__).resolve().parent / "results" / "taggram_agreement.md"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = cli.parser("benchmarks.taggram_agreement", "Compare tag activations with published ones.")
    parser.add_argument("audio", type=Path, metavar="AUDIO", help="folder of clips such as blues.00029.flac")
    parser.add_argument("taggrams", type=Path, metavar="TAGGRAMS.npz", help="arrays X (rows, 50) and IDS")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="Markdown file to write")
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    published = published_taggrams(options.taggrams)
    clips = [path for path in sorted(options.audio.glob("*.*")) if path.stem in published]
    if not clips:
        raise DatasetError(f"{options.audio}: has none of the clips in {options.taggrams}")
    from keras_genre.models.musicnn import musicnn

    tagger = musicnn()
    found: dict[str, list[np.ndarray]] = {variant.name: [] for variant in VARIANTS}
    same_count = 0
    with Progress(len(clips), "clips") as progress:
        for path in clips:
            expected = published[path.stem]
            for variant in VARIANTS:
                taggram = tagger.predict_on_batch(patches(path, variant))["tags"]
                same_count += variant is VARIANTS[0] and len(taggram) == len(expected)
                rows = min(len(taggram), len(expected))
                found[variant.name].append(np.abs(taggram[:rows] - expected[:rows]))
            progress.advance()
    files.write_text(options.results, table(found, len(clips), same_count))
    print(options.results)
    return cli.DONE


def published_taggrams(path: Path) -> dict[str, np.ndarray]:
    """Return the rows of every clip by its name without folder and suffix."""
    with np.load(path, allow_pickle=False) as stored:
        values, names = stored["X"], stored["IDS"]
    order: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        order.setdefault(Path(str(name)).stem, []).append(row)
    return {name: values[rows] for name, rows in order.items()}


@dataclasses.dataclass(frozen=True)
class Variant:
    """A way from a file to patches of spectra.

    Attributes
    ----------
    name : str
        For the table.
    resample : callable
        (waveform, its rate) -> the waveform at 16 kHz.
    beyond : str
        What is beyond the ends, as NumPy's `pad` names it.
    is_damped : bool
        Whether the spectrum is damped as here, which stands for the resampler of the training.
    hop_spectra : int
        From patch to patch.
    """

    name: str
    resample: Callable[[np.ndarray, int], np.ndarray]
    beyond: str = "constant"
    is_damped: bool = False
    hop_spectra: int = PARAMS.hop_spectra


def _soxr(quality: str) -> Callable[[np.ndarray, int], np.ndarray]:
    return lambda waveform, rate: soxr.resample(waveform, rate, PARAMS.sample_rate_hz, quality=quality)


def kaiser_best(waveform: np.ndarray, rate: int) -> np.ndarray:
    """Bring a waveform to 16 kHz as librosa did in 2019."""
    # Here, because it takes seconds to import.
    import resampy

    # What resampy called kaiser_best before its release 0.3, which librosa then used: documented there.
    return resampy.resample(
        waveform,
        rate,
        PARAMS.sample_rate_hz,
        filter="sinc_window",
        num_zeros=64,
        precision=9,
        rolloff=0.9475937167399596,
        window=lambda samples: scipy.signal.windows.kaiser(samples, 14.769656459379492),
    )


VARIANTS = (
    Variant("as here: soxr HQ, damped, silence beyond the ends", _soxr("HQ"), is_damped=True),
    Variant("soxr HQ, damped, mirrored at the ends", _soxr("HQ"), "reflect", is_damped=True),
    Variant("soxr HQ, mirrored at the ends", _soxr("HQ"), "reflect"),
    Variant("soxr VHQ, mirrored at the ends", _soxr("VHQ"), "reflect"),
    Variant(AS_PUBLISHED, kaiser_best, "reflect"),
    Variant("the same, patches every 62 spectra", kaiser_best, "reflect", hop_spectra=62),
)


def patches(path: Path, variant: Variant) -> np.ndarray:
    """Return the patches of a file [shape=(patches, 187, 96), float32]."""
    rate = audio.probe(path).sample_rate_hz
    waveform = variant.resample(audio.load(path, rate), rate)
    magnitude = np.abs(
        librosa.stft(waveform, n_fft=PARAMS.fft_samples, hop_length=PARAMS.hop_samples, pad_mode=variant.beyond)
    )
    if variant.is_damped:
        magnitude *= filters.musicnn_damping(PARAMS)[:, np.newaxis]
    power = librosa.feature.melspectrogram(S=magnitude**2, sr=PARAMS.sample_rate_hz, n_mels=filters.MUSICNN_BANDS)
    spectra = np.log10(10000.0 * power + 1.0).T
    starts = range(0, len(spectra) - PARAMS.spectra + 1, variant.hop_spectra)
    return np.stack([spectra[start : start + PARAMS.spectra] for start in starts])


def table(found: dict[str, list[np.ndarray]], clips: int, same_count: int) -> str:
    """Return the distributions of the differences as Markdown."""
    first = next(iter(found.values()))
    lines = [
        f"Made by `python -m benchmarks.taggram_agreement AUDIO TAGGRAMS.npz`, {datetime.date.today()}: {clips} clips "
        f"of GTZAN, {sum(map(len, first))} patches; as many patches of {same_count} of the clips as published.",
        "",
        "| absolute difference of an activation | median | mean | 90 % | 99 % | largest |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, differences in found.items():
        all_of_them = np.concatenate(differences).ravel()
        figures = [
            np.median(all_of_them),
            all_of_them.mean(),
            *np.quantile(all_of_them, (0.9, 0.99)),
            all_of_them.max(),
        ]
        lines.append(f"| {name} | {' | '.join(f'{figure:.6f}' for figure in figures)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
