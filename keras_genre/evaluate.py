"""Evaluate a run on the whole clips of a split.

Command: `python -m keras_genre.evaluate RUN`.
"""

import argparse
import sys
from collections.abc import Sequence

from keras_genre import cli
from keras_genre.clips import SPLITS
from keras_genre.places import place, run_folder
from keras_genre.runs import REPORT, named_for


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = cli.parser(
        "keras_genre.evaluate",
        "Classify the clips of a split; write report, predictions.csv and confusion.png into the run folder.",
    )
    parser.add_argument("run", type=place, metavar="RUN", help="run folder of keras_genre.train")
    parser.add_argument(
        "--data",
        type=place,
        metavar="STORE",
        help="another store than the one trained on; refused if the run has seen a clip of the split",
    )
    parser.add_argument("--split", default="test", choices=SPLITS)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    from keras_genre.evaluation import evaluate
    from keras_genre.report import scores_table

    with run_folder(options.run) as run:
        scores = evaluate(run.path, options.split, options.data)
        if options.json:
            print((run.path / named_for(REPORT, options.split)).read_text(encoding="utf-8"), end="")
        else:
            print(f"{options.split} {scores.sentence()}\n\n{scores_table(scores)}")
    return cli.DONE


if __name__ == "__main__":
    sys.exit(main())
