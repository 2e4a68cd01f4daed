"""What is known of a clip besides its audio: the row that index, split, store and report share."""

import csv
import dataclasses
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keras_genre import files
from keras_genre.errors import DatasetError

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Clip:
    """One clip of a data set.

    Attributes
    ----------
    track : str
        Name, unique in the data set; what split lists refer to (`blues.00000`).
    genre : str
        The label.
    file : str
        Path of the audio relative to the data set's root, with `/`; empty where there is no audio.
    seconds : float
        Duration; 0 if unknown.
    group : str
        Artist, or whatever must not stand on both sides of a split; empty if unknown.
    split : str
        `train`, `validation`, `test`, or empty: not assigned.
    sha256 : str
        Of the audio file; empty where there is none.
    variant : str
        What was done to the audio if this is an altered copy (`augmentation.VARIANTS`), which has a track name of its
        own, `blues.00000+noise`; empty for the clip itself.
    """

    track: str
    genre: str
    file: str = ""
    seconds: float = 0.0
    group: str = ""
    split: str = ""
    sha256: str = ""
    variant: str = ""

    @property
    def original_track(self) -> str:
        """Name of the clip that this is an altered copy of; its own, if it is none."""
        return self.track.removesuffix(f"+{self.variant}") if self.variant else self.track


COLUMNS = tuple(field.name for field in dataclasses.fields(Clip))


def clips_to_csv(clips: Iterable[Clip]) -> str:
    """Write clips as CSV text with a header line of the names of `Clip`'s fields."""
    rows = (
        [f"{value:.6f}" if isinstance(value, float) else value for value in dataclasses.astuple(clip)] for clip in clips
    )
    return files.csv_text([COLUMNS, *rows])


def clips_from_csv(text: str, name: Path | str) -> list[Clip]:
    """Read what `clips_to_csv` wrote; `name` is the file to blame in errors.

    Raises
    ------
    DatasetError
        If columns are missing, a value is not of its type or a track stands twice.
    """
    reader = csv.DictReader(io.StringIO(text))
    clips = {}
    try:
        if missing := [column for column in COLUMNS if column not in (reader.fieldnames or ())]:
            raise DatasetError(f"{name}: no column {', '.join(missing)}")
        for row in reader:
            if None in row.values():
                raise ValueError("fewer values than columns")
            values: dict[str, Any] = {column: row[column] for column in COLUMNS}
            clip = Clip(**values | {"seconds": float(row["seconds"])})
            if clip.track in clips:
                raise ValueError(f"track {clip.track!r} stands twice")
            clips[clip.track] = clip
    except (ValueError, csv.Error) as error:
        raise DatasetError(f"{name}, line {reader.line_num}: {error}") from error
    return list(clips.values())


def genres_of(clips: Iterable[Clip]) -> list[str]:
    """Return the genres that occur, in alphabetical order: the order of a model's outputs."""
    return sorted({clip.genre for clip in clips})
