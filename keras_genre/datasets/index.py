"""Which clips a data set has: a folder of genre folders, or a CSV list of tracks."""

import collections
import concurrent.futures
import contextlib
import csv
import dataclasses
import os
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from keras_genre import audio
from keras_genre.clips import SPLITS, Clip
from keras_genre.errors import AudioError, DatasetError, KerasGenreError
from keras_genre.files import sha256_of
from keras_genre.progress import Progress

GROUP_COLUMNS = ("group", "artist_group", "artist")
PROGRESS_FROM_FILES = 300


class Failure(NamedTuple):
    """A file that was meant as a clip and cannot be one.

    Attributes
    ----------
    file : str
        Its path relative to the data set's root, with `/`, as in `Clip.file`.
    reason : str
        Why, for people.
    """

    file: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Index:
    """What a data set holds.

    Attributes
    ----------
    root : Path
        The folder that the clips' files are relative to.
    clips : list of Clip
        Ordered by track; empty if every file failed.
    failures : list of Failure
        Files that were meant as clips and cannot be read, and folders that cannot be entered; ordered by
        file.
    strays : list of str
        What was passed over, by relative path with `/`, ordered: hidden files and folders, files without the
        suffix of an audio format, files outside the genre folders, folders that contain themselves, and genre
        folders without any audio. What is a folder ends with `/`.
    """

    root: Path
    clips: list[Clip]
    failures: list[Failure] = dataclasses.field(default_factory=list)
    strays: list[str] = dataclasses.field(default_factory=list)


def index(source: Path | str) -> Index:
    """List the clips of a data set.

    Parameters
    ----------
    source : Path or str
        A folder of genre folders (see `index_folder`) or a CSV file (see `index_csv`).

    Returns
    -------
    Index
        The clips, and what could not be used.

    Raises
    ------
    DatasetError
        If `source` is neither, or nothing in it is meant as a clip.
    """
    source = Path(source)
    if source.suffix.lower() == ".csv" and not source.is_dir():
        return index_csv(source)
    return index_folder(source)


def index_folder(root: Path | str) -> Index:
    """List the clips of a folder of genre folders, such as `root/rock/a.mp3`.

    The genre is the name of the folder directly below `root`, its accents composed; files in deeper folders count
    too. Symbolic links are followed, except to a folder that the link itself lies in. Hidden files and files of other
    kinds are passed over (`strays`). A clip's track is the file's name without suffix where that is
    unique, else its relative path without suffix.

    Parameters
    ----------
    root : Path or str
        The folder.

    Returns
    -------
    Index
        Clips with track, genre, file, seconds and sha256.

    Raises
    ------
    DatasetError
        If there is no such folder, or it has no genre folders or no audio in them.
    """
    root = Path(root)
    listing = list_folder(root)
    if not listing.genre_folders:
        raise DatasetError(
            f"{root} has no genre folders: put each genre's audio in a folder of its own, such as rock/a.mp3"
        )
    if not listing.audio and not listing.failures:
        raise DatasetError(
            f"{root}: no audio in any of its genre folders; "
            f"files are recognised by their suffix: {', '.join(sorted(audio.AUDIO_EXTENSIONS))}"
        )
    candidates = [
        Clip(track=track, genre=genre_name(file.partition("/")[0]), file=file)
        for file, track in zip(listing.audio, _track_names(listing.audio), strict=True)
    ]
    clips, failures = measure(root, candidates)
    return Index(root, clips, sorted(failures + listing.failures), listing.strays)


def genre_name(text: str) -> str:
    """Return a genre's name in composed characters (NFC): some systems decompose the names of files."""
    return unicodedata.normalize("NFC", text)


def index_csv(path: Path | str) -> Index:
    """List the clips that a CSV file names.

    Parameters
    ----------
    path : Path or str
        A UTF-8 CSV file with a header line and the columns `track`, `genre` and `file` (absolute, or relative
        to the folder of the CSV file), and optionally `group` (or `artist_group`, or `artist`), `split` and
        `sha256` (verified where given). Other columns are passed over.

    Returns
    -------
    Index
        Clips with all that the file says, seconds and sha256. Its root is the folder of the CSV file; files
        that differ from their checksum are failures.

    Raises
    ------
    DatasetError
        If there is no such file, columns or values are missing, a track stands twice or a split is unknown.
    """
    path = Path(path)
    candidates = []
    for line, row in read_table(path, ("track", "genre", "file")):
        if missing := [column for column in ("genre", "file") if not row[column]]:
            raise DatasetError(f"{path}, line {line}: no {missing[0]} for track {row['track']!r}")
        split = row.get("split", "")
        if split not in ("", *SPLITS):
            raise DatasetError(f"{path}, line {line}: split {split!r} is none of {', '.join(SPLITS)}")
        clip = Clip(
            track=row["track"],
            genre=genre_name(row["genre"]),
            file=row["file"],
            group=_group_in(row),
            split=split,
            sha256=row.get("sha256", "").lower(),
        )
        candidates.append(clip)
    if not candidates:
        raise DatasetError(f"{path} lists no tracks: it needs a line for each below the header line")
    clips, failures = measure(path.parent, candidates)
    return Index(path.parent, clips, sorted(failures))


def add_groups(clips: Iterable[Clip], csv_path: Path | str) -> list[Clip]:
    """Give clips the artist groups that a CSV file names.

    Parameters
    ----------
    clips : iterable of Clip
        Any clips.
    csv_path : Path or str
        A CSV file with the columns `track` and `group` (or `artist_group`, or `artist`).

    Returns
    -------
    list of Clip
        In the same order; clips that the file does not name, or names without a group, keep what they have.

    Raises
    ------
    DatasetError
        If there is no such file, columns are missing, a track stands twice, or no clip is named.
    """
    clips = list(clips)
    rows = [row for _, row in read_table(csv_path, ("track",))]
    if rows and not any(column in rows[0] for column in GROUP_COLUMNS):
        raise DatasetError(f"{csv_path}: no column {', '.join(GROUP_COLUMNS[:-1])} or {GROUP_COLUMNS[-1]}")
    groups = {row["track"]: _group_in(row) for row in rows}
    if not any(clip.track in groups for clip in clips):
        raise DatasetError(names_none_of(csv_path, groups, clips))
    return [dataclasses.replace(clip, group=groups.get(clip.track) or clip.group) for clip in clips]


def read_table(
    path: Path | str, columns: Sequence[str], error: type[KerasGenreError] = DatasetError
) -> list[tuple[int, dict[str, str]]]:
    """Read a CSV list of tracks.

    Parameters
    ----------
    path : Path or str
        A UTF-8 CSV file with a header line, one of whose columns is `track`.
    columns : sequence of str
        The columns that it must have.
    error : type
        What to raise.

    Returns
    -------
    list of (int, dict of str to str)
        For each row the number of its last line in the file, from 1, and its stripped values by column name,
        empty where the row is short.

    Raises
    ------
    KerasGenreError
        Of type `error`: no such file, no CSV, a column missing, a row without track, a track twice.
    """
    rows: list[tuple[int, dict[str, str]]] = []
    seen: dict[str, int] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names = [name.strip() for name in reader.fieldnames or ()]
            if missing := [column for column in columns if column not in names]:
                raise error(f"{path}: no column {', '.join(missing)} in its first line ({', '.join(names)})")
            reader.fieldnames = names
            for cells in reader:
                row = {name: (cells[name] or "").strip() for name in names}
                track = row["track"]
                if not track:
                    raise error(f"{path}, line {reader.line_num}: no track")
                if track in seen:
                    raise error(f"{path}, line {reader.line_num}: track {track!r} stands in line {seen[track]} too")
                seen[track] = reader.line_num
                rows.append((reader.line_num, row))
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except (UnicodeDecodeError, csv.Error) as cause:
        raise error(f"{path} is not a CSV file in UTF-8: {cause}") from cause
    except OSError as cause:
        raise error(f"{path} cannot be read: {cause.strerror}") from cause
    return rows


def names_none_of(path: Path | str, names: Collection[str], clips: Collection[Clip]) -> str:
    """Say that a list of tracks does not fit a data set, with one name of each for the reader to see why."""
    text = f"{path} names none of the {len(clips)} tracks of the data set"
    if names and clips:
        text += f": the list has {min(names)!r}, the data set {min(clip.track for clip in clips)!r}"
    return text


def _group_in(row: dict[str, str]) -> str:
    return next((row[column] for column in GROUP_COLUMNS if row.get(column)), "")


@dataclasses.dataclass
class Listing:
    """What a folder of genre folders holds, by relative path with `/`.

    Attributes
    ----------
    audio : list of str
        Files with the suffix of an audio format, at any depth in a genre folder.
    strays, failures
        As in `Index`.
    genre_folders : list of str
    """

    audio: list[str] = dataclasses.field(default_factory=list)
    strays: list[str] = dataclasses.field(default_factory=list)
    failures: list[Failure] = dataclasses.field(default_factory=list)
    genre_folders: list[str] = dataclasses.field(default_factory=list)


def list_folder(root: Path) -> Listing:
    """Sort all that is below a folder of genre folders.

    Raises
    ------
    DatasetError
        If there is no such folder.
    """
    if not root.exists():
        raise DatasetError(f"{root}: no such folder")
    if not root.is_dir():
        raise DatasetError(f"{root} is a file: a data set is a folder of genre folders or a .csv list of tracks")
    listing = Listing()
    _walk(root, "", frozenset(), listing)
    genres_with_audio = {file.partition("/")[0] for file in listing.audio}
    empty = [f"{folder}/" for folder in listing.genre_folders if folder not in genres_with_audio]
    listing.audio.sort()
    listing.strays = sorted({*listing.strays, *empty})
    return listing


def _walk(folder: Path, relative: str, above: frozenset[tuple[int, int]], listing: Listing) -> None:
    """Sort all below `folder`, whose path below the root is `relative`, into `listing`.

    `above` identifies the folders on the way here, by device and inode.
    """
    try:
        status = folder.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            listing.strays.append(f"{relative}/")
            return
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError as error:
        if not relative:
            raise DatasetError(f"{folder} cannot be read: {error.strerror}") from error
        listing.failures.append(Failure(relative, f"the folder cannot be read: {error.strerror}"))
        return
    for name in names:
        path = f"{relative}/{name}" if relative else name
        hidden = name.startswith(".")
        if os.path.isdir(folder / name):
            if hidden:
                listing.strays.append(f"{path}/")
                continue
            if not relative:
                listing.genre_folders.append(name)
            _walk(folder / name, path, above | {identity}, listing)
        elif hidden or not relative or not _has_audio_suffix(name):
            listing.strays.append(path)
        else:
            listing.audio.append(path)


def _has_audio_suffix(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in audio.AUDIO_EXTENSIONS


def _track_names(files: Sequence[str]) -> list[str]:
    """Return the shortest of stem, path without suffix and path that no other file shares.

    Names depend on all the files there are, readable or not, so that repairing one renames no other.
    """
    stems = [PurePosixPath(file).stem for file in files]
    paths = [str(PurePosixPath(file).with_suffix("")) for file in files]
    stem_counts = collections.Counter(stems)
    path_counts = collections.Counter([*paths, *files])
    return [
        stem if stem_counts[stem] == 1 else path if path_counts[path] == 1 else file
        for stem, path, file in zip(stems, paths, files, strict=True)
    ]


def measure(root: Path, candidates: Sequence[Clip]) -> tuple[list[Clip], list[Failure]]:
    """Fill in durations and checksums of clips, and find those that cannot be read.

    Parameters
    ----------
    root : Path
        What their files are relative to.
    candidates : sequence of Clip
        A checksum that a clip has already must be that of its file.

    Returns
    -------
    clips : list of Clip
        Ordered by track.
    failures : list of Failure
        In the order of the candidates.
    """
    clips: list[Clip] = []
    failures: list[Failure] = []
    with contextlib.ExitStack() as stack:
        bar = None
        if len(candidates) > PROGRESS_FROM_FILES:
            bar = stack.enter_context(Progress(len(candidates), "files"))
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor())
        for outcome in pool.map(lambda clip: _measured(root, clip), candidates):
            if isinstance(outcome, Clip):
                clips.append(outcome)
            else:
                failures.append(outcome)
            if bar:
                bar.advance()
    return sorted(clips, key=lambda clip: clip.track), failures


def _measured(root: Path, clip: Clip) -> Clip | Failure:
    path = root / clip.file
    try:
        clip.file.encode()
    except UnicodeEncodeError:
        # No index, store or report could write such a name.
        return Failure(clip.file.encode(errors="replace").decode(), "the name is not valid UTF-8: rename the file")
    try:
        # Probing comes first: it refuses folders and devices, on which hashing might never end.
        seconds = audio.probe(path).seconds or 0.0
        sha256 = sha256_of(path)
    except (AudioError, OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return Failure(clip.file, reason.removeprefix(f"{path}: "))
    if clip.sha256 not in ("", sha256):
        return Failure(clip.file, f"its SHA-256 is {sha256}, the list says {clip.sha256}: get the file anew")
    return dataclasses.replace(clip, seconds=seconds, sha256=sha256)
