"""The split lists that come with the package, by name."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from keras_genre.clips import Clip
from keras_genre.datasets.catalogue import DATA
from keras_genre.datasets.index import read_table
from keras_genre.errors import SplitError

FOLDER = DATA / "splits"


@dataclasses.dataclass(frozen=True)
class SplitList:
    """A list that gives tracks their places.

    Attributes
    ----------
    path : Path
        A CSV file with the columns `track` and `split`, or `track` and `fold`.
    name : str
        What commands call it; empty for a list of the user's own.
    about : str
        What a reader of results on it must know, in a sentence; empty for a list of the user's own.
    """

    path: Path
    name: str = ""
    about: str = ""

    @property
    def is_published(self) -> bool:
        """Whether it comes with the package: what it shares between its sides is known, and told, not refused."""
        return bool(self.name)

    def testing(self, fold: str) -> "SplitList":
        """Return the same list, which says that this fold of it tests."""
        return dataclasses.replace(self, about=f"{self.about} Fold {fold} tests." if self.about else "")

    def rows(self) -> list[dict[str, str]]:
        """Return the values of its rows by column name.

        Raises
        ------
        SplitError
            If there is no such file, it is no list of tracks, or it has neither of the columns.
        """
        rows = [row for _, row in read_table(self.path, ("track",), SplitError)]
        if rows and not {"split", "fold"} & set(rows[0]):
            raise SplitError(f"{self.path}: no column split (train, validation, test) and no column fold (numbers)")
        return rows

    def has_folds(self) -> bool:
        """Whether it divides into folds and not into training, validation and test."""
        rows = self.rows()
        return bool(rows) and "split" not in rows[0]


def _published(name: str, about: str) -> SplitList:
    return SplitList(FOLDER / f"{name}.csv", name, f"split list {name}: {about}")


FAULT_FILTERED = _published(
    "gtzan_fault_filtered",
    "the fault-filtered split of GTZAN (Kereliuk, Sturm and Larsen, 2015), without repetitions and distorted clips.",
)

PUBLISHED = {
    each.name: each
    for each in (
        FAULT_FILTERED,
        _published("gtzan_fault_filtered_8", "the fault-filtered split of GTZAN without blues and rock."),
        _published(
            "gtzan_artist_folds",
            "three folds of GTZAN without a common artist by its groups; but reggae.00054 in fold 3 repeats "
            "reggae.00003 in fold 1.",
        ),
        _published(
            "gtzan_by_number",
            "the split of older systems by the number in the file's name. It does not separate artists and leaves "
            "repetitions in: figures on it are flattering and only to be compared with other figures on it.",
        ),
    )
}


def find_list(name: str | Path) -> SplitList:
    """Return the list of a name, or the one in a file.

    Raises
    ------
    SplitError
        If `name` is neither the name of a list nor a file.
    """
    path = Path(name)
    if str(name) in PUBLISHED:
        return PUBLISHED[str(name)]
    if not path.exists():
        raise SplitError(f"{name}: no such file, and no name of a split list; these are {', '.join(PUBLISHED)}")
    return next(
        (each for each in PUBLISHED.values() if each.path.exists() and each.path.samefile(path)), SplitList(path)
    )


def list_of(clips: Iterable[Clip]) -> SplitList | None:
    """Return the published list that clips are divided by, if there is one.

    That is so if every clip is where the list puts it, and those that it does not name are nowhere. Of folds, one
    tests, and the others are divided in whatever way. Of several such lists it is the shortest.

    Parameters
    ----------
    clips : iterable of Clip
    """
    places = {clip.track: clip.split for clip in clips}
    if not any(places.values()):
        return None
    fitting = []
    for each in PUBLISHED.values():
        rows = each.rows() if each.path.exists() else []
        if fits := _fitting(each, rows, places):
            fitting.append((len(rows), fits))
    return min(fitting, key=lambda pair: pair[0])[1] if fitting else None


def _fitting(published: SplitList, rows: Sequence[dict[str, str]], places: Mapping[str, str]) -> SplitList | None:
    """Return the list if the places of tracks are those of its rows."""
    if not rows or "split" in rows[0]:
        listed = {row["track"]: row["split"] for row in rows}
        return published if all(listed.get(track, "") == split for track, split in places.items()) else None
    folds = {row["track"]: row["fold"] for row in rows}
    tested = {folds.get(track, "") for track, split in places.items() if split == "test"}
    fits = len(tested) == 1 and all(
        (track in folds) == bool(split) and (folds.get(track, "") in tested) == (split == "test")
        for track, split in places.items()
    )
    return published.testing(*tested) if fits else None


def groups_of(lists: Sequence[SplitList]) -> dict[str, str]:
    """Return the artist groups that lists name, by track."""
    return {row["track"]: row["group"] for each in lists for row in each.rows() if row.get("group")}
