"""A CSV table of what files were found to be, which has every row as soon as it is known.

It is no file that is whole or absent: labelling a collection takes hours, and what was labelled must outlive a kill.
"""

import contextlib
import csv
import io
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_genre import files
from keras_genre.errors import ParameterError

COLUMNS = ("file", "genre", "probability", "unsure", "error")
"""Before those of the genres, which hold their probabilities."""

NAMES = "surrogateescape"
"""How names of files that are not UTF-8 are written: as the bytes that they are."""

AddRow = Callable[[dict[str, Any]], None]


def require_no_rows(path: Path) -> None:
    """Refuse a file that holds anything but the first line of a table.

    Raises
    ------
    ParameterError
    """
    if not path.is_file():
        return
    start = _line(COLUMNS).rstrip()
    first, _, others = path.read_bytes().partition(b"\n")
    if others or not start.startswith(first[: len(start)]):
        raise ParameterError(
            f"--csv {path}: is there already; go on with it by --resume, start it anew by --overwrite, or name another"
        )


def rows_of(path: Path, genres: Sequence[str]) -> dict[str, str]:
    """Return the files that have a row in the table of a model with these genres, with why they failed or "".

    There are none if there is no table.

    Raises
    ------
    ParameterError
        If it is another table, or a row is not of its columns.
    """
    if not path.is_file():
        return {}
    lines, header = _whole_lines(path), _line([*COLUMNS, *genres])
    if not (lines[0] == header if lines else header.startswith(path.read_bytes())):
        raise ParameterError(
            f"--csv {path}: is no table of the genres of this model; name another, or start it anew by --overwrite"
        )
    rows = [_values(line) for line in lines[1:]]
    if damaged := [place for place, row in enumerate(rows, 2) if len(row) != len(COLUMNS) + len(genres)]:
        raise ParameterError(
            f"--csv {path}: row {damaged[0]} has not as many values as the first; take it out, or name another"
        )
    return {row[0]: row[COLUMNS.index("error")] for row in rows}


def remove_rows(path: Path, names: Collection[str]) -> None:
    """Take the rows of these files out of a table, which is replaced as a whole."""
    header, *rows = _whole_lines(path)
    files.write_bytes(path, header + b"".join(row for row in rows if _values(row)[0] not in names))


@contextlib.contextmanager
def label_table(path: Path, genres: Sequence[str], *, resume: bool = False) -> Iterator[AddRow]:
    """Open a table, anew or at its end, and add rows to it, which are in the file when the call returns.

    Parameters
    ----------
    path : Path
        Its folder is made if missing. What a killed process left of a row is cut off.
    genres : sequence of str
    resume : bool
        Keep the rows that are there, which must be those that `rows_of` reads.

    Yields
    ------
    callable
        Takes what `Prediction.to_json` gives for a file, or `{"file", "error"}`.

    Raises
    ------
    OSError
        If it cannot be written. A table without a row does not stay then, and no row is cut in two.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with open(path, "ab", buffering=0) as file:
        whole = sum(map(len, _whole_lines(path))) if resume and path.is_file() else 0
        is_empty = whole == 0

        def write(line: bytes) -> None:
            nonlocal whole
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError as error:
                error.filename = str(path)
                with contextlib.suppress(OSError):
                    file.truncate(whole)
                raise
            whole += len(line)

        def add(result: dict[str, Any]) -> None:
            nonlocal is_empty
            write(row_of(result, genres))
            is_empty = False

        try:
            if path.is_file():
                file.truncate(whole)
            if not whole:
                write(_line([*COLUMNS, *genres]))
            yield add
            if path.is_file():
                os.fsync(file.fileno())
        finally:
            if is_new and is_empty:
                path.unlink(missing_ok=True)


def row_of(result: dict[str, Any], genres: Sequence[str]) -> bytes:
    """Return a result as a line: file, genre, probability, unsure, error, then the probability of every genre."""
    if "error" in result:
        return _line([result["file"], "", "", "", result["error"], *[""] * len(genres)])
    shares = [f"{result['probabilities'][genre]:.6f}" for genre in genres]
    return _line([result["file"], result["genre"], f"{result['probability']:.6f}", int(result["unsure"]), "", *shares])


def _line(values: Sequence[object]) -> bytes:
    return files.csv_text([values]).encode(errors=NAMES)


def _values(line: bytes) -> list[str]:
    return next(csv.reader(io.StringIO(line.decode(errors=NAMES), newline="")))


def _whole_lines(path: Path) -> list[bytes]:
    """Return the rows of a table, each as its bytes, without one that is cut."""
    rows: list[bytes] = []
    row = b""
    for line in io.BytesIO(path.read_bytes()):
        row += line
        # A name may have a line's end in it; such values are in quotes.
        if row.endswith(b"\n") and row.count(b'"') % 2 == 0:
            rows.append(row)
            row = b""
    return rows
