"""The flags by which commands divide a data set, and what they mean."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from keras_genre.clips import Clip
from keras_genre.datasets import splits
from keras_genre.datasets.index import add_groups
from keras_genre.errors import ParameterError

DEFAULT_FRACTIONS = (0.6, 0.2, 0.2)


def add_split_options(parser: argparse.ArgumentParser, *, folds: bool = False) -> None:
    """Add the flags that `apply_split_options` reads; `--folds` and `--fold` only where `folds` says so."""
    group = parser.add_argument_group("split (default: what the data bring; else 0.6 0.2 0.2 by genre and group)")
    group.add_argument("--groups", type=Path, metavar="CSV", help="artist groups: columns track, group")
    group.add_argument("--split-list", type=Path, metavar="CSV", help="split to use: columns track, split")
    group.add_argument(
        "--fractions",
        type=float,
        nargs=3,
        metavar=("TRAIN", "VALIDATION", "TEST"),
        help="make a split by genre and artist group, in these shares",
    )
    group.add_argument("--split-seed", type=int, default=0, metavar="N", help="seed of a split that is made (0)")
    group.add_argument(
        "--allow-shared-groups",
        action="store_true",
        help="accept a list that puts an artist on two sides; the report will say so",
    )
    parser.set_defaults(folds=None, fold=0)
    if folds:
        group.add_argument(
            "--folds", type=int, metavar="K", help="divide what is not for test into K folds by genre and group"
        )
        group.add_argument("--fold", type=int, metavar="N", help="the fold that validates, from 0")


def apply_split_options(clips: Sequence[Clip], options: argparse.Namespace) -> tuple[list[Clip], list[str]]:
    """Give clips the groups and the split that the flags ask for, and check the split.

    A split that the clips bring along stays unless a flag asks for another; clips without any are divided by
    genre and group.

    Returns
    -------
    clips : list of Clip
    notes : list of str
        What a reader of results on this split must know.

    Raises
    ------
    ParameterError
        If flags exclude each other.
    SplitError
        If the split cannot be used; `SplitLeakError` if an artist stands on two sides.
    """
    if sum(bool(value) for value in (options.split_list, options.fractions, options.folds)) > 1:
        raise ParameterError("--split-list, --fractions and --folds exclude each other")
    clips = add_groups(clips, options.groups) if options.groups else list(clips)
    notes = []
    if options.split_list:
        if absent := splits.absent_tracks(clips, options.split_list):
            notes.append(f"{len(absent)} tracks of {options.split_list.name} are not in the data ({absent[0]}, ...)")
        clips = splits.split_from_csv(clips, options.split_list)
    elif options.folds:
        clips = splits.fold_split(clips, options.folds, options.fold, options.split_seed)
    elif options.fractions or not any(clip.split for clip in clips):
        fractions = tuple(options.fractions or DEFAULT_FRACTIONS)
        clips = splits.grouped_split(clips, fractions, options.split_seed)
    return clips, notes + splits.check_split(clips, options.allow_shared_groups)
