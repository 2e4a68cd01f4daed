"""Learning-rate schedules: closed forms, and the epoch callbacks that apply them.

The names and the meaning of all parameters are PyTorch's (`ReduceLROnPlateau`, `CosineAnnealingWarmRestarts`,
`StepLR`). A callback sets the rate of an epoch before it begins and keeps what it must remember in a
JSON-readable `state`, so that a resumed run goes on with the rates of an uninterrupted one.
"""

import math
from collections.abc import Iterable
from typing import Any

import keras

from keras_genre.params import ScheduleParams

SMALLEST_FALL = 1e-8
"""A plateau schedule leaves the rate where it is rather than lower it by less (`eps` in PyTorch)."""


def step_rate(epoch: int, base: float, step_epochs: int, factor: float) -> float:
    """Return `base` multiplied by `factor` once for every `step_epochs` epochs that are over."""
    return base * factor ** (epoch // step_epochs)


def cosine_rate(epoch: int, base: float, minimum: float, cycle_epochs: int, cycle_factor: int = 1) -> float:
    """Return the rate of cosine annealing with warm restarts (Loshchilov and Hutter, 2017).

    Each cycle starts at `base` and falls along half a cosine towards `minimum`, which it would reach at the
    epoch where the next cycle starts; a cycle is `cycle_factor` times as long as the one before.

    Parameters
    ----------
    epoch : int >= 0
    base, minimum : float >= 0
    cycle_epochs : int > 0
        Length of the first cycle.
    cycle_factor : int > 0
    """
    start, length = 0, cycle_epochs
    while epoch >= start + length:
        start, length = start + length, length * cycle_factor
    return minimum + (base - minimum) * (1 + math.cos(math.pi * (epoch - start) / length)) / 2


def plateau_rates(
    accuracies: Iterable[float], base: float, factor: float, patience_epochs: int, threshold: float = 1e-4
) -> list[float]:
    """Return the rate of every epoch of a run whose validation accuracies are known.

    The rate of an epoch depends on the accuracies of those before it. An accuracy is better if it exceeds the
    best so far by more than the share `threshold` of it; after more than `patience_epochs` epochs without a
    better one, the rate is multiplied by `factor` and the count starts again.
    """
    state = PlateauState(base, factor, patience_epochs, threshold)
    rates = []
    for accuracy in accuracies:
        rates.append(state.rate)
        state.observe(accuracy)
    return rates


class PlateauState:
    """What `ReduceLROnPlateau` (mode `max`) remembers from epoch to epoch."""

    def __init__(self, rate: float, factor: float, patience_epochs: int, threshold: float = 1e-4):
        self.rate = rate
        self.factor = factor
        self.patience_epochs = patience_epochs
        self.threshold = threshold
        self.best = -math.inf
        self.bad_epochs = 0

    def observe(self, accuracy: float) -> None:
        """Take in the accuracy of an epoch that is over."""
        if self.best == -math.inf or accuracy > self.best * (1 + self.threshold):
            self.best = accuracy
            self.bad_epochs = 0
        else:
            self.bad_epochs += 1
        if self.bad_epochs > self.patience_epochs:
            self.bad_epochs = 0
            if self.rate - self.rate * self.factor > SMALLEST_FALL:
                self.rate *= self.factor


class Schedule(keras.callbacks.Callback):
    """Base of the schedules: sets the optimizer's learning rate before each epoch, notes it in the logs after.

    Parameters
    ----------
    base : float > 0
        Learning rate of the first epoch.
    """

    def __init__(self, base: float):
        super().__init__()
        self.base = base

    def rate(self, epoch: int) -> float:
        """Return the rate of an epoch, counted from 0."""
        return self.base

    @property
    def state(self) -> dict[str, Any]:
        """What must be kept for a resume, as JSON values."""
        return {}

    @state.setter
    def state(self, values: dict[str, Any]) -> None:
        if values:
            raise ValueError(f"{type(self).__name__} keeps no state, was given {sorted(values)}")

    def on_epoch_begin(self, epoch, logs=None):
        """Set the rate."""
        self.model.optimizer.learning_rate = self.rate(epoch)

    def on_epoch_end(self, epoch, logs=None):
        """Note the rate that the epoch had."""
        if logs is not None:
            logs["learning_rate"] = self.rate(epoch)


class StepDecay(Schedule):
    """`step_rate` as a callback."""

    def __init__(self, base: float, step_epochs: int = 10, factor: float = 0.1):
        super().__init__(base)
        self.step_epochs = step_epochs
        self.factor = factor

    def rate(self, epoch: int) -> float:
        """Return the rate of an epoch, counted from 0."""
        return step_rate(epoch, self.base, self.step_epochs, self.factor)


class CosineRestarts(Schedule):
    """`cosine_rate` as a callback."""

    def __init__(self, base: float, minimum: float = 0.0, cycle_epochs: int = 20, cycle_factor: int = 2):
        super().__init__(base)
        self.minimum = minimum
        self.cycle_epochs = cycle_epochs
        self.cycle_factor = cycle_factor

    def rate(self, epoch: int) -> float:
        """Return the rate of an epoch, counted from 0."""
        return cosine_rate(epoch, self.base, self.minimum, self.cycle_epochs, self.cycle_factor)


class Plateau(Schedule):
    """`plateau_rates` as a callback on `monitor`, which must be in the epoch's logs before this callback runs."""

    def __init__(
        self,
        base: float,
        factor: float = 0.1,
        patience_epochs: int = 10,
        threshold: float = 1e-4,
        monitor: str = "val_accuracy",
    ):
        super().__init__(base)
        self.monitor = monitor
        self._plateau = PlateauState(base, factor, patience_epochs, threshold)

    def rate(self, epoch: int) -> float:
        """Return the present rate: that of the epoch that runs or comes next."""
        return self._plateau.rate

    @property
    def state(self) -> dict[str, Any]:
        """Rate, best accuracy (None before the first) and epochs since then."""
        best = self._plateau.best
        return {
            "rate": self._plateau.rate,
            "best": None if best == -math.inf else best,
            "bad_epochs": self._plateau.bad_epochs,
        }

    @state.setter
    def state(self, values: dict[str, Any]) -> None:
        self._plateau.rate = values["rate"]
        self._plateau.best = -math.inf if values["best"] is None else values["best"]
        self._plateau.bad_epochs = values["bad_epochs"]

    def on_epoch_end(self, epoch, logs=None):
        """Note the rate that the epoch had, and take in its accuracy."""
        super().on_epoch_end(epoch, logs)
        if logs is None or self.monitor not in logs:
            raise ValueError(f"Plateau follows {self.monitor!r}, which is not among {sorted(logs or ())}")
        self._plateau.observe(float(logs[self.monitor]))


def make_schedule(params: ScheduleParams, base: float) -> Schedule:
    """Make the callback that `params` names, starting at the learning rate `base`."""
    if params.name == "plateau":
        return Plateau(base, params.plateau_factor, params.plateau_patience_epochs)
    if params.name == "cosine":
        minimum = base * params.cosine_minimum_ratio
        return CosineRestarts(base, minimum, params.cosine_cycle_epochs, params.cosine_cycle_factor)
    if params.name == "step":
        return StepDecay(base, params.step_epochs, params.step_factor)
    return Schedule(base)
