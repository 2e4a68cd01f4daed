"""Divide clips into training, validation and test so that no artist and no recording stands on two sides."""

import collections
import dataclasses
import hashlib
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from keras_genre.clips import SPLITS, Clip
from keras_genre.datasets.index import names_none_of, read_table
from keras_genre.datasets.segments import require_divisible, segment_warning
from keras_genre.errors import ParameterError, SplitError, SplitLeakError

# How many groups, recordings or tracks a message names before it only counts.
NAMED = 10

# Of what a fold of a list leaves for training and validation.
VALIDATION_SHARE = 0.25


def split_from_csv(clips: Iterable[Clip], path: Path | str) -> list[Clip]:
    """Give clips the places that a CSV file names.

    Parameters
    ----------
    clips : iterable of Clip
        Any clips; splits that they have are replaced.
    path : Path or str
        A CSV file with the columns `track` and `split` (`train`, `validation`, `test`, or empty: left out).

    Returns
    -------
    list of Clip
        In the same order. Clips that the file does not name have split "": they are left out of training and
        evaluation. `absent_tracks` names those that only the file has.

    Raises
    ------
    SplitError
        If there is no such file, columns are missing, a track stands twice, a split is unknown, or none of
        the clips is named.
    """
    clips = list(clips)
    places = {}
    for line, row in read_table(path, ("track", "split"), SplitError):
        if row["split"] not in ("", *SPLITS):
            raise SplitError(f"{path}, line {line}: split {row['split']!r} is none of {', '.join(SPLITS)}")
        places[row["track"]] = row["split"]
    tracks = {clip.track for clip in clips}
    if not tracks & places.keys():
        raise SplitError(names_none_of(path, places, clips))
    return [dataclasses.replace(clip, split=places.get(clip.track, "")) for clip in clips]


def absent_tracks(clips: Iterable[Clip], path: Path | str) -> list[str]:
    """Return the tracks that a split list assigns to a side and the data set does not have, ordered.

    Parameters
    ----------
    clips : iterable of Clip
        The clips of the data set.
    path : Path or str
        A CSV file as for `split_from_csv` or `split_from_folds`.

    Raises
    ------
    SplitError
        If there is no such file, columns are missing or a track stands twice.
    """
    rows = read_table(path, ("track",), SplitError)
    assigned = {row["track"] for _, row in rows if row.get("split") or row.get("fold")}
    return sorted(assigned - {clip.track for clip in clips})


def split_from_folds(clips: Iterable[Clip], path: Path | str, fold: int, seed: int = 0) -> list[Clip]:
    """Make one of the folds that a CSV file names the test clips, and divide the other folds.

    Of the clips in the other folds a quarter becomes validation clips, by the rules of `grouped_split`.

    Parameters
    ----------
    clips : iterable of Clip
        Any clips; splits that they have are replaced.
    path : Path or str
        A CSV file with the columns `track` and `fold` (a whole number, or empty: left out).
    fold : int
        The one that tests, by its number in the file.
    seed : int
        As for `grouped_split`.

    Returns
    -------
    list of Clip
        In the same order. Clips that the file does not name have split "".

    Raises
    ------
    ParameterError
        If the file has no such fold.
    SplitError
        If there is no such file, columns are missing, a track stands twice, a fold is no number, or none of
        the clips is named.
    """
    clips = list(clips)
    folds: dict[str, int] = {}
    for line, row in read_table(path, ("track", "fold"), SplitError):
        if not row["fold"]:
            continue
        if not row["fold"].isdecimal():
            raise SplitError(f"{path}, line {line}: fold {row['fold']!r} is no whole number")
        folds[row["track"]] = int(row["fold"])
    if not any(clip.track in folds for clip in clips):
        raise SplitError(names_none_of(path, folds, clips))
    if fold not in folds.values():
        known = ", ".join(map(str, sorted(set(folds.values()))))
        raise ParameterError(f"--fold {fold}: {path} has the folds {known}")
    rest = [clip for clip in clips if clip.track in folds and folds[clip.track] != fold]
    divided = iter(grouped_split(rest, (1 - VALIDATION_SHARE, VALIDATION_SHARE, 0), seed))
    return [
        dataclasses.replace(clip, split="")
        if clip.track not in folds
        else dataclasses.replace(clip, split="test")
        if folds[clip.track] == fold
        else next(divided)
        for clip in clips
    ]


def grouped_split(clips: Iterable[Clip], fractions: Sequence[float] = (0.6, 0.2, 0.2), seed: int = 0) -> list[Clip]:
    """Divide clips by genre in fixed fractions, with artist groups and identical recordings kept whole.

    Clips of one group, and clips with the same bytes, form a unit that goes to one side; a clip of unknown
    group is a unit of its own. Units are placed from large to small, each on the side that lacks most of its
    genres. A genre with few units gets training first, then test, then validation.

    One exception: where all clips of a genre are of one unit, it would be missing from the other sides, so
    its clips are divided one by one (identical recordings still together). `check_split` names such genres.

    Parameters
    ----------
    clips : iterable of Clip
        Any clips; splits that they have are replaced.
    fractions : three floats in [0, 1]
        Of training, validation and test; their sum is 1. A side with 0 stays empty.
    seed : int
        Orders units of equal size.

    Returns
    -------
    list of Clip
        In the same order, all assigned; where a clip goes does not depend on that order.

    Raises
    ------
    ParameterError
        If the fractions are not three numbers in [0, 1] that sum to 1.
    SplitError
        If there are segments of clips of which neither the clip nor a group is known.
    """
    clips = list(clips)
    if (
        len(fractions) != len(SPLITS)
        or not all(0 <= fraction <= 1 for fraction in fractions)
        or not math.isclose(sum(fractions), 1.0, abs_tol=1e-6)
    ):
        raise ParameterError(
            f"fractions are {tuple(fractions)}: give three numbers in [0, 1] that sum to 1, "
            "of training, validation and test"
        )
    first = [SPLITS.index(split) for split in ("train", "test", "validation")]
    sides = _place(clips, fractions, seed, first)
    return [dataclasses.replace(clip, split=SPLITS[side]) for clip, side in zip(clips, sides, strict=True)]


def grouped_folds(clips: Iterable[Clip], folds: int, seed: int = 0) -> list[int]:
    """Divide clips into equal folds by the rules of `grouped_split`.

    Parameters
    ----------
    clips : iterable of Clip
        Any clips; their splits do not matter.
    folds : int >= 2
        How many.
    seed : int
        Orders units of equal size.

    Returns
    -------
    list of int
        The fold of each clip, from 0.

    Raises
    ------
    ParameterError
        If `folds` is less than 2.
    SplitError
        If there are not enough groups to fill the folds, or segments of clips of which neither the clip nor a group is
        known.
    """
    clips = list(clips)
    if folds < 2:
        raise ParameterError(f"folds is {folds}: at least 2 are needed")
    numbers = _place(clips, [1 / folds] * folds, seed)
    if len(set(numbers)) < folds:
        raise SplitError(f"{len(clips)} clips have too few artist groups for {folds} folds: take fewer folds")
    return numbers


def fold_split(clips: Iterable[Clip], folds: int, fold: int, seed: int = 0) -> list[Clip]:
    """Make one fold the validation clips and the others the training clips.

    Parameters
    ----------
    clips : iterable of Clip
        Any clips. Test clips stay test clips. Unassigned clips take part if no clip has a split; otherwise
        they were left out on purpose and stay out.
    folds : int >= 2
        How many folds to make of the clips that take part.
    fold : int in 0 ... folds - 1
        The one for validation.
    seed : int
        As for `grouped_folds`: the same for all folds of one partition.

    Returns
    -------
    list of Clip
        In the same order.

    Raises
    ------
    ParameterError
        If `folds` is less than 2 or `fold` is not one of them.
    SplitError
        If there are not enough groups to fill the folds.
    """
    clips = list(clips)
    if not 0 <= fold < folds:
        raise ParameterError(f"fold is {fold}: with {folds} folds they are 0 to {folds - 1}")
    left_out = {"test", ""} if any(clip.split for clip in clips) else {"test"}
    numbers = iter(grouped_folds([clip for clip in clips if clip.split not in left_out], folds, seed))
    return [
        clip
        if clip.split in left_out
        else dataclasses.replace(clip, split="validation" if next(numbers) == fold else "train")
        for clip in clips
    ]


def check_split(clips: Iterable[Clip], allow_shared_groups: bool = False, allow_copies: bool = False) -> list[str]:
    """Refuse a split that has an artist group, or byte-identical audio, on two sides.

    Excepted are genres that cannot be separated, because all their clips are of one group; between training
    and validation also those of whose clips outside the test side that is true.

    Parameters
    ----------
    clips : iterable of Clip
        The clips with their splits; unassigned ones do not matter.
    allow_shared_groups : bool
        Warn of shared groups instead. Identical audio is refused all the same.
    allow_copies : bool
        Warn of identical audio instead.

    Returns
    -------
    list of str
        Warnings in sentences: exceptions made, recordings under several genres, clips whose group is unknown, and
        segments that stand for clips.

    Raises
    ------
    SplitLeakError
        Naming the groups and tracks on both sides, and the flag that allows shared groups.
    """
    clips = [clip for clip in clips if clip.split]
    copies = _across(clips, lambda clip: clip.sha256)
    groups, inseparable = _shared_groups(clips)
    complaints, warnings = [], []
    if copies:
        copied = (
            f"{_count(len(copies), 'recording')} on two sides of the split, byte for byte: "
            f"{_named([_sides_of(members) for members in copies.values()])}."
        )
        if allow_copies:
            warnings.append(copied)
        else:
            complaints.append(f"{copied} Leave all copies but one out.")
    if groups:
        shared = (
            f"{_count(len(groups), 'artist group')} on two sides of the split: "
            f"{_named([f'{group} in {_sides_of(members)}' for group, members in groups.items()])}."
        )
        if allow_shared_groups:
            warnings.append(shared)
        else:
            complaints.append(f"{shared} Make another split, or accept flattering figures with --allow-shared-groups.")
    if complaints:
        raise SplitLeakError(" ".join(complaints))
    if inseparable:
        warnings.append(
            f"{', '.join(inseparable)}: the clips of each are of one artist group and stand on several sides "
            "all the same; figures on such a genre say nothing of other artists."
        )
    if torn := _under_several_genres(clips):
        warnings.append(
            f"{_count(len(torn), 'recording')} under several genres, byte for byte: "
            f"{_named([' and '.join(_in_genre(clip) for clip in members) for members in torn])}; "
            "leave out all but the right one."
        )
    if warning := segment_warning(clips):
        warnings.append(warning)
    unknown = sum(not clip.group for clip in clips)
    if unknown and len({clip.split for clip in clips}) > 1:
        warnings.append(
            f"artist groups are unknown for {unknown} of {len(clips)} clips: the split may not separate artists."
        )
    return warnings


def split_counts(clips: Iterable[Clip]) -> dict[str, dict[str, int]]:
    """Count clips per split and genre.

    Returns
    -------
    dict of str to dict of str to int
        For `train`, `validation`, `test` and, where there are unassigned clips, "": the number of clips of
        every genre of the data set, in alphabetical order.
    """
    counts = collections.Counter((clip.split, clip.genre) for clip in clips)
    genres = sorted({genre for _, genre in counts})
    splits = [*SPLITS, *sorted({split for split, _ in counts} - set(SPLITS))]
    return {split: {genre: counts[split, genre] for genre in genres} for split in splits}


def _units(clips: Sequence[Clip], divided: Collection[str] = ()) -> list[list[int]]:
    """Join clips of one group and clips of the same bytes, transitively.

    Groups do not join clips of the genres in `divided`. Returns the positions of each unit's clips.
    """
    parents = list(range(len(clips)))

    def root_of(position: int) -> int:
        while parents[position] != position:
            parents[position] = parents[parents[position]]
            position = parents[position]
        return position

    first_with: dict[tuple[str, str], int] = {}
    for position, clip in enumerate(clips):
        group = "" if clip.genre in divided else clip.group
        for key in (("group", group), ("sha256", clip.sha256)):
            if key[1]:
                parents[root_of(position)] = root_of(first_with.setdefault(key, position))
    units: dict[int, list[int]] = {}
    for position in range(len(clips)):
        units.setdefault(root_of(position), []).append(position)
    return list(units.values())


def _inseparable_genres(clips: Sequence[Clip]) -> set[str]:
    """Return the genres that have one unit, and in it more than one recording."""
    units: dict[str, set[int]] = {}
    for number, unit in enumerate(_units(clips)):
        for position in unit:
            units.setdefault(clips[position].genre, set()).add(number)
    recordings: dict[str, set[str]] = {}
    for clip in clips:
        recordings.setdefault(clip.genre, set()).add(clip.sha256 or f"track {clip.track}")
    return {genre for genre in units if len(units[genre]) == 1 and len(recordings[genre]) > 1}


def _place(clips: Sequence[Clip], fractions: Sequence[float], seed: int, first: Sequence[int] = ()) -> list[int]:
    """Return the side of each clip; `first` orders the sides that a genre with few units gets."""
    require_divisible(clips)
    units = [
        (collections.Counter(clips[position].genre for position in unit), unit)
        for unit in _units(clips, _inseparable_genres(clips))
    ]

    def rank(unit: list[int]) -> tuple[int, bytes]:
        name = min(clips[position].track for position in unit)
        # A hash and not a generator: a unit's rank depends neither on which others there are nor on order.
        return -len(unit), hashlib.sha256(f"{seed} {name}".encode()).digest()

    units.sort(key=lambda counts_and_unit: rank(counts_and_unit[1]))
    totals = collections.Counter(clip.genre for clip in clips)
    units_left = collections.Counter(genre for counts, _ in units for genre in counts)
    sides = [side for side, fraction in enumerate(fractions) if fraction > 0]
    placed: list[collections.Counter[str]] = [collections.Counter() for _ in fractions]
    result = [0] * len(clips)
    for counts, unit in units:

        def need(side: int, counts: collections.Counter[str] = counts) -> tuple[float, float]:
            of_genres = sum(
                counts[genre] * (fractions[side] - placed[side][genre] / totals[genre]) for genre in sorted(counts)
            )
            return of_genres, fractions[side] * len(clips) - placed[side].total()

        urgent: set[int] = set()
        for genre in counts:
            empty = [side for side in first if side in sides and not placed[side][genre]]
            if units_left[genre] <= len(empty):
                urgent.update(empty)
        side = min(urgent, key=first.index) if urgent else max(sides, key=need)
        placed[side].update(counts)
        units_left.subtract(dict.fromkeys(counts, 1))
        for position in unit:
            result[position] = side
    return result


def _across(clips: Iterable[Clip], key: Callable[[Clip], str]) -> dict[str, list[Clip]]:
    """Return the clips of every key, unknown ("") left out, that stands on more than one side."""
    members: dict[str, list[Clip]] = {}
    for clip in clips:
        if key(clip):
            members.setdefault(key(clip), []).append(clip)
    return {value: members[value] for value in sorted(members) if len({clip.split for clip in members[value]}) > 1}


def _under_several_genres(clips: Iterable[Clip]) -> list[list[Clip]]:
    """Return the clips of each recording that has several genres."""
    members: dict[str, list[Clip]] = {}
    for clip in clips:
        if clip.sha256:
            members.setdefault(clip.sha256, []).append(clip)
    torn = [sorted(each, key=lambda clip: clip.track) for each in members.values() if len({c.genre for c in each}) > 1]
    return sorted(torn, key=lambda each: each[0].track)


def _in_genre(clip: Clip) -> str:
    return clip.file or f"{clip.track} of {clip.genre}"


def _shared_groups(clips: Sequence[Clip]) -> tuple[dict[str, list[Clip]], list[str]]:
    """Return the groups on two sides without excuse, and the genres that are the excuse of others."""
    shared: dict[str, list[Clip]] = {}
    excused: set[str] = set()
    everywhere = _inseparable_genres(clips)
    for two_sides in itertools.combinations(SPLITS, 2):
        pair = [clip for clip in clips if clip.split in two_sides]
        # Folds are made of what the test side leaves, which may be a single group of a genre.
        inseparable = everywhere if "test" in two_sides else everywhere | _inseparable_genres(pair)
        shared |= _across((clip for clip in pair if clip.genre not in inseparable), lambda clip: clip.group)
        for genre in inseparable:
            if _across((clip for clip in pair if clip.genre == genre), lambda clip: clip.group):
                excused.add(genre)
    # All clips of such a group are shown, not only those of the last pair of sides.
    whole = _across(clips, lambda clip: clip.group)
    return {group: whole[group] for group in sorted(shared)}, sorted(excused)


def _sides_of(clips: Iterable[Clip]) -> str:
    """Write `train (a, b) and test (c)`."""
    tracks: dict[str, list[str]] = {}
    for clip in clips:
        tracks.setdefault(clip.split, []).append(clip.track)
    return " and ".join(f"{side} ({_named(sorted(tracks[side]))})" for side in SPLITS if side in tracks)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{' stands' if number == 1 else 's stand'}"


def _named(names: Sequence[str]) -> str:
    """Join the first few names, and count the rest."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    separator = "; " if any("(" in name for name in names) else ", "
    return separator.join(names[:NAMED]) + more
