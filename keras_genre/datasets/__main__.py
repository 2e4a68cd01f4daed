"""Download and validate the data sets that this package knows.

Commands: `python -m keras_genre.datasets download|validate gtzan|fma_small`.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from keras_genre import cli
from keras_genre.datasets.catalogue import CATALOGUE
from keras_genre.errors import ParameterError
from keras_genre.places import local_path


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = cli.parser("keras_genre.datasets", "Download and validate GTZAN and FMA-small.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    get = commands.add_parser(
        "download",
        help="fetch a data set; goes on where it was if it was interrupted",
        description="Fetch the archives of a data set, compare their checksums and unpack them. What was fetched "
        "before is not fetched again, be it by this command or by hand: an archive that lies in the folder is taken.",
    )
    get.add_argument("name", choices=sorted(CATALOGUE))
    get.add_argument(
        "--mirror",
        action="append",
        default=[],
        metavar="URL",
        help="where to get it: the address of an archive, or of a folder that has the archives under their own names; "
        "may be given several times",
    )
    get.add_argument("--out", type=local_path, metavar="FOLDER", help="default: data/NAME in the repository")
    get.add_argument(
        "--timeout", type=float, default=30.0, metavar="S", help="seconds to wait for an answer or its next bytes (30)"
    )

    check = commands.add_parser(
        "validate",
        help="decode every file and name what is missing, corrupt or extra",
        description="Decode every file of a data set and name what is missing, corrupt or extra. The status is 0 if "
        "there are no faults but those that the published data set is known for.",
    )
    check.add_argument("name", choices=sorted(CATALOGUE))
    check.add_argument(
        "folder", type=local_path, nargs="?", metavar="FOLDER", help="default: data/NAME in the repository"
    )
    check.add_argument("--json", action="store_true", help="print the findings as JSON")
    check.add_argument("--jobs", type=int, metavar="N", help="threads that decode (default: one a core)")
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    data_set = CATALOGUE[options.name]
    if options.command == "download":
        from keras_genre.datasets.download import Patience, download

        folder = options.out or data_set.default_folder
        cli.say(data_set.terms)
        download(data_set, folder, options.mirror, Patience(timeout_seconds=options.timeout), cli.say)
        return cli.DONE
    if options.jobs is not None and options.jobs < 1:
        raise ParameterError("--jobs must be at least 1")
    from keras_genre.datasets.sources import require_downloaded
    from keras_genre.datasets.validation import validate

    found = validate(options.name, options.folder or require_downloaded(data_set), options.jobs)
    if options.json:
        print(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
    else:
        for finding in found.findings:
            print(finding.sentence())
        print(f"{data_set.title} in {found.folder}: {found.whole} of {found.expected} tracks are whole")
    return cli.DONE if found.is_as_published else cli.SOME_FAILED


if __name__ == "__main__":
    sys.exit(main())
