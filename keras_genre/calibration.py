"""Probabilities that mean what they say: a temperature fitted on the validation clips (Guo et al., 2017)."""

import hashlib
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_genre import files
from keras_genre.evaluation import store_of_run
from keras_genre.metrics import expected_calibration_error, softmax
from keras_genre.pipeline import label_rows
from keras_genre.runs import CALIBRATION, MODEL, load_model, read_calibration, read_run
from keras_genre.scoring import score_clips

MINIMUM_CLIPS = 30
"""On fewer validation clips a temperature is left unfitted: it would follow them, not the network."""

PRIOR_WEIGHT = 2.0
"""How strongly a fit is drawn to the temperature 1. With 2, temperatures between a half and twice are what is expected:
the standard deviation of their logarithm is about log 2 before any clip is seen."""

NETWORK = "network_sha256"
"""Where `calibration.json` names the output layer that the temperature was divided out of."""

SAME_ERROR = 1e-4
"""Two calibration errors that differ by less are of the same network: float32 weights move them by far less."""


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the number that logits are to be divided by for the lowest cross-entropy, drawn to 1 if clips are few.

    The cross-entropy alone has no lowest value where all clips are right, or none is: it falls for ever as logits grow,
    or shrink. So to its sum over the clips comes `PRIOR_WEIGHT` x (1 / T - 1 + log T): before any clip is seen, 1 / T
    has a gamma distribution with its peak at 1. That weighs as much as a few clips. On hundreds it moves a temperature
    by less than 1 %; 40 that are all right cannot make a network certain.

    Parameters
    ----------
    logits : np.ndarray [shape=(clips, genres)]
    labels : np.ndarray [shape=(clips,), int]

    Returns
    -------
    float > 0
        Above 1 where the network is too sure of itself.
    """
    margins = logits - logits[np.arange(len(labels)), labels][:, np.newaxis]

    def slope(inverse: float) -> float:
        return (softmax(margins * inverse) * margins).sum() + PRIOR_WEIGHT * (1 - 1 / inverse)

    # The sum is convex in the inverse of the temperature, and rises at both ends: its slope is sought that is 0.
    low = high = 1.0
    while slope(high) < 0:
        low, high = high, 2 * high
    while slope(low) > 0:
        low, high = low / 2, low
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 2 / (low + high)


def calibrate(run: Path) -> dict[str, Any] | None:
    """Fit a run's temperature on its validation clips and divide the network's output layer by it.

    The network of the run folder then gives calibrated logits wherever it is used, the exported ones included.
    Calibrating a run again leaves it as it is: `calibration.json` names the output layer that it was written for. One
    that is not the network's was written just before an interruption, or for an epoch that a better one has replaced.

    Parameters
    ----------
    run : Path
        A finished run.

    Returns
    -------
    dict or None
        Content of `calibration.json`: `temperature`, `clips`, and the expected calibration error on them before and
        after. None, and nothing is done, if there are fewer than `MINIMUM_CLIPS` validation clips.

    Raises
    ------
    RunError, StoreError
        If the run or its store cannot be read.
    """
    store = store_of_run(read_run(run), None)
    rows = store.rows_of("validation")
    if len(rows) < MINIMUM_CLIPS:
        return None
    model = load_model(run)
    logits, labels = score_clips(model, store, rows), label_rows(store)[rows]
    if _is_calibrated(run, model, expected_calibration_error(softmax(logits), labels)):
        return read_calibration(run)
    return _divide(run, model, fit_temperature(logits, labels), logits, labels)


def divide_logits(run: Path, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Fit a temperature on given logits and divide the output layer of a run's network by it.

    The logits may be of clips that networks of the same recipe did not see in a cross-validation, where the network
    itself has seen all clips there are.

    Parameters
    ----------
    run : Path
    logits : np.ndarray [shape=(clips, genres)]
    labels : np.ndarray [shape=(clips,), int]

    Returns
    -------
    dict
        Content of `calibration.json`.
    """
    return _divide(run, load_model(run), fit_temperature(logits, labels), logits, labels)


def _is_calibrated(run: Path, model: keras.Model, error: float) -> bool:
    """Tell whether `calibration.json` was written for this network, whose calibration error on the clips is given."""
    values = read_calibration(run)
    if values is None:
        return False
    network = json.loads((run / CALIBRATION).read_text(encoding="utf-8")).get(NETWORK)
    if network is None:
        # Runs of older versions name no network.
        return abs(error - values["error_after"]) < SAME_ERROR
    return network == _digest(model)


def _digest(model: keras.Model) -> str:
    weights = model.get_layer("logits").get_weights()
    return hashlib.sha256(b"".join(np.ascontiguousarray(each).tobytes() for each in weights)).hexdigest()


def _divide(
    run: Path, model: keras.Model, temperature: float, logits: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    values = {
        "temperature": temperature,
        "clips": len(labels),
        "error_before": expected_calibration_error(softmax(logits), labels),
        "error_after": expected_calibration_error(softmax(logits / temperature), labels),
    }
    output = model.get_layer("logits")
    output.set_weights([weights / temperature for weights in output.get_weights()])
    # In this order an interruption between the two leaves a note of another network than that of the run, and both are
    # made again.
    files.write_json(run / CALIBRATION, values | {NETWORK: _digest(model)})
    with files.atomic_path(run / MODEL) as temporary:
        model.save(temporary, include_optimizer=False)
    return values
