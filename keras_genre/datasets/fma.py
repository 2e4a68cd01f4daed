"""FMA-small as it lies on disks: where its audio and its table are, what the table says of each track."""

import collections
import contextlib
import csv
import dataclasses
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from keras_genre.clips import SPLITS, Clip
from keras_genre.datasets.index import Index, Listing, list_folder, measure
from keras_genre.errors import DatasetError

SUBSET = "small"
TABLES = ("fma_metadata/tracks.csv", "tracks.csv", "../fma_metadata/tracks.csv", "../tracks.csv")
"""Where the table is, seen from the folder of the audio."""

_COLUMNS = (("set", "subset"), ("set", "split"), ("track", "genre_top"), ("artist", "id"))
_SPLITS = {"training": "train", "validation": "validation", "test": "test"}
_FILE = re.compile(r"(\d{3})/\1\d{3}\.mp3", re.IGNORECASE)


def find_fma(folder: Path) -> Path | None:
    """Return the folder that holds FMA's numbered folders: `folder`, or `fma_small` in it; None if there is none."""
    return next((root for root in (folder, folder / "fma_small") if _has_tracks(root)), None)


def require_fma(folder: Path) -> tuple[Path, Path]:
    """Return the folder of the audio, and the table, of an unpacked FMA.

    Raises
    ------
    DatasetError
        If one of them is not there.
    """
    root = find_fma(folder)
    if root is None:
        raise DatasetError(
            f"{folder}: no FMA here: tracks such as 000/000002.mp3 were looked for in it and in its folder fma_small"
        )
    table = next((root / name for name in TABLES if (root / name).is_file()), None)
    if table is None:
        raise DatasetError(
            f"{root}: the audio of FMA without its table: unpack fma_metadata.zip beside it, so that there is "
            f"{root.parent / 'fma_metadata' / 'tracks.csv'}"
        )
    return root, table


def read_tracks(table: Path) -> dict[str, Clip]:
    """Read what `tracks.csv` says of the tracks of FMA-small.

    Parameters
    ----------
    table : Path
        A CSV file whose first two lines are the two levels of the columns' names. Columns are found by name.

    Returns
    -------
    dict of str to Clip
        By track (`000002`): genre (`genre_top`), group (the artist's number), split (FMA's own) and file.

    Raises
    ------
    DatasetError
        If it is not such a file or names no track of FMA-small.
    """
    clips: dict[str, Clip] = {}
    try:
        with _long_fields(), open(table, encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            places = _places(table, next(reader, []), next(reader, []))
            for row in reader:
                # The third line names the column of the numbers and nothing else.
                if not row or row[0] in ("", "track_id"):
                    continue
                if len(row) <= max(places) or not row[0].isdecimal():
                    raise DatasetError(f"{table}, line {reader.line_num}: no row of a track; get the file anew")
                subset, split, genre, artist = (row[place].strip() for place in places)
                if subset == SUBSET:
                    track = f"{int(row[0]):06d}"
                    if split not in _SPLITS or not genre:
                        raise DatasetError(f"{table}, line {reader.line_num}: no genre or no split of track {track}")
                    clips[track] = Clip(track, genre, f"{track[:3]}/{track}.mp3", group=artist, split=_SPLITS[split])
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{table} is not a CSV file in UTF-8: {error}; get the file anew") from error
    if not clips:
        raise DatasetError(f"{table}: names no track of the subset {SUBSET}; get the file anew")
    return clips


def index_fma(root: Path, table: Path) -> tuple[Index, list[str]]:
    """List the clips of FMA-small that are there.

    Parameters
    ----------
    root : Path
        The folder of the numbered folders.
    table : Path
        `tracks.csv`.

    Returns
    -------
    index : Index
        Clips with genre, artist group and FMA's own split. Files that the table does not name are strays.
    notes : list of str
        What a user should know.

    Raises
    ------
    DatasetError
        If the table cannot be used, or no file that it names is there.
    """
    tracks = read_tracks(table)
    files, listing = tracks_in(root, tracks)
    if not files:
        raise DatasetError(f"{root}: none of the {len(tracks)} tracks of FMA-small is in it")
    clips, failures = measure(root, [dataclasses.replace(tracks[track], file=file) for track, file in files.items()])
    notes = ["split: FMA's own, whose sides have no artist in common"]
    if len(files) < len(tracks):
        notes.append(
            f"{len(tracks) - len(files)} of the {len(tracks)} tracks of FMA-small are not there; "
            "python -m keras_genre.datasets validate fma_small names them"
        )
    clips, copied = _without_copies(clips)
    if copied:
        notes.append(f"left out, because another side has the same recording: {', '.join(copied)}")
    return Index(root, clips, sorted([*failures, *listing.failures]), listing.strays), notes


def tracks_in(root: Path, tracks: dict[str, Clip]) -> tuple[dict[str, str], Listing]:
    """Return the files of tracks by track, and the listing of all the rest."""
    listing = list_folder(root)
    files: dict[str, str] = {}
    strays = []
    for file in listing.audio:
        track = PurePosixPath(file).stem
        if _FILE.fullmatch(file) and track in tracks and track not in files:
            files[track] = file
        else:
            strays.append(file)
    strays += [
        stray
        for stray in listing.strays
        # A folder without audio is none of a genre's here, and the table may lie among the audio.
        if not stray.endswith("/") and not stray.startswith("fma_metadata/") and stray != "tracks.csv"
    ]
    return files, dataclasses.replace(listing, strays=sorted(strays))


def read_checksums(root: Path) -> dict[str, str]:
    """Read the SHA-1 of each file from `checksums`, which FMA has beside its audio; nothing if it is not there."""
    try:
        lines = (root / "checksums").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    matches = [re.fullmatch(r"([0-9a-f]{40})\s+\*?(?:\./)?(.+)", line) for line in lines]
    return {match[2]: match[1] for match in matches if match}


def _without_copies(clips: Sequence[Clip]) -> tuple[list[Clip], list[str]]:
    """Leave recordings out that stand, byte for byte, on a side that comes later too; return the tracks left out."""
    sides = collections.defaultdict(set)
    for clip in clips:
        sides[clip.sha256].add(SPLITS.index(clip.split))
    copied = {clip.track for clip in clips if SPLITS.index(clip.split) < max(sides[clip.sha256])}
    return [dataclasses.replace(clip, split="") if clip.track in copied else clip for clip in clips], sorted(copied)


def _places(table: Path, upper: Sequence[str], lower: Sequence[str]) -> list[int]:
    names = list(zip(upper, lower, strict=False))
    if missing := [column for column in _COLUMNS if column not in names]:
        raise DatasetError(
            f"{table}: no column {missing[0]} in its first two lines; tracks.csv of fma_metadata.zip has it"
        )
    return [names.index(column) for column in _COLUMNS]


@contextlib.contextmanager
def _long_fields() -> Iterator[None]:
    """Let the csv module read fields of any length: some artists have written a lot about themselves."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _has_tracks(root: Path) -> bool:
    try:
        folders = [name for name in os.listdir(root) if re.fullmatch(r"\d{3}", name)]
        return any(_FILE.fullmatch(f"{folder}/{name}") for folder in folders for name in os.listdir(root / folder))
    except OSError:
        return False
