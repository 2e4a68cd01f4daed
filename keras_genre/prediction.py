"""From an audio file's frames to its genre, with a trained run."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from keras_genre.extract import Extracted
from keras_genre.metrics import softmax
from keras_genre.pipeline import window_starts
from keras_genre.runs import RunInfo, load_model
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

    def to_json(self) -> dict[str, Any]:
        """Return the prediction as JSON values."""
        return {
            "file": self.file,
            "genre": self.genre,
            "probability": self.probabilities[self.genre],
            "probabilities": self.probabilities,
            "windows": [
                {"start_seconds": start, "end_seconds": end, "probabilities": probabilities}
                for start, end, probabilities in self.windows
            ],
        }


class Predictor:
    """Classifies files by a run's network.

    Parameters
    ----------
    run : Path
        The run folder.
    info : RunInfo
        What `runs.read_run` gave for it.
    """

    def __init__(self, run: Path, info: RunInfo):
        self._info = info
        self._scorer = ClipScorer(load_model(run))

    def predict(self, file: str, extracted: Extracted) -> Prediction:
        """Classify a file.

        Parameters
        ----------
        file : str
            Its name, for the result.
        extracted : Extracted
            Its frames, at least a window of them, by the run's front end.
        """
        front_end = self._info.header.front_end
        assert front_end is not None and extracted.frames is not None
        length = self._scorer.window_frames
        starts = window_starts(len(extracted.frames), length)
        frames = extracted.frames[:, : self._scorer.columns]
        logits = self._scorer.windows(np.stack([frames[start : start + length] for start in starts]))
        by_window = softmax(logits.astype(np.float64))
        clip = softmax(logits.astype(np.float64).mean(axis=0))
        genres = self._info.genres
        return Prediction(
            file,
            {genres[i]: float(clip[i]) for i in np.argsort(-clip, kind="stable")},
            [
                (
                    round(start * front_end.hop_seconds, 3),
                    round(min((start + length) * front_end.hop_seconds, extracted.seconds), 3),
                    dict(zip(genres, row.tolist(), strict=True)),
                )
                for start, row in zip(starts, by_window, strict=True)
            ],
        )
