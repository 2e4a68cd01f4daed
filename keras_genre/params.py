"""Parameters: frozen dataclasses, units in the names, saved as JSON beside every artefact."""

import dataclasses
import types
import typing
from typing import Any, TypeVar

from keras_genre.errors import ParameterError

FEATURE_DIMS = {"spectral33": 33, "mfcc13": 13, "log_mel128": 128}
"""Values a frame of each feature kind that can be computed from audio."""

FEATURE_COLUMNS = {("spectral33", "mfcc13"): 13}
"""Kinds that are the first columns of another: (whole, part) -> number of columns."""

Params = TypeVar("Params")


@dataclasses.dataclass(frozen=True)
class FrontEndParams:
    """From a waveform to feature frames.

    Attributes
    ----------
    kind : str
        `spectral33`, `mfcc13` or `log_mel128`.
    sample_rate_hz, fft_samples, hop_samples : int > 0
        Of the short-time Fourier transform; librosa's defaults.
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

    @property
    def dims(self) -> int:
        """Values a frame."""
        return FEATURE_DIMS[self.kind]

    @property
    def hop_seconds(self) -> float:
        """Time from one frame to the next."""
        return self.hop_samples / self.sample_rate_hz

    def frames_of(self, samples: int) -> int:
        """Return how many frames `samples` samples give: one centred on every multiple of the hop."""
        return 1 + samples // self.hop_samples

    def window_seconds(self, frames: int) -> float:
        """Return the duration that `frames` frames stand for."""
        return frames * self.hop_seconds

    def samples_of(self, frames: int) -> int:
        """Return the least number of samples that gives `frames` frames."""
        return (frames - 1) * self.hop_samples


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
