"""What a user means by the source of a data set: a name, a folder or a list."""

import dataclasses
from pathlib import Path

from keras_genre.datasets.catalogue import CATALOGUE, DownloadableSet
from keras_genre.datasets.fma import find_fma, index_fma, require_fma
from keras_genre.datasets.gtzan import find_gtzan, index_gtzan, require_gtzan
from keras_genre.datasets.index import Index, index
from keras_genre.datasets.lists import FAULT_FILTERED, SplitList
from keras_genre.errors import DatasetError, ParameterError


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set that was found.

    Attributes
    ----------
    index : Index
        What it holds.
    notes : list of str
        What the user should know of it.
    default_list : SplitList or None
        How it is divided if neither clips nor flags say it.
    """

    index: Index
    notes: list[str] = dataclasses.field(default_factory=list)
    default_list: SplitList | None = None


def find_source(source: str, kind: str = "auto") -> Source:
    """Find a data set and list its clips.

    Parameters
    ----------
    source : str
        The name of a data set that can be downloaded, a folder, or a CSV list. A folder in the present one that has
        such a name is meant by `./gtzan`.
    kind : str
        What a folder is: `folder` (of genre folders), `gtzan`, `fma_small`, or `auto`: recognised by its names.

    Raises
    ------
    DatasetError
        If it is not there, or not of that kind.
    ParameterError
        If name and kind contradict each other.
    """
    if source in CATALOGUE:
        if kind not in ("auto", source):
            raise ParameterError(f"--dataset {kind}: {source} is a name; the folder of that name is ./{source}")
        folder, kind = require_downloaded(CATALOGUE[source]), source
    else:
        folder = Path(source)
    if kind == "gtzan":
        return _gtzan(require_gtzan(folder))
    if kind == "fma_small":
        return _fma(folder)
    if kind == "auto":
        if gtzan := find_gtzan(folder):
            return _gtzan(gtzan)
        if find_fma(folder):
            return _fma(folder)
    return Source(index(folder))


def require_downloaded(data_set: DownloadableSet) -> Path:
    """Return the default folder of a data set.

    Raises
    ------
    DatasetError
        If it has not been downloaded there, with the command that does it.
    """
    folder = data_set.default_folder
    # A copy of another layout may have been put there by hand.
    find = {"gtzan": find_gtzan, "fma_small": find_fma}[data_set.name]
    if not data_set.is_complete(folder) and not find(folder):
        raise DatasetError(
            f"{data_set.title} is not in {folder}; python -m keras_genre.datasets download {data_set.name} puts it "
            "there. If you have a copy elsewhere, name its folder instead"
        )
    return folder


def _gtzan(root: Path) -> Source:
    found = index_gtzan(root)
    listed = {row["track"] for row in FAULT_FILTERED.rows()}
    default = FAULT_FILTERED if any(clip.track in listed for clip in found.clips) else None
    return Source(found, [f"{root} is taken as GTZAN"], default)


def _fma(folder: Path) -> Source:
    root, table = require_fma(folder)
    found, notes = index_fma(root, table)
    return Source(found, [f"{root} is taken as FMA-small", *notes])
