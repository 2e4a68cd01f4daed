"""Parameters: frozen dataclasses, units in the names, saved as JSON beside every artefact."""

import dataclasses
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from keras_genre.errors import ParameterError

FEATURE_DIMS = {
    "spectral33": 33,
    "mfcc13": 13,
    "log_mel128": 128,
    "musicnn_mel96": 96,
    "taggram50": 50,
    "musicnn250": 250,
}
"""Values a frame of each feature kind that can be computed from audio."""

FEATURE_COLUMNS = {("spectral33", "mfcc13"): 13, ("musicnn250", "taggram50"): 50}
"""Kinds that are the first columns of another: (whole, part) -> number of columns."""

TAGGER_KINDS = ("taggram50", "musicnn250")
"""Kinds that the network of `keras_genre.models.musicnn` computes from frames of `musicnn_mel96`."""

_MUSICNN_TRANSFORM = (16000, 512, 256)
_MUSICNN_SPECTRA, _MUSICNN_HOP_SPECTRA = 187, 61

Params = TypeVar("Params")


@dataclasses.dataclass(frozen=True)
class FrontEndParams:
    """From a waveform to feature frames.

    Attributes
    ----------
    kind : str
        One of `FEATURE_DIMS`.
    sample_rate_hz, fft_samples, hop_samples : int > 0
        Of the short-time Fourier transform; librosa's defaults. `FrontEndParams.of` has those of every kind.
    """

    kind: str = "spectral33"
    sample_rate_hz: int = 22050
    fft_samples: int = 2048
    hop_samples: int = 512

    def __post_init__(self) -> None:
        if self.kind not in FEATURE_DIMS:
            raise ParameterError(f"unknown feature kind {self.kind!r}; known: {', '.join(FEATURE_DIMS)}")
        if min(self.sample_rate_hz, self.fft_samples, self.hop_samples) <= 0:
            raise ParameterError("sample rate, FFT length and hop must be positive")
        transform = (self.sample_rate_hz, self.fft_samples, self.hop_samples)
        if self.kind in ("musicnn_mel96", *TAGGER_KINDS) and transform != _MUSICNN_TRANSFORM:
            raise ParameterError(
                f"{self.kind} has sample rate, FFT length and hop {_MUSICNN_TRANSFORM}, not {transform}: "
                "the network was trained with them"
            )

    @classmethod
    def of(cls, kind: str) -> "FrontEndParams":
        """Return the front end of a feature kind, with the transform that the kind is defined with."""
        return cls(kind, *_MUSICNN_TRANSFORM) if kind in ("musicnn_mel96", *TAGGER_KINDS) else cls(kind)

    @property
    def dims(self) -> int:
        """Values a frame."""
        return FEATURE_DIMS[self.kind]

    @property
    def spectra(self) -> int:
        """Spectra that a frame is computed from: 1, or as many as a network sees at a time."""
        return _MUSICNN_SPECTRA if self.kind in TAGGER_KINDS else 1

    @property
    def hop_spectra(self) -> int:
        """Spectra from the beginning of one frame to that of the next."""
        return _MUSICNN_HOP_SPECTRA if self.kind in TAGGER_KINDS else 1

    @property
    def hop_seconds(self) -> float:
        """Time from one frame to the next."""
        return self.hop_spectra * self.hop_samples / self.sample_rate_hz

    def spectra_of(self, samples: int) -> int:
        """Return how many spectra `samples` samples give: one centred on every multiple of the hop."""
        return 1 + samples // self.hop_samples

    def frames_of(self, samples: int) -> int:
        """Return how many frames `samples` samples give: those whose spectra are all there."""
        return max(0, 1 + (self.spectra_of(samples) - self.spectra) // self.hop_spectra)

    def window_seconds(self, frames: int) -> float:
        """Return the duration that `frames` frames stand for."""
        return ((frames - 1) * self.hop_spectra + self.spectra) * self.hop_samples / self.sample_rate_hz

    def samples_of(self, frames: int) -> int:
        """Return the least number of samples that gives `frames` frames."""
        return ((frames - 1) * self.hop_spectra + self.spectra - 1) * self.hop_samples


@dataclasses.dataclass(frozen=True)
class ModelParams:
    """A network over windows of feature frames.

    Attributes
    ----------
    family : str
        `lstm` or `conv2d`.
    lstm_units : tuple of int
        Units of each LSTM layer; the last one returns its last step.
    dropout : float in [0, 1)
        Before the output layer; for `lstm_inner_dropout` see there.
    lstm_inner_dropout, lstm_recurrent_dropout : float in [0, 1)
        On the inputs and on the state of every LSTM layer. A recurrent dropout above 0 excludes cuDNN.
    conv_filters, dense_units : int
        Of the `conv2d` family.
    mixed_bfloat16 : bool
        Compute in bfloat16 with float32 weights; the logits stay float32.
    """

    family: str = "lstm"
    lstm_units: tuple[int, ...] = (64, 64)
    dropout: float = 0.3
    lstm_inner_dropout: float = 0.0
    lstm_recurrent_dropout: float = 0.0
    conv_filters: int = 32
    dense_units: int = 64
    mixed_bfloat16: bool = False

    def __post_init__(self) -> None:
        if self.family not in ("lstm", "conv2d"):
            raise ParameterError(f"unknown model family {self.family!r}; known: lstm, conv2d")
        if self.family == "lstm" and (not self.lstm_units or min(self.lstm_units) < 1):
            raise ParameterError("an LSTM needs at least one layer of at least one unit")
        for name in ("dropout", "lstm_inner_dropout", "lstm_recurrent_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ParameterError(f"{name} must be in [0, 1), not {getattr(self, name)}")

    @property
    def cudnn_eligible(self) -> bool:
        """Whether a GPU may run the LSTM layers in cuDNN's fused kernels."""
        return self.family == "lstm" and self.lstm_recurrent_dropout == 0


@dataclasses.dataclass(frozen=True)
class ScheduleParams:
    """How the learning rate goes over the epochs.

    Attributes
    ----------
    name : str
        `plateau`, `cosine`, `step` or `none`.
    plateau_factor, plateau_patience_epochs
        The rate is multiplied by the factor after more than that many epochs without a better validation
        accuracy.
    cosine_cycle_epochs, cosine_cycle_factor, cosine_minimum_ratio
        Length of the first cycle, how much longer each next one is, the lowest rate as a share of the first.
    step_epochs, step_factor
        Every so many epochs the rate is multiplied by the factor.
    """

    name: str = "plateau"
    plateau_factor: float = 0.1
    plateau_patience_epochs: int = 10
    cosine_cycle_epochs: int = 20
    cosine_cycle_factor: int = 1
    cosine_minimum_ratio: float = 0.01
    step_epochs: int = 10
    step_factor: float = 0.1

    def __post_init__(self) -> None:
        if self.name not in ("plateau", "cosine", "step", "none"):
            raise ParameterError(f"unknown schedule {self.name!r}; known: plateau, cosine, step, none")
        if not (0 < self.plateau_factor < 1 and 0 < self.step_factor < 1):
            raise ParameterError("plateau_factor and step_factor must be between 0 and 1")
        if min(self.cosine_cycle_epochs, self.cosine_cycle_factor, self.step_epochs) < 1:
            raise ParameterError("cosine_cycle_epochs, cosine_cycle_factor and step_epochs must be at least 1")
        if self.plateau_patience_epochs < 0 or not 0 <= self.cosine_minimum_ratio <= 1:
            raise ParameterError("plateau_patience_epochs must be >= 0 and cosine_minimum_ratio in [0, 1]")


@dataclasses.dataclass(frozen=True)
class TrainParams:
    """One training run: what a preset is and what a run folder records.

    Attributes
    ----------
    features : str
        Feature kind that the network is made for.
    window_frames : int > 0
        Length of the windows that the network sees.
    windows_per_clip : int > 0
        Windows cut at random places from every training clip in each epoch.
    batch_size : int > 0
        Windows a step.
    epochs : int > 0
        Passes over the training clips.
    learning_rate : float > 0
        Of Adam, at the start.
    early_stopping_epochs : int >= 0
        Stop after that many epochs without a better validation result; 0: never.
    augmentation : bool
        Train on the altered copies of the training clips too, where the store has some (`augmentation.VARIANTS`).
    seed : int >= 0
        The one source of randomness: initial weights, windows, order, dropout.
    """

    features: str = "spectral33"
    window_frames: int = 128
    windows_per_clip: int = 10
    batch_size: int = 64
    epochs: int = 60
    learning_rate: float = 1e-3
    early_stopping_epochs: int = 0
    augmentation: bool = True
    seed: int = 0
    model: ModelParams = ModelParams()
    schedule: ScheduleParams = ScheduleParams()

    def __post_init__(self) -> None:
        for name in ("window_frames", "windows_per_clip", "batch_size", "epochs"):
            if getattr(self, name) < 1:
                raise ParameterError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ParameterError(f"learning_rate must be positive, not {self.learning_rate}")
        if self.seed < 0 or self.early_stopping_epochs < 0:
            raise ParameterError("seed and early_stopping_epochs must not be negative")


def to_json(params: Any) -> dict[str, Any]:
    """Return a parameter dataclass as JSON values, nested dataclasses as nested objects."""
    return dataclasses.asdict(params)


def from_json(kind: type[Params], values: dict[str, Any]) -> Params:
    """Make the parameter dataclass `kind` from what `to_json` returned.

    Raises
    ------
    ParameterError
        If a name is unknown or missing, or a value is not of its type.
    """
    fields = typing.get_type_hints(kind)
    if not isinstance(values, dict) or set(values) != set(fields):
        given = set(values) if isinstance(values, dict) else set()
        raise ParameterError(
            f"{kind.__name__}: unknown {sorted(given - set(fields))}, missing {sorted(set(fields) - given)}"
        )
    return kind(**{name: _coerce(f"{kind.__name__}.{name}", fields[name], values[name]) for name in fields})


def _coerce(name: str, kind: Any, value: Any) -> Any:
    if typing.get_origin(kind) is types.UnionType:
        if value is None:
            return None
        kind = typing.get_args(kind)[0]
    if dataclasses.is_dataclass(kind):
        return from_json(typing.cast(type, kind), value)
    if typing.get_origin(kind) is tuple and isinstance(value, list | tuple):
        return tuple(_coerce(name, typing.get_args(kind)[0], item) for item in value)
    accepted = (int, float) if kind is float else typing.get_origin(kind) or kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise ParameterError(f"{name}: {value!r} is not of type {getattr(kind, '__name__', kind)}")
    return value


def with_values(params: Params, assignments: Iterable[str]) -> Params:
    """Return parameters with others in place of some, given as words.

    Parameters
    ----------
    params : dataclass
    assignments : iterable of str
        `NAME=VALUE`; a name inside a nested dataclass has a dot (`model.lstm_units=128,32`). The numbers of a tuple are
        separated by commas; truth is `true` or `false`.

    Raises
    ------
    ParameterError
        If there is no `=`, the name is unknown, or the value is not of its type or cannot work.
    """
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ParameterError(f"{assignment!r}: expected NAME=VALUE")
        params = _with_value(params, name.strip().split("."), text.strip(), assignment)
    return params


def _with_value(params: Any, path: Sequence[str], text: str, assignment: str) -> Any:
    fields = typing.get_type_hints(type(params))
    if path[0] not in fields:
        raise ParameterError(f"{assignment!r}: no parameter {path[0]!r}; known here: {', '.join(fields)}")
    kind = fields[path[0]]
    if dataclasses.is_dataclass(kind) != (len(path) > 1):
        inside = f"{path[0]}.{dataclasses.fields(typing.cast(type, kind))[0].name}" if len(path) == 1 else path[0]
        raise ParameterError(f"{assignment!r}: name a single parameter, such as {inside}")
    if len(path) > 1:
        value = _with_value(getattr(params, path[0]), path[1:], text, assignment)
    else:
        try:
            value = _parsed(kind, text)
        except ValueError as error:
            raise ParameterError(f"{assignment!r}: the value is not of type {kind}") from error
    return dataclasses.replace(params, **{path[0]: value})


def _parsed(kind: Any, text: str) -> Any:
    if typing.get_origin(kind) is tuple:
        return tuple(_parsed(typing.get_args(kind)[0], part) for part in text.split(",") if part.strip())
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    return kind(text)


def differences(old: Any, new: Any) -> list[str]:
    """Return what differs between two dataclasses of one type, as `name: old -> new`."""
    lines = []
    for field in dataclasses.fields(old):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if dataclasses.is_dataclass(before):
            lines += [f"{field.name}.{line}" for line in differences(before, after)]
        elif before != after:
            lines.append(f"{field.name}: {before} -> {after}")
    return lines
