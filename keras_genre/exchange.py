"""Features from and for other programs: NumPy archives, the original's `.npy` pairs and JSON files."""

import argparse
import collections
import dataclasses
import hashlib
import json
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_genre import cli, files
from keras_genre.clips import SPLITS, Clip, genres_of
from keras_genre.datasets.segments import segment_track, segments_among
from keras_genre.errors import ParameterError, StoreError
from keras_genre.params import FEATURE_DIMS, FrontEndParams
from keras_genre.places import Place
from keras_genre.store import Store, StoreHeader, StoreWriter, open_store

AUDIO_SUFFIX = re.compile(r"\.(au|wav|mp3|flac|ogg|opus|m4a|aiff?)$", re.IGNORECASE)
FOLDERS = re.compile(r"^.*/(?=.)")
GENRE_IN_TRACK = re.compile(r"^(?:.*/)?(?P<genre>[^/]+?)\.\d+$")

NPY_WINDOW_FRAMES = 128
JSON_SEGMENT_FRAMES = 259
SPLIT_IN_NAME = re.compile(r"(?<![a-z])(train|val|test)")


@dataclasses.dataclass(frozen=True)
class Sequences:
    """Labelled feature sequences, as an importer finds them.

    Attributes
    ----------
    frames : list of np.ndarray [shape=(frames, dims)]
    labels : list of int or str
    tracks : list of str
        Unique names.
    splits, groups : list of str
        Empty where unknown.
    genres : list of str
        Names of the labels 0, 1, ...; empty if the file has none.
    """

    frames: list[np.ndarray]
    labels: list[Any]
    tracks: list[str]
    splits: list[str]
    groups: list[str]
    genres: list[str]


def import_features(options: argparse.Namespace) -> Store:
    """Make a store from the files that `store import` was given.

    Raises
    ------
    StoreError
        If a file is missing, damaged, or not of the form that its name promises.
    ParameterError
        If a flag is needed or does not fit.
    """
    from keras_genre.datasets.options import apply_split_options

    sequences = read_sequences(options.sources, options.segments_per_clip)
    genres = options.genres.split(",") if options.genres else sequences.genres
    names = genre_names(sequences, [genre.strip() for genre in genres])
    clips = [
        Clip(track=track, genre=genre, group=group, split=split, sha256=_digest(frames))
        for track, genre, group, split, frames in zip(
            sequences.tracks, names, sequences.groups, sequences.splits, sequences.frames, strict=True
        )
    ]
    clips, notes = apply_split_options(clips, options)
    for note in notes:
        cli.say(f"note: {note}")
    available = sequences.frames[0].shape[1]
    dims = available if options.columns is None else options.columns
    if not 1 <= dims <= available:
        raise ParameterError(f"--columns {dims}: the frames have {available} values")
    header = _header(options, dims, sequences.frames[0].dtype)
    clips = [
        dataclasses.replace(clip, seconds=len(frames) * header.hop_seconds)
        for clip, frames in zip(clips, sequences.frames, strict=True)
    ]
    by_track = dict(zip(sequences.tracks, sequences.frames, strict=True))
    with StoreWriter(options.out, header, clips, overwrite=options.overwrite) as writer:
        for number, members in writer.missing():
            writer.add(number, [np.ascontiguousarray(by_track[clip.track][:, :dims]) for clip in members])
        return writer.finish()


def _header(options: argparse.Namespace, dims: int, dtype: np.dtype) -> StoreHeader:
    exact = dtype.name if dtype.name in ("float16", "uint8", "uint16") else "float32"
    encoding = options.encoding or exact
    if options.features in FEATURE_DIMS:
        if FEATURE_DIMS[options.features] != dims:
            raise ParameterError(
                f"--features {options.features} has {FEATURE_DIMS[options.features]} values a frame, not {dims}; "
                "keep the first ones with --columns, or give the features a name of their own"
            )
        if options.hop_seconds is not None:
            raise ParameterError(f"--hop-seconds is for own kinds; that of {options.features} is known")
        return StoreHeader.of(FrontEndParams.of(options.features), encoding)
    return StoreHeader(options.features or f"imported{dims}", dims, options.hop_seconds or 0.0, None, encoding)


def _digest(frames: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(frames).tobytes()).hexdigest()


def genre_names(sequences: Sequences, genres: Sequence[str]) -> list[str]:
    """Return the genre of every sequence by name.

    Labels that are words are the names. Numbers are looked up in `genres`; without these, the names are taken from
    tracks such as `blues/blues.00029` if that is possible without contradiction.

    Raises
    ------
    ParameterError
        If the names cannot be known.
    """
    labels = sequences.labels
    if all(isinstance(label, str) for label in labels):
        return list(labels)
    if not genres:
        found: dict[int, set[str]] = {}
        for label, track in zip(labels, sequences.tracks, strict=True):
            match = GENRE_IN_TRACK.match(track)
            found.setdefault(int(label), set()).add(match["genre"] if match else "")
        names = {label: next(iter(each)) for label, each in found.items() if len(each) == 1}
        if len(names) < len(found) or len(set(names.values())) < len(names) or "" in names.values():
            raise ParameterError("the labels are numbers; name them in order with --genres A,B,...")
        return [names[int(label)] for label in labels]
    if max(labels) >= len(genres) or min(labels) < 0 or len(set(genres)) < len(genres):
        raise ParameterError(f"--genres: {len(genres)} different names are too few for the labels 0 to {max(labels)}")
    return [genres[int(label)] for label in labels]


def read_sequences(sources: Sequence[Path], segments_per_clip: int | None = None) -> Sequences:
    """Read feature sequences from an `.npz` file, a folder of `.npy` pairs, or JSON files.

    JSON files hold segments. Where a list `clips` names the clip of each, by a word or by a number within its file, its
    segments are put together in their order; else each counts as a clip, by the name of `segment_track`, unless it is
    known that so many segments in a row are of one clip.

    Raises
    ------
    StoreError
        If a file is missing, damaged or not of its form.
    ParameterError
        If `segments_per_clip` is given for other files or is less than 1.
    """
    if segments_per_clip is not None and (segments_per_clip < 1 or any(s.suffix.lower() != ".json" for s in sources)):
        raise ParameterError("--segments-per-clip is a number of at least 1, for .json files")
    suffixes = {source.suffix.lower() for source in sources}
    if len(sources) == 1 and sources[0].is_dir():
        return _checked(sources[0], _from_npy_folder(sources[0]))
    if len(sources) == 1 and suffixes == {".npz"}:
        return _checked(sources[0], _from_npz(sources[0]))
    if suffixes == {".json"}:
        return _checked(", ".join(map(str, sources)), _from_json(sources, segments_per_clip))
    raise StoreError(f"{sources[0]}: import takes one .npz file, one folder of .npy pairs, or .json files")


def _checked(source: Path | str, sequences: Sequences) -> Sequences:
    if not sequences.frames:
        raise StoreError(f"{source}: holds no features")
    shapes = {frames.shape[1] for frames in sequences.frames}
    if 0 in shapes:
        raise StoreError(f"{source}: frames of no values")
    if len(shapes) > 1:
        raise StoreError(f"{source}: frames of {sorted(shapes)} values; all must have the same number")
    numbers = {label for label in sequences.labels if isinstance(label, int)}
    if sequences.genres and not numbers <= set(range(len(sequences.genres))):
        raise StoreError(
            f"{source}: has labels that are not 0 to {len(sequences.genres) - 1}, the places of its genres"
        )
    for track, frames in zip(sequences.tracks, sequences.frames, strict=True):
        if not len(frames) or not np.isfinite(frames).all():
            raise StoreError(f"{source}: {track} has no frames, or NaN or infinity in them")
    if len(set(sequences.tracks)) < len(sequences.tracks):
        raise StoreError(f"{source}: two tracks have one name")
    return sequences


def _load(path: Path, names: Sequence[str] = ()) -> Any:
    """Read an array, or of an archive those of the given names that it has."""
    try:
        # Never pickled objects: they could run code.
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            with loaded:
                return {name: np.asarray(loaded[name]) for name in names if name in loaded}
        return {} if names else loaded
    except MemoryError:
        raise StoreError(f"{path}: too large for the memory of this machine") from None
    except Exception as error:
        # zipfile, zlib and NumPy have a dozen kinds of errors for damaged files.
        raise StoreError(f"{path}: cannot be read as NumPy data ({error})") from error


def _from_npz(path: Path) -> Sequences:
    arrays = _load(path, ("X", "Y", "IDS", "SPLIT", "GROUP", "GENRES"))
    if missing := [name for name in ("X", "Y", "IDS") if name not in arrays]:
        raise StoreError(f"{path}: has no array {', '.join(missing)}; expected X, Y, IDS [SPLIT] [GROUP]")
    values, labels = arrays["X"], _labels(path, arrays["Y"])
    if values.ndim not in (2, 3) or values.dtype.kind not in "fiu":
        raise StoreError(f"{path}: X must be numbers, (rows, dims) or (tracks, time, dims), not {values.shape}")
    names = _words(path, arrays, "IDS")
    unknown = [""] * len(values)
    splits = _words(path, arrays, "SPLIT") if "SPLIT" in arrays else unknown
    groups = _words(path, arrays, "GROUP") if "GROUP" in arrays else unknown
    genres = _words(path, arrays, "GENRES") if "GENRES" in arrays else []
    for name, entries in {"Y": labels, "IDS": names, "SPLIT": splits, "GROUP": groups}.items():
        if len(entries) != len(values):
            raise StoreError(f"{path}: {name} has {len(entries)} entries for {len(values)} of X")
    if strange := sorted(set(splits) - {*SPLITS, ""}):
        raise StoreError(f"{path}: SPLIT has {', '.join(strange)}; known: {', '.join(SPLITS)}")
    if values.ndim == 3:
        return Sequences(list(_exact(values)), labels, _short_names(names), splits, groups, genres)
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    for name, members in rows.items():
        if len({(labels[row], splits[row], groups[row]) for row in members}) > 1:
            raise StoreError(f"{path}: the rows of {name} differ in label, split or group")
    firsts = [members[0] for members in rows.values()]
    values = _exact(values)
    return Sequences(
        [values[members] for members in rows.values()],
        [labels[row] for row in firsts],
        _short_names(list(rows)),
        [splits[row] for row in firsts],
        [groups[row] for row in firsts],
        genres,
    )


def _words(path: Path, arrays: Mapping[str, np.ndarray], name: str) -> list[str]:
    array = arrays[name]
    if array.ndim != 1 or array.dtype.kind not in "USiu":
        raise StoreError(f"{path}: {name} must be words, one for each of X, not {array.dtype} {array.shape}")
    if array.dtype.kind == "S":
        try:
            array = np.char.decode(array, "utf-8")
        except UnicodeDecodeError as error:
            raise StoreError(f"{path}: {name} is not in UTF-8 ({error})") from error
    return [str(word) for word in array]


def _exact(values: np.ndarray) -> np.ndarray:
    """Keep the types that a store can hold as they are; other numbers become float32."""
    return values if values.dtype.name in ("float16", "uint8", "uint16") else values.astype(np.float32)


def _labels(path: Path, labels: np.ndarray) -> list[Any]:
    """Return labels as integers or words; rows of one-hot labels as the place of the one."""
    if labels.ndim == 2 and labels.dtype.kind in "fiub":
        if not (np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()):
            raise StoreError(f"{path}: labels of two dimensions must be one-hot")
        labels = labels.argmax(axis=1)
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise StoreError(f"{path}: labels must be whole numbers, words or one-hot, not {labels.dtype}")
    return labels.tolist()


def _short_names(names: Sequence[str]) -> list[str]:
    """Leave out of track names what is not needed to tell tracks apart: suffixes, then folders."""
    for pattern in (AUDIO_SUFFIX, FOLDERS):
        shorter = [pattern.sub("", name) for name in names]
        if len(set(shorter)) == len(set(names)):
            names = shorter
    return list(names)


def _from_npy_folder(folder: Path) -> Sequences:
    frames: list[np.ndarray] = []
    labels: list[Any] = []
    splits: list[str] = []
    for split in SPLITS:
        pair = [folder / f"data_{split}_{part}.npy" for part in ("input", "target")]
        if not any(path.exists() for path in pair):
            continue
        inputs, targets = (_load(path) for path in pair)
        if not (isinstance(inputs, np.ndarray) and isinstance(targets, np.ndarray)):
            raise StoreError(f"{pair[0]} or its targets: is an archive, not an array")
        if inputs.ndim != 3 or inputs.dtype.kind not in "fiu" or targets.shape[:1] != inputs.shape[:1]:
            raise StoreError(f"{pair[0]}: expected numbers (tracks, time, dims), as many as targets")
        frames += list(_exact(inputs))
        labels += _labels(pair[1], targets)
        splits += [split] * len(inputs)
    if not frames:
        raise StoreError(f"{folder}: no data_train_input.npy and its like in here")
    common = np.result_type(*{each.dtype for each in frames})
    frames = [each.astype(common, copy=False) for each in frames]
    return Sequences(frames, labels, _numbered(splits), splits, [""] * len(frames), [])


def _from_json(paths: Sequence[Path], segments_per_clip: int | None) -> Sequences:
    found = [_json_file(path, segments_per_clip) for path in paths]
    for path, each in zip(paths, found, strict=True):
        if each.genres != found[0].genres:
            raise StoreError(f"{path}: mapping differs from that of {paths[0]}")
    splits = [split for each in found for split in each.splits]
    tracks = _short_names(_with_segments_numbered([track for each in found for track in each.tracks], splits))
    if any(segments_among([Clip(track, "")]) for track in tracks):
        cli.say("note: these files do not say which clip a segment is of: each counts as a clip of its own")
    frames = [values for each in found for values in each.frames]
    return Sequences(
        frames, [n for each in found for n in each.labels], tracks, splits, [""] * len(frames), found[0].genres
    )


def _json_file(path: Path, segments_per_clip: int | None) -> Sequences:
    """Read a file of segments, those of a clip put together; where their clips are not named, tracks are empty."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        genres = [name.rstrip("/").rsplit("/", 1)[-1] for name in values["mapping"]]
        segments = [np.array(segment, np.float32) for segment in values["mfcc"]]
        labels = [operator.index(label) for label in values["labels"]]
        clips = values.get("clips")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise StoreError(f"{path}: is not a file of mapping, mfcc and labels ({error})") from error
    if not genres or len(segments) != len(labels) or any(segment.ndim != 2 for segment in segments):
        raise StoreError(f"{path}: mapping must name the genres, and mfcc be (frames, values) for each label")
    match = SPLIT_IN_NAME.search(path.stem.lower())
    split = next(split for split in SPLITS if split.startswith(match[1])) if match else ""
    if clips is None and segments_per_clip:
        if len(labels) % segments_per_clip:
            raise StoreError(f"{path}: {len(labels)} segments are not {segments_per_clip} of every clip")
        clips = [place // segments_per_clip for place in range(len(labels))]
    if clips is None:
        unknown = [""] * len(labels)
        return Sequences(segments, labels, unknown, [split] * len(labels), unknown, genres)
    if not isinstance(clips, list) or len(clips) != len(labels) or {type(clip) for clip in clips} - {str, int}:
        raise StoreError(f"{path}: clips must name the clip of each segment, by a word or a whole number")
    members: dict[str, list[int]] = {}
    for place, clip in enumerate(clips):
        # A number is one within its file.
        members.setdefault(clip if isinstance(clip, str) else f"{split or 'clip'}_{clip:05d}", []).append(place)
    if "" in members:
        raise StoreError(f"{path}: clips has an empty name")
    for clip, places in members.items():
        if len({(labels[place], segments[place].shape[1]) for place in places}) > 1:
            raise StoreError(f"{path}: the segments of {clip} differ in label or in values a frame")
    return Sequences(
        [np.concatenate([segments[place] for place in places]) for places in members.values()],
        [labels[places[0]] for places in members.values()],
        list(members),
        [split] * len(members),
        [""] * len(members),
        genres,
    )


def _with_segments_numbered(tracks: Sequence[str], splits: Sequence[str]) -> list[str]:
    counts: collections.Counter[str] = collections.Counter()
    names = []
    for track, split in zip(tracks, splits, strict=True):
        names.append(track or segment_track(split, counts[split]))
        counts[split] += not track
    return names


def _numbered(splits: Sequence[str]) -> list[str]:
    counts = dict.fromkeys([*SPLITS, ""], 0)
    names = []
    for split in splits:
        names.append(f"{split or 'clip'}_{counts[split]:05d}")
        counts[split] += 1
    return names


def export_features(path: Place, out: Path, split: str | None = None, window_frames: int | None = None) -> list[Path]:
    """Write a store's features for other programs.

    Parameters
    ----------
    path : Path or RemotePath
        The store.
    out : Path
        `FILE.npz`: X (rows, dims), Y, IDS, SPLIT, GROUP, GENRES; the rows of a clip follow each other. Altered copies
        are left out.
        `FILE.json`: `mapping`, `mfcc`, `labels`, each clip cut into segments, and `clips`, the name of the clip of each
        segment; one split.
        Otherwise a folder: `.npy` pairs for each split, the first `window_frames` frames of each clip, targets one-hot.
    split : str, optional
        Export only this.
    window_frames : int, optional
        Length of `.npy` inputs (128) and JSON segments (259). A remainder at a clip's end is left out.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    StoreError
        If the store is damaged, or clips are too short.
    ParameterError
        If the split must be named, or the windows have no frame.
    """
    if window_frames is not None and window_frames < 1:
        raise ParameterError(f"--window-frames must be at least 1, not {window_frames}")
    store = open_store(path)
    # An archive does not tell altered copies from clips, so whoever divides it anew would test on some of them. `.npy`
    # pairs and JSON files are of one split each.
    copies = out.suffix != ".npz"
    rows = [
        row
        for row, clip in enumerate(store.clips)
        if split in (None, clip.split) and (not clip.variant or (copies and clip.split))
    ]
    if not rows:
        raise StoreError(f"{path}: no clip is in the split {split}")
    if out.suffix == ".npz":
        _write_npz(store, rows, out)
        return [out]
    if out.suffix == ".json":
        if len({store.clips[row].split for row in rows}) > 1:
            raise ParameterError("a JSON file holds one split: name it with --split")
        _write_json(store, rows, out, window_frames or JSON_SEGMENT_FRAMES)
        return [out]
    return _write_npy_folder(store, rows, out, window_frames or NPY_WINDOW_FRAMES)


def _write_npz(store: Store, rows: Sequence[int], out: Path) -> None:
    genres = genres_of(store.clips)
    frames, members = [], []
    for clip, values in store.read(rows):
        frames.append(values)
        members += [clip] * len(values)
    with files.atomic_path(out) as temporary:
        np.savez_compressed(
            temporary,
            X=np.concatenate(frames),
            Y=np.array([genres.index(clip.genre) for clip in members], np.int64),
            IDS=np.array([clip.track for clip in members]),
            SPLIT=np.array([clip.split for clip in members]),
            GROUP=np.array([clip.group for clip in members]),
            GENRES=np.array(genres),
        )


def _write_json(store: Store, rows: Sequence[int], out: Path, window_frames: int) -> None:
    genres = genres_of(store.clips)
    _refuse_short(store, rows, window_frames)
    segments, labels, names = [], [], []
    for clip, values in store.read(rows):
        for segment in _segments(values, window_frames):
            segments.append(segment.tolist())
            labels.append(genres.index(clip.genre))
            names.append(clip.track)
    files.write_text(out, json.dumps({"mapping": genres, "mfcc": segments, "labels": labels, "clips": names}))


def _refuse_short(store: Store, rows: Sequence[int], window_frames: int) -> None:
    if short := [store.clips[row].track for row in rows if store.frames[row] < window_frames]:
        raise StoreError(
            f"{store.path}: {len(short)} clips have fewer than {window_frames} frames ({', '.join(short[:5])}"
            f"{', ...' if len(short) > 5 else ''}); use a smaller --window-frames"
        )


def _segments(values: np.ndarray, window_frames: int) -> Iterator[np.ndarray]:
    for start in range(0, len(values) - window_frames + 1, window_frames):
        yield values[start : start + window_frames]


def _write_npy_folder(store: Store, rows: Sequence[int], out: Path, window_frames: int) -> list[Path]:
    genres = genres_of(store.clips)
    rows = [row for row in rows if store.clips[row].split]
    if not rows:
        raise StoreError(f"{store.path}: no clip is in a split; .npy pairs are of one split each")
    _refuse_short(store, rows, window_frames)
    written = []
    for split in SPLITS:
        members = [row for row in rows if store.clips[row].split == split]
        if not members:
            continue
        clips, values = zip(*store.read(members), strict=True)
        labels = [genres.index(clip.genre) for clip in clips]
        arrays = {
            "input": np.stack([frames[:window_frames] for frames in values]),
            "target": np.eye(len(genres), dtype=np.float32)[labels],
        }
        for part, array in arrays.items():
            path = out / f"data_{split}_{part}.npy"
            with files.atomic_path(path) as temporary:
                np.save(temporary, array)
            written.append(path)
    return written
