"""Disks that are full, read-only, gone or damaged: an error that names the file, nothing by halves, no wrong number."""

import os
import random
import shutil
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from toys import toy_params

from keras_genre import evaluate, export, files, precompute, predict, store, train
from keras_genre.errors import FolderInUseError, FolderLostError, KerasGenreError, RunError
from keras_genre.runs import load_model, read_history, read_run
from keras_genre.store import open_store, validate_store
from keras_genre.training import make_plan

FREE_KIB = {"no room": 0, "room for a little": 12, "room for some files": 60}
SMALL = ["--window-frames", "16", "--epochs", "2", "--set", "model.lstm_units=8", "--no-export"]


@pytest.fixture(scope="module")
def run(toy_store, tmp_path_factory):
    """A finished run with its report; tests only read it."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert train.main(["--data", str(toy_store.path), "--out", str(out), *SMALL]) == 0
    return out


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """A folder of six clips of two genres."""
    folder = tmp_path_factory.mktemp("music")
    for number in range(6):
        path = folder / "ab"[number % 2] / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.random.default_rng(number).uniform(-0.5, 0.5, 44100), 22050)
    return folder


@pytest.fixture
def writes(toy_store, run, music, tmp_path):
    """Every command that writes, by name: a function that runs it with a folder to write to, and returns its status."""
    assert store.main(["export", str(toy_store.path), "--out", str(tmp_path / "toy.npz")]) == 0
    here, data = str(run), str(toy_store.path)

    def in_copy(folder: Path) -> int:
        if not (folder / "copy" / "run.json").exists():
            shutil.copytree(run, folder / "copy", dirs_exist_ok=True)
        return evaluate.main([str(folder / "copy")])

    def training(folder: Path) -> int:
        begun = ["--resume"] if (folder / "run" / "run.json").exists() else []
        return train.main(["--data", data, "--out", str(folder / "run"), *SMALL, *begun])

    return {
        "precompute": lambda folder: precompute.main(
            [str(music), "--features", "mfcc13", "--out", str(folder / "store"), "--min-seconds", "0.1", "--jobs", "1"]
        ),
        "store import": lambda folder: store.main(
            ["import", str(tmp_path / "toy.npz"), "--out", str(folder / "store")]
        ),
        "store export npz": lambda folder: store.main(["export", data, "--out", str(folder / "toy.npz")]),
        "store export json": lambda folder: store.main(
            ["export", data, "--out", str(folder / "toy.json"), "--split", "test", "--window-frames", "16"]
        ),
        "store export npy": lambda folder: store.main(
            ["export", data, "--out", str(folder / "npy"), "--window-frames", "16"]
        ),
        "train": training,
        "evaluate": in_copy,
        "predict": lambda folder: predict.main(
            [str(music / "a" / "0.wav"), "--model", here, "--csv", str(folder / "labels.csv"), "--jobs", "1"]
        ),
        "export": lambda folder: export.main([here, "--out", str(folder / "toy" / "1")]),
        "export litert": lambda folder: export.main([here, "--format", "litert", "--out", str(folder / "toy")]),
    }


WRITES = (
    "precompute",
    "store import",
    "store export npz",
    "store export json",
    "store export npy",
    "train",
    "evaluate",
    "predict",
    "export",
    "export litert",
)


def fill(disk: Path, free_kib: int) -> Path:
    """Write a file that leaves so much room."""
    with open(disk / "ballast", "wb", buffering=0) as ballast, pytest.raises(OSError):
        while True:
            ballast.write(bytes(4096))
    size = (disk / "ballast").stat().st_size
    os.truncate(disk / "ballast", max(size - free_kib * 1024, 0))
    return disk / "ballast"


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def assert_said_plainly(said: str, folder: Path) -> None:
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, said
    assert str(folder) in lines[0]
    assert "Traceback" not in said


# Full.


@pytest.mark.parametrize("room", FREE_KIB)
@pytest.mark.parametrize("name", WRITES)
def test_a_full_disk_is_an_error_and_with_room_the_same_command_goes_on(writes, name, room, small_disk, capfd):
    disk = small_disk(8)
    if name == "evaluate":
        assert writes[name](disk) == 0
        (disk / "copy" / "report.json").unlink()
    ballast = fill(disk, FREE_KIB[room])
    capfd.readouterr()
    status = writes[name](disk)
    if status == 0:
        pytest.skip("so much room is enough for it")
    assert status == 1
    assert_said_plainly(capfd.readouterr().err, disk)
    left = files_below(disk)
    assert not {path for path in left if ".partial-" in path}
    for finished in (
        "store/store.json",
        "toy.npz",
        "toy.json",
        "labels.csv",
        "toy/1/saved_model.pb",
        "toy/network.tflite",
    ):
        assert finished not in left
    ballast.unlink()
    assert writes[name](disk) == 0


# Read-only.


@pytest.mark.parametrize("name", WRITES)
def test_a_read_only_disk_is_an_error_that_names_it(writes, name, small_disk, capfd):
    disk = small_disk(8)
    if name == "evaluate":
        assert writes[name](disk) == 0
    before = files_below(disk)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    capfd.readouterr()
    assert writes[name](disk) == 1
    assert_said_plainly(capfd.readouterr().err, disk)
    assert files_below(disk) == before


# Gone.


def test_a_folder_that_is_removed_or_replaced_under_its_writer_is_noticed(tmp_path):
    for replace in (False, True):
        with pytest.raises(FolderLostError, match=str(tmp_path / "out")), files.locked_folder(tmp_path / "out"):
            (tmp_path / "out").rename(tmp_path / f"moved {replace}")
            if replace:
                (tmp_path / "out").mkdir()


def test_a_training_whose_folder_is_moved_does_not_end_as_if_all_were_well(toy_store, tmp_path):
    from keras_genre.training import train as train_run

    out = tmp_path / "run"

    def remove() -> None:
        while not (out / "history.csv").exists():
            time.sleep(0.01)
        out.rename(tmp_path / "elsewhere")

    remover = threading.Thread(target=remove)
    remover.start()
    with pytest.raises((KerasGenreError, OSError), match=str(out)):
        train_run(make_plan(toy_store, toy_params(epochs=15)), "toy", out)
    remover.join()


@pytest.mark.parametrize("name", ["run.json", "model.keras", "history.csv", "checkpoint.npz"])
def test_a_file_that_is_removed_while_a_training_runs_is_there_in_the_end_or_named(toy_store, name, tmp_path):
    from keras_genre.training import train as train_run

    out = tmp_path / "run"

    def remove() -> None:
        while not (out / "checkpoint.npz").exists():
            time.sleep(0.001)
        (out / name).unlink()

    remover = threading.Thread(target=remove)
    remover.start()
    try:
        info = train_run(make_plan(toy_store, toy_params(epochs=6)), "toy", out)
    except RunError as error:
        assert name == "model.keras"
        assert f"{out / name}: was removed" in str(error)
    else:
        assert {"run.json", "model.keras", "history.csv", "checkpoint.npz"} <= files_below(out)
        assert read_run(out) == info
    remover.join()


@pytest.mark.parametrize("name", ["model.keras", "history.csv"])
def test_a_finished_run_that_has_lost_a_file_is_not_gone_on_with_as_if_it_were_whole(toy_store, run, name, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    with pytest.raises(RunError, match=f"{tmp_path / 'run' / name}: was removed"):
        resume(toy_store, tmp_path / "run")


def resume(toy_store, run: Path):
    from keras_genre.training import train as train_run

    info = read_run(run)
    return train_run(make_plan(toy_store, info.params, info.notes), info.preset, run, resume=True)


def test_a_store_whose_folder_is_removed_is_not_finished(music, tmp_path, capfd):
    out = tmp_path / "store"

    def remove() -> None:
        while not (out / "unfinished.json").exists():
            time.sleep(0.001)
        shutil.rmtree(out)

    remover = threading.Thread(target=remove)
    remover.start()
    assert precompute.main([str(music), "--features", "mfcc13", "--out", str(out), "--min-seconds", "0.1"]) == 1
    remover.join()
    assert_said_plainly(capfd.readouterr().err, out)
    assert not (out / "store.json").exists()


# Damaged. Stores have tests of their own.


def damaged(path: Path, seed: int) -> None:
    """Flip a bit of a file, or cut it."""
    generator = random.Random(seed)
    content = bytearray(path.read_bytes())
    place = generator.randrange(len(content))
    if seed % 3 == 0:
        del content[place:]
    else:
        content[place] ^= 1 << generator.randrange(8)
    path.write_bytes(content)


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_network_of_a_run_is_refused_by_name(run, seed, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run" / "model.keras"
    damaged(file, seed)
    before = load_model(run).get_weights()
    try:
        found = load_model(tmp_path / "run").get_weights()
    except KerasGenreError as error:
        assert str(file) in str(error)
    else:
        # A few bytes of a zip file mean nothing: dates, for instance.
        for one, other in zip(found, before, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["run.json", "history.csv"])
def test_a_cut_file_of_a_run_is_refused_by_name(run, name, tmp_path):
    content = (run / name).read_bytes()
    shutil.copytree(run, tmp_path / "run")
    read = read_run if name == "run.json" else read_history
    for length in (0, 1, len(content) // 3, len(content) // 2):
        if content[:length].endswith(b"\n"):
            # Whole rows: of a training that was stopped earlier.
            continue
        (tmp_path / "run" / name).write_bytes(content[:length])
        with pytest.raises(KerasGenreError, match=name):
            read(tmp_path / "run")


def test_a_damaged_file_of_an_exported_model_is_refused_by_name(exported, tmp_path, capfd, music):
    from keras_genre.saved_models import require_whole

    names = sorted(files_below(exported.version))
    assert "variables/variables.data-00000-of-00001" in names
    for seed, name in enumerate(3 * names):
        version = tmp_path / str(seed) / "1"
        shutil.copytree(exported.version, version)
        damaged(version / name, seed)
        with pytest.raises(KerasGenreError, match=str(version)):
            require_whole(version)
        shutil.rmtree(version)
    shutil.copytree(exported.version, version)
    damaged(version / "saved_model.pb", 1)
    assert predict.main([str(music / "a" / "0.wav"), "--model", str(version)]) == 1
    assert_said_plainly(capfd.readouterr().err, version / "saved_model.pb")


# Shared.


def test_a_second_writer_of_a_folder_is_told(tmp_path):
    held, again = files.locked_folder(tmp_path / "out"), files.locked_folder(tmp_path / "out")
    with held, pytest.raises(FolderInUseError, match="another process is writing"), again:
        raise AssertionError("two writers hold the folder")


def test_a_store_written_beside_a_reader_is_whole_or_refused_for_the_reader(music, tmp_path):
    out = tmp_path / "store"
    flags = [str(music), "--features", "mfcc13", "--out", str(out), "--min-seconds", "0.1", "--jobs", "1"]
    seen = set()

    def read() -> None:
        while not seen & {"done"}:
            try:
                seen.add(len(open_store(out).clips))
            except KerasGenreError:
                seen.add("refused")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(2):
            assert precompute.main([*flags, "--overwrite"]) == 0
    finally:
        seen.add("done")
        reader.join()
    assert seen == {6, "refused", "done"}
    assert validate_store(out) == []
