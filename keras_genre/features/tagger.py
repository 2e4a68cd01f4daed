"""MSD-musicnn in NumPy: the reference of the kinds that it computes, for processes without TensorFlow.

The network, its weights and their source are those of `keras_genre.models.musicnn`.
"""

import functools

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from keras_genre.models.musicnn_weights import (
    FRONT,
    MIDDLE,
    PATCH_SPECTRA,
    PENULTIMATE_VALUES,
    TAG_NAMES,
    Norm,
    Weights,
    read_weights,
    without_dead_filters,
)


def tags_and_penultimate(spectra: np.ndarray, hop_spectra: int) -> np.ndarray:
    """Tag every patch of 187 spectra.

    Parameters
    ----------
    spectra : np.ndarray [shape=(spectra, 96), float32]
        Of the kind `musicnn_mel96`.
    hop_spectra : int > 0
        From the beginning of one patch to that of the next.

    Returns
    -------
    np.ndarray [shape=(patches, 250), float32]
        The activations of the 50 tags, in [0, 1], then the 200 values of the last hidden layer, of which they are a
        logistic regression. No rows for fewer spectra than a patch.
    """
    weights = _weights()
    starts = range(0, len(spectra) - PATCH_SPECTRA + 1, hop_spectra)
    rows = [_patch(spectra[start : start + PATCH_SPECTRA], weights) for start in starts]
    return np.stack(rows) if rows else np.zeros((0, len(TAG_NAMES) + PENULTIMATE_VALUES), np.float32)


@functools.cache
def _weights() -> Weights:
    return without_dead_filters(read_weights())


def _patch(spectra: np.ndarray, weights: Weights) -> np.ndarray:
    image = Norm.of(weights, "input")(spectra)
    front = np.concatenate([_loudest(image, layer, weights) for layer in FRONT], axis=1)
    channels, total = [front], None
    for layer in MIDDLE:
        convolved = _over_time(front if total is None else total, layer, weights)
        total = convolved if total is None else total + convolved
        channels.append(total)
    everything = np.concatenate(channels, axis=1)
    pooled = np.stack([everything.max(axis=0), everything.mean(axis=0)], axis=1).ravel()
    hidden = _dense(Norm.of(weights, "pooled")(pooled), "hidden", weights)
    penultimate = Norm.of(weights, "hidden")(np.maximum(hidden, 0.0))
    tags = 1.0 / (1.0 + np.exp(-_dense(penultimate, "tags", weights)))
    return np.concatenate([tags, penultimate])


def _loudest(image: np.ndarray, layer: str, weights: Weights) -> np.ndarray:
    """Convolve over time and frequency and keep the largest value of all frequencies [shape=(187, filters)]."""
    kernel = weights[f"{layer}/kernel"][:, :, 0]
    # (times, frequencies, kernel's times, kernel's frequencies)
    views = sliding_window_view(_filled_up(image, len(kernel)), kernel.shape[:2])
    found = views.reshape(-1, kernel[..., 0].size) @ kernel.reshape(-1, kernel.shape[-1]) + weights[f"{layer}/bias"]
    found = Norm.of(weights, layer)(np.maximum(found, 0.0))
    return found.reshape(*views.shape[:2], -1).max(axis=1)


def _over_time(x: np.ndarray, layer: str, weights: Weights) -> np.ndarray:
    kernel = weights[f"{layer}/kernel"][..., 0, :]
    # (times, channels, kernel's times)
    views = sliding_window_view(_filled_up(x, len(kernel)), len(kernel), axis=0)
    found = np.tensordot(views, kernel, axes=([2, 1], [0, 1])) + weights[f"{layer}/bias"]
    return Norm.of(weights, layer)(np.maximum(found, 0.0))


def _filled_up(x: np.ndarray, times: int) -> np.ndarray:
    """Put zeros before and behind, so that a convolution by so many times gives as many values as there are now."""
    before = (times - 1) // 2
    return np.pad(x, ((before, times - 1 - before), (0, 0)))


def _dense(x: np.ndarray, layer: str, weights: Weights) -> np.ndarray:
    return x @ weights[f"{layer}/kernel"] + weights[f"{layer}/bias"]
