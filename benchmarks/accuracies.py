"""Accuracies of systems that were tested on the same clips from several seeds: figures, and the cells of tables."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_genre.metrics import Z_95, wilson_interval


def clip_hits(rows: Sequence[dict[str, Any]], system: str) -> np.ndarray:
    """Return which clips a system found: 0 or 1, (seeds, clips), the clips of all folds one after the other.

    Seeds whose folds are not all there are left out.
    """
    runs = {(row["seed"], row["fold"]): row for row in rows if row["system"] == system}
    folds = sorted({fold for _, fold in runs})
    whole = [seed for seed in sorted({seed for seed, _ in runs}) if all((seed, fold) in runs for fold in folds)]
    return np.array(
        [
            [
                float(a == b)
                for fold in folds
                for a, b in zip(runs[seed, fold]["expected"], runs[seed, fold]["predicted"], strict=True)
            ]
            for seed in whole
        ]
    )


def accuracy_of(hits: np.ndarray) -> dict[str, Any]:
    """Return the accuracy of a system, its interval and the numbers of clips and seeds, as JSON values.

    A clip's hit rate is the share of seeds that found its genre. The accuracy is the mean over clips; its 95 % interval
    is Wilson's for that many clips, so it speaks of other clips, not of other seeds, whose deviation stands beside it.

    Parameters
    ----------
    hits : np.ndarray [shape=(seeds, clips)]
        0 or 1.
    """
    clips = hits.mean(axis=0)
    low, high = wilson_interval(float(clips.sum()), len(clips))
    return {
        "accuracy": float(clips.mean()),
        "accuracy_95_low": low,
        "accuracy_95_high": high,
        "seeds": len(hits),
        "seed_deviation": float(hits.mean(axis=1).std(ddof=1)) if len(hits) > 1 else None,
        "clips": len(clips),
    }


def paired_difference(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Return the mean of `ours - theirs`, clip by clip, with its 95 % interval by the normal distribution."""
    difference = ours - theirs
    spread = Z_95 * float(difference.std(ddof=1)) / math.sqrt(len(difference))
    mean = float(difference.mean())
    return {"difference": mean, "low": mean - spread, "high": mean + spread}


def accuracy_cells(row: dict[str, Any]) -> list[str]:
    """Return what `accuracy_of` found as three cells: accuracy, interval, and seeds with their deviation."""
    deviation = f" ({row['seed_deviation']:.3f})" if row["seed_deviation"] is not None else ""
    interval = f"{row['accuracy_95_low']:.3f} to {row['accuracy_95_high']:.3f}"
    return [f"{row['accuracy']:.3f}", interval, f"{row['seeds']}{deviation}"]


def difference_cell(found: dict[str, float] | None) -> str:
    """Return what `paired_difference` found as a cell, an empty one for None."""
    return f"{found['difference']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})" if found else ""
