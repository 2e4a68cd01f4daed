"""A run of a trial where Keras's backend is TensorFlow: the training that `keras_genre.train` does."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_genre import training
from keras_genre.errors import RunError
from keras_genre.metrics import cross_entropy
from keras_genre.params import TrainParams
from keras_genre.pipeline import label_rows
from keras_genre.runs import HISTORY, MODEL, RUN, best_epoch, has_stopped_early, load_model, read_history
from keras_genre.scoring import score_clips
from keras_genre.store import Store
from tuning.hypermodels import parameters_of


def train_and_score(store: Store, params: TrainParams, preset: str, out: Path, epochs: int) -> dict[str, Any]:
    """Train up to the end of epoch `epochs`, from the last finished one, and score the validation clips.

    Raises
    ------
    RunError
        If the training diverges or its network does not fit the memory.
    """
    plan = training.make_plan(store, params)
    if not has_stopped(out, params, epochs):
        plan = dataclasses.replace(plan, params=dataclasses.replace(plan.params, epochs=epochs))
        try:
            _train(plan, preset, out)
        except tf.errors.ResourceExhaustedError as error:
            raise RunError(f"{out}: not enough memory for this network ({error.message})") from error
    model = load_model(out)
    rows = plan.validation_rows
    logits = score_clips(model, store, rows)
    labels = label_rows(store)[rows]
    history = read_history(out)
    return {
        "expected": labels.tolist(),
        "predicted": logits.argmax(axis=1).tolist(),
        "loss": cross_entropy(logits, labels),
        "epochs": len(history),
        "best_epoch": best_epoch(history) + 1,
        "parameters": parameters_of(model),
        "cudnn": plan.params.model.cudnn_eligible and bool(tf.config.list_physical_devices("GPU")),
        "steps_per_execution": 1,
    }


def _train(plan: training.Plan, preset: str, out: Path) -> None:
    resumes = (out / RUN).is_file()
    try:
        training.train(plan, preset, out, resume=True)
    except RunError:
        if not resumes:
            raise
        # What was there may be damaged; the folder is the trial's own.
        shutil.rmtree(out)
        training.train(plan, preset, out)


def has_stopped(out: Path, params: TrainParams, epochs: int) -> bool:
    """Tell whether a run has had its epochs, or has stopped early before."""
    if not ((out / RUN).is_file() and (out / HISTORY).is_file() and (out / MODEL).is_file()):
        return False
    history = read_history(out)
    return len(history) >= epochs or has_stopped_early(history, params)
