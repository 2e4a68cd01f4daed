"""The networks of a search as KerasTuner's HyperModels: built and trained on any backend of Keras.

They go with any of KerasTuner's tuners::

    hypermodel = LSTMHyperModel(space, fold)
    tuner = keras_tuner.RandomSearch(hypermodel, objective=keras_tuner.Objective("val_accuracy", "max"))
    tuner.search(epochs=20)

`python -m tuning.search` uses them where Keras's backend is not TensorFlow; where it is, a trial is the training that
`keras_genre.train` does.
"""

import contextlib
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import keras_tuner
import numpy as np

from keras_genre.errors import ParameterError, RunError
from keras_genre.metrics import Scores, cross_entropy, mean_by_clip
from keras_genre.models.networks import build_model, log_odds
from keras_genre.optimization import averaged_weights, make_loss, make_optimizer
from keras_genre.params import TrainParams
from keras_genre.schedules import make_schedule
from tuning.space import Space
from tuning.windows import Clips, TrainingWindows, all_windows, statistics


@dataclasses.dataclass(frozen=True)
class Fold:
    """What a network is trained and validated on.

    Attributes
    ----------
    genres : list of str
    training, validation : mapping of str to Clips
        By feature kind.
    """

    genres: list[str]
    training: Mapping[str, Clips]
    validation: Mapping[str, Clips]


class GenreHyperModel(keras_tuner.HyperModel):
    """A network and its recipe as a function of hyperparameters.

    Parameters
    ----------
    space : Space
        What varies, and all that does not.
    fold : Fold

    Raises
    ------
    ParameterError
        If the space is of another family of networks.
    """

    families: tuple[str, ...] = ()

    def __init__(self, space: Space, fold: Fold):
        if space.base.model.family not in self.families:
            raise ParameterError(
                f"{type(self).__name__} is for {', '.join(self.families)}, not {space.base.model.family}"
            )
        super().__init__(name=space.base.model.family)
        self._space = space
        self._fold = fold

    def declare_hyperparameters(self, hp: keras_tuner.HyperParameters) -> None:
        """Put the space into `hp`."""
        hp.merge(self._space.hyperparameters())

    def params(self, hp: keras_tuner.HyperParameters) -> TrainParams:
        """Return the parameters that `hp` chooses."""
        return self._space.params(hp.values)

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Build and compile the network."""
        params = self.params(hp)
        training = self._fold.training[params.features]
        if params.model.log_odds:
            frames = [keras.ops.convert_to_numpy(log_odds(frames)) for frames in training.frames]
            training = Clips(frames, training.labels)
        mean, variance = statistics(training)
        model = build_model(
            params.model,
            params.window_frames,
            training.frames[0].shape[1],
            len(self._fold.genres),
            mean,
            variance,
            use_cudnn=True,
        )
        model.compile(make_optimizer(params), make_loss(params), metrics=["accuracy"])
        return model

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: keras.Model,
        *,
        epochs: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        **options: Any,
    ) -> dict[str, float]:
        """Train a network that `build` gave.

        Parameters
        ----------
        hp, model
        epochs : int, optional
            Stop there; the schedule goes by the parameters' number, the default.
        callbacks : sequence
            Called after the validation of each epoch.
        options
            More for `keras.Model.fit`.

        Returns
        -------
        dict
            Of the epoch with the lowest loss on the validation clips: `val_accuracy`, `val_macro_f1`, `val_loss`,
            `best_epoch`.
        """
        return self.train(self.params(hp), model, epochs, callbacks, **options).best

    def train(
        self,
        params: TrainParams,
        model: keras.Model,
        epochs: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        **options: Any,
    ) -> "ClipValidation":
        """Train a network as `fit` does; return all that its validation gave."""
        validation = ClipValidation(self._fold.validation[params.features], self._fold.genres, params)
        options = {"verbose": 0, "shuffle": False} | options
        with graphs_let_go():
            model.fit(
                TrainingWindows(self._fold.training[params.features], len(self._fold.genres), params),
                epochs=epochs or params.epochs,
                callbacks=[validation, make_schedule(params.schedule, params.learning_rate), *callbacks],
                **options,
            )
        return validation


def graphs_let_go() -> contextlib.AbstractContextManager[None]:
    """Return what makes TensorFlow, if it is the backend, forget the graphs of a training at the end of a block."""
    if keras.config.backend() != "tensorflow":
        return contextlib.nullcontext()
    from keras_genre.gradients import forgotten_gradients

    return forgotten_gradients()


class LSTMHyperModel(GenreHyperModel):
    """LSTM networks, also those with convolutions in front."""

    families = ("lstm", "crnn")


class Conv2DHyperModel(GenreHyperModel):
    """Convolutional networks."""

    families = ("conv2d", "short_chunk_cnn")


def hypermodel_of(space: Space, fold: Fold) -> GenreHyperModel:
    """Return the HyperModel for the family of a space."""
    kind = LSTMHyperModel if space.base.model.family in LSTMHyperModel.families else Conv2DHyperModel
    return kind(space, fold)


class ClipValidation(keras.callbacks.Callback):
    """Scores the whole validation clips after each epoch, keeps what the best one gave, and stops early.

    Attributes
    ----------
    best : dict
        Results of the epoch with the lowest cross-entropy.
    logits : np.ndarray [shape=(clips, genres)]
        Of the validation clips after that epoch.
    epochs : int
        How many there were.
    """

    def __init__(self, clips: Clips, genres: list[str], params: TrainParams):
        super().__init__()
        self._windows, self._owners = all_windows(clips, params.window_frames)
        self._labels = clips.labels
        self._genres = genres
        self._params = params
        self.best: dict[str, float] = {"val_loss": math.inf}
        self.logits = np.zeros((len(clips.labels), len(genres)))
        self.epochs = 0

    def on_epoch_end(self, epoch, logs=None):
        """Score the clips."""
        if not math.isfinite(logs["loss"]):
            raise RunError(f"the loss is {logs['loss']} in epoch {epoch + 1}; lower learning_rate")
        with averaged_weights(self.model):
            batches = [
                self.model.predict_on_batch(self._windows[start : start + 256])
                for start in range(0, len(self._windows), 256)
            ]
        logits = mean_by_clip(np.concatenate(batches), self._owners, range(len(self._labels)))
        scores = Scores.of(self._genres, self._labels, logits.argmax(axis=1))
        found = {
            "val_accuracy": scores.accuracy,
            "val_macro_f1": scores.macro_f1,
            "val_loss": cross_entropy(logits, self._labels),
        }
        logs.update(found)
        self.epochs = epoch + 1
        if found["val_loss"] < self.best["val_loss"]:
            self.best = found | {"best_epoch": epoch + 1}
            self.logits = logits
        patience = self._params.early_stopping_epochs
        if patience and epoch + 1 - self.best["best_epoch"] >= patience:
            self.model.stop_training = True


def parameters_of(model: keras.Model) -> int:
    """Return a network's number of weights, those of the standardisation left out."""
    return model.count_params() - model.get_layer("standardisation").count_params()
