"""What a SavedModel says of itself beside its signatures: genres, sample rate, windows."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_genre.errors import ParameterError
from keras_genre.params import FrontEndParams, from_json, resampled_samples
from keras_genre.prediction import Clock, prediction_of
from keras_genre.saved_models import (
    ASSETS,
    ENCODED,
    FEATURES,
    INPUTS,
    LABELS,
    PARAMS,
    PROBABILITIES,
    WINDOW_PROBABILITIES,
)
from keras_genre.serving.durations import pcm_seconds
from keras_genre.serving.protocol import DEFAULT_SIGNATURE, RequestError, Signature

WAVEFORM, FRAMES, ENCODED_FILE = INPUTS[DEFAULT_SIGNATURE], INPUTS[FEATURES], INPUTS[ENCODED]


@dataclasses.dataclass(frozen=True)
class AudioContract:
    """A model that takes waveforms and gives the probabilities of genres.

    Attributes
    ----------
    genres : tuple of str
        In the order of the outputs.
    sample_rate_hz : int > 0
    minimum_samples : int > 0
        Fewer samples make no window.
    window_frames, hop_samples : int > 0
        Length of a window, and of the step from frame to frame.
    window_seconds : float > 0
        Duration that a window stands for.
    front_end : FrontEndParams, optional
        How the model makes frames, where it says so: not all kinds have one at every so many samples.
    """

    genres: tuple[str, ...]
    sample_rate_hz: int
    minimum_samples: int
    window_frames: int
    hop_samples: int
    window_seconds: float
    front_end: FrontEndParams | None = None

    def require_usable(self, inputs: Mapping[str, np.ndarray], signature: Signature, max_seconds: float) -> None:
        """Refuse inputs that the model would compute nonsense from, or for too long.

        Raises
        ------
        RequestError
        """
        for name, array in inputs.items():
            if array.size == 0:
                raise RequestError(400, f"{name}: is empty")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise RequestError(400, f"{name}: has values that are NaN or infinite")
        if signature.name == DEFAULT_SIGNATURE and inputs[WAVEFORM].shape[-1] < self.minimum_samples:
            raise RequestError(
                400,
                f"{WAVEFORM}: has {inputs[WAVEFORM].shape[-1]} samples; at least {self.minimum_samples} "
                f"({self.minimum_samples / self.sample_rate_hz:.3g} s at {self.sample_rate_hz} Hz) are needed",
            )
        name, seconds = self._longest(inputs, signature)
        if seconds > max_seconds:
            raise RequestError(413, f"{name}: is longer than the limit of {max_seconds:g} s for a request")

    def _longest(self, inputs: Mapping[str, np.ndarray], signature: Signature) -> tuple[str, float]:
        """Return the input of the longest audio, and the seconds of all its clips; of what cannot be known 0."""
        durations = {name: 0.0 for name in inputs}
        if WAVEFORM in inputs:
            durations[WAVEFORM] = inputs[WAVEFORM].size / self.sample_rate_hz
        if signature.name == FEATURES and FRAMES in inputs and inputs[FRAMES].ndim == 3:
            clips, frames, _ = inputs[FRAMES].shape
            # A clip of so many hops has a frame more.
            durations[FRAMES] = clips * (frames - 1) * self.hop_samples / self.sample_rate_hz
        if signature.name == ENCODED and ENCODED_FILE in inputs:
            durations[ENCODED_FILE] = sum(pcm_seconds(content) or 0.0 for content in inputs[ENCODED_FILE].flat)
        return max(durations.items(), key=lambda item: item[1])

    def answer(self, file: str, samples: int, probabilities: np.ndarray, windows: np.ndarray) -> dict[str, Any]:
        """Return what the command `predict` gives for a file.

        Parameters
        ----------
        file : str
            Its name.
        samples : int
            Of its waveform, at the model's rate.
        probabilities : np.ndarray [shape=(genres,)]
        windows : np.ndarray [shape=(windows, genres)]
        """
        if self.front_end:
            own_samples = resampled_samples(samples, self.sample_rate_hz, self.front_end.sample_rate_hz)
            frames, hop_seconds = self.front_end.frames_of(own_samples), self.front_end.hop_seconds
        else:
            frames = self.window_frames + (samples - self.minimum_samples) // self.hop_samples
            hop_seconds = self.hop_samples / self.sample_rate_hz
        clock = Clock(self.window_frames, hop_seconds, self.window_seconds)
        spans = clock.spans(frames, samples / self.sample_rate_hz)
        return prediction_of(file, self.genres, spans, probabilities, windows).to_json()


def read_contract(folder: Path, signatures: Mapping[str, Signature]) -> AudioContract | str:
    """Find out whether a SavedModel classifies waveforms, and how.

    Parameters
    ----------
    folder : Path
        The SavedModel.
    signatures : mapping
        Its signatures by name.

    Returns
    -------
    AudioContract, or str: why it offers no classification of audio.
    """
    signature = signatures.get(DEFAULT_SIGNATURE)
    if (
        signature is None
        or set(signature.inputs) != {WAVEFORM}
        or not {PROBABILITIES, WINDOW_PROBABILITIES} <= set(signature.outputs)
    ):
        return f"its signature {DEFAULT_SIGNATURE} does not take {WAVEFORM} and give {WINDOW_PROBABILITIES}"
    labels, params = folder / ASSETS / LABELS, folder / ASSETS / PARAMS
    try:
        genres = tuple(line.strip() for line in labels.read_text(encoding="utf-8").splitlines() if line.strip())
        values = json.loads(params.read_text(encoding="utf-8"))
        rate = int(_positive(values, "sample_rate_hz"))
        hop_seconds = _positive(values, "hop_seconds")
        window_frames = int(_positive(values, "window_frames"))
        window_seconds = _positive(values, "window_seconds")
        minimum_samples = int(_positive(values, "minimum_samples"))
        front_end = from_json(FrontEndParams, values["front_end"]) if values.get("front_end") else None
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    except (ValueError, ParameterError) as error:
        return f"{params}: {error}"
    if (outputs := signature.outputs[PROBABILITIES].shape) and outputs[-1] not in (None, len(genres)):
        return f"{labels}: has {len(genres)} lines for {outputs[-1]} outputs"
    hop_samples = round(hop_seconds * rate)
    return AudioContract(genres, rate, minimum_samples, window_frames, hop_samples, window_seconds, front_end)


def _positive(values: Any, name: str) -> float:
    value = values.get(name) if isinstance(values, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ParameterError(f"{name} must be a positive number, not {value!r}")
    return value
