"""A Ray cluster computes what this machine's processes compute; killed workers cost time and nothing else."""

import dataclasses
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
from deadly import DeadlyPath

from keras_genre import precompute as command
from keras_genre.errors import ParameterError, WorkersError
from keras_genre.extract import Job, LocalWorkers, decode
from keras_genre.params import FrontEndParams
from keras_genre.ray_workers import ray_workers

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ["--features", "mfcc13", "--min-seconds", "0.1"]
CLIPS = 80

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray: pip install -e '.[ray]'")


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def processes_with(words, variable=b""):
    """The numbers of the running processes whose command has these words, and whose environment this variable."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if words.encode() in (folder / "cmdline").read_bytes() and variable in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """Enough clips for two shards, with one that fails, and the store that this machine's processes make of them."""
    folder = tmp_path_factory.mktemp("music")
    (folder / "music" / "jazz").mkdir(parents=True)
    for number in range(CLIPS):
        samples = np.random.default_rng(number).uniform(-0.5, 0.5, 6000 + 500 * (number % 7))
        soundfile.write(folder / "music" / "jazz" / f"{number:02d}.wav", samples, 22050)
    (folder / "music" / "jazz" / "text.mp3").write_text("words")
    assert command.main([str(folder / "music"), "--out", str(folder / "store"), *FLAGS, "--jobs", "1"]) == 1
    return folder


def start(music, out, processes):
    # The mark by which the workers of this cluster are told from any other's.
    environment = os.environ | {"KERAS_GENRE_TEST": str(out)}
    words = [sys.executable, "-m", "keras_genre.precompute", music / "music", "--out", out, *FLAGS]
    return subprocess.Popen(
        [*map(str, words), "--ray", "local", "--jobs", str(processes)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def marked(out, words=""):
    return processes_with(words, f"KERAS_GENRE_TEST={out}".encode())


@needs_ray
def test_killed_workers_cost_time_and_no_byte(music, tmp_path):
    out = tmp_path / "store"
    process = start(music, out, 2)
    kills = []

    def kill_busy_workers():
        # Ray renames a worker after the function that it runs.
        while process.poll() is None and len(kills) < 2:
            for worker in marked(out, "ray::extract")[:1]:
                os.kill(worker, signal.SIGKILL)
                kills.append(worker)
            time.sleep(0.3)

    killer = threading.Thread(target=kill_busy_workers)
    killer.start()
    _, said = process.communicate()
    killer.join()
    assert kills
    assert process.returncode == 1
    assert said.splitlines()[-1].startswith("failed: jazz/text.mp3: is of no known audio format")
    assert "Traceback" not in said
    assert content(out) == content(music / "store")
    # The cluster ends with the command.
    wait_for(lambda: not marked(out))


@needs_ray
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_or_killed_it_goes_on_to_the_same_store_and_leaves_no_process(music, tmp_path, number):
    out = tmp_path / "store"
    process = start(music, out, 1)
    wait_for(lambda: (out / "shard-00000.json").exists() or process.poll() is not None)
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=120)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert said.splitlines()[-1] == "interrupted"
        assert "Traceback" not in said
    wait_for(lambda: not marked(out))
    before = (out / "shard-00000.tfrecord").stat().st_mtime_ns
    # The rest is done by this machine's own processes: who computes makes no difference.
    assert command.main([str(music / "music"), "--out", str(out), *FLAGS, "--jobs", "1"]) == 1
    assert (out / "shard-00000.tfrecord").stat().st_mtime_ns == before
    assert content(out) == content(music / "store")


@needs_ray
def test_a_file_that_kills_every_worker_is_the_only_one_that_fails_and_a_missing_module_is_named(
    music, tmp_path, monkeypatch
):
    here = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", f"{here}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    names = ["0.wav", "deadly.wav", "2.wav"]
    for name in names:
        shutil.copy(music / "music" / "jazz" / "00.wav", tmp_path / name)
    jobs = [Job(DeadlyPath(tmp_path / name), name, 22050, 0.1, 10.0, FrontEndParams("mfcc13")) for name in names]

    class Unknown(type(Path())):
        """Of a module that the cluster has not."""

    monkeypatch.setitem(sys.modules, "only_here", types.ModuleType("only_here"))
    monkeypatch.setattr(sys.modules["only_here"], "Unknown", Unknown, raising=False)
    Unknown.__module__, Unknown.__qualname__ = "only_here", "Unknown"
    with ray_workers("local", 2) as workers:
        first, deadly, last = workers.run(jobs, decode)
        with pytest.raises(WorkersError, match="No module named 'only_here'"):
            next(workers.run([dataclasses.replace(jobs[0], path=Unknown(tmp_path / "0.wav"))], decode))
    (expected,) = LocalWorkers(1).run(jobs[:1], decode)
    assert deadly.error == "deadly.wav: killed the process that read it"
    np.testing.assert_array_equal(first.waveform, expected.waveform)
    np.testing.assert_array_equal(last.waveform, expected.waveform)


@needs_ray
@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "nowhere.invalid:6379"])
def test_a_cluster_that_does_not_answer_is_said_in_a_line(music, tmp_path, capsys, address):
    assert command.main([str(music / "music"), "--out", str(tmp_path / "store"), *FLAGS, "--ray", address]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: --ray {address}: no cluster answers")
    assert not (tmp_path / "store").exists()


def test_without_ray_what_to_install_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(WorkersError, match=r"pip install -e '\.\[ray\]'"), ray_workers("local"):
        pass


def test_the_cores_of_a_cluster_are_its_own():
    with pytest.raises(ParameterError, match="--jobs is for this machine"), ray_workers("auto", 3):
        pass
