"""Segments of clips that came without a word on which clip each is of."""

import re
from collections.abc import Sequence

from keras_genre.clips import SPLITS, Clip
from keras_genre.errors import SplitError

_TRACK = re.compile(rf"(clip|{'|'.join(SPLITS)})_segment_\d+")


def segment_track(split: str, number: int) -> str:
    """Return the track name of a segment of an unknown clip, which tells it from a clip wherever it goes.

    Parameters
    ----------
    split : str
        One of `SPLITS`, or empty.
    number : int >= 0
        Of the segment in its split.
    """
    return f"{split or 'clip'}_segment_{number:05d}"


def segments_among(clips: Sequence[Clip]) -> list[Clip]:
    """Return those that are segments of unknown clips."""
    return [clip for clip in clips if _TRACK.fullmatch(clip.track)]


def require_divisible(clips: Sequence[Clip]) -> None:
    """Refuse to draw a split that would put segments of one clip on several sides.

    Raises
    ------
    SplitError
        If there are segments whose clip no group names either.
    """
    loose = [clip.track for clip in segments_among(clips) if not clip.group]
    if loose:
        raise SplitError(
            f"{len(loose)} segments ({loose[0]}, ...) do not say which clip they are of, and a split drawn at random "
            "would test on clips that it trains on: import a file each for training, validation and test, with train, "
            'val or test in its name; or add "clips" to the JSON file, the name of the clip for each segment; or give '
            "--groups, a CSV file with one group for all segments of a clip"
        )


def segment_warning(clips: Sequence[Clip]) -> str | None:
    """Return what a reader of figures on these clips must know; None where no segments are among them."""
    segments = segments_among(clips)
    if not segments:
        return None
    known = all(clip.group for clip in segments)
    return (
        f"{len(segments)} of {len(clips)} clips are segments of clips: figures count segments, and their intervals are "
        "too narrow." + ("" if known else " Whether those of one clip are on one side only is not known.")
    )
