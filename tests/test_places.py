"""Stores and runs elsewhere are read and written as those of this machine, through TensorFlow's file systems.

`ram://` is one of them that lives in a process, so the commands run in this one.
"""

import uuid

import numpy as np
import pytest
import tensorflow as tf
from toys import make_toy_store

import keras_genre.datasets.__main__ as datasets
from keras_genre import evaluate, export, musicnn, precompute, predict, serve, store, train
from keras_genre.errors import ExportError, RunError, StoreError
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


def test_what_was_finished_before_an_error_is_there(local, bucket):
    upload(local / "run", bucket / "run")
    with pytest.raises(ExportError, match="its export is wrong"), run_folder(bucket / "run") as run:
        (run.path / "report.json").write_text("written before the export")
        (run.path / ".partial-1").mkdir()
        (run.path / ".partial-1" / "saved_model.pb").write_bytes(b"half")
        raise ExportError("its export is wrong")
    assert (bucket / "run" / "report.json").read_bytes() == b"written before the export"
    assert not (bucket / "run" / ".partial-1").exists()


def test_an_error_is_said_where_nothing_can_be_copied_there_any_more(bucket, tmp_path):
    (tmp_path / "file").write_text("in the way")
    lost = pytest.raises(ExportError, match="wrong; what was written before cannot be copied")
    with lost, run_folder(bucket / "run") as run:
        (run.path / "report.json").write_text("written before the export")
        (bucket / "run").store(tmp_path / "file")
        raise ExportError("wrong")


def test_a_place_above_runs_is_refused_before_anything_is_copied(local, bucket, capsys, monkeypatch):
    upload(local / "run", bucket / "runs" / "one")
    monkeypatch.setattr(RemotePath, "fetch", lambda *_: pytest.fail("copies"))
    for above, inside in ((bucket / "runs", "one"), (bucket, "runs")):
        words = f"error: {above}: is not empty and holds no run (run.json is missing)"
        assert evaluate.main([str(above)]) == 1
        assert words in capsys.readouterr().err
        assert run_train(local / "store", above) == 1
        assert words in capsys.readouterr().err
        assert [path.name for path in above.glob("*")] == [inside]


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


THERE = "gs://bucket/there"


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        (precompute, ["music", "--out", THERE]),
        (precompute, ["music", "--out", "store", "--split-list", THERE]),
        (precompute, ["music", "--out", "store", "--groups", THERE]),
        (store, ["import", "features.npz", "--out", THERE]),
        (store, ["import", THERE, "--out", "store"]),
        (store, ["export", "store", "--out", THERE]),
        (train, ["--split-list", THERE]),
        (predict, ["song.mp3", "--csv", THERE]),
        (predict, ["song.mp3", "--model", THERE]),
        (predict, [THERE]),
        (export, ["run", "--out", f"{THERE}/1"]),
        (export, ["run", "--out", THERE, "--format", "litert"]),
        (export, [THERE, "--out", "models/1"]),
        (serve, ["--model", THERE]),
        (datasets, ["download", "gtzan", "--out", THERE]),
        (datasets, ["validate", "gtzan", THERE]),
        (musicnn, ["--wheel", THERE]),
        (musicnn, ["--out", THERE]),
        (search, ["--out", THERE]),
        (search, ["--out", "search", "--space", THERE]),
    ],
)
def test_what_must_be_on_this_machine_is_refused_elsewhere(command, flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        command.main(flags)
    assert end.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f": {THERE}" in said
    assert "is not on this machine" in said
    assert list(tmp_path.iterdir()) == []


def test_a_store_elsewhere_is_exported_as_one_here(local, bucket, tmp_path):
    data = upload(local / "store", bucket / "store")
    for name, source in (("there", data), ("here", local / "store")):
        assert store.main(["export", str(source), "--out", str(tmp_path / f"{name}.npz")]) == 0
    there, here = (np.load(tmp_path / f"{name}.npz") for name in ("there", "here"))
    assert set(there) == set(here)
    assert all((there[key] == here[key]).all() for key in here)


def test_paths_of_this_machine_stay_paths(tmp_path):
    assert place("runs/one") == local_path("runs/one")
    assert place(tmp_path) == tmp_path
    assert place("gs://bucket/runs/one/") == RemotePath("gs://bucket") / "runs" / "one"
    assert str(place("s3://bucket/a").parent) == "s3://bucket"
    assert place(place("gs://bucket/a")).name == "a"
    assert "ram" in tf.io.gfile.get_registered_schemes()
