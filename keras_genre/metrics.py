"""What a classification of clips is worth: accuracy with its interval, F1, confusion, cross-entropy."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Z_95 = 1.959963984540054
"""Two-sided 95 % point of the normal distribution."""


UNSURE_BELOW = 0.5
"""An answer that is less probable is called unsure: a calibrated model is wrong more often than right there."""


def wilson_interval(hits: float, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion (Wilson, 1927).

    Parameters
    ----------
    hits : int or float
        0 <= hits <= trials; a mean over repetitions need not be whole.
    trials : int > 0
    z : float > 0
        Quantile of the normal distribution; 95 % by default.

    Returns
    -------
    low, high : float in [0, 1]
    """
    share = hits / trials
    spread = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    middle, scale = share + z**2 / (2 * trials), 1 + z**2 / trials
    # At 0 and at all hits a bound is exact; rounding must not push it beside.
    low = 0.0 if hits == 0 else (middle - spread) / scale
    high = 1.0 if hits == trials else (middle + spread) / scale
    return low, high


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities along the last axis, computed without overflow."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative log probability of the labels, in nats.

    Parameters
    ----------
    logits : np.ndarray [shape=(n, classes)]
    labels : np.ndarray [shape=(n,), int]
    """
    highest = logits.max(axis=-1)
    log_sums = highest + np.log(np.exp(logits - highest[:, np.newaxis]).sum(axis=-1))
    return float((log_sums - logits[np.arange(len(labels)), labels]).mean())


def mean_by_clip(values: np.ndarray, owners: np.ndarray, clips: Sequence[int]) -> np.ndarray:
    """Average the rows of `values` that belong to one clip.

    Parameters
    ----------
    values : np.ndarray [shape=(windows, n)]
    owners : np.ndarray [shape=(windows,), int]
        The clip that each window is of.
    clips : sequence of int
        The clips wanted, in the order wanted; each has at least one window.

    Returns
    -------
    np.ndarray [shape=(clips, n), float64]
    """
    place = {clip: position for position, clip in enumerate(clips)}
    positions = np.array([place[int(owner)] for owner in owners], np.int64)
    sums = np.zeros((len(clips), values.shape[1]))
    np.add.at(sums, positions, values)
    return sums / np.bincount(positions, minlength=len(clips))[:, np.newaxis]


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10) -> list[dict[str, float]]:
    """Compare how sure a network is of clips with how often it is right.

    Parameters
    ----------
    probabilities : np.ndarray [shape=(clips, genres)]
    labels : np.ndarray [shape=(clips,), int]
    bins : int > 0
        Equal parts of the range from 0 to 1, in which the probability of the genre found may lie.

    Returns
    -------
    list of dict
        For each part that holds clips: `low`, `high`, `clips`, their mean `confidence` and their `accuracy`.
    """
    confidence, hits = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        {
            "low": place / bins,
            "high": (place + 1) / bins,
            "clips": int((places == place).sum()),
            "confidence": float(confidence[places == place].mean()),
            "accuracy": float(hits[places == place].mean()),
        }
        for place in np.unique(places)
    ]


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10) -> float:
    """Return the mean distance between confidence and accuracy over the parts of `reliability` (Naeini et al., 2015).

    Each part counts by its clips.
    """
    parts = reliability(probabilities, labels, bins)
    return sum(part["clips"] * abs(part["confidence"] - part["accuracy"]) for part in parts) / len(labels)


@dataclasses.dataclass(frozen=True)
class Scores:
    """How well clips were classified.

    Attributes
    ----------
    genres : list of str
    confusion : np.ndarray [shape=(genres, genres), int]
        Row: the true genre; column: the predicted one.
    """

    genres: list[str]
    confusion: np.ndarray

    @classmethod
    def of(cls, genres: list[str], expected: np.ndarray, predicted: np.ndarray) -> "Scores":
        """Count expected against predicted labels, int (clips,) each."""
        confusion = np.zeros((len(genres), len(genres)), np.int64)
        np.add.at(confusion, (expected, predicted), 1)
        return cls(genres, confusion)

    @property
    def clips(self) -> int:
        """Number of clips."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """Clips whose genre was found."""
        return int(np.trace(self.confusion))

    @property
    def accuracy(self) -> float:
        """Share of clips whose genre was found."""
        return self.correct / self.clips

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the accuracy."""
        return wilson_interval(self.correct, self.clips)

    def per_genre(self) -> dict[str, dict[str, float | int]]:
        """Return precision, recall, F1 and number of clips of each genre; 0 where a share has no denominator."""
        hits = np.diag(self.confusion)
        expected, predicted = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        return {
            genre: {
                "precision": float(hits[i] / max(predicted[i], 1)),
                "recall": float(hits[i] / max(expected[i], 1)),
                "f1": float(2 * hits[i] / max(expected[i] + predicted[i], 1)),
                "clips": int(expected[i]),
            }
            for i, genre in enumerate(self.genres)
        }

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the genres that have clips."""
        return float(np.mean([row["f1"] for row in self.per_genre().values() if row["clips"]]))

    def to_json(self) -> dict[str, Any]:
        """Return all figures as JSON values."""
        low, high = self.interval
        return {
            "clips": self.clips,
            "correct": self.correct,
            "accuracy": self.accuracy,
            "accuracy_95_low": low,
            "accuracy_95_high": high,
            "macro_f1": self.macro_f1,
            "per_genre": self.per_genre(),
            "genres": self.genres,
            "confusion": self.confusion.tolist(),
        }

    def sentence(self) -> str:
        """Return accuracy, interval and number of clips in words."""
        low, high = self.interval
        return (
            f"accuracy {self.accuracy:.3f} (95 % interval {low:.3f} to {high:.3f}; {self.correct} of "
            f"{self.clips} clips), macro F1 {self.macro_f1:.3f}"
        )
