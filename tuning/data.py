"""The clips of a search: a copy of the store from which the test clips are missing, and the folds that validate.

A search is given these copies and nothing else. There is no clip in them that it could test on, whatever it does.
"""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from keras_genre import files
from keras_genre.augmentation import copies_follow, originals
from keras_genre.clips import Clip
from keras_genre.datasets import splits
from keras_genre.errors import FolderInUseError, StoreError
from keras_genre.params import FEATURE_COLUMNS, to_json
from keras_genre.places import Place, place
from keras_genre.store import MANIFEST, Store, StoreWriter, open_store, stores_in

LOCK_WAIT_SECONDS = 300.0


@dataclasses.dataclass(frozen=True)
class SearchData:
    """What a search may see.

    Attributes
    ----------
    stores : tuple of Store
        One for each kind of features. All their clips are for training and validation.
    folds : tuple of dict
        Track -> `train` or `validation`, for each fold.
    """

    stores: tuple[Store, ...]
    folds: tuple[dict[str, str], ...]

    def fold(self, kind: str, fold: int) -> Store:
        """Return the store for a feature kind, divided as a fold says."""
        store = next((s for s in self.stores if s.header.kind == kind), None) or next(
            (s for s in self.stores if s.header.columns_of(kind)), self.stores[0]
        )
        sides = self.folds[fold]
        clips = [
            dataclasses.replace(clip, split=sides.get(clip.track, "")) if not clip.variant else clip
            for clip in store.clips
        ]
        return store.with_clips(copies_follow(clips, originals(clips)))


def feature_stores(path: Place, kind: str, others: Sequence[str] = ()) -> list[Store]:
    """Open the stores of a search: that for the preset's kind, and those beside it of other kinds that may be tried.

    Parameters
    ----------
    path : Place
        A store, which is taken as it is, or a folder of stores.
    kind : str
        The preset's.
    others : sequence of str

    Raises
    ------
    StoreError
        If there is none, or they hold different clips.
    """
    path = place(path)
    if (path / MANIFEST).is_file():
        return [open_store(path)]
    first = open_store(path, kind)
    stores = [first]
    if others:
        beside = [open_store(each) for each in stores_in(path) if each.resolve() != first.path.resolve()]
        stores += [store for store in beside if any(store.header.columns_of(other) for other in others)]
    tracks = {clip.track for clip in first.clips}
    for store in stores[1:]:
        if {clip.track for clip in store.clips} != tracks:
            raise StoreError(
                f"{store.path}: holds other clips than {first.path}; search on one of them (--data {first.path})"
            )
    return stores


def kinds_of(stores: Iterable[Store]) -> tuple[str, ...]:
    """Return the feature kinds that stores hold, as a whole or as first columns."""
    kinds: list[str] = []
    for store in stores:
        kinds += [store.header.kind, *(part for whole, part in FEATURE_COLUMNS if whole == store.header.kind)]
    return tuple(dict.fromkeys(kinds))


def search_clips(clips: Sequence[Clip]) -> list[Clip]:
    """Return the clips that a search may see: those for training and validation, and altered copies of these."""
    seen = {clip.track for clip in clips if not clip.variant and clip.split in ("train", "validation")}
    return [clip for clip in clips if clip.original_track in seen]


def make_folds(clips: Sequence[Clip], folds: int, seed: int = 0) -> tuple[dict[str, str], ...]:
    """Divide the clips of a search.

    Parameters
    ----------
    clips : sequence of Clip
        What `search_clips` gave.
    folds : int >= 0
        How many folds to make by genre and artist group, each of which validates once; 0 or 1: the clips' own division
        into training and validation.
    seed : int
        Of folds that are made: orders groups of equal size.

    Raises
    ------
    SplitError
        If there are not enough groups for the folds.
    StoreError
        If the clips' own division has no validation clips.
    """
    own = originals(clips)
    if folds > 1:
        numbers = splits.grouped_folds(own, folds, seed)
        return tuple(
            {clip.track: "validation" if number == fold else "train" for clip, number in zip(own, numbers, strict=True)}
            for fold in range(folds)
        )
    if not any(clip.split == "validation" for clip in own):
        raise StoreError("the split has no validation clips, which a search follows; make some with --folds K")
    return ({clip.track: clip.split for clip in own},)


def check_folds(clips: Sequence[Clip], folds: Sequence[dict[str, str]]) -> list[str]:
    """Check folds as a split is checked.

    Parameters
    ----------
    clips, folds
        As `make_folds` takes and gives them.

    Returns
    -------
    list of str
        Warnings, each once.

    Raises
    ------
    SplitLeakError
        If artists or recordings stand on both sides of a fold.
    """
    own = originals(clips)
    warnings = [
        f"folds that validate: {warning}"
        for fold in folds
        for warning in splits.check_split(dataclasses.replace(clip, split=fold[clip.track]) for clip in own)
    ]
    return list(dict.fromkeys(warnings))


def copy_for_search(store: Store, clips: Sequence[Clip], out: Path) -> Store:
    """Write the clips of a search into a store of their own, or open it if that was done.

    Parameters
    ----------
    store : Store
        The whole store.
    clips : sequence of Clip
        What `search_clips` gave of its clips.
    out : Path
        Folder of the copy. Several processes may ask for one copy at a time.

    Raises
    ------
    StoreError
        If `out` holds other clips, or the store is damaged.
    """
    wanted = {clip.track for clip in clips}
    _retried(lambda: _copy(store, clips, wanted, out), out)
    copy = open_store(out)
    if {clip.track for clip in copy.clips} != wanted:
        raise StoreError(f"{out}: holds other clips than the search's; remove the folder, it is made again")
    return copy.with_clips(clips)


def _copy(store: Store, clips: Sequence[Clip], wanted: set[str], out: Path) -> None:
    # A finished store is not touched: other processes may be reading it.
    if (out / MANIFEST).is_file():
        return
    with files.locked_folder(out.parent):
        if not (out / MANIFEST).is_file():
            _write_copy(store, clips, wanted, out)


def _write_copy(store: Store, clips: Sequence[Clip], wanted: set[str], out: Path) -> None:
    rows = {clip.track: row for row, clip in enumerate(store.clips) if clip.track in wanted}
    # Values that were quantised once are kept as they came out of it.
    header = dataclasses.replace(
        store.header, encoding=store.header.encoding if store.header.encoding.startswith("float") else "float32"
    )
    with StoreWriter(out, header, clips) as writer:
        for number, members in writer.missing():
            frames = {clip.track: values for clip, values in store.read([rows[clip.track] for clip in members])}
            writer.add(number, [frames[clip.track] for clip in members])
        writer.finish()


def _retried(work: Callable[[], None], folder: Path) -> None:
    ends = time.monotonic() + LOCK_WAIT_SECONDS
    while True:
        try:
            return work()
        except FolderInUseError as error:
            if time.monotonic() > ends:
                raise FolderInUseError(f"{folder}: in use for {LOCK_WAIT_SECONDS:.0f} s by another process") from error
            time.sleep(0.2)


def describe_data(stores: Sequence[Store], clips: Sequence[Clip], folds: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Return what identifies the data of a search, as JSON values: features, clips, folds.

    Parameters
    ----------
    stores : sequence of Store
        The whole stores.
    clips, folds
        Of the search.
    """
    sides = [f"{clip.track} {clip.genre} {[fold.get(clip.track) for fold in folds]}" for clip in clips]
    return {
        "features": {
            store.header.kind: _digest(
                [files.json_text(to_json(store.header)), *(shard.sha256 for shard in store.shards)]
            )
            for store in stores
        },
        "clips": len(originals(clips)),
        "altered_copies": len(clips) - len(originals(clips)),
        "folds": len(folds),
        "division": _digest(sorted(sides)),
    }


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
