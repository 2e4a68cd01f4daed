"""Probabilities that mean what they say: a temperature fitted on the validation clips (Guo et al., 2017)."""

import math
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

BOUNDS = (0.05, 20.0)
"""Temperatures are sought between these."""

CLOSE_ENOUGH = 0.01
"""A network whose temperature is so near to 1 is calibrated: fitting it again changes nothing."""


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the number that logits are to be divided by for the lowest cross-entropy.

    Parameters
    ----------
    logits : np.ndarray [shape=(clips, genres)]
    labels : np.ndarray [shape=(clips,), int]

    Returns
    -------
    float
        In `BOUNDS`; above 1 where the network is too sure of itself.
    """
    of_labels = logits[np.arange(len(labels)), labels]
    # The cross-entropy is convex in the inverse of the temperature: its slope is sought that is 0.
    low, high = 1 / BOUNDS[1], 1 / BOUNDS[0]
    for _ in range(60):
        middle = (low + high) / 2
        slope = ((softmax(logits * middle) * logits).sum(axis=1) - of_labels).mean()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return 2 / (low + high)


def calibrate(run: Path) -> dict[str, Any] | None:
    """Fit a run's temperature on its validation clips and divide the network's output layer by it.

    The network of the run folder then gives calibrated logits wherever it is used, the exported ones included.
    Calibrating a run again leaves it as it is.

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
    temperature = fit_temperature(logits, labels)
    if abs(math.log(temperature)) < CLOSE_ENOUGH and (run / CALIBRATION).is_file():
        return read_calibration(run)
    return _divide(run, model, temperature, logits, labels)


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
    # In this order an interruption between the two leaves a network that is fitted to the same temperature again.
    files.write_json(run / CALIBRATION, values)
    with files.atomic_path(run / MODEL) as temporary:
        model.save(temporary, include_optimizer=False)
    return values
