"""What a search is: parameters, space, clips, tuner. Every process of one search makes the same plan from its flags."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_genre.clips import Clip
from keras_genre.errors import ParameterError, StoreError
from keras_genre.params import TrainParams, to_json
from keras_genre.store import Store
from tuning.data import (
    SearchData,
    check_folds,
    copy_for_search,
    describe_data,
    kinds_of,
    make_folds,
    search_clips,
)
from tuning.project import DATA
from tuning.space import Conditions, Space, make_space

OBJECTIVES = ("accuracy", "macro_f1")
TUNERS = ("random", "hyperband", "bayesian")


@dataclasses.dataclass(frozen=True)
class Method:
    """How a space is searched.

    Attributes
    ----------
    tuner : str
        One of `TUNERS`.
    objective : str
        One of `OBJECTIVES`, over whole validation clips.
    trials : int or None
        At most; None, under Hyperband: those of one iteration.
    folds : int
        Folds that validate, by artist group; 0: the split's own validation clips.
    seeds : int > 0
        Trainings of each fold.
    seed : int >= 0
        Of the tuner.
    factor : int > 1
        Of Hyperband.
    split_seed : int
        Of the folds that are made.
    """

    tuner: str = "random"
    objective: str = "accuracy"
    trials: int | None = 20
    folds: int = 0
    seeds: int = 1
    seed: int = 0
    factor: int = 3
    split_seed: int = 0

    def __post_init__(self) -> None:
        if self.tuner not in TUNERS or self.objective not in OBJECTIVES:
            raise ParameterError(f"tuners are {', '.join(TUNERS)}; objectives {', '.join(OBJECTIVES)}")
        if self.trials is None and self.tuner != "hyperband":
            raise ParameterError(f"--tuner {self.tuner} needs --trials")
        if min(self.trials or 1, self.seeds) < 1 or min(self.folds, self.seed) < 0 or self.factor < 2:
            raise ParameterError("--trials and --seeds must be at least 1, --factor 2, --folds and --seed not negative")


@dataclasses.dataclass(frozen=True)
class SearchPlan:
    """A search that can be started.

    Attributes
    ----------
    preset : str
    method : Method
    space : Space
    stores : tuple of Store
        The whole stores, divided; a trial never sees them.
    clips : tuple of Clip
        Those that the search may see.
    folds : tuple of dict
        Track -> `train` or `validation`.
    notes : tuple of str
        What a reader must know of the split.
    """

    preset: str
    method: Method
    space: Space
    stores: tuple[Store, ...]
    clips: tuple[Clip, ...]
    folds: tuple[dict[str, str], ...]
    notes: tuple[str, ...]

    @property
    def trials(self) -> int:
        """How many trials there will be, if none fails."""
        return self.method.trials or hyperband_trials(self.space.base.epochs, self.method.factor)

    def identity(self) -> dict[str, Any]:
        """Return what makes this search this one, as JSON values. More trials make no other search."""
        method = dataclasses.asdict(self.method)
        del method["trials"]
        # Without folds that are made here it has no part; and folders of searches without it are of the default.
        if self.method.folds < 2 or not self.method.split_seed:
            del method["split_seed"]
        return {
            "preset": self.preset,
            **method,
            "space": self.space.to_json(),
            "params": to_json(self.space.base),
            "data": describe_data(self.stores, self.clips, self.folds),
        }

    def data(self, out: Path) -> SearchData:
        """Return the clips of the search in stores of their own, below `out`."""
        stores = []
        for store in self.stores:
            seen = {clip.track: clip for clip in self.clips}
            mine = [seen[clip.track] for clip in store.clips if clip.track in seen]
            stores.append(copy_for_search(store, mine, out / DATA / store.header.kind))
        return SearchData(tuple(stores), self.folds)


def hyperband_trials(epochs: int, factor: int) -> int:
    """Return how many trials an iteration of KerasTuner's Hyperband has.

    Bracket b begins with trials of `epochs / factor ** b` epochs; of each round the best, one in `factor`, go on.
    """
    brackets = 0
    while epochs / factor**brackets >= 1:
        brackets += 1
    last = math.ceil(1 + math.log(epochs, factor))
    return sum(
        math.ceil(last / (bracket + 1) * factor ** (bracket - number))
        for bracket in range(brackets)
        for number in range(bracket + 1)
    )


def make_search_plan(
    preset: str,
    base: TrainParams,
    method: Method,
    stores: list[Store],
    changes: Mapping[str, Any] | None = None,
    notes: list[str] | None = None,
) -> SearchPlan:
    """Fit a search to its data.

    Parameters
    ----------
    preset : str
        Name for the records.
    base : TrainParams
        Of the preset, with flags in place.
    method : Method
    stores : list of Store
        Divided into training, validation and test; all alike.
    changes : mapping, optional
        As for `make_space`.
    notes : list of str, optional

    Raises
    ------
    ParameterError
        If the space cannot work.
    StoreError, SplitError
        If the clips cannot be divided, or all windows are longer than one of them.
    """
    clips = search_clips(stores[0].clips)
    notes = list(notes or ())
    folds = make_folds(clips, method.folds, method.split_seed)
    if method.folds > 1:
        notes += check_folds(clips, folds)
    seen = {clip.track for clip in clips}
    # Of test clips their length alone: the winner must fit them.
    shortest = min(
        frames
        for store in stores
        for clip, frames in zip(store.clips, store.frames, strict=True)
        if clip.track in seen or clip.split
    )
    conditions = Conditions(kinds_of(stores), shortest, any(clip.variant for clip in clips))
    space = make_space(base, conditions, changes)
    _check_windows(space, stores[0], shortest)
    if base.early_stopping_epochs == 0 and method.tuner != "hyperband":
        notes.append("no trial stops early; --set early_stopping_epochs=N saves time")
    return SearchPlan(preset, method, space, tuple(stores), tuple(clips), folds, tuple(notes))


def _check_windows(space: Space, store: Store, shortest: int) -> None:
    """Refuse windows that no trial could cut; of a store of other features than the preset's, clips are the windows."""
    varies = any(domain.name == "window_frames" and not domain.parent for domain in space.domains)
    is_foreign = store.header.front_end is None or not store.header.columns_of(space.base.features)
    if not varies and not is_foreign and space.base.window_frames > shortest:
        raise StoreError(
            f"{store.path}: the shortest clip has {shortest} frames, and windows have {space.base.window_frames}; "
            f"--set window_frames={shortest}, or less"
        )
