"""Put the tables that the benchmarks wrote into the documents that show them.

Command: `python -m benchmarks.documents`.

A table stands between `<!-- PATH -->`, a file in `benchmarks/results`, and `<!-- end -->`.
"""

import re
import sys
from pathlib import Path

from keras_genre import files

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"
DOCUMENTS = (
    "README.md",
    "docs/results.md",
    "docs/reliability.md",
    "saved_models/gtzan10/README.md",
    "saved_models/gtzan10_scratch/README.md",
)
TABLE = re.compile(r"(<!-- (\S+\.md) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(document: str) -> str:
    """Return a document's text with the present tables in it."""

    def present(match: re.Match[str]) -> str:
        path = RESULTS / match[2]
        if not path.is_file():
            return match[0]
        # Its headings stand below the document's sections.
        text = re.sub("^#", "###", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        return f"{match[1]}{text}{match[3]}"

    return TABLE.sub(present, document)


def main() -> int:
    """Write the documents."""
    for name in DOCUMENTS:
        path = REPOSITORY / name
        files.write_text(path, with_tables(path.read_text(encoding="utf-8")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
