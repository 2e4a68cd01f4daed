"""The systems that `seed_systems` compares, and one run of one of them on one fold of a data set."""

import dataclasses
import functools
import hashlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from keras_genre.augmentation import copies_follow, originals
from keras_genre.clips import Clip
from keras_genre.datasets import splits
from keras_genre.extract import THREAD_VARIABLES
from keras_genre.models.presets import preset
from keras_genre.params import TrainParams, to_json, with_values
from keras_genre.store import Store, open_store

INNER_FRACTIONS = (0.85, 0.15, 0.0)
"""Of the clips outside the test fold: training, and validation, which chooses the epoch."""

SVM_COSTS = (0.3, 1.0, 3.0, 10.0, 30.0)


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set of the comparison.

    Attributes
    ----------
    title : str
    presets : tuple of str
        Of the original, each of which has a twin in PyTorch.
    beyond : tuple of str
        Presets of networks that the original did not have. They keep all of their recipe, and train on all clips
        outside the test fold where it needs no validation.
    statistics : tuple of (name, kind, columns, deviation)
        The SVMs: on the means, and with `deviation` the standard deviations too, of the first columns of a kind.
    folds : int
        Artist-grouped folds, each the test fold once; 0: train on the `train` split, test on `validation`.
    changes : dict
        Parameters that differ from the presets' on these data, by family of networks.
    early_stopping_epochs : int
        For the presets; the twins get the same number of windows.
    archive : dict
        How the data come into a store: options of `store import`; empty for stores in the repository.
    stores : Path or None
        Where the stores are, if they are in the repository.
    """

    title: str
    presets: tuple[str, ...]
    beyond: tuple[str, ...]
    statistics: tuple[tuple[str, str, int, bool], ...]
    folds: int
    changes: dict[str, dict[str, Any]]
    early_stopping_epochs: int
    archive: dict[str, str]
    stores: Path | None = None


REPOSITORY = Path(__file__).resolve().parents[1]
GROUPS = str(REPOSITORY / "data" / "splits" / "gtzan_fault_filtered.csv")
SPECTRAL_PRESETS = (
    "lstm_original",
    "lstm_original_pytorch",
    "lstm_basic",
    "lstm_optim",
    "lstm_optim_cosine",
    "lstm_optim_step",
)
MEL_PRESETS = ("lstm_optim_mel", "lstm_optim_mel_cosine", "lstm_optim_mel_step")

DATA_SETS = {
    "embedded": DataSet(
        title="the 61 embedded clips of GTZAN, 10 genres",
        presets=(*SPECTRAL_PRESETS, *MEL_PRESETS, "conv2d"),
        beyond=("short_chunk_cnn", "crnn", "transfer"),
        statistics=(("svm_mfcc", "mfcc13", 13, True), ("svm_spectral33", "spectral33", 33, True)),
        folds=2,
        changes={},
        early_stopping_epochs=15,
        archive={},
        stores=REPOSITORY / "data" / "gtzan_mini",
    ),
    "gtzan_logmel": DataSet(
        title="GTZAN's fault-filtered split, 442 clips to train on and 197 to test on, 10 genres, log-mel",
        presets=("lstm_optim_mel", "conv2d"),
        beyond=("short_chunk_cnn", "crnn"),
        statistics=(("svm_log_mel", "log_mel128_levels", 128, True),),
        folds=0,
        # 12.9 frames a second: a window is 10 s, a clip three of them.
        changes={
            "lstm": {"windows_per_clip": 3, "epochs": 100},
            "conv2d": {"window_frames": 128, "windows_per_clip": 3, "batch_size": 32},
        },
        early_stopping_epochs=6,
        archive={
            "--features": "log_mel128_levels",
            "--encoding": "uint8",
            "--groups": GROUPS,
        },
    ),
    "fma_small_mfcc": DataSet(
        title="FMA-small, 7115 clips of 3 s, 8 genres, 13 MFCC",
        presets=("lstm_optim", "conv2d"),
        beyond=(),
        statistics=(("svm_mfcc", "mfcc13", 13, True),),
        folds=2,
        changes={
            "lstm": {"windows_per_clip": 1, "epochs": 40},
            "conv2d": {"window_frames": 128, "windows_per_clip": 1, "epochs": 40, "batch_size": 32},
        },
        early_stopping_epochs=5,
        archive={
            "--features": "mfcc13",
            "--columns": "13",
            "--encoding": "float16",
            "--genres": ",".join(
                ("Electronic", "Experimental", "Folk", "Hip-Hop", "Instrumental", "International", "Pop", "Rock")
            ),
        },
    ),
    "gtzan_taggrams": DataSet(
        title="GTZAN, the 443 fault-filtered training clips, 10 genres, 50 tag activations every 3 s",
        presets=("lstm_basic", "lstm_optim"),
        beyond=("transfer",),
        statistics=(("svm_taggram", "taggram50", 50, True), ("svm_taggram_mean", "taggram50", 50, False)),
        folds=3,
        changes={},
        early_stopping_epochs=15,
        archive={"--features": "taggram50", "--groups": GROUPS},
    ),
}


@dataclasses.dataclass(frozen=True)
class Task:
    """One run: a system, trained and tested on one fold from one seed.

    Attributes
    ----------
    data_set, stores : str
        Name, and the folder of its stores.
    system : str
        `preset:NAME`, `pytorch:NAME`, `svm:NAME` or `chance`; a preset may be changed: `preset:NAME NAME=VALUE ...`.
    fold, seed : int
    """

    data_set: str
    stores: str
    system: str
    fold: int
    seed: int


def systems_of(data_set: DataSet) -> list[str]:
    """Return the names of all systems that are compared on a data set."""
    twins = [f"pytorch:{name}" for name in data_set.presets]
    baselines = [f"svm:{name}" for name, *_ in data_set.statistics]
    presets = [f"preset:{name}" for name in (*data_set.presets, *data_set.beyond)]
    return [*presets, *twins, *baselines, "chance"]


def params_of(data_set: DataSet, name: str, seed: int) -> TrainParams:
    """Return a preset's parameters on a data set; behind its name there may be changes, `NAME=VALUE` each."""
    name, *assignments = name.split()
    params = preset(name)
    if name not in data_set.beyond:
        changes = data_set.changes.get(params.model.family, {})
        params = dataclasses.replace(params, **changes, early_stopping_epochs=data_set.early_stopping_epochs)
    return with_values(dataclasses.replace(params, seed=seed), assignments)


def needs_validation(data_set: DataSet, system: str) -> bool:
    """Tell whether a system sets clips outside the test fold aside, to choose an epoch by."""
    family, _, name = system.partition(":")
    if family != "preset" or name.split()[0] not in data_set.beyond:
        return True
    params = params_of(data_set, name, 0)
    return params.schedule.name == "plateau" or params.early_stopping_epochs > 0


def kind_of(data_set: DataSet, system: str) -> str:
    """Return the kind of the features that a system takes."""
    family, _, name = system.partition(":")
    if family in ("preset", "pytorch") and (not data_set.archive or name.split()[0] in data_set.beyond):
        return params_of(data_set, name, 0).features
    if family == "svm":
        return next(kind for each, kind, *_ in data_set.statistics if each == name)
    return data_set.statistics[0][1]


def has_seeds(system: str) -> bool:
    """Tell whether a system's result depends on a seed."""
    return system.startswith(("preset:", "pytorch:"))


def fingerprint(task: Task) -> str:
    """Return a digest of all that a task's result depends on but the code: parameters, features, split.

    Presets of the same parameters have the same one, whatever their names: they need one run.
    """
    data_set = DATA_SETS[task.data_set]
    family, _, name = task.system.partition(":")
    facts: dict[str, Any] = {"folds": data_set.folds, "fold": task.fold, "seed": task.seed, "system": family}
    if family in ("preset", "pytorch"):
        facts["params"] = unusual(params_of(data_set, name, task.seed))
    elif family == "svm":
        facts["statistics"] = [each for each in data_set.statistics if each[0] == name]
    kind, validates = kind_of(data_set, task.system), needs_validation(data_set, task.system)
    facts["data"] = data_digest(task.data_set, task.stores, kind, task.fold, validates)
    return _digest(json.dumps(facts, sort_keys=True))


def unusual(params: TrainParams) -> dict[str, Any]:
    """Return the parameters that are not at their defaults, as JSON values.

    A parameter that there was not yet when a result was made leaves it what it is, as long as it is at its default.
    """

    def changes(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
        return {
            name: changes(value, defaults[name]) if isinstance(value, dict) else value
            for name, value in values.items()
            if value != defaults[name]
        }

    return changes(to_json(params), to_json(TrainParams()))


@functools.cache
def data_digest(name: str, stores: str, kind: str, fold: int, validates: bool = True) -> str:
    """Return a digest of the features of a kind, or of a lone store, and of their division for a fold."""
    store = open_store(stores, kind or None)
    sides = [f"{clip.track} {clip.genre} {clip.split}" for clip in divided(store, DATA_SETS[name], fold, validates)]
    return _digest("\n".join([*(shard.sha256 for shard in store.shards), *sides]))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def divided(store: Store, data_set: DataSet, fold: int, validates: bool = True) -> list[Clip]:
    """Give the clips their sides in a fold: `test` is the fold, `validation` a part of the rest, by artist group.

    Unless the system `validates`, all of the rest is for training. Altered copies train where their originals do.

    Raises
    ------
    SplitError
        If there are not enough groups.
    """
    clips = originals(store.clips)
    if data_set.folds:
        folds = splits.grouped_folds(clips, data_set.folds)
        outside = [clip for clip, number in zip(clips, folds, strict=True) if number != fold]
    else:
        outside = [clip for clip in clips if clip.split == "train"]
    inner = {clip.track: "train" for clip in outside}
    if validates:
        inner = {clip.track: clip.split for clip in splits.grouped_split(outside, INNER_FRACTIONS)}
    tested = [clip.track for clip in clips if data_set.folds or clip.split == "validation"]
    sides = {track: "test" for track in tested} | inner
    return copies_follow(store.clips, [dataclasses.replace(clip, split=sides.get(clip.track, "")) for clip in clips])


def run(task: Task) -> dict[str, Any]:
    """Train and test a system; return its result as JSON values.

    Returns
    -------
    dict
        `expected` and `predicted` labels as one character for each test clip by name, `parameters`, `epochs`,
        `seconds`, and what identifies the task.
    """
    data_set = DATA_SETS[task.data_set]
    store = open_store(task.stores, kind_of(data_set, task.system))
    validates = needs_validation(data_set, task.system)
    store = store.with_clips(divided(store, data_set, task.fold, validates))
    # By name, so that all systems, whatever their store's order, have the same clips in the same order.
    rows = sorted(store.rows_of("test"), key=lambda row: store.clips[row].track)
    genres = store.genres
    expected = np.array([genres.index(store.clips[row].genre) for row in rows])
    family, _, name = task.system.partition(":")
    started = time.perf_counter()
    facts: dict[str, Any] = {"parameters": 0, "epochs": 0}
    if family == "preset":
        predicted, facts = _run_preset(store, params_of(data_set, name, task.seed), name, rows)
    elif family == "pytorch":
        predicted, facts = _run_twin(store, params_of(data_set, name, task.seed), rows)
    elif family == "svm":
        *_, columns, deviation = next(each for each in data_set.statistics if each[0] == name)
        predicted = _run_svm(store, rows, columns, deviation)
    else:
        labels = [genres.index(store.clips[row].genre) for row in store.rows_of("train")]
        predicted = np.full(len(rows), np.bincount(labels).argmax())
    return {
        "fingerprint": fingerprint(task),
        "system": task.system,
        "fold": task.fold,
        "seed": task.seed,
        "date": time.strftime("%Y-%m-%d"),
        "expected": "".join(np.base_repr(label, 36) for label in expected),
        "predicted": "".join(np.base_repr(label, 36) for label in predicted),
        **facts,
        "seconds": round(time.perf_counter() - started, 2),
    }


def _run_preset(store: Store, params: TrainParams, name: str, rows: list[int]) -> tuple[np.ndarray, dict[str, Any]]:
    import keras

    from keras_genre import training
    from keras_genre.runs import load_model, read_history
    from keras_genre.scoring import score_clips

    keras.backend.clear_session()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        training.train(training.make_plan(store, params), name, out)
        model = load_model(out)
        epochs = len(read_history(out))
        logits = score_clips(model, store, rows)
    size = model.count_params() - model.get_layer("standardisation").count_params()
    return logits.argmax(axis=1), {"parameters": size, "epochs": epochs}


def _run_twin(store: Store, params: TrainParams, rows: list[int]) -> tuple[np.ndarray, dict[str, Any]]:
    import torch

    from benchmarks.pytorch_twins import train_twin

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    columns = store.header.columns_of(params.features) or store.header.dims
    shortest = min(store.frames)
    if shortest < params.window_frames:
        params = dataclasses.replace(params, window_frames=shortest)
    places = {"train": store.rows_of("train"), "validation": store.rows_of("validation"), "test": rows}
    frames = frames_of(store, columns)
    labels = {
        split: np.array([store.genres.index(store.clips[row].genre) for row in members], np.int64)
        for split, members in places.items()
    }
    clips = {split: [frames[row] for row in members] for split, members in places.items()}
    # An epoch of the Conv2D original had all five segments of a clip, one of an LSTM a single window.
    passes = params.windows_per_clip if params.model.family == "lstm" else 1
    epochs, patience = params.epochs * passes, params.early_stopping_epochs * passes
    twin = train_twin(params, clips, labels, len(store.genres), epochs, patience)
    return twin.logits.argmax(axis=1), {"parameters": twin.parameters, "epochs": twin.epochs}


def frames_of(store: Store, columns: int) -> list[np.ndarray]:
    """Return the frames of every clip of a store."""
    return [frames[:, :columns] for _, frames in store.read()]


def _run_svm(store: Store, rows: list[int], columns: int, deviation: bool) -> np.ndarray:
    """Classify clips by an RBF SVM on the means and deviations of their frames.

    Its cost is the best of `SVM_COSTS` in artist-grouped folds of the training clips; there is no epoch to choose, so
    the validation clips are training clips.
    """
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    statistics = np.array(
        [
            np.concatenate([frames.mean(axis=0), *([frames.std(axis=0)] if deviation else [])])
            for frames in frames_of(store, columns)
        ]
    )
    training = store.rows_of("train") + store.rows_of("validation")
    clips = [store.clips[row] for row in training]
    labels = np.array([store.genres.index(clip.genre) for clip in clips])
    numbers = np.array(splits.grouped_folds(clips, 3))
    inner = [(np.flatnonzero(numbers != fold), np.flatnonzero(numbers == fold)) for fold in range(3)]
    search = GridSearchCV(make_pipeline(StandardScaler(), SVC()), {"svc__C": list(SVM_COSTS)}, cv=inner)
    return search.fit(statistics[training], labels).predict(statistics[rows])


def threads_of_worker(threads: int) -> dict[str, str]:
    """Return the environment of a worker that may use so many threads."""
    # Or PyTorch gives the memory of every large tensor back to the system at once, which doubles its time.
    memory = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    return dict.fromkeys(THREAD_VARIABLES, str(threads)) | memory | quiet
