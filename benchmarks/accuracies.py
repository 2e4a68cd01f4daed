"""Accuracies of systems that were tested on the same clips from several seeds: figures, and the cells of tables."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_genre.metrics import Z_95, wilson_interval


def clip_hits(rows: Sequence[dict[str, Any]], system: str, folds: Sequence[int]) -> dict[int, np.ndarray]:
    """Return which clips a system found from every seed: 0 or 1, (clips,), those of the folds one after the other.

    Seeds that have not been run on all the folds are left out.
    """
    runs = {(row["seed"], row["fold"]): row for row in rows if row["system"] == system}
    return {
        seed: np.array(
            [
                float(a == b)
                for fold in folds
                for a, b in zip(runs[seed, fold]["expected"], runs[seed, fold]["predicted"], strict=True)
            ]
        )
        for seed in sorted({seed for seed, _ in runs})
        if all((seed, fold) in runs for fold in folds)
    }


def hits_of(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return 1 for each clip whose largest logit is its label's and 0 for the others, float64 (clips,)."""
    return (logits.argmax(axis=1) == labels).astype(float)


def accuracy_of(hits: Mapping[int, np.ndarray]) -> dict[str, Any]:
    """Return the accuracy of a system, its interval and the numbers of clips and seeds, as JSON values.

    A clip's hit rate is the share of seeds that found its genre. The accuracy is the mean over clips; its 95 % interval
    is Wilson's for that many clips, so it speaks of other clips, not of other seeds, whose deviation stands beside it.

    Parameters
    ----------
    hits : dict
        As `clip_hits` returns them, of one seed at least.
    """
    by_seed = np.stack([*hits.values()])
    clips = by_seed.mean(axis=0)
    low, high = wilson_interval(float(clips.sum()), len(clips))
    return {
        "accuracy": float(clips.mean()),
        "accuracy_95_low": low,
        "accuracy_95_high": high,
        "seeds": len(by_seed),
        "seed_deviation": float(by_seed.mean(axis=1).std(ddof=1)) if len(by_seed) > 1 else None,
        "clips": len(clips),
    }


def mean_difference(ours: Mapping[int, np.ndarray], theirs: Mapping[int, np.ndarray]) -> dict[str, float] | None:
    """Return `paired_difference` of two systems over the seeds that both have; None if there are none."""
    shared = ours.keys() & theirs.keys()
    if not shared:
        return None
    return paired_difference(*(np.mean([hits[seed] for seed in shared], axis=0) for hits in (ours, theirs)))


def paired_difference(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Return the mean of `ours - theirs`, clip by clip, with its 95 % interval.

    The interval is that of Bonett and Price (2012) for paired shares: by the normal distribution, with one more clip
    that ours alone found and one that theirs alone found. Where no clip differs it is not of width 0.
    """
    difference = ours - theirs
    adjusted = np.append(difference, [1.0, -1.0])
    spread = Z_95 * float(adjusted.std()) / math.sqrt(len(adjusted))
    middle = float(adjusted.mean())
    return {"difference": float(difference.mean()), "low": middle - spread, "high": middle + spread}


def accuracy_cells(row: dict[str, Any]) -> list[str]:
    """Return what `accuracy_of` found as three cells: accuracy, interval, and seeds with their deviation."""
    deviation = f" ({row['seed_deviation']:.3f})" if row["seed_deviation"] is not None else ""
    interval = f"{row['accuracy_95_low']:.3f} to {row['accuracy_95_high']:.3f}"
    return [f"{row['accuracy']:.3f}", interval, f"{row['seeds']}{deviation}"]


def difference_cell(found: dict[str, float] | None) -> str:
    """Return what `paired_difference` found as a cell, an empty one for None."""
    return f"{found['difference']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})" if found else ""
