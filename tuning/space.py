"""The space of a search: which parameters vary, and over what.

A hyperparameter is a parameter of `TrainParams` under the name that `keras_genre.train --set NAME=VALUE` takes, so a
trial is a `TrainParams` and can be repeated by flags. The tables below are in the form of the JSON file that
`python -m tuning.search --space FILE` takes.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from keras_genre.errors import ParameterError
from keras_genre.params import FEATURE_DIMS, PROBABILITIES, TAGGER_KINDS, TrainParams, from_json, to_json, with_values

# What may stand beside a name:
#   [a, b, ...]                             one of these values
#   {"low": a, "high": b}                   any number between; "log": true for even shares of the orders of magnitude
#   {"values": [...], "when": "NAME=VALUE"} only where another hyperparameter has that value
#   {"shares_of_epochs": [...]}             numbers of epochs, as shares of the whole budget
RECIPE: dict[str, Any] = {
    "window_frames": [64, 128, 256],
    "augmentation": [True, False],
    "batch_size": [16, 32, 64],
    "optimizer": ["adam", "rmsprop", "sgd"],
    "learning_rate": {"low": 3e-4, "high": 1e-2, "log": True},
    "weight_decay": {"low": 1e-4, "high": 3e-1, "log": True},
    "label_smoothing": [0.0, 0.05, 0.1, 0.2],
    "mixup_alpha": [0.0, 0.2, 0.4],
    "schedule.name": ["plateau", "cosine", "step", "none"],
    "schedule.plateau_patience_epochs": {"values": [3, 5, 10], "when": "schedule.name=plateau"},
    "schedule.plateau_factor": {"values": [0.1, 0.3, 0.5], "when": "schedule.name=plateau"},
    "schedule.cosine_cycle_epochs": {"shares_of_epochs": [0.25, 0.5, 1.0], "when": "schedule.name=cosine"},
    "schedule.step_epochs": {"shares_of_epochs": [0.2, 0.35, 0.5], "when": "schedule.name=step"},
    "schedule.step_factor": {"values": [0.1, 0.3, 0.5], "when": "schedule.name=step"},
    "model.dropout": {"low": 0.0, "high": 0.6},
    "model.input_noise": [0.0, 0.1, 0.3],
}

ANY_FEATURES = {"features": ["spectral33", "mfcc13", "log_mel128"]}

# What is done to windows (`shift_bands`, `equalizer`) takes the values of a frame for bands of a spectrum.
BANDS = {
    "features": ["log_mel128", "log_mel128_levels"],
    "equalizer": [0.0, 0.3, 0.6],
    "model.mean_subtraction": [0.0, 0.5, 1.0],
}

LSTM: dict[str, Any] = {
    "model.lstm_units": [[32], [64], [128], [32, 32], [64, 64], [128, 128], [128, 32]],
    "model.lstm_bidirectional": [False, True],
    "model.lstm_inner_dropout": [0.0, 0.1, 0.3],
    "model.pooling": ["last", "mean", "max", "mean_max", "attention"],
}

CONV2D: dict[str, Any] = {
    "model.conv_filters": [16, 32, 64],
    "model.dense_units": [32, 64, 128],
}

TABLES: dict[str, dict[str, Any]] = {
    "lstm": ANY_FEATURES | RECIPE | LSTM,
    "conv2d": ANY_FEATURES | RECIPE | CONV2D,
    "short_chunk_cnn": BANDS | RECIPE | CONV2D | {"model.pooling": ["mean", "max", "mean_max", "attention"]},
    "crnn": BANDS | RECIPE | LSTM | {"model.conv_filters": [16, 24, 32]},
}
"""The default space of each family of networks; `table_of` says how features vary."""

SPECTRAL_KINDS = tuple(kind for kind in FEATURE_DIMS if kind not in TAGGER_KINDS)
"""Feature kinds with a frame for each spectrum, or few: windows of so many frames are of comparable durations."""

RESTRICTED = ("features", "window_frames", "augmentation")
"""What the data do not allow every value of."""

SIGNIFICANT_DIGITS = 4
"""Of a number from a range: what a flag can say, and what survives every way of storing it."""


@dataclasses.dataclass(frozen=True)
class Domain:
    """What one hyperparameter may be: one of some values, or a number of a range.

    Attributes
    ----------
    name : str
        Of the parameter.
    values : tuple
        The values, as JSON values; empty for a range.
    low, high : float
        Bounds of a range.
    log : bool
        The range is divided by orders of magnitude.
    parent : str
        Hyperparameter on which it depends whether this one counts; empty: on none.
    parent_value : str
        The value, as text, with which it counts.
    """

    name: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    parent: str = ""
    parent_value: str = ""

    def value_of(self, choice: Any) -> Any:
        """Return the parameter's value, as a JSON value, for what the tuner chose: a text or a number."""
        if self.values:
            return next(value for value in self.values if text_of(value) == str(choice))
        return float(f"{float(choice):.{SIGNIFICANT_DIGITS}g}")

    def __str__(self) -> str:
        if self.values:
            text = " | ".join(map(text_of, self.values))
        else:
            text = f"{text_of(self.low)} ... {text_of(self.high)}{' (logarithmic)' if self.log else ''}"
        return text + (f"  (if {self.parent} is {self.parent_value})" if self.parent else "")


def text_of(value: Any) -> str:
    """Write a parameter's value as `--set NAME=VALUE` takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(text_of, value))
    return str(value)


@dataclasses.dataclass(frozen=True)
class Space:
    """A space fitted to parameters and data.

    Attributes
    ----------
    base : TrainParams
        All that does not vary.
    domains : tuple of Domain
        What varies; one on which others depend comes before them.
    """

    base: TrainParams
    domains: tuple[Domain, ...]

    def params(self, values: Mapping[str, Any]) -> TrainParams:
        """Return the parameters of a trial.

        Parameters
        ----------
        values : mapping
            Hyperparameter -> what the tuner chose. Names with a `/` are the tuner's own and mean nothing here.

        Raises
        ------
        ParameterError
            If the values do not go together.
        """
        return self.params_with(self.chosen(values))

    def params_with(self, chosen: Mapping[str, Any]) -> TrainParams:
        """Return the parameters of a trial whose values `chosen` gave."""
        return _replaced(self.base, chosen)

    def chosen(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters' values, as JSON values, that the tuner chose."""
        return {domain.name: domain.value_of(values[domain.name]) for domain in self.domains if domain.name in values}

    def to_json(self) -> dict[str, Any]:
        """Return what varies, as JSON values."""
        return {domain.name: str(domain) for domain in self.domains}

    def hyperparameters(self):
        """Return the space as KerasTuner's `HyperParameters`."""
        import keras_tuner

        hp = keras_tuner.HyperParameters()
        for domain in self.domains:
            if domain.parent:
                with hp.conditional_scope(domain.parent, [domain.parent_value]):
                    _register(hp, domain)
            else:
                _register(hp, domain)
        return hp


def _register(hp, domain: Domain) -> None:
    # Values are texts: KerasTuner knows no lists, and its protocol turns truth values into numbers.
    if domain.values:
        hp.Choice(domain.name, [text_of(value) for value in domain.values])
    else:
        hp.Float(domain.name, domain.low, domain.high, sampling="log" if domain.log else "linear")


def _replaced(base: TrainParams, values: Mapping[str, Any]) -> TrainParams:
    """Return parameters with those named `model.dropout` and the like replaced, checked when all are in place."""
    content = to_json(base)
    for name, value in values.items():
        *path, last = name.split(".")
        inner: Any = content
        for part in path:
            inner = inner.get(part) if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or last not in inner or isinstance(inner[last], dict):
            raise ParameterError(f"space: no parameter {name!r}; train --list-presets shows their names")
        inner[last] = value
    return from_json(TrainParams, content)


@dataclasses.dataclass(frozen=True)
class Conditions:
    """What of a space the data allow.

    Attributes
    ----------
    kinds : tuple of str
        Feature kinds that the data hold.
    shortest_frames : int
        Length of the shortest clip.
    copies : bool
        Whether there are altered copies of training clips.
    """

    kinds: tuple[str, ...]
    shortest_frames: int
    copies: bool


def read_table(path: Path) -> dict[str, Any]:
    """Read a table of the form above from a JSON file.

    Raises
    ------
    ParameterError
        If there is none.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ParameterError(f"--space {path}: cannot be read ({error})") from error
    if not isinstance(table, dict):
        raise ParameterError(f"--space {path}: must be an object of parameter names")
    return table


def table_of(base: TrainParams, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the table of a search: the default one of the family, with changes.

    Features vary by default between the preset's own kind and those of the family's table, if frames of all of these
    are spectra. They do not vary where the preset's are what a network says of seconds, or probabilities
    (`log_odds`).

    Parameters
    ----------
    base, changes
        As for `make_space`.

    Raises
    ------
    ParameterError
        If features are asked for that are no probabilities where the network takes these.
    """
    changes = dict(changes or {})
    table = {} if changes.pop("only", False) else dict(TABLES[base.model.family])
    if table:
        comparable = base.features in SPECTRAL_KINDS and not base.model.log_odds
        others = table["features"] if comparable else []
        table["features"] = others if base.features in others else [base.features, *others]
    table |= changes
    if base.model.log_odds and "model.log_odds" not in table and changes.get("features") is not None:
        for kind in _domain("features", changes["features"], base).values:
            if kind in FEATURE_DIMS and kind not in PROBABILITIES:
                raise ParameterError(
                    f"space: features={kind}: are no probabilities, which model.log_odds takes; leave them out, or "
                    "--set model.log_odds=false"
                )
    return table


def kinds_to_try(base: TrainParams, changes: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """Return the feature kinds between which a search may choose; arguments are those of `make_space`."""
    entry = table_of(base, changes).get("features")
    return () if entry is None else _domain("features", entry, base).values


def make_space(base: TrainParams, conditions: Conditions, changes: Mapping[str, Any] | None = None) -> Space:
    """Fit the default space of a family to parameters and data.

    What the data do not allow is left out: feature kinds that they do not hold, windows longer than the shortest clip,
    augmentation without altered copies. The preset's value then stays, unless the data do not allow that either and do
    allow one of the others.

    Parameters
    ----------
    base : TrainParams
    conditions : Conditions
    changes : mapping, optional
        Entries of a table that take the place of the default ones; `None` leaves a parameter as the preset has it.
        With `"only": true` nothing else varies.

    Raises
    ------
    ParameterError
        If a name is unknown, a value cannot work, or nothing varies.
    """
    domains = [_domain(name, entry, base) for name, entry in table_of(base, changes).items() if entry is not None]
    _check(base, domains)
    _check_conditions(base, domains)
    base, domains = _fitted(base, domains, conditions, changes or {})
    names = {domain.name for domain in domains}
    fixed = flat(to_json(base))
    kept = []
    for domain in domains:
        if domain.parent and domain.parent not in names:
            if text_of(fixed.get(domain.parent)) != domain.parent_value:
                continue
            domain = dataclasses.replace(domain, parent="", parent_value="")
        kept.append(domain)
    ordered = sorted(kept, key=lambda domain: bool(domain.parent))
    if not any(domain.values[1:] or domain.low < domain.high for domain in ordered):
        raise ParameterError("space: nothing varies; give values with --space")
    return Space(base, tuple(ordered))


def _domain(name: str, entry: Any, base: TrainParams) -> Domain:
    if isinstance(entry, list):
        entry = {"values": entry}
    known = {"values", "low", "high", "log", "when", "shares_of_epochs"}
    if not isinstance(entry, dict) or not set(entry) <= known:
        raise ParameterError(f"space: {name} must be a list of values or an object of {', '.join(sorted(known))}")
    parent, equals, parent_value = str(entry.get("when", "")).partition("=")
    if bool(parent) != bool(equals):
        raise ParameterError(f'space: {name}: "when" must be NAME=VALUE')
    where: dict[str, Any] = {"parent": parent, "parent_value": parent_value}
    if "shares_of_epochs" in entry:
        shares = [max(1, round(share * base.epochs)) for share in entry["shares_of_epochs"]]
        return Domain(name, tuple(dict.fromkeys(shares)), **where)
    if "values" in entry:
        if not isinstance(entry["values"], list) or not entry["values"]:
            raise ParameterError(f"space: {name} has no values")
        return Domain(name, tuple(entry["values"]), **where)
    low, high, log = entry.get("low"), entry.get("high"), bool(entry.get("log", False))
    if not isinstance(low, int | float) or not isinstance(high, int | float) or not low <= high < math.inf:
        raise ParameterError(f'space: {name} needs "values", or numbers "low" <= "high"')
    if log and low <= 0:
        raise ParameterError(f'space: {name}: a logarithmic range needs a positive "low"')
    return Domain(name, low=float(low), high=float(high), log=log, **where)


def _fitted(
    base: TrainParams, domains: Iterable[Domain], conditions: Conditions, changes: Mapping[str, Any]
) -> tuple[TrainParams, list[Domain]]:
    """Leave out what the data do not allow; where that leaves one value, parameters have it that need it."""
    kept, alone = [], {}
    own = to_json(base)
    for domain in domains:
        name = domain.name
        values = tuple(value for value in domain.values if _fits(name, value, conditions))
        if name not in RESTRICTED or not domain.values or len(values) > 1 or (values and domain.parent):
            kept.append(dataclasses.replace(domain, values=values))
        # A store of another kind of features than the preset's is no reason: a training takes it as it is.
        elif values and (name in changes or (name != "features" and not _fits(name, own[name], conditions))):
            alone[name] = values[0]
    return _replaced(base, alone), kept


def _fits(name: str, value: Any, conditions: Conditions) -> bool:
    """Tell whether the data allow a value."""
    if name == "features":
        return value in conditions.kinds
    if name == "window_frames":
        return value <= conditions.shortest_frames
    return name != "augmentation" or conditions.copies


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested JSON values under names such as `model.dropout`."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def _check_conditions(base: TrainParams, domains: Iterable[Domain]) -> None:
    """Refuse conditions that nothing can meet."""
    by_name = {domain.name: domain for domain in domains}
    fixed = flat(to_json(base))
    for domain in by_name.values():
        name, value = domain.parent, domain.parent_value
        where = f'space: {domain.name}: "when" is {name}={value}'
        if name in by_name:
            known = list(map(text_of, by_name[name].values))
            if value not in known:
                raise ParameterError(f"{where}, but {name} is {', '.join(known) or 'a number of a range'}")
        elif name:
            if name not in fixed:
                raise ParameterError(f"{where}: no parameter {name!r}; train --list-presets shows their names")
            try:
                with_values(base, [f"{name}={value}"])
            except ParameterError as error:
                raise ParameterError(f"{where}: {error}") from error


def _check(base: TrainParams, domains: Iterable[Domain]) -> None:
    """Refuse names and types that no trial could have."""
    for domain in domains:
        for value in domain.values or (domain.low, domain.high):
            try:
                _replaced(base, {domain.name: value})
            except ParameterError as error:
                raise ParameterError(f"space: {domain.name}={text_of(value)}: {error}") from error
