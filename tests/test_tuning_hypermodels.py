"""The HyperModels are Keras alone: they build and train on its other backends, and with KerasTuner's own tuners."""

import gc
import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from searches import words_of
from toys import GENRES, make_toy_store

from keras_genre.errors import ParameterError
from keras_genre.models.presets import preset
from keras_genre.params import TrainParams, with_values
from keras_genre.pipeline import window_starts
from tuning.space import Conditions, Space, make_space
from tuning.windows import Clips, TrainingWindows, all_windows, statistics

HAS_TORCH = importlib.util.find_spec("torch") is not None


def some_clips(number: int = 12, dims: int = 13, seed: int = 0) -> Clips:
    """Clips of three genres that differ in their level."""
    generator = np.random.default_rng(seed)
    labels = np.arange(number) % len(GENRES)
    frames = [
        (generator.standard_normal((30 + 3 * clip, dims)) + 2 * label).astype(np.float32)
        for clip, label in enumerate(labels)
    ]
    return Clips(frames, labels)


PARAMS = with_values(
    preset("conv2d"), ["window_frames=16", "windows_per_clip=2", "batch_size=5", "epochs=2", "learning_rate=0.01"]
)


def test_training_windows_are_of_the_clips_and_other_ones_in_each_epoch():
    clips = some_clips()
    windows = TrainingWindows(clips, 3, PARAMS)
    epochs = []
    for _ in range(2):
        batches = [windows[number] for number in range(len(windows))]
        assert [len(batch) for batch, _ in batches] == [5, 5, 5, 5, 4]
        found, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        assert np.bincount(labels).tolist() == [8, 8, 8]
        for window, label in zip(found, labels, strict=True):
            owners = [
                clip
                for clip, frames in enumerate(clips.frames)
                if any(np.array_equal(frames[start : start + 16], window) for start in range(len(frames) - 15))
            ]
            assert [clips.labels[owner] for owner in owners] == [label]
        epochs.append(found)
        windows.on_epoch_end()
    assert not np.array_equal(*epochs)
    resumed = TrainingWindows(clips, 3, PARAMS, first_epoch=1)
    np.testing.assert_array_equal(resumed[0][0], epochs[1][:5])


def test_mixed_windows_have_mixed_targets():
    clips = some_clips()
    windows = TrainingWindows(clips, 3, with_values(PARAMS, ["mixup_alpha=0.4", "batch_size=24"]))
    _, targets = windows[0]
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    assert ((targets > 0).sum(axis=1) > 1).any()


def test_evaluation_windows_are_those_of_the_pipeline():
    clips = some_clips()
    windows, owners = all_windows(clips, 16)
    for clip, frames in enumerate(clips.frames):
        expected = [frames[start : start + 16] for start in window_starts(len(frames), 16)]
        np.testing.assert_array_equal(windows[owners == clip], expected)


def test_statistics_are_those_of_all_frames():
    clips = some_clips()
    mean, variance = statistics(clips)
    everything = np.concatenate(clips.frames)
    np.testing.assert_allclose(mean, everything.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(variance, everything.var(axis=0), rtol=1e-4)


@pytest.mark.parametrize(
    "assignment",
    [
        "mask_frames=3",
        "mask_bands=3",
        "shift_bands=1",
        "equalizer=1",
        "level_stretch=1",
        "low_pass_bands=1",
        "window_frames=64",
    ],
)
def test_what_these_windows_cannot_do_is_refused(assignment):
    with pytest.raises(ParameterError, match=assignment.split("=")[0]):
        TrainingWindows(some_clips(), 3, with_values(PARAMS, [assignment]))


def test_a_hypermodel_goes_with_kerastuners_own_tuner(tmp_path):
    import keras_tuner

    from tuning.hypermodels import Conv2DHyperModel, Fold, LSTMHyperModel

    space = make_space(
        PARAMS, Conditions(("mfcc13",), 30, False), {"only": True, "model.dropout": {"low": 0.0, "high": 0.5}}
    )
    fold = Fold(list(GENRES), {"mfcc13": some_clips()}, {"mfcc13": some_clips(6, seed=1)})
    tuner = keras_tuner.RandomSearch(
        Conv2DHyperModel(space, fold),
        objective=keras_tuner.Objective("val_accuracy", "max"),
        max_trials=2,
        seed=1,
        directory=tmp_path,
    )
    tuner.search(epochs=1, verbose=0)
    scores = [trial.score for trial in tuner.oracle.get_best_trials(2)]
    assert all(score in np.arange(7) / 6 for score in scores)
    with pytest.raises(ParameterError, match="LSTMHyperModel is for lstm"):
        LSTMHyperModel(space, fold)


def test_a_hypermodels_training_leaves_no_graph_in_memory():
    import keras
    import keras_tuner
    import tensorflow as tf

    from tuning.hypermodels import Conv2DHyperModel, Fold

    fold = Fold(list(GENRES), {"mfcc13": some_clips()}, {"mfcc13": some_clips(6, seed=1)})
    hypermodel = Conv2DHyperModel(Space(PARAMS, ()), fold)

    def graphs() -> int:
        hp = keras_tuner.HyperParameters()
        hypermodel.fit(hp, hypermodel.build(hp), epochs=1)
        keras.backend.clear_session()
        gc.collect()
        return sum(issubclass(type(each), tf.Graph) for each in gc.get_objects())

    before = graphs()
    assert graphs() <= before


@pytest.mark.skipif(not HAS_TORCH, reason="needs PyTorch, of the extra 'benchmarks'")
def test_a_hypermodel_imports_no_tensorflow_of_its_own():
    code = "import os; os.environ['KERAS_BACKEND'] = 'torch'; import sys, tuning.hypermodels, tuning.windows\n"
    code += "sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.skipif(not HAS_TORCH, reason="needs PyTorch, of the extra 'benchmarks'")
def test_a_search_runs_on_pytorch_as_keras_backend(tmp_path):
    make_toy_store(tmp_path / "store")
    space = {"only": True, "model.dropout": [0.1, 0.2], "model.lstm_bidirectional": [True]}
    words = words_of(tmp_path, "--trials", "1", space=space)
    words[words.index("conv2d")] = "lstm_optim_cosine"
    words += ["--set", "model.lstm_units=4", "--set", "early_stopping_epochs=0"]
    environment = os.environ | {"KERAS_BACKEND": "torch", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run([sys.executable, "-m", "tuning.search", *words], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    result = json.loads((tmp_path / "search" / "trials" / "0" / "result.json").read_text())
    assert result["params"]["model"]["lstm_bidirectional"]
    assert result["runs"][0]["epochs"] == 2
    assert 0 <= result["accuracy"] <= 1


def test_a_space_without_domains_is_its_base():
    assert Space(TrainParams(), ()).params({}) == TrainParams()
