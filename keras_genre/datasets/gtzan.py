"""GTZAN as it lies on disks: where its genres are, what its tracks are called, who its artists are."""

import dataclasses
import os
import re
from pathlib import Path, PurePosixPath

from keras_genre.audio import AUDIO_EXTENSIONS
from keras_genre.clips import Clip
from keras_genre.datasets.index import Index, Listing, list_folder, measure
from keras_genre.datasets.lists import PUBLISHED, groups_of
from keras_genre.errors import DatasetError

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
CLIPS_PER_GENRE = 100
TRACKS = tuple(f"{genre}.{number:05d}" for genre in GENRES for number in range(CLIPS_PER_GENRE))

LAYOUTS = ("", "genres", "genres_original", "Data/genres_original", "Data/genres")
"""Where the genre folders are below the folder that a user names."""

_FILE = re.compile(rf"({'|'.join(GENRES)})/\1\.\d{{5}}({'|'.join(map(re.escape, AUDIO_EXTENSIONS))})", re.IGNORECASE)


def find_gtzan(folder: Path) -> Path | None:
    """Return the folder of GTZAN's genre folders in or below `folder`; None if this is not GTZAN and nothing else.

    It is if all folders with audio have names of GTZAN's genres, and all audio in them is named like GTZAN's tracks.
    """
    return next((folder / layout for layout in LAYOUTS if _is_gtzan(folder / layout)), None)


def require_gtzan(folder: Path) -> Path:
    """Return the folder of GTZAN's genre folders in or below `folder`, whatever else is there.

    Raises
    ------
    DatasetError
        If there is none.
    """
    for layout in LAYOUTS:
        root = folder / layout
        if any(_FILE.fullmatch(file) for genre in GENRES for file in _files_in(root, genre)):
            return root
    raise DatasetError(
        f"{folder}: no GTZAN here: tracks such as blues/blues.00000.au or .wav were looked for in "
        f"{', '.join(layout or 'the folder itself' for layout in LAYOUTS)}"
    )


def index_gtzan(root: Path) -> Index:
    """List the clips of GTZAN.

    Parameters
    ----------
    root : Path
        The folder of genre folders, as `find_gtzan` gives it.

    Returns
    -------
    Index
        Clips with artist groups, where these are known, and without split. Files that are not named like tracks, and
        second files of a track, are strays.

    Raises
    ------
    DatasetError
        If it holds no track.
    """
    files, listing = tracks_in(root)
    if not files:
        raise DatasetError(f"{root}: no track of GTZAN in it")
    clips, failures = measure(
        root, [Clip(track=track, genre=track.partition(".")[0], file=file) for track, file in files.items()]
    )
    groups = groups_of([PUBLISHED["gtzan_artist_folds"], PUBLISHED["gtzan_fault_filtered"]])
    clips = [dataclasses.replace(clip, group=groups.get(clip.track, "")) for clip in clips]
    return Index(root, clips, sorted(failures + listing.failures), listing.strays)


def tracks_in(root: Path) -> tuple[dict[str, str], Listing]:
    """Return the files of GTZAN's tracks by track, and the listing of all the rest, with second files as strays."""
    listing = list_folder(root)
    files: dict[str, str] = {}
    strays = list(listing.strays)
    for file in listing.audio:
        track = PurePosixPath(file).stem.lower()
        if _FILE.fullmatch(file) and track not in files:
            files[track] = file
        else:
            strays.append(file)
    return files, dataclasses.replace(listing, strays=sorted(strays))


def _is_gtzan(root: Path) -> bool:
    folders = [name for name in _names_in(root) if not name.startswith(".") and (root / name).is_dir()]
    if not set(folders) & set(GENRES):
        return False
    files = [file for folder in folders for file in _files_in(root, folder)]
    return bool(files) and all(_FILE.fullmatch(file) for file in files)


def _files_in(root: Path, folder: str) -> list[str]:
    names = [name for name in _names_in(root / folder) if not name.startswith(".")]
    return [f"{folder}/{name}" for name in names if PurePosixPath(name).suffix.lower() in AUDIO_EXTENSIONS]


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
