"""Precomputing gives what the reference front end gives, whatever files, kills and interruptions come in between."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import threadpoolctl
from deadly import DeadlyPath

from keras_genre import audio, files
from keras_genre.clips import Clip
from keras_genre.errors import ParameterError, StoreError
from keras_genre.extract import Job, LocalWorkers
from keras_genre.features.reference import waveform_to_frames
from keras_genre.params import FrontEndParams
from keras_genre.precompute import main, precompute
from keras_genre.store import StoreHeader, open_store, validate_store

ROOT = Path(__file__).resolve().parents[1]
MFCC = StoreHeader.of(FrontEndParams("mfcc13"))
CLIPS = 200


def write_wav(path, seconds=0.5, rate=22050, seed=0, subtype="PCM_16", channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, (round(seconds * rate), channels))
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def command(source, out, *flags):
    return [sys.executable, "-m", "keras_genre.precompute", str(source), "--out", str(out), *map(str, flags)]


def reference(path, kind):
    """The frames of a file by librosa."""
    with threadpoolctl.threadpool_limits(1):
        return waveform_to_frames(audio.load(path, 22050), FrontEndParams(kind))


def assert_are_librosas(frames, path, kind):
    """Within what `tests/test_features_graph.py` allows the graph, which computes them."""
    expected = reference(path, kind)
    assert (frames.shape, frames.dtype) == (expected.shape, expected.dtype)
    tolerances = np.repeat([1e-3, 0.05, 1e-3, 0.1], [13, 1, 12, 7])[: expected.shape[1]]
    assert (np.abs(frames - expected) <= tolerances).all()


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def identity(path):
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def group_is_gone(group):
    """Whether no process of a group runs; one that nobody has waited for yet does not count."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, owner = status.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(owner) == group and state != "Z":
            return False
    return True


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Enough short clips for four shards, with four that fail; the flags to compute them; the finished store."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(CLIPS):
        write_wav(folder / "music" / f"genre {number % 3}" / f"{number:03d}.wav", 0.3 + number % 5 / 10, seed=number)
    for number in range(4):
        write_wav(folder / "music" / "genre 0" / f"short {number}.wav", 0.05)
    flags = ["--min-seconds", "0.1"]
    assert main([str(folder / "music"), "--out", str(folder / "store"), *flags, "--jobs", "1"]) == 1
    return folder / "music", flags, folder / "store"


# What is computed.


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A folder of good and bad files, and what the command made of it."""
    folder = tmp_path_factory.mktemp("mixed")
    music = folder / "music"
    write_wav(music / "jazz" / "mono.wav", 1.0, seed=1)
    write_wav(music / "jazz" / "stereo.flac", 0.7, 44100, 2, channels=2)
    write_wav(music / "rock" / "slow.au", 0.5, 8000, 3)
    write_wav(music / "rock" / "deep" / "wide.wav", 0.6, 48000, 4, "PCM_24")
    write_wav(music / "rock" / "silent.wav", 0.5)
    soundfile.write(music / "rock" / "silent.wav", np.zeros(22050), 22050)

    (music / "rock" / "text.mp3").write_text("these are words " * 100)
    (music / "rock" / "empty.wav").write_bytes(b"")
    whole = write_wav(music / "rock" / "cut.wav", 1.0).read_bytes()
    (music / "rock" / "cut.wav").write_bytes(whole[: len(whole) // 2])
    nan = np.zeros(22050, np.float32)
    nan[1000] = np.nan
    soundfile.write(music / "jazz" / "nan.wav", nan, 22050, subtype="FLOAT")
    loud = np.random.default_rng(0).uniform(-1e25, 1e25, 22050).astype(np.float32)
    soundfile.write(music / "jazz" / "loud.wav", loud, 22050, subtype="FLOAT")
    write_wav(music / "jazz" / "10 ms.wav", 0.01)
    flags = ["--features", "spectral33", "--min-seconds", "0.1", "--jobs", "2"]
    done = subprocess.run(command(music, folder / "store", *flags), cwd=ROOT, capture_output=True, text=True)
    return music, folder / "store", done


BAD = {
    "rock/text.mp3": "is of no known audio format",
    "rock/empty.wav": "has no bytes",
    "rock/cut.wav": "copy or download it again",
    "jazz/nan.wav": "has samples that are NaN or infinite",
    "jazz/loud.wav": "samples of up to 1e+25, where full scale is 1, are too large for spectral33",
    "jazz/10 ms.wav": "s; at least 0.1 s are needed",
}


@pytest.mark.filterwarnings("ignore::keras_genre.errors.SilentAudioWarning")
def test_the_store_holds_what_the_reference_front_end_gives(mixed):
    music, path, _ = mixed
    store = open_store(path)
    assert sorted(clip.file for clip in store.clips) == [
        "jazz/mono.wav",
        "jazz/stereo.flac",
        "rock/deep/wide.wav",
        "rock/silent.wav",
        "rock/slow.au",
    ]
    for clip, frames in store.read():
        assert_are_librosas(frames, music / clip.file, "spectral33")
        assert clip.genre == clip.file.split("/")[0]
        assert clip.seconds == pytest.approx(soundfile.info(music / clip.file).duration)
        assert clip.sha256 == files.sha256_of(music / clip.file)
        assert clip.split in ("train", "validation", "test")
    assert validate_store(path) == []


def test_files_that_fail_are_named_with_why_and_the_rest_is_finished(mixed):
    _, path, done = mixed
    assert done.returncode == 1
    assert done.stdout == ""
    failures = dict(open_store(path).failures)
    assert set(failures) == set(BAD)
    failed = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert sorted(failed) == sorted(f"failed: {file}: {why}" for file, why in failures.items())
    for file, reason in BAD.items():
        assert reason in failures[file]
        assert file not in failures[file]
    assert "Traceback" not in done.stderr


def test_failures_stand_in_the_manifest_too(mixed):
    _, path, _ = mixed
    values = json.loads((path / "store.json").read_text())
    recorded = [file for file, _ in values["unread"]] + [row["file"] for s in values["shards"] for row in s["failures"]]
    assert sorted(recorded) == sorted(BAD)
    assert values["limits"] == {"min_seconds": 0.1, "max_seconds": 3600.0}


def test_silence_is_warned_of_by_name(mixed):
    _, _, done = mixed
    assert "warning: rock/silent.wav: all samples are zero" in done.stderr.splitlines()


def test_the_number_of_processes_changes_no_byte(many, tmp_path):
    source, flags, finished = many
    assert main([str(source), "--out", str(tmp_path / "store"), *flags, "--jobs", "2"]) == 1
    assert content(tmp_path / "store") == content(finished)
    assert len(open_store(finished).shards) == 4
    assert len(open_store(finished).failures) == 4


def test_a_finished_store_is_not_computed_again(many, tmp_path, capsys):
    source, flags, finished = many
    before = {path: identity(path) for path in finished.glob("*.tfrecord")}
    assert main([str(source), "--out", str(finished), *flags, "--split-seed", "5"]) == 1
    assert {path: identity(path) for path in finished.glob("*.tfrecord")} == before
    # The other split is in the manifest; back to the first one, the manifest is as it was.
    other = [clip.split for clip in open_store(finished).clips]
    assert main([str(source), "--out", str(finished), *flags]) == 1
    assert [clip.split for clip in open_store(finished).clips] != other


def test_a_clip_that_changed_is_computed_with_its_shard_only(many, tmp_path):
    source, flags, finished = many
    music, out = shutil.copytree(source, tmp_path / "music"), shutil.copytree(finished, tmp_path / "store")
    before = {path.name: identity(path) for path in out.glob("*.tfrecord")}
    shard = open_store(out).shards[2]
    write_wav(music / shard.clips[0].file, 0.4, seed=999)
    assert main([str(music), "--out", str(out), *flags, "--jobs", "1"]) == 1
    changed = {name for name, known in before.items() if identity(out / name) != known}
    assert changed == {shard.file}
    store = open_store(out)
    (row,) = (row for row, clip in enumerate(store.clips) if clip.track == shard.clips[0].track)
    ((clip, frames),) = store.read([row])
    assert_are_librosas(frames, music / clip.file, "spectral33")


def test_other_limits_are_refused_because_other_clips_would_have_failed(many, capsys):
    source, _, finished = many
    before = content(finished)
    assert main([str(source), "--out", str(finished), "--min-seconds", "0.01"]) == 1
    assert "holds a store of other parameters (min_seconds: 0.1 -> 0.01)" in capsys.readouterr().err
    assert content(finished) == before


def test_a_second_process_is_told(many, tmp_path):
    source, flags, _ = many
    with files.locked_folder(tmp_path / "store"):
        done = subprocess.run(command(source, tmp_path / "store", *flags), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"error: {tmp_path}/store: another process is writing here" in done.stderr
    assert content(tmp_path / "store") == {}


def test_where_no_file_can_be_used_all_are_named(tmp_path, capsys):
    (tmp_path / "music" / "jazz").mkdir(parents=True)
    (tmp_path / "music" / "jazz" / "text.mp3").write_text("words")
    write_wav(tmp_path / "music" / "jazz" / "short.wav", 0.1)
    assert main([str(tmp_path / "music"), "--out", str(tmp_path / "store"), "--jobs", "1"]) == 1
    said = capsys.readouterr().err
    assert "no clip gave features" in said
    assert "jazz/text.mp3: is of no known audio format" in said
    assert "jazz/short.wav: lasts 0.1 s; at least 3 s are needed" in said
    with pytest.raises(StoreError, match="unfinished"):
        open_store(tmp_path / "store")


@pytest.mark.parametrize("flags", [["--jobs", "0"], ["--jobs", "-1"], ["--min-seconds", "9", "--max-seconds", "1"]])
def test_flags_that_cannot_work_are_wrong_usage(tmp_path, capsys, flags):
    write_wav(tmp_path / "music" / "jazz" / "a.wav", 0.2)
    assert main([str(tmp_path / "music"), "--out", str(tmp_path / "store"), *flags]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


def test_a_source_that_is_not_there_is_an_error(tmp_path, capsys):
    assert main([str(tmp_path / "music"), "--out", str(tmp_path / "store")]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/music: no such folder\n"
    assert not (tmp_path / "store").exists()


def test_features_without_a_front_end_cannot_be_computed(tmp_path):
    with pytest.raises(ParameterError, match="with a front end"):
        precompute(tmp_path, [Clip("a", "b")], StoreHeader("mine", 3, 0.0, None), tmp_path / "store")


# What comes in between.


def start(source, out, *flags):
    return subprocess.Popen(
        command(source, out, *flags, "--jobs", "2"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_killed_at_any_moment_and_run_again_the_store_is_the_same_to_the_byte(many, tmp_path):
    source, flags, finished = many
    out = tmp_path / "store"
    moments = random.Random(time.time_ns())
    kept = {}
    # While the workers start, then once each further shard is on disk or about to be.
    for milestone in ("unfinished.json", "shard-00000.json", "shard-00001.tfrecord"):
        with start(source, out, *flags) as process:
            wait_for(lambda name=milestone: (out / name).exists() or process.poll() is not None)
            time.sleep(moments.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
            process.wait()
            # The workers end with it.
            wait_for(lambda group=process.pid: group_is_gone(group))
        for name, before in kept.items():
            assert identity(out / name) == before
        for shard in out.glob("shard-*.tfrecord"):
            # Its journal says that it is whole; a machine may be done with all before the signal comes.
            if shard.with_suffix(".json").exists() or (out / "store.json").exists():
                kept[shard.name] = identity(shard)
    assert "shard-00000.tfrecord" in kept
    assert main([str(source), "--out", str(out), *flags, "--jobs", "2"]) == 1
    for name, before in kept.items():
        assert identity(out / name) == before
    assert content(out) == content(finished)


def test_ctrl_c_ends_it_without_a_traceback_and_it_goes_on_later(many, tmp_path):
    source, flags, finished = many
    out = tmp_path / "store"
    # While the workers start, and with half of the work before it, as two shards are made at once.
    for milestone, longest in (("unfinished.json", 0.3), ("shard-00000.json", 0.0)):
        with start(source, out, *flags) as process:
            wait_for(lambda name=milestone: (out / name).exists() or process.poll() is not None)
            time.sleep(random.Random(time.time_ns()).uniform(0, longest))
            # A terminal sends it to the command and to its workers.
            os.killpg(process.pid, signal.SIGINT)
            _, said = process.communicate(timeout=60)
        assert process.returncode == 130
        assert said.splitlines()[-1] == "interrupted"
        assert "Traceback" not in said
        wait_for(lambda group=process.pid: group_is_gone(group))
        assert not (out / "store.json").exists()
    before = identity(out / "shard-00000.tfrecord")
    assert main([str(source), "--out", str(out), *flags, "--jobs", "2"]) == 1
    assert identity(out / "shard-00000.tfrecord") == before
    assert content(out) == content(finished)


def test_a_file_that_kills_its_process_is_the_only_one_that_fails(tmp_path):
    names = ["0.wav", "deadly.wav", "2.wav", "3.wav"]
    for seed, name in enumerate(names):
        write_wav(tmp_path / name, 0.3, seed=seed)
    jobs = [Job(DeadlyPath(tmp_path / name), name, 22050, 0.1, 10.0, FrontEndParams("mfcc13")) for name in names]

    def surroundings():
        return dict(os.environ), signal.pthread_sigmask(signal.SIG_BLOCK, [])

    before = surroundings()
    for name, result in zip(names, LocalWorkers(2).run(jobs), strict=True):
        assert surroundings() == before
        if name == "deadly.wav":
            assert result.frames is None
            assert result.error == "deadly.wav: killed the process that read it"
        else:
            assert_are_librosas(result.frames, str(tmp_path / name), "mfcc13")


def test_a_file_that_kills_its_process_is_a_failure_of_the_store(tmp_path):
    for seed, name in enumerate(("a", "deadly")):
        write_wav(tmp_path / f"{name}.wav", 0.3, seed=seed)
    clips = [Clip(name, "jazz", f"{name}.wav") for name in ("a", "deadly")]
    store = precompute(DeadlyPath(tmp_path), clips, MFCC, tmp_path / "store", workers=LocalWorkers(1), min_seconds=0.1)
    assert [clip.track for clip in store.clips] == ["a"]
    assert store.failures == [("deadly.wav", "killed the process that read it")]


def test_what_failed_for_a_reason_that_may_pass_is_tried_again(tmp_path):
    clips = [Clip(name, "jazz", f"{name}.wav") for name in ("a", "deadly", "late", "text")]
    for seed, name in enumerate(("a", "deadly")):
        write_wav(tmp_path / f"{name}.wav", 0.3, seed=seed)
    (tmp_path / "text.wav").write_text("no audio")
    options = {"workers": LocalWorkers(1), "min_seconds": 0.1}
    first = precompute(DeadlyPath(tmp_path), clips, MFCC, tmp_path / "store", **options)
    assert sorted(file for file, _ in first.failures) == ["deadly.wav", "late.wav", "text.wav"]
    write_wav(tmp_path / "late.wav", 0.3, seed=2)
    second = precompute(tmp_path, clips, MFCC, tmp_path / "store", **options)
    assert sorted(clip.track for clip in second.clips) == ["a", "deadly", "late"]
    before = identity(tmp_path / "store" / "shard-00000.tfrecord")
    precompute(tmp_path, clips, MFCC, tmp_path / "store", **options)
    assert identity(tmp_path / "store" / "shard-00000.tfrecord") == before


def test_flags_that_cannot_work_leave_a_store_as_it_is(many, capsys):
    source, flags, finished = many
    before = content(finished)
    assert main([str(source), "--out", str(finished), *flags, "--overwrite", "--max-seconds", "0.01"]) == 2
    assert "max_seconds" in capsys.readouterr().err
    assert content(finished) == before


def test_a_clip_gets_the_same_bits_whatever_is_computed_beside_it_and_in_how_many_processes(tmp_path):
    for seed in range(5):
        write_wav(tmp_path / f"{seed}.wav", 0.3 + 0.4 * seed, seed=seed)
    jobs = [Job(tmp_path / f"{seed}.wav", f"{seed}.wav", 22050, 0.1, 10.0, FrontEndParams()) for seed in range(5)]
    together = [result.frames for result in LocalWorkers(1).run(jobs)]
    backwards = [result.frames for result in LocalWorkers(3).run(jobs[::-1])][::-1]
    (alone,) = [result.frames for result in LocalWorkers(1).run(jobs[3:4])]
    for one, other in zip(together, backwards, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(alone, together[3])
