"""A run of a trial on any backend of Keras, by the HyperModels. An interrupted run begins anew."""

from pathlib import Path
from typing import Any

import keras
import keras_tuner

from keras_genre.params import TrainParams
from keras_genre.pipeline import label_rows
from keras_genre.store import Store
from keras_genre.training import Plan, make_plan
from tuning.hypermodels import Fold, hypermodel_of, parameters_of
from tuning.space import Space
from tuning.windows import Clips


def train_and_score(store: Store, params: TrainParams, preset: str, out: Path, epochs: int) -> dict[str, Any]:
    """Train up to the end of epoch `epochs` and score the validation clips; nothing is kept.

    Raises
    ------
    RunError
        If the training diverges.
    """
    plan = make_plan(store, params)
    kind = plan.params.features
    fold = Fold(
        store.genres,
        {kind: read_clips(plan, plan.train_rows)},
        {kind: read_clips(plan, plan.validation_rows)},
    )
    keras.utils.set_random_seed(params.seed)
    hypermodel = hypermodel_of(Space(plan.params, ()), fold)
    model = hypermodel.build(keras_tuner.HyperParameters())
    validation = hypermodel.train(plan.params, model, epochs)
    return {
        "expected": fold.validation[kind].labels.tolist(),
        "predicted": validation.logits.argmax(axis=1).tolist(),
        "loss": validation.best["val_loss"],
        "epochs": validation.epochs,
        "best_epoch": validation.best["best_epoch"],
        "parameters": parameters_of(model),
        "cudnn": plan.params.model.cudnn_eligible and has_gpu(),
        "steps_per_execution": model.steps_per_execution,
    }


def read_clips(plan: Plan, rows: list[int]) -> Clips:
    """Read clips into memory."""
    labels = label_rows(plan.store)
    frames = {clip.track: values[:, : plan.columns] for clip, values in plan.store.read(rows)}
    return Clips([frames[plan.store.clips[row].track] for row in rows], labels[rows])


def has_gpu() -> bool:
    """Tell whether Keras's backend computes on a GPU."""
    if keras.config.backend() == "torch":
        import torch

        return torch.cuda.is_available()
    return "gpu" in keras.distribution.list_devices()[0].lower()
