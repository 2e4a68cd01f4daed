"""Stores and runs elsewhere are read and written as those of this machine, through TensorFlow's file systems.

`ram://` is one of them that lives in a process, so the commands run in this one.
"""

import uuid

import numpy as np
import pytest
import tensorflow as tf
from toys import make_toy_store

from keras_genre import evaluate, precompute, store, train
from keras_genre.errors import RunError, StoreError
from keras_genre.places import RemotePath, local_path, place, run_folder
from keras_genre.runs import load_model, read_history, read_run
from keras_genre.store import open_store, validate_store
from tuning import search
from tuning.data import feature_stores

FLAGS = ["--window-frames", "16", "--batch-size", "8", "--windows-per-clip", "3", "--set", "model.lstm_units=4"]


@pytest.fixture
def bucket():
    """An empty place elsewhere."""
    return RemotePath(f"ram://{uuid.uuid4()}")


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A folder with a store, and a run that two epochs on it gave."""
    folder = tmp_path_factory.mktemp("local")
    make_toy_store(folder / "store")
    assert run_train(folder / "store", folder / "run") == 0
    return folder


def run_train(data, out, *more):
    return train.main([*FLAGS, "--data", str(data), "--out", str(out), "--epochs", "2", "--no-export", *more])


def upload(folder, bucket):
    for file in sorted(folder.iterdir()):
        (bucket / file.name).store(file)
    return bucket


def download(run, folder):
    folder.mkdir()
    run.fetch(folder)
    return folder


def test_a_store_elsewhere_trains_to_the_same_weights_and_the_run_there_is_the_same_run(
    local, bucket, tmp_path, capsys
):
    data, out = upload(local / "store", bucket / "store"), bucket / "runs" / "one"
    assert run_train(data, out) == 0
    assert f"run folder: {out} (" in capsys.readouterr().out
    fetched = download(out, tmp_path / "run")
    assert {path.name for path in fetched.iterdir()} == {path.name for path in (local / "run").iterdir()}
    for ours, theirs in zip(load_model(fetched).get_weights(), load_model(local / "run").get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert read_run(fetched).data == str(data)
    assert (fetched / "predictions.csv").read_bytes() == (local / "run" / "predictions.csv").read_bytes()

    # It is evaluated there, on the store there.
    assert evaluate.main([str(out), "--split", "validation"]) == 0
    assert (out / "predictions_validation.csv").is_file()


def test_a_run_elsewhere_goes_on_where_its_last_published_epoch_was(local, bucket, tmp_path):
    data, out = upload(local / "store", bucket / "store"), bucket / "run"
    arguments = [*FLAGS, "--data", str(data), "--out", str(out), "--no-export"]
    assert train.main([*arguments, "--epochs", "1"]) == 0
    assert train.main(["--out", str(out), "--resume", "--epochs", "2", "--no-export"]) == 0
    fetched = download(out, tmp_path / "run")
    for ours, theirs in zip(load_model(fetched).get_weights(), load_model(local / "run").get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(read_history(fetched)) == 2


def test_an_interrupted_run_has_its_finished_epochs_there_and_no_half_file(bucket, tmp_path):
    with pytest.raises(KeyboardInterrupt), run_folder(bucket / "run") as run:
        for text in ("one", "one epoch"):
            (run.path / "history.csv").write_text(text)
            run.publish()
        (run.path / "history.csv").write_text("two epochs, not yet published")
        (run.path / ".partial-model.keras").write_bytes(b"half")
        raise KeyboardInterrupt
    assert (bucket / "run" / "history.csv").read_bytes() == b"one epoch"
    assert [path.name for path in (bucket / "run").glob("*")] == ["history.csv"]
    assert not run.path.exists()


def test_errors_name_the_place_there_not_the_copy_here(local, bucket, capsys):
    data = upload(local / "store", bucket / "store")
    upload(local / "run", bucket / "run")
    assert run_train(data, bucket / "run") == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {bucket}/run: holds a run; go on with it by")
    with pytest.raises(RunError, match=f"{bucket}/none: no run here"), run_folder(bucket / "none") as run:
        read_run(run.path)


def test_a_store_elsewhere_is_found_by_kind_and_validated_to_the_byte(local, bucket, tmp_path, capsys):
    upload(local / "store", bucket / "stores" / "spectral33")
    found = open_store(bucket / "stores", "mfcc13")
    assert found.path == bucket / "stores" / "spectral33"
    assert [each.path for each in feature_stores(bucket / "stores", "spectral33", ["mfcc13"])] == [found.path]
    assert validate_store(found.path) == []
    for (_, ours), (_, theirs) in zip(found.read(), open_store(local / "store").read(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert store.main(["validate", str(found.path)]) == 0

    content = bytearray((local / "store" / "shard-00000.tfrecord").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "shard-00000.tfrecord").write_bytes(content)
    (found.path / "shard-00000.tfrecord").store(tmp_path / "shard-00000.tfrecord")
    assert "damaged (SHA-256 differs" in validate_store(found.path)[0]
    with pytest.raises(StoreError, match=r"shard-00000\.tfrecord: damaged"):
        list(found.read())


def test_a_search_takes_its_clips_from_there(local, bucket, tmp_path, capsys):
    data = upload(local / "store", bucket / "store")
    flags = ["--data", str(data), "--folds", "2", "--trials", "1", "--out", str(tmp_path / "search"), "--dry-run"]
    flags += ["--set", "window_frames=16"]
    assert search.main(flags) == 0
    assert "18 clips for training and validation" in capsys.readouterr().out


def test_what_is_not_there_or_cannot_be_reached_is_said_in_a_line(bucket, tmp_path, capsys):
    cases = {f"{bucket}/none": f"error: {bucket}/none: no such folder", "xyz://a/b": "reaches no xyz://"}
    for data, words in cases.items():
        assert run_train(data, tmp_path / "run") == 1
        assert words in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_what_needs_locks_and_renames_is_refused_elsewhere(tmp_path, capsys):
    for words in (
        [precompute.main, "music", "--out", "gs://bucket/store"],
        [store.main, "import", "features.npz", "--out", "gs://bucket/store"],
    ):
        with pytest.raises(SystemExit) as end:
            words[0](words[1:])
        assert end.value.code == 2
        assert "--out: gs://bucket/store is not on this machine" in capsys.readouterr().err


def test_paths_of_this_machine_stay_paths(tmp_path):
    assert place("runs/one") == local_path("runs/one")
    assert place(tmp_path) == tmp_path
    assert place("gs://bucket/runs/one/") == RemotePath("gs://bucket") / "runs" / "one"
    assert str(place("s3://bucket/a").parent) == "s3://bucket"
    assert place(place("gs://bucket/a")).name == "a"
    assert "ram" in tf.io.gfile.get_registered_schemes()
