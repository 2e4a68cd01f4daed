"""The flags by which commands divide a data set, and what they mean."""

import argparse
import dataclasses
from collections.abc import Sequence

from keras_genre.augmentation import copies_follow, originals
from keras_genre.clips import Clip
from keras_genre.datasets import splits
from keras_genre.datasets.index import add_groups
from keras_genre.datasets.lists import FAULT_FILTERED, PUBLISHED, SplitList, find_list, groups_of, list_of
from keras_genre.errors import ParameterError
from keras_genre.places import local_path

DEFAULT_FRACTIONS = (0.6, 0.2, 0.2)


def add_split_options(parser: argparse.ArgumentParser, *, folds: bool = False) -> None:
    """Add the flags that `apply_split_options` reads; `--folds` only where `folds` says so."""
    group = parser.add_argument_group(
        f"split (default: what the data bring; of GTZAN {FAULT_FILTERED.name}; else 0.6 0.2 0.2 by genre and group)"
    )
    group.add_argument("--groups", type=local_path, metavar="CSV", help="artist groups: columns track, group")
    group.add_argument(
        "--split-list",
        type=local_path,
        metavar="LIST",
        help=f"split to use: a CSV file (columns track, split; or track, fold), or one of {', '.join(PUBLISHED)}",
    )
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
    with_folds = "with --folds: the fold that validates, from 0; " if folds else ""
    group.add_argument(
        "--fold",
        type=int,
        metavar="N",
        help=f"{with_folds}with a --split-list of folds: the fold that tests, by its number in the list; of the other "
        "folds, a quarter by genre and group validates",
    )
    parser.set_defaults(folds=None)
    if folds:
        group.add_argument(
            "--folds", type=int, metavar="K", help="divide what is not for test into K folds by genre and group"
        )


def apply_split_options(
    clips: Sequence[Clip], options: argparse.Namespace, default_list: SplitList | None = None
) -> tuple[list[Clip], list[str]]:
    """Give clips the groups and the split that the flags ask for, and check the split.

    A split that the clips bring along stays unless a flag asks for another; clips without any are divided by
    `default_list`, else by genre and group. What a published list shares between its sides is told, not refused.
    Altered copies have no part in this: they follow their originals into training.

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
    if options.fold is not None and not options.folds and not options.split_list:
        raise ParameterError("--fold goes with --folds or with a --split-list of folds")
    everything, clips = clips, originals(clips)
    if options.groups:
        clips = add_groups(clips, options.groups)
    known: SplitList | None = None
    notes: list[str] = []
    if options.split_list:
        known = find_list(options.split_list)
        clips, known, notes = _divided_by_list(clips, known, options.fold, options.split_seed)
    elif options.folds:
        # The test side stays, with what it is known to share with the others.
        fold = options.fold or 0
        known = list_of(clips)
        if known:
            more = f" Of what it has beside the test clips, fold {fold} of {options.folds} validates."
            known = dataclasses.replace(known, about=known.about + more)
        clips = splits.fold_split(clips, options.folds, fold, options.split_seed)
    elif options.fractions:
        clips = splits.grouped_split(clips, options.fractions, options.split_seed)
    elif any(clip.split for clip in clips):
        known = list_of(clips)
    elif default_list:
        clips, known, notes = _divided_by_list(clips, default_list, None, options.split_seed)
    else:
        clips = splits.grouped_split(clips, DEFAULT_FRACTIONS, options.split_seed)
    is_published = bool(known and known.is_published)
    if known and known.about:
        notes.insert(0, known.about)
    warnings = splits.check_split(clips, options.allow_shared_groups or is_published, allow_copies=is_published)
    return copies_follow(everything, clips), notes + warnings


def _divided_by_list(
    clips: list[Clip], wanted: SplitList, fold: int | None, seed: int
) -> tuple[list[Clip], SplitList, list[str]]:
    """Divide clips by a list; return the list with the fold that was taken, and notes, too."""
    notes = []
    if absent := splits.absent_tracks(clips, wanted.path):
        notes.append(f"{len(absent)} tracks of {wanted.path.name} are not in the data ({absent[0]}, ...)")
    if wanted.is_published:
        groups = groups_of([wanted])
        clips = [dataclasses.replace(clip, group=clip.group or groups.get(clip.track, "")) for clip in clips]
    if not wanted.has_folds():
        if fold is not None:
            raise ParameterError(f"--fold: {wanted.path.name} is a split and not a list of folds; leave it out")
        return splits.split_from_csv(clips, wanted.path), wanted, notes
    if fold is None:
        raise ParameterError(f"{wanted.path.name} is a list of folds: say with --fold N which of them tests")
    return splits.split_from_folds(clips, wanted.path, fold, seed), wanted.testing(str(fold)), notes
