"""Take the weights of MSD-musicnn out of the Python package that they were published in.

Command: `python -m keras_genre.musicnn [--wheel FILE] [--out FILE]`. Nothing else needs it: what it writes is part of
this package.
"""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from keras_genre import cli, files
from keras_genre.errors import ChecksumError, DownloadError
from keras_genre.models import musicnn_weights
from keras_genre.places import local_path

REQUIREMENT = "musicnn==0.1.0"
WHEEL = "musicnn-0.1.0-py3-none-any.whl"
SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"

# In the wheel the checkpoint's name is empty, which TensorFlow cannot read.
_CHECKPOINT = "musicnn/MSD_musicnn/"
_PARTS = (".index", ".data-00000-of-00001")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = cli.parser(
        "keras_genre.musicnn",
        "Take the weights of the MSD-musicnn music tagger out of the wheel that its authors published (ISC licence). "
        "They come with this package already; this is how they were made.",
    )
    parser.formatter_class = argparse.HelpFormatter
    parser.add_argument(
        "--wheel", type=local_path, metavar="FILE", help=f"{WHEEL} (default: pip downloads {REQUIREMENT}, 31 MB)"
    )
    parser.add_argument(
        "--out",
        type=local_path,
        default=musicnn_weights.EMBEDDED,
        metavar="FILE",
        help="archive to write (default: the package's own)",
    )
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        wheel = options.wheel or download(Path(scratch))
        require_published(wheel)
        cli.say("starting TensorFlow")
        weights = weights_of(wheel)
    musicnn_weights.write_weights(options.out, weights)
    values = sum(array.size for array in weights.values())
    cli.say(f"{len(weights)} arrays, {values} values, {options.out.stat().st_size / 1e6:.2f} MB")
    print(options.out)
    return cli.DONE


def download(folder: Path) -> Path:
    """Download the wheel, and nothing that it asks for, with pip.

    Raises
    ------
    DownloadError
    """
    words = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", REQUIREMENT, "--dest", str(folder)]
    cli.say(f"pip downloads {REQUIREMENT}")
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise DownloadError(f"{REQUIREMENT}: pip cannot download it ({last[0]}); give a copy with --wheel")
    return folder / WHEEL


def require_published(wheel: Path) -> None:
    """Refuse a file that is not the published wheel, byte for byte.

    Raises
    ------
    ChecksumError
    """
    digest = files.sha256_of(wheel)
    if digest != SHA256:
        raise ChecksumError(f"{wheel}: is not the published {WHEEL} (SHA-256 {digest}, not {SHA256})")


def weights_of(wheel: Path) -> dict:
    """Read the checkpoint in the wheel, in TensorFlow's own format: no code of the wheel is run, nothing unpickled.

    Returns
    -------
    dict of str to np.ndarray
        As `musicnn_weights.shapes` names them.

    Raises
    ------
    WeightsError
        If the variables are others.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Path(scratch) / "msd_musicnn"
        with zipfile.ZipFile(wheel) as archive:
            for part in _PARTS:
                checkpoint.with_name(checkpoint.name + part).write_bytes(archive.read(_CHECKPOINT + part))
        reader = tf.train.load_checkpoint(str(checkpoint))
        names = musicnn_weights.variable_names()
        found = {name: reader.get_tensor(published) for name, published in names.items()}
    return musicnn_weights.checked(found, str(wheel))


if __name__ == "__main__":
    sys.exit(main())
