"""Parameters: frozen dataclasses, units in the names, saved as JSON beside every artefact."""

import dataclasses
import math
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from keras_genre.errors import ParameterError

FEATURE_DIMS = {
    "spectral33": 33,
    "mfcc13": 13,
    "log_mel128": 128,
    "log_mel128_levels": 128,
    "musicnn_mel96": 96,
    "taggram50": 50,
    "musicnn250": 250,
}
"""Values a frame of each feature kind that can be computed from audio."""

FEATURE_COLUMNS = {("spectral33", "mfcc13"): 13, ("musicnn250", "taggram50"): 50}
"""Kinds that are the first columns of another: (whole, part) -> number of columns."""

TAGGER_KINDS = ("taggram50", "musicnn250")
"""Kinds that the network of `keras_genre.models.musicnn` computes from frames of `musicnn_mel96`."""

PROBABILITIES = ("taggram50",)
"""Kinds whose values are all probabilities."""

LEVELS = "log_mel128_levels"
"""The kind of which a clip of 30 s has `LEVELS_CLIP_FRAMES` frames, taken at equal distances from all."""

LEVELS_CLIP_SPECTRA, LEVELS_CLIP_FRAMES = 1293, 387

LEVEL_RANGES = {"log_mel128": (-80.0, 0.0), LEVELS: (0.0, 255.0)}
"""Kinds whose values are levels of bands below a clip's highest: the lowest value that there can be, the highest."""

QUIETEST_RMS = 1e-3
"""Root mean square, of full scale 1, of what is taken for music and not for the noise of a silence."""

_MUSICNN_TRANSFORM = (16000, 512, 256)
_MUSICNN_SPECTRA, _MUSICNN_HOP_SPECTRA = 187, 61

FAMILIES = ("lstm", "conv2d", "short_chunk_cnn", "crnn")
"""The families of networks."""

POOLINGS = ("last", "mean", "max", "mean_max", "attention")
"""What can be taken of a sequence over time; `mean_max` is both, side by side."""

OPTIMIZERS = ("adam", "sgd", "rmsprop")
"""The optimizers; `sgd` has Nesterov's momentum of 0.9."""

LARGEST_SEED = 2**32 - 1
"""The largest seed that NumPy's generator, which Keras seeds along with the others, takes."""

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
    rms_dbfs : float or None
        Root mean square, in dB of full scale, that a clip is brought to before all else, so that its loudness does not
        matter; None: clips are as loud as they are. Clips below `QUIETEST_RMS` are raised as those of that level are.
    """

    kind: str = "spectral33"
    sample_rate_hz: int = 22050
    fft_samples: int = 2048
    hop_samples: int = 512
    rms_dbfs: float | None = None

    def __post_init__(self) -> None:
        if self.rms_dbfs is not None and not -100 <= self.rms_dbfs <= 0:
            raise ParameterError(f"rms_dbfs must be from -100 to 0, not {self.rms_dbfs}")
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
        if self.kind == LEVELS:
            return LEVELS_CLIP_SPECTRA / (LEVELS_CLIP_FRAMES + 0.5) * self.hop_samples / self.sample_rate_hz
        return self.hop_spectra * self.hop_samples / self.sample_rate_hz

    def spectra_of(self, samples: int) -> int:
        """Return how many spectra `samples` samples give: one centred on every multiple of the hop."""
        return 1 + samples // self.hop_samples

    def frames_of(self, samples: int) -> int:
        """Return how many frames `samples` samples give: those whose spectra are all there."""
        if self.kind == LEVELS:
            return levels_frames_of(self.spectra_of(samples))
        return max(0, 1 + (self.spectra_of(samples) - self.spectra) // self.hop_spectra)

    def window_seconds(self, frames: int) -> float:
        """Return the duration that `frames` frames stand for."""
        if self.kind == LEVELS:
            return frames * self.hop_seconds
        return ((frames - 1) * self.hop_spectra + self.spectra) * self.hop_samples / self.sample_rate_hz

    def samples_of(self, frames: int) -> int:
        """Return the least number of samples that gives `frames` frames."""
        if self.kind == LEVELS:
            return (_levels_spectra_of(frames) - 1) * self.hop_samples
        return ((frames - 1) * self.hop_spectra + self.spectra - 1) * self.hop_samples


def resampled_samples(samples: int, source_rate_hz: int, sample_rate_hz: int) -> int:
    """Return how many samples come of so many at another rate, as `keras_genre.audio.load` counts them."""
    return math.ceil(samples * (sample_rate_hz / source_rate_hz))


LEVELS_CLIP_RANGE = (1268, 1318)


def levels_frames_of(spectra: int) -> int:
    """Return how many frames of `log_mel128_levels` a clip has.

    Clips of 30 s, give or take 2 %, have all the same number, so that collections of such clips are of one length;
    others have one for every 3.34 spectra, and at least one.
    """
    low, high = LEVELS_CLIP_RANGE
    if low <= spectra <= high:
        return LEVELS_CLIP_FRAMES
    return max(1, (2 * LEVELS_CLIP_FRAMES * spectra + LEVELS_CLIP_SPECTRA) // (2 * LEVELS_CLIP_SPECTRA))


def _levels_spectra_of(frames: int) -> int:
    """Return the least number of spectra that gives so many frames."""
    low, high = LEVELS_CLIP_RANGE
    if levels_frames_of(low - 1) < frames <= LEVELS_CLIP_FRAMES:
        return low
    needed = -(-(2 * frames - 1) * LEVELS_CLIP_SPECTRA // (2 * LEVELS_CLIP_FRAMES))
    if frames <= 1:
        return 1
    return max(needed, high + 1) if frames > LEVELS_CLIP_FRAMES else needed


def with_embeddings(front_end: FrontEndParams) -> FrontEndParams:
    """Return a front end whose first columns are the given one's; if a network computes these, with all it offers."""
    return dataclasses.replace(front_end, kind="musicnn250") if front_end.kind in TAGGER_KINDS else front_end


@dataclasses.dataclass(frozen=True)
class ModelParams:
    """A network over windows of feature frames.

    Attributes
    ----------
    family : str
        One of `FAMILIES`.
    lstm_units : tuple of int
        Units of each LSTM layer, of `lstm` and `crnn`.
    dropout : float in [0, 1)
        Before the output layer; for `lstm_inner_dropout` see there.
    lstm_inner_dropout, lstm_recurrent_dropout : float in [0, 1)
        On the inputs and on the state of every LSTM layer. A recurrent dropout above 0 excludes cuDNN.
    conv_filters : int > 0
        Of a convolution of `conv2d`; of the first one of `short_chunk_cnn` and `crnn`, whose later ones have up to four
        times as many.
    dense_units : int > 0
        Of the layer before the output layer, of `conv2d` and `short_chunk_cnn`.
    mixed_bfloat16 : bool
        Compute in bfloat16 with float32 weights; the logits stay float32.
    lstm_bidirectional : bool
        Every LSTM layer runs from both ends.
    pooling : str
        What is taken of the steps over time: one of `POOLINGS`. `conv2d` has none; `short_chunk_cnn` has no last step.
    input_noise : float >= 0
        Standard deviation of the Gaussian noise on the standardised inputs, in training.
    log_odds : bool
        The inputs are probabilities, and their log-odds are standardised in their place. `training.make_plan` turns it
        off for features that are none.
    mean_subtraction : float in [0, 1]
        Share of a window's mean frame that is subtracted from all its frames. The mean of levels or cepstra holds what
        a recording's equipment and mix add to all of it, and the timbre of the music too.
    """

    family: str = "lstm"
    lstm_units: tuple[int, ...] = (64, 64)
    dropout: float = 0.3
    lstm_inner_dropout: float = 0.0
    lstm_recurrent_dropout: float = 0.0
    conv_filters: int = 32
    dense_units: int = 64
    mixed_bfloat16: bool = False
    lstm_bidirectional: bool = False
    pooling: str = "last"
    input_noise: float = 0.0
    log_odds: bool = False
    mean_subtraction: float = 0.0

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ParameterError(f"unknown model family {self.family!r}; known: {', '.join(FAMILIES)}")
        if self.pooling not in POOLINGS:
            raise ParameterError(f"unknown pooling {self.pooling!r}; known: {', '.join(POOLINGS)}")
        if self.family in ("lstm", "crnn") and (not self.lstm_units or min(self.lstm_units) < 1):
            raise ParameterError("an LSTM needs at least one layer of at least one unit")
        if self.family == "short_chunk_cnn" and self.pooling == "last":
            raise ParameterError("short_chunk_cnn has no last step; use another pooling (model.pooling=mean_max)")
        if min(self.conv_filters, self.dense_units) < 1 or not self.input_noise >= 0:
            raise ParameterError("conv_filters and dense_units must be at least 1, input_noise not negative")
        for name in ("dropout", "lstm_inner_dropout", "lstm_recurrent_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ParameterError(f"{name} must be in [0, 1), not {getattr(self, name)}")
        if not 0 <= self.mean_subtraction <= 1:
            raise ParameterError(f"mean_subtraction must be in [0, 1], not {self.mean_subtraction}")

    @property
    def cudnn_eligible(self) -> bool:
        """Whether a GPU may run the LSTM layers in cuDNN's fused kernels."""
        return self.family in ("lstm", "crnn") and self.lstm_recurrent_dropout == 0


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
        At the start.
    early_stopping_epochs : int >= 0
        Stop after that many epochs without a better validation result; 0: never.
    augmentation : bool
        Train on the altered copies of the training clips too, where the store has some (`augmentation.VARIANTS`).
    seed : int in [0, LARGEST_SEED]
        The one source of randomness: initial weights, windows, order, dropout.
    optimizer : str
        One of `OPTIMIZERS`.
    weight_decay : float >= 0
        Share of each weight that a step takes off, times the learning rate (decoupled, as in AdamW); biases and the
        scales of normalisations are left alone.
    label_smoothing : float in [0, 1)
        Share of the target that is spread over all genres.
    mixup_alpha : float >= 0
        Each window is mixed with another one of its batch, target included, by a share from Beta(alpha, alpha) (Zhang
        et al., 2018); 0: never.
    ema_momentum : float in [0, 1)
        Validate and keep moving averages of the weights, this share of which stays at each step; 0: the weights.
    mask_frames, mask_bands : int >= 0
        Two stripes of frames, and two of values, up to so wide, are replaced by their means in each window
        (SpecAugment, Park et al., 2019); 0: none.
    shift_bands : int >= 0
        The values of a frame, where they are bands of a spectrum, are shifted by up to so many bands up or down, the
        same for all of a window: another pitch, or another microphone.
    equalizer : float >= 0
        A smooth curve over the values of a frame, where they are levels of bands of a spectrum, is added to all frames
        of a window: other loudspeakers, another room, another mix. Its standard deviation, as a share of that of
        the features; 0: none.
    level_stretch : float >= 0
        The distances of a window's levels from the highest one there can be are multiplied by a factor between 1 and 1
        plus this, or are divided by it; 0: never. Other encodings of a recording do that to levels that are scaled
        by its quietest one.
    low_pass_bands : int >= 0
        The levels of a window fall off from a band on that is drawn from so many bands below the end of the spectrum to
        so many beyond it: the highest bands tell how a file was resampled or encoded, not what it holds; 0: none.
        `training.make_plan` turns this and `level_stretch` off for features without levels (`LEVEL_RANGES`).
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
    optimizer: str = "adam"
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    mixup_alpha: float = 0.0
    ema_momentum: float = 0.0
    mask_frames: int = 0
    mask_bands: int = 0
    shift_bands: int = 0
    equalizer: float = 0.0
    level_stretch: float = 0.0
    low_pass_bands: int = 0

    @property
    def soft_targets(self) -> bool:
        """Whether the targets of the training are shares of all genres, not a genre."""
        return self.mixup_alpha > 0 or self.label_smoothing > 0

    def __post_init__(self) -> None:
        for name in ("window_frames", "windows_per_clip", "batch_size", "epochs"):
            if getattr(self, name) < 1:
                raise ParameterError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ParameterError(f"learning_rate must be positive, not {self.learning_rate}")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise ParameterError(f"seed must be from 0 to {LARGEST_SEED}, not {self.seed}")
        if self.early_stopping_epochs < 0:
            raise ParameterError(f"early_stopping_epochs must not be negative, not {self.early_stopping_epochs}")
        if self.optimizer not in OPTIMIZERS:
            raise ParameterError(f"unknown optimizer {self.optimizer!r}; known: {', '.join(OPTIMIZERS)}")
        for name in ("label_smoothing", "ema_momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ParameterError(f"{name} must be in [0, 1), not {getattr(self, name)}")
        for name in (
            "weight_decay",
            "mixup_alpha",
            "mask_frames",
            "mask_bands",
            "shift_bands",
            "equalizer",
            "level_stretch",
            "low_pass_bands",
        ):
            if not getattr(self, name) >= 0:
                raise ParameterError(f"{name} must not be negative, not {getattr(self, name)}")
        if self.mask_frames >= self.window_frames:
            raise ParameterError(f"mask_frames must be less than a window of {self.window_frames} frames")


def to_json(params: Any) -> dict[str, Any]:
    """Return a parameter dataclass as JSON values, nested dataclasses as nested objects."""
    return dataclasses.asdict(params)


def from_json(kind: type[Params], values: dict[str, Any]) -> Params:
    """Make the parameter dataclass `kind` from what `to_json` returned.

    A parameter that has a default may be missing: an artefact does not grow old when there are more parameters, whose
    defaults leave things as they were.

    Raises
    ------
    ParameterError
        If a name is unknown or missing, or a value is not of its type.
    """
    fields = typing.get_type_hints(kind)
    given = set(values) if isinstance(values, dict) else set()
    needed = {field.name for field in dataclasses.fields(typing.cast(Any, kind)) if _is_required(field)}
    if not isinstance(values, dict) or not needed <= given <= set(fields):
        raise ParameterError(
            f"{kind.__name__}: unknown {sorted(given - set(fields))}, missing {sorted(needed - given)}"
        )
    return kind(**{name: _coerce(f"{kind.__name__}.{name}", fields[name], values[name]) for name in values})


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


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


def with_epochs(params: TrainParams, epochs: int) -> TrainParams:
    """Return parameters of another number of epochs; a cosine that fell over all of them falls over these.

    Raises
    ------
    ParameterError
        If there is no epoch.
    """
    changed, schedule = dataclasses.replace(params, epochs=epochs), params.schedule
    if schedule.name != "cosine" or schedule.cosine_cycle_epochs != params.epochs:
        return changed
    return dataclasses.replace(changed, schedule=dataclasses.replace(schedule, cosine_cycle_epochs=epochs))


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
