"""Export a run for serving, and make sure that what was written says what the run says.

Command: `python -m keras_genre.export RUN [RUN ...] --out saved_models/NAME/1`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from keras_genre import cli, saved_models
from keras_genre.errors import ParameterError
from keras_genre.places import local_path
from keras_genre.runs import read_run
from keras_genre.saved_models import FEATURES, is_version, read_saved_model, require_free, versions

FORMATS = ("saved_model", "litert")

SAVED_MODEL = "saved_model"
"""Folder, in a run's, of the model that a training exports."""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = cli.parser(
        "keras_genre.export",
        "Export a run as a SavedModel, which takes waveforms, feature frames or 16-bit WAV and AU files and gives "
        "genres. A clean process loads it and must say what the run says; otherwise nothing is written. Of several "
        "runs with the same genres the model gives the mean of what they say of a waveform.",
    )
    parser.formatter_class = argparse.HelpFormatter
    parser.add_argument("runs", type=local_path, nargs="+", metavar="RUN", help="run folder of keras_genre.train")
    parser.add_argument(
        "--out", type=local_path, required=True, metavar="NAME/1", help="folder of the version to write"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an earlier export; never a folder that holds anything else"
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="saved_model",
        help="saved_model (the default): the whole way from audio to genres; litert: the network alone, frames of one "
        "window to genres, in LiteRT's (TensorFlow Lite's) own operations",
    )
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    if options.format == "saved_model":
        require_version(options.out)
    elif len(options.runs) > 1:
        raise ParameterError("--format litert holds one network: give one run")
    # Once more there; here so that nobody waits for TensorFlow to be told of a slip.
    for run in options.runs:
        read_run(run)
    expected = saved_models.LITERT_FILES if options.format == "litert" else saved_models.SAVED_MODEL_FILES
    require_free(options.out, options.overwrite, expected)
    cli.say("starting TensorFlow")
    if options.format == "litert":
        from keras_genre.litert import export_litert

        cli.say(export_litert(options.runs[0], options.out, replace=options.overwrite))
    else:
        from keras_genre.exporting import export_saved_model

        cli.say(export_saved_model(options.runs, options.out, replace=options.overwrite).sentence())
        _say_what_it_takes(options.out)
    print(options.out)
    return cli.DONE


def require_version(out: Path) -> None:
    """Refuse a destination that TensorFlow Serving would not find.

    Raises
    ------
    ParameterError
    """
    if not is_version(out):
        raise ParameterError(
            f"--out {out}: TensorFlow Serving looks for versions in folders whose names are numbers from 1 on; "
            f"give {out / '1'}"
        )


def export_after_training(run: Path) -> Path:
    """Export a run into its own folder, as the next version; with the quick ones of the checks.

    Raises
    ------
    ExportError
    """
    from keras_genre.exporting import export_saved_model
    from keras_genre.verification import QUICK

    name = run / SAVED_MODEL
    out = name / str(max(versions(name), default=0) + 1)
    export_saved_model(run, out, checks=QUICK)
    _say_what_it_takes(out)
    return out


def _say_what_it_takes(out: Path) -> None:
    if read_saved_model(out).signatures == (FEATURES,):
        cli.say("note: the model takes feature frames, not audio: nothing is known of how its features were computed")


if __name__ == "__main__":
    sys.exit(main())
