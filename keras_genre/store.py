"""Feature stores: the precomputed features of a data set, in TFRecord shards, with a manifest that vouches for them.

A store is a folder of `shard-00000.tfrecord`, ... and `store.json`. The manifest records what the features are,
which clips each shard holds and the SHA-256 of each shard; it carries its own checksum and is written last, so a
folder with a manifest is a whole store.

Commands: `python -m keras_genre.store info|validate|import|export`.
"""

import argparse
import collections
import dataclasses
import hashlib
import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_genre import cli, files
from keras_genre.clips import SPLITS, Clip, clips_to_csv, genres_of
from keras_genre.encodings import ENCODINGS, Encoded, encode
from keras_genre.errors import ParameterError, StoreError
from keras_genre.params import FEATURE_COLUMNS, FrontEndParams, differences, from_json, to_json
from keras_genre.places import Place, RemotePath, local_path, place

FORMAT = 1
MANIFEST = "store.json"
CLIPS_PER_SHARD = 64
SHARD_FILE = re.compile(r"shard-\d{5,}\.tfrecord")
OWN_FILES = re.compile(r"(store|unfinished|shard-\d{5,})\.json|shard-\d{5,}\.tfrecord")


@dataclasses.dataclass(frozen=True)
class StoreHeader:
    """What the features of a store are.

    Attributes
    ----------
    kind : str
        A feature kind of `params.FEATURE_DIMS`, or a name of one's own for features made elsewhere.
    dims : int > 0
        Values a frame.
    hop_seconds : float >= 0
        Time from one frame to the next; 0 if unknown.
    front_end : FrontEndParams or None
        How to compute these features from audio; None if that is not known here.
    encoding : str
        One of `encodings.ENCODINGS`.
    """

    kind: str
    dims: int
    hop_seconds: float
    front_end: FrontEndParams | None
    encoding: str = "float32"

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise ParameterError(f"unknown encoding {self.encoding!r}; known: {', '.join(ENCODINGS)}")
        if self.dims < 1 or not 0 <= self.hop_seconds < math.inf:
            raise ParameterError("dims must be at least 1, hop_seconds finite and not negative")

    @classmethod
    def of(cls, front_end: FrontEndParams, encoding: str = "float32") -> "StoreHeader":
        """Return the header of features computed by `front_end`."""
        return cls(front_end.kind, front_end.dims, front_end.hop_seconds, front_end, encoding)

    def columns_of(self, kind: str) -> int | None:
        """Return how many of the first columns are the feature kind `kind`; None if it is not in here."""
        return self.dims if kind == self.kind else FEATURE_COLUMNS.get((self.kind, kind))


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of a store: its name, its SHA-256, its clips and their numbers of frames, and what failed.

    `is_final` says that nothing failed for a reason that may have passed when the store is written again.
    """

    file: str
    sha256: str
    clips: tuple[Clip, ...]
    frames: tuple[int, ...]
    failures: tuple[tuple[Clip, str], ...] = ()
    is_final: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the shard as the manifest holds it."""
        return {
            "file": self.file,
            "sha256": self.sha256,
            "clips": [
                {**dataclasses.asdict(clip), "frames": frames}
                for clip, frames in zip(self.clips, self.frames, strict=True)
            ],
            "failures": [{**dataclasses.asdict(clip), "error": error} for clip, error in self.failures],
            **({} if self.is_final else {"is_final": False}),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Shard":
        """Read what `to_json` returned.

        Raises
        ------
        KeyError, TypeError, ValueError, AttributeError
            If the values are something else.
        """
        # A manifest may come from anywhere: what it names stays inside of its folder.
        if not SHARD_FILE.fullmatch(values["file"]):
            raise ValueError(f"{values['file']!r} is no name of a shard")
        frames = tuple(row.pop("frames") for row in values["clips"])
        errors = [row.pop("error") for row in values["failures"]]
        if not all(type(number) is int and number > 0 for number in frames):
            raise ValueError("a clip's number of frames is not positive")
        if not all(isinstance(text, str) for text in (values["sha256"], *errors)):
            raise TypeError("a checksum or a failure is no text")
        return cls(
            values["file"],
            values["sha256"],
            tuple(_clip_from_json(row) for row in values["clips"]),
            frames,
            tuple((_clip_from_json(row), error) for row, error in zip(values["failures"], errors, strict=True)),
            bool(values.get("is_final", True)),
        )


def _clip_from_json(row: dict[str, Any]) -> Clip:
    for name, value in row.items():
        if type(value) not in ((float, int) if name == "seconds" else (str,)):
            raise TypeError(f"a clip's {name} is {value!r:.100}")
    clip = Clip(**row)
    if clip.split not in ("", *SPLITS):
        raise ValueError(f"{clip.track} is in the split {clip.split!r:.100}")
    return clip


class Store:
    """A finished store, open for reading.

    Attributes
    ----------
    path : Path or RemotePath
    header : StoreHeader
    shards : tuple of Shard
    clips : tuple of Clip
        In the order of the records over all shards.
    frames : tuple of int
        Of each clip.
    limits : dict of str to float
        What files had to keep to, such as `min_seconds`.
    failures : list of (name, why)
        Files that gave no features.
    """

    def __init__(
        self,
        path: Place,
        header: StoreHeader,
        shards: Sequence[Shard],
        limits: Mapping[str, float],
        unread: Sequence[tuple[str, str]],
    ):
        self.path = path
        self.header = header
        self.shards = tuple(shards)
        self.limits = dict(limits)
        self._unread = unread
        self.clips = tuple(clip for shard in shards for clip in shard.clips)
        self.frames = tuple(frames for shard in shards for frames in shard.frames)
        self.failures = [*unread, *((clip.file, error) for shard in shards for clip, error in shard.failures)]

    @property
    def genres(self) -> list[str]:
        """The labels in alphabetical order: the order of a model's outputs.

        Those of the clips that the split gives a place; of all clips if it gives none any.
        """
        return genres_of(clip for clip in self.clips if clip.split) or genres_of(self.clips)

    def with_splits(self, splits: Mapping[str, str]) -> "Store":
        """Return the same store with each track in the split that `splits` names, or in none."""
        return self.with_clips(dataclasses.replace(clip, split=splits.get(clip.track, "")) for clip in self.clips)

    def with_clips(self, clips: Iterable[Clip]) -> "Store":
        """Return the same store with the splits and groups that `clips`, the same tracks, carry."""
        by_track = {clip.track: clip for clip in clips}
        shards = [
            dataclasses.replace(shard, clips=tuple(by_track[clip.track] for clip in shard.clips))
            for shard in self.shards
        ]
        return Store(self.path, self.header, shards, self.limits, self._unread)

    def rows_of(self, split: str, *, copies: bool = False) -> list[int]:
        """Return the positions in `clips` of the clips of a split; with `copies`, of altered copies of them too."""
        return [row for row, clip in enumerate(self.clips) if clip.split == split and (copies or not clip.variant)]

    def read(self, rows: Iterable[int] | None = None) -> Iterator[tuple[Clip, np.ndarray]]:
        """Yield clips with their frames, float32 (frames, dims), in the order of the records.

        Parameters
        ----------
        rows : iterable of int, optional
            Positions in `clips`; all by default. Shards with none of them are not opened.

        Raises
        ------
        StoreError
            If a shard is missing, cut or damaged.
        """
        import tensorflow as tf

        from keras_genre.records import read_shard

        wanted = set(range(len(self.clips)) if rows is None else rows)
        first = 0
        for shard in self.shards:
            if not wanted.isdisjoint(range(first, first + len(shard.clips))):
                path = self.path / shard.file
                try:
                    records = list(read_shard(path, self.header.encoding, self.header.dims))
                except tf.errors.OpError as error:
                    raise StoreError(f"{path}: damaged or missing ({error.message})") from error
                found = [(track, len(frames)) for track, frames in records]
                if found != [(clip.track, frames) for clip, frames in zip(shard.clips, shard.frames, strict=True)]:
                    raise StoreError(f"{path}: holds other clips, or other lengths of them, than {MANIFEST} says")
                for row, (_, frames) in enumerate(records, first):
                    if row in wanted:
                        yield self.clips[row], frames
            first += len(shard.clips)

    def summary(self) -> dict[str, Any]:
        """Return what is in the store, as JSON values."""
        genres = genres_of(self.clips)
        counts = {split: dict.fromkeys(genres, 0) for split in (*SPLITS, "")}
        for clip in self.clips:
            counts[clip.split][clip.genre] += 1
        return {
            "kind": self.header.kind,
            "dims": self.header.dims,
            "hop_seconds": self.header.hop_seconds,
            "front_end": to_json(self.header.front_end) if self.header.front_end else None,
            "encoding": self.header.encoding,
            "limits": self.limits,
            "genres": genres,
            "clips": len(self.clips),
            "altered_copies": sum(bool(clip.variant) for clip in self.clips),
            "groups": len({clip.group for clip in self.clips if clip.group}),
            "frames": sum(self.frames),
            "shortest_frames": min(self.frames),
            "longest_frames": max(self.frames),
            "splits": {split or "unassigned": c for split, c in counts.items() if any(c.values())},
            "failures": len(self.failures),
        }


def open_store(path: Place | str, kind: str | None = None) -> Store:
    """Open a store, or the one for a feature kind in a folder of stores.

    Parameters
    ----------
    path : Path, RemotePath or str
        A store, or a folder with a store for each kind under the kind's name; `gs://` and the like are read in place.
    kind : str, optional
        The kind wanted. A store that holds it as its first columns will do. Without a kind there must be one store.

    Raises
    ------
    StoreError
        If there is no store, it is unfinished or damaged, or it does not hold `kind`.
    """
    path = place(path)
    if not (path / MANIFEST).is_file():
        stores = stores_in(path)
        if not stores:
            raise StoreError(_why_no_store(path))
        opened = [_read_store(each) for each in stores]
        fitting = [store for store in opened if kind is None or store.header.columns_of(kind)]
        if not fitting:
            kinds = ", ".join(store.header.kind for store in opened)
            raise StoreError(f"{path}: has stores of {kinds}, none of {kind}")
        if kind is None and len(opened) > 1:
            raise StoreError(f"{path}: has several stores; name one: {', '.join(str(store.path) for store in opened)}")
        return next((store for store in fitting if store.header.kind == kind), fitting[0])
    store = _read_store(path)
    if kind is not None and not store.header.columns_of(kind):
        raise StoreError(f"{path}: holds {store.header.kind}, not {kind}; precompute a store with --features {kind}")
    return store


def stores_in(folder: Place) -> list[Place]:
    """Return the stores that lie in a folder, in the order of their names."""
    found: list[Place] = [manifest.parent for manifest in folder.glob(f"*/{MANIFEST}")]
    return sorted(found, key=lambda store: store.name)


def _why_no_store(path: Place) -> str:
    if not path.exists():
        return f"{path}: no such folder"
    if (path / StoreWriter.header_file).is_file():
        return f"{path}: this store is unfinished; run the command that was writing it again, it goes on"
    return f"{path}: no {MANIFEST} here; make a store with python -m keras_genre.precompute"


def _read_store(path: Place) -> Store:
    manifest = path / MANIFEST
    values = _read_vouched(manifest)
    if values.get("format") != FORMAT:
        raise StoreError(f"{manifest}: format {values.get('format')}; this version reads format {FORMAT}")
    try:
        header = from_json(StoreHeader, values["header"])
        shards = [Shard.from_json(shard) for shard in values["shards"]]
        unread = [(str(file), str(why)) for file, why in values["unread"]]
        store = Store(path, header, shards, values.get("limits", {}), unread)
    except (KeyError, TypeError, ValueError, AttributeError, ParameterError) as error:
        raise StoreError(f"{manifest}: is no manifest of a store ({error})") from error
    if not store.clips:
        raise StoreError(f"{path}: holds no clips")
    return store


def _read_vouched(path: Place) -> dict[str, Any]:
    """Read what `_write_vouched` wrote, if not a byte of it has changed since."""
    try:
        content = path.read_bytes()
        values = json.loads(content)
        del values["checksum"]
        if _vouched_text(values).encode() != content:
            raise ValueError("its checksum does not fit")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(f"{path}: damaged ({error}); restore it, or make the store again with --overwrite") from error
    return values


def _write_vouched(path: Path, values: dict[str, Any]) -> None:
    files.write_text(path, _vouched_text(values))


def _vouched_text(values: dict[str, Any]) -> str:
    checksum = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    return files.json_text({"checksum": checksum, **values})


def validate_store(path: Place | str) -> list[str]:
    """Read every byte of a store and return what is wrong with it, a line each; nothing if it is whole.

    Checked are the manifest's and every shard's checksum, that the records are the clips of the manifest with
    their numbers of frames, and that all values are finite.
    """
    try:
        store = open_store(path)
    except StoreError as error:
        return [str(error)]
    problems = []
    first = 0
    for shard in store.shards:
        file = store.path / shard.file
        rows = range(first, first + len(shard.clips))
        first = rows.stop
        try:
            if _sha256_of(file) != shard.sha256:
                problems.append(f"{file}: damaged (SHA-256 differs from {MANIFEST})")
                continue
            for clip, frames in store.read(rows):
                if not np.isfinite(frames).all():
                    problems.append(f"{file}: {clip.track} holds NaN or infinity")
        except OSError as error:
            problems.append(f"{file}: {error.strerror}")
        except StoreError as error:
            problems.append(str(error))
    return problems


def _sha256_of(file: Place) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if isinstance(file, RemotePath) else files.sha256_of(file)


class StoreWriter:
    """Writes a store shard by shard, each whole or absent, so that a killed writer goes on where it was.

    Use as a context manager: it holds the folder for this process. Shards of an earlier call stay if their
    clips' names and checksums are the ones wanted now; only the rest is to be computed.

    Parameters
    ----------
    path : Path or str
        The folder.
    header : StoreHeader
        What is going to be written.
    clips : sequence of Clip
        All clips of the store, in any order.
    overwrite : bool
        Start anew, whatever is in the folder. Only files of a store are removed.
    limits : mapping of str to float, optional
        What files must keep to, such as `min_seconds`: by other limits other clips would have failed.

    Raises
    ------
    StoreError
        If the folder holds a store of other parameters or limits, or other files.
    FolderInUseError
        If another process is writing there.
    """

    header_file = "unfinished.json"

    def __init__(
        self,
        path: Path | str,
        header: StoreHeader,
        clips: Sequence[Clip],
        *,
        overwrite: bool = False,
        limits: Mapping[str, float] | None = None,
    ):
        self.path = Path(path)
        self.header = header
        self.limits = dict(limits or {})
        self._overwrite = overwrite
        tracks = [clip.track for clip in clips]
        if twice := next((track for track, number in collections.Counter(tracks).items() if number > 1), None):
            raise StoreError(f"{self.path}: two clips would be called {twice}; rename one of them")
        # A shard is a random sample of the tracks, the same on every machine: reading shards in order then
        # mixes the genres, and progress is even.
        ordered = sorted(clips, key=lambda clip: hashlib.sha256(clip.track.encode()).digest())
        self._wanted = [
            tuple(ordered[start : start + CLIPS_PER_SHARD]) for start in range(0, len(ordered), CLIPS_PER_SHARD)
        ]
        self._finished: dict[int, Shard] = {}

    def __enter__(self) -> "StoreWriter":
        self._lock = files.locked_folder(self.path)
        self._require_held = self._lock.__enter__()
        try:
            self._take_up()
        except BaseException:
            self._lock.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *error) -> None:
        self._lock.__exit__(*error)

    @property
    def clips_done(self) -> int:
        """Clips of the shards that need no work."""
        return sum(len(self._wanted[number]) for number in self._finished)

    def missing(self) -> list[tuple[int, tuple[Clip, ...]]]:
        """Return number and clips of every shard that is still to be added."""
        return [(number, clips) for number, clips in enumerate(self._wanted) if number not in self._finished]

    def add(self, number: int, results: Sequence[np.ndarray | str], is_final: bool = True) -> None:
        """Write a shard.

        Parameters
        ----------
        number : int
            As `missing` gave it.
        results : sequence, one for each clip of the shard
            Its frames (frames, dims), or why it has none.
        is_final : bool
            False if a clip has none for a reason that may pass: whoever writes the store again is to try again.

        Raises
        ------
        StoreError
            If frames are not of the store's form, or cannot be written.
        ParameterError
            If the store's encoding cannot keep their values.
        """
        from keras_genre.records import write_shard

        self._require_held()
        pairs = list(zip(self._wanted[number], results, strict=True))
        good = [(clip, result) for clip, result in pairs if not isinstance(result, str)]
        name = f"shard-{number:05d}.tfrecord"
        with files.atomic_path(self.path / name) as temporary:
            write_shard(
                temporary, self.header.encoding, ((clip.track, self._encode(clip, frames)) for clip, frames in good)
            )
            sha256 = files.sha256_of(temporary)
        shard = Shard(
            name,
            sha256,
            tuple(clip for clip, _ in good),
            tuple(len(frames) for _, frames in good),
            tuple((clip, result) for clip, result in pairs if isinstance(result, str)),
            is_final,
        )
        _write_vouched(self._journal(number), shard.to_json())
        self._finished[number] = shard

    def finish(self, unread: Sequence[tuple[str, str]] = ()) -> Store:
        """Write the manifest and return the store; `unread` are files, with why, that never became clips.

        Raises
        ------
        StoreError
            If no clip has features.
        """
        self._require_held()
        shards = [self._finished[number] for number in range(len(self._wanted))]
        failures = [*unread, *((clip.file, error) for shard in shards for clip, error in shard.failures)]
        if not any(shard.clips for shard in shards):
            reasons = "\n".join(f"  {file}: {error}" for file, error in failures[:10])
            raise StoreError(f"{self.path}: no clip gave features\n{reasons}")
        values = {
            "format": FORMAT,
            "header": to_json(self.header),
            "limits": self.limits,
            "shards": [shard.to_json() for shard in shards],
            "unread": [list(pair) for pair in unread],
        }
        _write_vouched(self.path / MANIFEST, values)
        self._clear(keep={shard.file for shard in shards} | {MANIFEST})
        return _read_store(self.path)

    def _encode(self, clip: Clip, frames: np.ndarray) -> Encoded:
        if frames.ndim != 2 or not len(frames) or frames.shape[1] != self.header.dims:
            raise StoreError(
                f"{self.path}: {clip.track} has the shape {frames.shape}, not (frames, {self.header.dims})"
            )
        try:
            return encode(frames, self.header.encoding)
        except ParameterError as error:
            raise ParameterError(f"{self.path}: {clip.track} {error}; choose another encoding") from error

    def _journal(self, number: int) -> Path:
        return self.path / f"shard-{number:05d}.json"

    def _take_up(self) -> None:
        """Find which shards an earlier writer finished, and make the folder an unfinished store."""
        foreign = sorted(path.name for path in self.path.iterdir() if not OWN_FILES.fullmatch(path.name))
        if foreign:
            raise StoreError(f"{self.path}: is no store ({foreign[0]} is in it); name a new or empty folder")
        if self._overwrite:
            self._clear(keep=set())
        for shard in self._earlier_shards():
            number = int(Path(shard.file).stem.removeprefix("shard-"))
            if number >= len(self._wanted) or not _is_up_to_date(shard, self._wanted[number], self.path):
                continue
            self._finished[number] = _with_metadata(shard, self._wanted[number])
            _write_vouched(self._journal(number), self._finished[number].to_json())
        _write_vouched(self.path / self.header_file, {"header": to_json(self.header), "limits": self.limits})
        (self.path / MANIFEST).unlink(missing_ok=True)

    def _earlier_shards(self) -> Sequence[Shard]:
        unfinished = self.path / self.header_file
        if (self.path / MANIFEST).is_file():
            store = _read_store(self.path)
            self._refuse_other(store.header, store.limits)
            return store.shards
        if not unfinished.is_file():
            return ()
        values = _read_vouched(unfinished)
        self._refuse_other(from_json(StoreHeader, values["header"]), values["limits"])
        return [Shard.from_json(_read_vouched(journal)) for journal in sorted(self.path.glob("shard-*.json"))]

    def _refuse_other(self, header: StoreHeader, limits: Mapping[str, float]) -> None:
        changes = _header_differences(header, self.header) if header != self.header else []
        changes += [
            f"{name}: {limits.get(name)} -> {self.limits.get(name)}"
            for name in sorted({*limits, *self.limits})
            if limits.get(name) != self.limits.get(name)
        ]
        if changes:
            raise StoreError(
                f"{self.path}: holds a store of other parameters ({'; '.join(changes)}); "
                "name another folder, or start again with --overwrite"
            )

    def _clear(self, keep: set[str]) -> None:
        for path in self.path.iterdir():
            if path.name not in keep:
                path.unlink()


def _header_differences(old: StoreHeader, new: StoreHeader) -> list[str]:
    if old.front_end is None or new.front_end is None:
        old, new = dataclasses.replace(old, front_end=None), dataclasses.replace(new, front_end=None)
        return differences(old, new) or ["front_end: known in one, unknown in the other"]
    return differences(old, new)


def _is_up_to_date(shard: Shard, wanted: Sequence[Clip], folder: Path) -> bool:
    if not shard.is_final:
        return False
    had = sorted((clip.track, clip.sha256) for clip in (*shard.clips, *(clip for clip, _ in shard.failures)))
    if had != sorted((clip.track, clip.sha256) for clip in wanted):
        return False
    path = folder / shard.file
    return path.is_file() and files.sha256_of(path) == shard.sha256


def _with_metadata(shard: Shard, wanted: Sequence[Clip]) -> Shard:
    """Take genre, group and split from the present index: they may change without a change of the features."""
    by_track = {clip.track: clip for clip in wanted}
    return dataclasses.replace(
        shard,
        clips=tuple(by_track[clip.track] for clip in shard.clips),
        failures=tuple((by_track[clip.track], error) for clip, error in shard.failures),
    )


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    from keras_genre.datasets.options import add_split_options

    parser = cli.parser("keras_genre.store", "Look at, validate, import and export feature stores.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    info = commands.add_parser("info", help="print what a store holds, as JSON")
    info.add_argument("store", type=place)
    info.add_argument("--clips", action="store_true", help="print the clips instead, as CSV")

    validate = commands.add_parser("validate", help="read every byte and name what is damaged")
    validate.add_argument("stores", type=place, nargs="+", metavar="STORE")

    take = commands.add_parser(
        "import",
        help="make a store of features from elsewhere",
        description=(
            "FILE.npz: X (rows, dims) or (tracks, time, dims), Y, IDS [SPLIT] [GROUP]. A folder of .npy pairs: "
            "data_{train,validation,test}_{input,target}.npy. FILE.json ...: mapping, mfcc, labels; one for each split."
        ),
    )
    take.add_argument("sources", type=local_path, nargs="+", metavar="SOURCE")
    take.add_argument("--out", type=local_path, required=True, metavar="STORE")
    take.add_argument("--genres", metavar="A,B,...", help="names of the labels 0, 1, ... where the file has none")
    take.add_argument("--features", metavar="KIND", help="what the features are; a name of your own for other kinds")
    take.add_argument(
        "--segments-per-clip",
        type=int,
        metavar="N",
        help="how many segments in a row are of one clip, for JSON files that do not name the clips of theirs",
    )
    take.add_argument("--columns", type=int, metavar="N", help="keep the first N values of each frame")
    take.add_argument("--hop-seconds", type=float, metavar="S", help="time from one frame to the next, for own kinds")
    take.add_argument("--encoding", choices=ENCODINGS, help="default: exact")
    take.add_argument("--overwrite", action="store_true", help="start anew, whatever the store holds")
    add_split_options(take)

    give = commands.add_parser("export", help="write a store's features as NumPy or JSON files")
    give.add_argument("store", type=place)
    give.add_argument("--out", type=local_path, required=True, metavar="FILE.npz|FILE.json|FOLDER")
    give.add_argument("--split", choices=SPLITS, help="only these clips; a JSON file holds one split")
    give.add_argument("--window-frames", type=int, metavar="N", help="length of .npy inputs (128), JSON segments (259)")
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    if options.command == "info":
        store = open_store(options.store)
        print(
            clips_to_csv(store.clips) if options.clips else json.dumps(store.summary(), indent=2, ensure_ascii=False),
            end="" if options.clips else "\n",
        )
        return cli.DONE
    if options.command == "validate":
        failed = False
        for path in options.stores:
            problems = validate_store(path)
            for problem in problems:
                cli.say(problem)
            failed = failed or bool(problems)
            if not problems:
                print(f"{path}: whole")
        return cli.SOME_FAILED if failed else cli.DONE
    from keras_genre import exchange

    if options.command == "import":
        store = exchange.import_features(options)
        cli.say(
            f"{options.out}: {len(store.clips)} clips of {len(genres_of(store.clips))} genres, "
            f"{sum(store.frames)} frames"
        )
    else:
        for path in exchange.export_features(options.store, options.out, options.split, options.window_frames):
            cli.say(f"wrote {path}")
    return cli.DONE


if __name__ == "__main__":
    sys.exit(main())
