"""The training of one network on one store: deterministic, resumable, kept in a run folder."""

import dataclasses
import json
import math
import platform
import time
import zipfile
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_genre import __version__, files, metrics
from keras_genre.errors import ParameterError, RunError, StoreError
from keras_genre.gradients import forgotten_gradients
from keras_genre.models.networks import build_model, log_odds
from keras_genre.normalisation_graph import fuse_normalisation
from keras_genre.optimization import averaged_weights, make_loss, make_optimizer
from keras_genre.params import FEATURE_DIMS, LEVEL_RANGES, PROBABILITIES, TrainParams, differences
from keras_genre.pipeline import (
    check_lengths,
    evaluation_windows,
    fits_in_memory,
    frame_statistics,
    label_rows,
    steps_per_epoch,
    training_windows,
)
from keras_genre.progress import Progress
from keras_genre.replicas import distribute, scope_of, strategy_of, synchronise
from keras_genre.runs import (
    CHECKPOINT,
    HISTORY,
    MODEL,
    RUN,
    RunInfo,
    are_other_contents,
    best_epoch,
    contents_of,
    few_of,
    has_stopped_early,
    history_to_csv,
    read_run,
    write_run,
)
from keras_genre.schedules import Schedule, make_schedule
from keras_genre.scoring import ClipScorer
from keras_genre.store import Store

LIBRARIES = ("tensorflow", "keras", "numpy", "librosa", "soundfile", "soxr")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that a result depends on."""
    own = {"python": platform.python_version(), "keras_genre": __version__}
    return own | {name: metadata.version(name) for name in LIBRARIES}


@dataclasses.dataclass(frozen=True)
class Plan:
    """A training that can be started: data and parameters fitted to each other.

    Attributes
    ----------
    store : Store
    params : TrainParams
    columns : int
        How many of the store's first columns are the features that `params` asks for.
    train_rows, validation_rows : list of int
        Positions in `store.clips`.
    notes : list of str
        What the user should know, for the report too.
    """

    store: Store
    params: TrainParams
    columns: int
    train_rows: list[int]
    validation_rows: list[int]
    notes: list[str]


def make_plan(store: Store, params: TrainParams, notes: Sequence[str] = ()) -> Plan:
    """Fit parameters to a store.

    A store of features of which nothing is known here, or of other ones than the preset's, is taken as it is, and
    windows longer than its shortest clip become that long, one of each clip in an epoch. Of features that are no
    probabilities no log-odds are taken, and what is no level of a band is neither stretched nor damped.

    Raises
    ------
    StoreError
        If the store cannot be trained on.
    ParameterError
        If a parameter does not go with the data.
    """
    notes = list(notes)
    is_foreign = store.header.front_end is None or not store.header.columns_of(params.features)
    if not store.header.columns_of(params.features):
        notes.append(f"the preset is made for {params.features}; the store holds {store.header.kind}, which is used")
        params = dataclasses.replace(params, features=store.header.kind)
    columns = store.header.columns_of(params.features)
    assert columns is not None
    train, validation = store.rows_of("train", copies=params.augmentation), store.rows_of("validation")
    shortest = min((store.frames[row] for row in train + validation + store.rows_of("test")), default=0)
    if is_foreign and 0 < shortest < params.window_frames:
        notes.append(f"the windows are the clips: {shortest} frames, the shortest one's, not {params.window_frames}")
        params = dataclasses.replace(params, window_frames=shortest, windows_per_clip=1)
    _check_data(store, params, train, validation)
    check_lengths(store, train + validation + store.rows_of("test"), params.window_frames)
    if params.model.log_odds and not _are_probabilities(store, params.features, columns, train):
        notes.append(f"{params.features} are no probabilities, so that they have no log-odds: model.log_odds is off")
        params = dataclasses.replace(params, model=dataclasses.replace(params.model, log_odds=False))
    if (params.level_stretch or params.low_pass_bands) and params.features not in LEVEL_RANGES:
        notes.append(f"{params.features} are no levels of bands: level_stretch and low_pass_bands are off")
        params = dataclasses.replace(params, level_stretch=0.0, low_pass_bands=0)
    return Plan(store, params, columns, train, validation, notes)


def _are_probabilities(store: Store, kind: str, columns: int, rows: list[int]) -> bool:
    """Tell whether features are probabilities: by their kind, or of foreign ones by the values in these clips."""
    if kind in FEATURE_DIMS:
        return kind in PROBABILITIES
    return all(((frames[:, :columns] >= 0) & (frames[:, :columns] <= 1)).all() for _, frames in store.read(rows))


def _check_data(store: Store, params: TrainParams, train: list[int], validation: list[int]) -> None:
    if not train:
        raise StoreError(f"{store.path}: no clip is in the training split")
    if len(store.genres) < 2:
        raise StoreError(f"{store.path}: all clips are {store.genres[0]}; two genres are the least to tell apart")
    present = {store.clips[row].genre for row in train}
    if missing := [genre for genre in store.genres if genre not in present]:
        raise StoreError(f"{store.path}: no training clip of {', '.join(missing)}; choose another split")
    if not validation and (params.schedule.name == "plateau" or params.early_stopping_epochs):
        raise ParameterError(
            f"{store.path}: no validation clips, which the plateau schedule and early stopping follow; "
            "make a split with --fractions, or use --schedule cosine, step or none"
        )


@dataclasses.dataclass
class Progression:
    """Where a training is: what a checkpoint keeps besides the numbers of network and optimizer."""

    history: list[dict[str, float]]
    schedule: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def next_epoch(self) -> int:
        """The epoch to run next, counted from 0."""
        return len(self.history)


def train(
    plan: Plan,
    preset: str,
    out: Path,
    *,
    resume: bool = False,
    tensorboard: bool = False,
    devices: Sequence[str] = (),
    publish: Callable[[], None] = lambda: None,
) -> RunInfo:
    """Train a network and leave it, the best epoch of it by validation, in a run folder.

    Parameters
    ----------
    plan : Plan
    preset : str
        Name for the record.
    out : Path
        The run folder; new or empty, or with `resume` one whose training was interrupted.
    resume : bool
        Go on after the last finished epoch of the run in `out`, if there is one. The parameters must be the same,
        the number of epochs excepted. A run that has had its epochs, or has stopped early, stays as it is.
    tensorboard : bool
        Write TensorBoard logs to `out/tensorboard`.
    devices : sequence of str
        Divide every batch among these, which `replicas.devices_named` gave. Without any TensorFlow chooses one.
    publish : callable, optional
        Called when the files of an epoch are written: the moment to copy them elsewhere.

    Returns
    -------
    RunInfo

    Raises
    ------
    RunError
        If `out` holds something else, or a run with other parameters, data or devices.
    ParameterError
        If a batch has fewer windows than there are devices.
    """
    if plan.params.batch_size < len(devices):
        raise ParameterError(
            f"--batch-size {plan.params.batch_size} is less than one window for each of {len(devices)} devices"
        )
    with files.locked_folder(out), forgotten_gradients():
        return _train(plan, preset, out, resume, tensorboard, devices, publish)


def _train(
    plan: Plan,
    preset: str,
    out: Path,
    resume: bool,
    tensorboard: bool,
    devices: Sequence[str],
    publish: Callable[[], None],
) -> RunInfo:
    params, store = plan.params, plan.store
    info = _describe_run(plan, preset, devices)
    begun = _claim(out, info, resume)

    keras.utils.set_random_seed(params.seed)
    tf.config.experimental.enable_op_determinism()
    transform = log_odds if params.model.log_odds else None
    mean, variance = frame_statistics(store, plan.train_rows, plan.columns, transform)
    untransformed = frame_statistics(store, plan.train_rows, plan.columns) if transform else (mean, variance)
    strategy = strategy_of(devices)
    with scope_of(strategy):
        model = build_model(
            params.model,
            params.window_frames,
            plan.columns,
            len(store.genres),
            mean,
            variance,
            use_cudnn=_all_are_gpus(devices),
        )
        # What fills up a batch for the devices weighs nothing, in the accuracy either.
        accuracy = {"weighted_metrics" if strategy else "metrics": ["accuracy"]}
        model.compile(make_optimizer(params), make_loss(params), **accuracy)
        model.optimizer.build(model.trainable_variables)
    if strategy:
        synchronise(model)
    else:
        fuse_normalisation(model)
    schedule = make_schedule(params.schedule, params.learning_rate)
    progression = Progression([])
    if (out / CHECKPOINT).is_file():
        progression = load_checkpoint(out / CHECKPOINT, model)
        schedule.state = progression.schedule
    if progression.next_epoch >= params.epochs or has_stopped_early(progression.history, params):
        _require_whole(out)
        # The record is of what was trained; the store may have been moved since.
        info = dataclasses.replace(begun, data=info.data)
        if info != begun:
            write_run(out, info)
        return info
    if progression.history:
        info = _carried_on(begun, info)
    if info != begun:
        write_run(out, info)

    callbacks: list[keras.callbacks.Callback] = []
    if plan.validation_rows:
        callbacks.append(ClipValidation(plan, model))
    callbacks += [schedule, RunKeeper(out, plan, progression, schedule)]
    callbacks.append(keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: publish()))
    if tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(out / "tensorboard", write_graph=False))
    batches = training_windows(store, plan.train_rows, plan.columns, params, progression.next_epoch, untransformed)
    try:
        model.fit(
            distribute(batches, strategy) if strategy else batches,
            epochs=params.epochs,
            initial_epoch=progression.next_epoch,
            steps_per_epoch=steps_per_epoch(len(plan.train_rows), params),
            callbacks=callbacks,
            # The pipeline has shuffled already.
            shuffle=False,
            verbose=0,
        )
    except (tf.errors.DataLossError, tf.errors.NotFoundError) as error:
        raise StoreError(f"{store.path}: damaged ({error.message})") from error
    if not (out / RUN).is_file():
        write_run(out, info)
    _require_whole(out)
    return info


def _all_are_gpus(devices: Sequence[str]) -> bool:
    if devices:
        return all(name.startswith("GPU:") for name in devices)
    return bool(tf.config.list_physical_devices("GPU"))


def _describe_run(plan: Plan, preset: str, devices: Sequence[str]) -> RunInfo:
    return RunInfo(
        preset=preset,
        params=plan.params,
        header=plan.store.header,
        columns=plan.columns,
        genres=tuple(plan.store.genres),
        data=str(plan.store.path.resolve()),
        splits={clip.track: clip.split for clip in plan.store.clips if clip.split},
        notes=tuple(plan.notes),
        versions=versions(),
        devices=tuple(devices),
        contents=contents_of(plan.store.clips),
    )


def _claim(out: Path, info: RunInfo, resume: bool) -> RunInfo:
    """Make `out` the folder of this run, or make sure that it is; return what it says of the run."""
    if (out / RUN).is_file():
        if not resume:
            raise RunError(f"{out}: holds a run; go on with it by --resume, or name another --out")
        before = read_run(out)
        changes = [line for line in differences(before.params, info.params) if not line.startswith("epochs: ")]
        changes += [
            name for name in ("header", "columns", "genres", "splits") if getattr(before, name) != getattr(info, name)
        ]
        if remade := [track for track in before.contents if are_other_contents(*_contents(track, before, info))]:
            changes.append(f"other contents of {len(remade)} clips: {few_of(remade)}")
        if before.devices != info.devices:
            had, has = (",".join(each.devices) or "none named" for each in (before, info))
            changes.append(f"devices: {had} -> {has}")
        if changes:
            raise RunError(f"{out}: was started with other parameters or data ({'; '.join(changes)})")
        return before
    if any(out.iterdir()):
        raise RunError(f"{out}: is not empty and holds no run; name another --out")
    write_run(out, info)
    return info


def _contents(track: str, *infos: RunInfo) -> list[str]:
    return [info.contents.get(track, "") for info in infos]


def _carried_on(begun: RunInfo, info: RunInfo) -> RunInfo:
    """Return what is to be said of a run that goes on as `info`: what was true of its first epochs stays true."""
    now = info.versions
    other = [
        f"{name} {begun.versions.get(name, 'none')} -> {now.get(name, 'none')}"
        for name in dict.fromkeys((*begun.versions, *now))
        if begun.versions.get(name) != now.get(name)
    ]
    mixed = [f"other versions trained a part of the epochs: {', '.join(other)}"] if other else []
    return dataclasses.replace(
        info,
        versions=begun.versions,
        notes=tuple(dict.fromkeys((*begun.notes, *info.notes, *mixed))),
        contents=begun.contents | info.contents,
    )


def _require_whole(out: Path) -> None:
    """Refuse a run of which a file is gone that the training had written.

    Raises
    ------
    RunError
        Naming the file.
    """
    for name in (MODEL, HISTORY, CHECKPOINT):
        if not (out / name).is_file():
            raise RunError(f"{out / name}: was removed after it was written; train again into another --out")


class ClipValidation(keras.callbacks.Callback):
    """Adds loss and accuracy of the whole validation clips to the logs of each epoch."""

    def __init__(self, plan: Plan, model: keras.Model):
        super().__init__()
        self._scorer = ClipScorer(model)
        self._rows = plan.validation_rows
        self._labels = label_rows(plan.store)[self._rows]
        batches = evaluation_windows(plan.store, self._rows, plan.columns, plan.params.window_frames)
        self._batches = batches.cache() if fits_in_memory(plan.store, self._rows, plan.columns) else batches

    def on_epoch_end(self, epoch, logs=None):
        """Score the validation clips."""
        with averaged_weights(self.model):
            logits = self._scorer.clips(self._batches, self._rows)
        logs["val_loss"] = metrics.cross_entropy(logits, self._labels)
        logs["val_accuracy"] = float((logits.argmax(axis=1) == self._labels).mean())


class RunKeeper(keras.callbacks.Callback):
    """Keeps the run folder up to date after every epoch, shows progress and stops early."""

    def __init__(self, out: Path, plan: Plan, progression: Progression, schedule: Schedule):
        super().__init__()
        self._out = out
        self._params = plan.params
        self._progression = progression
        self._schedule = schedule

    def on_train_begin(self, logs=None):
        """Start the progress display."""
        self._progress = Progress(self._params.epochs, "epochs", done=self._progression.next_epoch)

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        self._started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        """Write what the epoch gave; the checkpoint last, as it says that the rest is there."""
        if not math.isfinite(logs["loss"]):
            raise RunError(f"{self._out}: the loss is {logs['loss']} in epoch {epoch + 1}; lower --learning-rate")
        progression = self._progression
        row = {name: value for name, value in logs.items()} | {"epoch": epoch + 1}
        row["seconds"] = round(time.monotonic() - self._started, 3)
        progression.history.append(row)
        best = best_epoch(progression.history)
        if best == epoch:
            with files.atomic_path(self._out / MODEL) as temporary, averaged_weights(self.model):
                self.model.save(temporary, include_optimizer=False)
        progression.schedule = self._schedule.state
        files.write_text(self._out / HISTORY, history_to_csv(progression.history))
        save_checkpoint(self._out / CHECKPOINT, self.model, progression)
        shown = "val_accuracy" if "val_accuracy" in row else "accuracy"
        self._progress.advance(note=f"loss {row['loss']:.3f}, {shown} {row[shown]:.3f}")
        if has_stopped_early(progression.history, self._params):
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        """Finish the progress display."""
        self._progress.__exit__(None)


def _state_variables(model: keras.Model) -> list[Any]:
    """Return all variables that the next step depends on, the states of random generators included."""
    unique = {id(variable): variable for variable in (*model.variables, *model.optimizer.variables)}
    return list(unique.values())


def save_checkpoint(path: Path, model: keras.Model, progression: Progression) -> None:
    """Write network, optimizer, random generators and progression to one file."""
    arrays = {f"variable_{i}": np.asarray(keras.ops.convert_to_numpy(v)) for i, v in enumerate(_state_variables(model))}
    state = json.dumps(dataclasses.asdict(progression)).encode()
    with files.atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, progression=np.frombuffer(state, np.uint8), **arrays)


def load_checkpoint(path: Path, model: keras.Model) -> Progression:
    """Put a model and its optimizer into the state that `save_checkpoint` wrote.

    Raises
    ------
    RunError
        If the file is damaged or of another network.
    """
    variables = _state_variables(model)
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = [stored[f"variable_{i}"] for i in range(len(variables))]
            progression = Progression(**json.loads(stored["progression"].tobytes()))
        if [array.shape for array in arrays] != [tuple(variable.shape) for variable in variables]:
            raise ValueError("it is of another network")
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{path}: damaged ({error}); start again with another --out") from error
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return progression
