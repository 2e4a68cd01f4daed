"""From an audio file to its genre, with a trained run or with what was exported of one."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from keras_genre.errors import AudioError, SavedModelError
from keras_genre.extract import Extracted
from keras_genre.features.extractor import waveform_to_frames
from keras_genre.metrics import UNSURE_BELOW, softmax
from keras_genre.params import FrontEndParams
from keras_genre.pipeline import window_starts
from keras_genre.runs import load_model, read_run, require_audio_run
from keras_genre.saved_models import (
    INPUTS,
    PROBABILITIES,
    WAVEFORM,
    WINDOW_PROBABILITIES,
    is_saved_model,
    read_saved_model,
    reason_of,
    require_waveforms,
    require_whole,
    version_folder,
)
from keras_genre.scoring import ClipScorer


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a file was found to be.

    Attributes
    ----------
    file : str
    probabilities : dict
        Of every genre, the most probable first.
    windows : list of (start_seconds, end_seconds, dict)
        The course over time, probabilities of every genre.
    """

    file: str
    probabilities: dict[str, float]
    windows: list[tuple[float, float, dict[str, float]]]

    @property
    def genre(self) -> str:
        """The most probable genre."""
        return next(iter(self.probabilities))

    def to_json(self, unsure_below: float = UNSURE_BELOW) -> dict[str, Any]:
        """Return the prediction as JSON values; it is `unsure` if its genre is less probable than `unsure_below`."""
        return {
            "file": self.file,
            "genre": self.genre,
            "probability": self.probabilities[self.genre],
            "unsure": self.probabilities[self.genre] < unsure_below,
            "probabilities": self.probabilities,
            "windows": [
                {"start_seconds": start, "end_seconds": end, "probabilities": probabilities}
                for start, end, probabilities in self.windows
            ],
        }


@dataclasses.dataclass(frozen=True)
class Clock:
    """When windows are.

    Attributes
    ----------
    window_frames : int > 0
    hop_seconds, window_seconds : float > 0
        From frame to frame, and of a window.
    """

    window_frames: int
    hop_seconds: float
    window_seconds: float

    @classmethod
    def of(cls, front_end: FrontEndParams, window_frames: int) -> "Clock":
        """Return that of windows of a front end's frames."""
        return cls(window_frames, front_end.hop_seconds, front_end.window_seconds(window_frames))

    def spans(self, frames: int, seconds: float) -> list[tuple[float, float]]:
        """Return from when to when the windows of a clip of so many frames and seconds are, in ms precision."""
        starts = [start * self.hop_seconds for start in window_starts(frames, self.window_frames)]
        return [(round(start, 3), round(min(start + self.window_seconds, seconds), 3)) for start in starts]


class Predictor(Protocol):
    """What classifies files.

    Attributes
    ----------
    genres : tuple of str
    sample_rate_hz : int > 0
        Of the waveforms.
    minimum_samples : int > 0
        Files that have not so many cannot be classified.
    """

    genres: tuple[str, ...]
    sample_rate_hz: int
    minimum_samples: int

    def predict(self, file: str, extracted: Extracted) -> Prediction:
        """Classify a file.

        Parameters
        ----------
        file : str
            Its name, for the result.
        extracted : Extracted
            What `extract.decode` gave for it, without an error and with at least a window.

        Raises
        ------
        AudioError
            If it cannot be classified.
        """


def open_predictor(model: Path) -> Predictor:
    """Open a run folder or a SavedModel.

    Raises
    ------
    RunError, SavedModelError
        If it is missing or damaged, or does not take audio.
    """
    return SavedModelPredictor(model) if is_saved_model(model) else RunPredictor(model)


class RunPredictor:
    """Classifies files by a run's network, with the frames that it was trained on.

    Parameters
    ----------
    run : Path
        The run folder.
    """

    def __init__(self, run: Path):
        info = read_run(run)
        require_audio_run(run, info)
        assert info.header.front_end is not None
        self.genres, self._front_end = info.genres, info.header.front_end
        self._scorer = ClipScorer(load_model(run))
        self._clock = Clock.of(self._front_end, self._scorer.window_frames)
        self.sample_rate_hz = self._front_end.sample_rate_hz
        self.minimum_samples = max(1, self._front_end.samples_of(self._scorer.window_frames))

    def predict(self, file: str, extracted: Extracted) -> Prediction:
        """See `Predictor`."""
        assert extracted.waveform is not None
        length = self._scorer.window_frames
        with memory_of(file):
            frames = waveform_to_frames(extracted.waveform, self._front_end, file)[:, : self._scorer.columns]
            windows = [frames[start : start + length] for start in window_starts(len(frames), length)]
            logits = self._scorer.windows(np.stack(windows)).astype(np.float64)
        spans = self._clock.spans(len(frames), extracted.seconds)
        return prediction_of(file, self.genres, spans, softmax(logits.mean(axis=0)), softmax(logits))


class SavedModelPredictor:
    """Classifies files by an exported model, which is sent their waveforms.

    Parameters
    ----------
    model : Path
        A version's folder, or the folder of a model, of which the highest version is taken.
    """

    def __init__(self, model: Path):
        folder = version_folder(model)
        require_whole(folder)
        params = read_saved_model(folder)
        require_waveforms(model, params)
        assert params.sample_rate_hz is not None and params.minimum_samples is not None
        self.genres, self._first = params.genres, params.members[0]
        self.sample_rate_hz, self.minimum_samples = params.sample_rate_hz, params.minimum_samples
        self._clock = Clock(params.window_frames, params.hop_seconds, params.window_seconds)
        try:
            self._model = tf.saved_model.load(str(folder))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise SavedModelError(f"{folder}: cannot be loaded ({error})") from error
        self._classify = self._model.signatures[WAVEFORM]

    def predict(self, file: str, extracted: Extracted) -> Prediction:
        """See `Predictor`."""
        assert extracted.waveform is not None
        frames = self._first.frames_of(extracted.waveform.size, self.sample_rate_hz)
        try:
            with memory_of(file):
                outputs = self._classify(**{INPUTS[WAVEFORM]: tf.constant(extracted.waveform[np.newaxis])})
        except tf.errors.InvalidArgumentError as error:
            raise AudioError(f"{file}: the model refuses it ({reason_of(error.message)})") from error
        clip, by_window = (outputs[name].numpy()[0] for name in (PROBABILITIES, WINDOW_PROBABILITIES))
        return prediction_of(file, self.genres, self._clock.spans(frames, extracted.seconds), clip, by_window)


@contextlib.contextmanager
def memory_of(file: str) -> Iterator[None]:
    """Let a lack of memory be an error of the file that takes so much.

    Raises
    ------
    AudioError
    """
    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise AudioError(f"{file}: too long for the memory of this machine; lower --max-seconds") from error


def prediction_of(
    file: str,
    genres: Sequence[str],
    spans: Sequence[tuple[float, float]],
    clip: np.ndarray,
    by_window: np.ndarray,
) -> Prediction:
    """Give probabilities their genres and their times.

    Parameters
    ----------
    file : str
    genres : sequence of str
        What the probabilities are of.
    spans : sequence of (start_seconds, end_seconds)
        The windows.
    clip : np.ndarray [shape=(genres,)]
    by_window : np.ndarray [shape=(windows, genres)]
    """
    return Prediction(
        file,
        {genres[i]: float(clip[i]) for i in np.argsort(-clip, kind="stable")},
        [
            (start, end, dict(zip(genres, row.tolist(), strict=True)))
            for (start, end), row in zip(spans, by_window, strict=True)
        ],
    )
