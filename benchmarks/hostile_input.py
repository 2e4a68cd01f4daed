"""Feed damaged and malicious input to everything that reads: decoders, importers, stores, runs, models, the server.

Command: `python -m benchmarks.hostile_input [TARGET ...] [--inputs N] [--seconds S] [--model NAME]`. It goes on where
it was interrupted, and ends with status 1 if anything was found. Every input is made from the target's name, the seed
and its number, so any can be made again: `--show TARGET NUMBER` writes one to standard output.

Allowed is a result, or an error of `keras_genre.errors` (of the server: a status of 4xx with a reason). A finding is
anything else: another exception, the end of the process, more than 5 s of processor time, more than 512 MiB of memory.
"""

import argparse
import atexit
import collections
import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import mutation
from keras_genre import cli, files
from keras_genre.errors import KerasGenreError
from keras_genre.params import FrontEndParams, ModelParams, TrainParams, to_json
from keras_genre.progress import Progress

CPU_SECONDS, WALL_SECONDS = 5, 120
MEMORY_MIB = 512
SLICE = 400
"""Inputs that one process takes, unless it ends before."""

Feed = Callable[[bytes], None]


@dataclasses.dataclass(frozen=True)
class Target:
    """Something that reads.

    Attributes
    ----------
    make : callable
        Makes an input with a generator of random numbers.
    feed : callable
        Gets an empty folder and gives a function that has the input read. It returns, or raises an error that the input
        may cause.
    share : int
        Of so many parts of all inputs.
    """

    make: Callable[[random.Random], bytes]
    feed: Callable[[Path], Feed]
    share: int = 10


def input_of(name: str, seed: int, number: int) -> bytes:
    """Return input `number` of a target."""
    return TARGETS[name].make(random.Random(f"{name} {seed} {number}"))


# --- What is fed to what ---


def _audio(name: str) -> Target:
    def make(generator: random.Random) -> bytes:
        damage = mutation.damaged_ogg if name in ("ogg", "opus") else mutation.mutated
        return damage(mutation.audio_seed(name), generator)

    def feed(folder: Path) -> Feed:
        from keras_genre import audio

        limits = audio.AudioLimits(max_seconds=60.0)
        path = folder / f"input.{name[:3]}"

        def load(content: bytes) -> None:
            # From a file and from bytes: other code reads them.
            path.write_bytes(content)
            with contextlib.suppress(KerasGenreError):
                audio.load(path, mutation.RATE, limits)
            waveform = audio.load(content, mutation.RATE, limits)
            assert waveform.dtype == np.float32 and np.isfinite(waveform).all()

        return load

    return Target(make, feed, 20)


def _in_graph(folder: Path) -> Feed:
    import tensorflow as tf

    from keras_genre.pcm_graph import decode_pcm16

    decode = tf.function(lambda content: decode_pcm16(content, mutation.RATE), [tf.TensorSpec([], tf.string)])

    def feed(content: bytes) -> None:
        with contextlib.suppress(tf.errors.InvalidArgumentError):
            assert np.isfinite(decode(content)).all()

    return feed


@functools.cache
def _npz_seed() -> bytes:
    file = io.BytesIO()
    generator = np.random.default_rng(0)
    np.savez_compressed(
        file,
        X=generator.standard_normal((6, 4, 3)).astype(np.float32),
        Y=np.arange(6) % 2,
        IDS=np.array([f"genre{number % 2}/genre{number % 2}.{number:05d}.au" for number in range(6)]),
        SPLIT=np.array(["train", "validation", "test"] * 2),
        GROUP=np.array([f"artist {number}" for number in range(6)]),
    )
    return file.getvalue()


def _read_sequences(path: Path) -> None:
    from keras_genre import exchange

    exchange.genre_names(exchange.read_sequences([path]), [])


def _npz(folder: Path) -> Feed:
    def feed(content: bytes) -> None:
        (folder / "input.npz").write_bytes(content)
        _read_sequences(folder / "input.npz")

    return feed


def _npy(folder: Path) -> Feed:
    targets = io.BytesIO()
    np.save(targets, np.eye(4))

    def feed(content: bytes) -> None:
        (folder / "data_train_input.npy").write_bytes(content)
        (folder / "data_train_target.npy").write_bytes(targets.getvalue())
        _read_sequences(folder)

    return feed


@functools.cache
def _npy_seed() -> bytes:
    file = io.BytesIO()
    np.save(file, np.random.default_rng(0).standard_normal((4, 5, 3)).astype(np.float32))
    return file.getvalue()


FEATURES_JSON = json.dumps(
    {"mapping": ["blues", "rock"], "mfcc": [[[0.5, -1.0], [2.0, 3e-5]]] * 4, "labels": [0, 1, 0, 1]}
).encode()


def _features_json(folder: Path) -> Feed:
    def feed(content: bytes) -> None:
        (folder / "train.json").write_bytes(content)
        _read_sequences(folder / "train.json")

    return feed


LIST_CSV = (
    "track,genre,file,group,split,sha256,fold\n"
    'a,jazz,a.wav,"one, two",train,,0\nb,jazz,b.wav,three,test,,1\n"c ""d""",röck,c.wav,,validation,,2\n'
).encode()


def _lists(folder: Path) -> Feed:
    from keras_genre.clips import Clip
    from keras_genre.datasets import index, splits

    for name in "abc":
        (folder / f"{name}.wav").write_bytes(mutation.audio_seed("wav"))
    clips = [Clip(track=name, genre="jazz", sha256=name) for name in ("a", "b", 'c "d"')]
    path = folder / "input.csv"

    def feed(content: bytes) -> None:
        path.write_bytes(content)
        for read in (
            lambda: index.add_groups(clips, path),
            lambda: splits.split_from_csv(clips, path),
            lambda: splits.split_from_folds(clips, path, 1),
        ):
            with contextlib.suppress(KerasGenreError):
                read()
        index.index(path)

    return feed


def _with_checksum(seed: bytes, generator: random.Random) -> bytes:
    content = mutation.damaged_json(seed, generator)
    with contextlib.suppress(ValueError, RecursionError):
        values = json.loads(content)
        if isinstance(values, dict) and generator.random() < 0.9:
            values.pop("checksum", None)
            checksum = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
            return files.json_text({"checksum": checksum, **values}).encode("utf-8", "surrogatepass")
    return content


@functools.cache
def _store_seed() -> dict[str, bytes]:
    from keras_genre.clips import Clip
    from keras_genre.store import StoreHeader, StoreWriter

    clips = [
        Clip(track=f"{name}.0", genre=name, split="train", group=name, sha256=name * 3) for name in ("a", "b", "c")
    ]
    frames = np.random.default_rng(0).standard_normal((3, 13)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "store"
        with StoreWriter(out, StoreHeader.of(FrontEndParams("mfcc13")), clips) as writer:
            for number, members in writer.missing():
                writer.add(number, [frames] * len(members))
            writer.finish()
        return {path.name: path.read_bytes() for path in out.iterdir()}


def _store(damaged: str) -> Target:
    def make(generator: random.Random) -> bytes:
        seed = _store_seed()[damaged]
        return _with_checksum(seed, generator) if damaged.endswith("json") else mutation.mutated(seed, generator)

    def feed(folder: Path) -> Feed:
        from keras_genre.store import open_store, validate_store

        out = folder / "store"
        out.mkdir()
        for name, content in _store_seed().items():
            (out / name).write_bytes(content)
        whole = [frames for _, frames in open_store(out).read()]

        def read(content: bytes) -> None:
            (out / damaged).write_bytes(content)
            problems = validate_store(out)
            found = [frames for _, frames in open_store(out).read()]
            if not damaged.endswith("json") and content != _store_seed()[damaged]:
                assert problems, "damage of a shard was not noticed"
                # Each record carries its own checksum, so what is read is right or refused.
                for frames, expected in zip(found, whole, strict=True):
                    np.testing.assert_array_equal(frames, expected)

        return read

    return Target(make, feed, 5)


@functools.cache
def _keras_seed() -> bytes:
    import keras

    from keras_genre.models.networks import build_model

    keras.utils.set_random_seed(0)
    statistics = np.zeros(3, np.float32), np.ones(3, np.float32)
    model = build_model(ModelParams(lstm_units=(4,)), 4, 3, 2, *statistics, use_cudnn=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        keras.saving.save_model(model, path)
        return path.read_bytes()


def _keras_config(generator: random.Random) -> bytes:
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_keras_seed())) as source, zipfile.ZipFile(result, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            damaged = mutation.damaged_json(content, generator) if name == "config.json" else content
            mutation.pack(target, name, damaged)
    return result.getvalue()


def _network(folder: Path) -> Feed:
    from keras_genre.runs import load_model

    def feed(content: bytes) -> None:
        import keras

        (folder / "model.keras").write_bytes(content)
        try:
            load_model(folder)
        finally:
            keras.backend.clear_session()

    return feed


@functools.cache
def _run_seed() -> bytes:
    from keras_genre.runs import RunInfo
    from keras_genre.store import StoreHeader

    header = StoreHeader.of(FrontEndParams())
    info = RunInfo(
        "lstm_optim", TrainParams(), header, 33, ("a", "b"), "data", {"x": "train"}, ("note",), {"keras": "3"}
    )
    return files.json_text(info.to_json()).encode()


def _run(folder: Path) -> Feed:
    from keras_genre.runs import read_run

    def feed(content: bytes) -> None:
        (folder / "run.json").write_bytes(content)
        read_run(folder)

    return feed


HISTORY_CSV = b"epoch,learning_rate,loss,accuracy,val_loss,val_accuracy,seconds\n" + b"".join(
    b"%d,0.001,1.5,0.5,1.25,0.5,2.0\n" % epoch for epoch in range(1, 5)
)


def _history(folder: Path) -> Feed:
    from keras_genre.runs import best_epoch, read_history

    def feed(content: bytes) -> None:
        (folder / "history.csv").write_bytes(content)
        best_epoch(read_history(folder))

    return feed


SAVED_PARAMS = json.dumps(
    {
        "preset": "lstm_optim",
        "genres": ["a", "b"],
        "signatures": ["serving_default"],
        "features": "spectral33",
        "dims": 33,
        "window_frames": 128,
        "window_seconds": 3.0,
        "hop_seconds": 0.02,
        "sample_rate_hz": 22050,
        "minimum_samples": 65024,
        "front_end": to_json(FrontEndParams()),
        "network": to_json(ModelParams()),
        "versions": {"training": {}, "export": {}},
    }
).encode()


def _saved_params(folder: Path) -> Feed:
    from keras_genre.saved_models import read_saved_model

    (folder / "assets").mkdir()
    (folder / "saved_model.pb").write_bytes(b"")

    def feed(content: bytes) -> None:
        (folder / "assets" / "params.json").write_bytes(content)
        read_saved_model(folder)

    return feed


CALLS = tuple(
    json.dumps(call).encode()
    for call in (
        {"instances": [[0.1, -0.2, 3e-5], [1, 2, 3]]},
        {"signature_name": "features", "inputs": {"frames": [[[0.5] * 3] * 4]}},
        {"signature_name": "encoded", "instances": [{"encoded": {"b64": "UklGRg=="}}]},
        {"signature_name": "mixed", "instances": [{"a": 1, "b": True, "c": "x"}, {"a": 2, "b": False, "c": "y"}]},
    )
)


def _damaged_call(generator: random.Random) -> bytes:
    return mutation.damaged_json(generator.choice(CALLS), generator)


def _protocol(folder: Path) -> Feed:
    from keras_genre.serving.protocol import RequestError, Signature, TensorSpec, format_error, parse_call

    def signature(name: str, **inputs: TensorSpec) -> Signature:
        return Signature(name, inputs, {"probabilities": TensorSpec("DT_FLOAT", (None, 2))})

    known = [
        signature("serving_default", waveform=TensorSpec("DT_FLOAT", (None, None))),
        signature("features", frames=TensorSpec("DT_FLOAT", (None, None, 3))),
        signature("encoded", encoded=TensorSpec("DT_STRING", (None,))),
        signature(
            "mixed",
            a=TensorSpec("DT_INT32", (None,)),
            b=TensorSpec("DT_BOOL", (None,)),
            c=TensorSpec("DT_STRING", (None,)),
        ),
    ]
    by_name = {each.name: each for each in known}

    def feed(content: bytes) -> None:
        try:
            parse_call(content, by_name)
        except RequestError as error:
            assert 400 <= error.status < 500, error.status
            assert len(format_error(str(error))) < 10_000

    return feed


def _archive(suffix: str) -> Callable[[Path], Feed]:
    def feed(folder: Path) -> Feed:
        from keras_genre.datasets.archives import unpack

        archive = folder / f"input{suffix}"
        numbers = iter(range(1 << 30))

        def read(content: bytes) -> None:
            archive.write_bytes(content)
            before = sorted(os.listdir(folder.parent))
            try:
                unpack(archive, folder / f"out {next(numbers)}" / "data", 1 << 20, 100)
            finally:
                assert sorted(os.listdir(folder.parent)) == before, "something was unpacked outside"

        return read

    return feed


def _request(generator: random.Random) -> bytes:
    """Make an HTTP request: a damaged upload or call, or one whose own text is damaged."""
    if generator.random() < 0.5:
        name = generator.choice(list(mutation.AUDIO_FORMATS))
        path, body = "/v1/audio", mutation.mutated(mutation.audio_seed(name), generator)
    else:
        path, body = "/v1/models/{model}:predict", _damaged_call(generator)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    return (mutation.mutated(head, generator) if generator.random() < 0.2 else head) + body


def _server(folder: Path) -> Feed:
    import socket

    from benchmarks.serving_load import Server

    model = Path(os.environ["HOSTILE_INPUT_MODEL"])
    server = Server(model, ["--body-seconds", "2"]).__enter__()
    # It ends with this process; if that is killed, with its group.
    atexit.register(server.__exit__)

    def feed(content: bytes) -> None:
        content = content.replace(b"{model}", model.resolve().name.encode())
        with socket.create_connection(("127.0.0.1", server.port), timeout=WALL_SECONDS / 2) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
            answer = bytearray()
            with contextlib.suppress(ConnectionError):
                while part := connection.recv(1 << 16):
                    answer += part
        assert "Traceback" not in server.log(), server.log()[-3000:]
        if answer:
            status = int(bytes(answer).split(b" ", 2)[1])
            assert status < 500, bytes(answer[:1000])
            assert b"Traceback" not in answer

    return feed


TARGETS: dict[str, Target] = {
    **{f"audio {name}": _audio(name) for name in mutation.AUDIO_FORMATS},
    "audio in a graph": Target(
        lambda generator: mutation.mutated(mutation.audio_seed(generator.choice(("wav", "au", "wavex"))), generator),
        _in_graph,
    ),
    "features npz": Target(lambda generator: mutation.damaged_zip(_npz_seed(), generator), _npz, 20),
    "features npy": Target(lambda generator: mutation.mutated(_npy_seed(), generator), _npy),
    "features json": Target(lambda generator: mutation.damaged_json(FEATURES_JSON, generator), _features_json),
    "list csv": Target(lambda generator: mutation.mutated(LIST_CSV, generator), _lists),
    "store manifest": _store("store.json"),
    "store shard": _store("shard-00000.tfrecord"),
    "network file": Target(lambda generator: mutation.damaged_zip(_keras_seed(), generator), _network, 3),
    "network config": Target(_keras_config, _network, 3),
    "run json": Target(lambda generator: mutation.damaged_json(_run_seed(), generator), _run),
    "run history": Target(lambda generator: mutation.mutated(HISTORY_CSV, generator), _history),
    "saved model params": Target(lambda generator: mutation.damaged_json(SAVED_PARAMS, generator), _saved_params),
    "call": Target(_damaged_call, _protocol, 20),
    "archive zip": Target(lambda generator: mutation.damaged_zip(mutation.zip_seed(), generator), _archive(".zip")),
    "archive tar": Target(lambda generator: mutation.damaged_gzip(mutation.tar_seed(), generator), _archive(".tar.gz")),
    "server": Target(_request, _server),
}


# --- In a process of its own: one input after the other ---


def work(name: str, seed: int, numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Feed inputs and yield what came of each, after a note that it begins.

    The process is ended by its own limits: SIGPROF for too much processor time, SIGALRM for too much time.
    """
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "scratch"
        scratch.mkdir()
        feed = TARGETS[name].feed(scratch)
        for number in numbers:
            content = input_of(name, seed, number)
            yield {"number": number}
            begin, memory = time.process_time(), _peak_mib(reset=True)
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            signal.alarm(WALL_SECONDS)
            outcome, finding = "taken", ""
            try:
                feed(content)
            except KerasGenreError as error:
                outcome = type(error).__name__
            except Exception:
                finding = traceback.format_exc()
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
            seconds, grown = time.process_time() - begin, _peak_mib() - memory
            if grown > MEMORY_MIB:
                finding = finding or f"took {grown:.0f} MiB of memory"
            yield {"number": number, "outcome": outcome, "finding": finding, "seconds": seconds, "mib": grown}


def _peak_mib(reset: bool = False) -> float:
    """Return the most memory that this process has held since the last reset; with `reset`, what it holds."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _limit_memory() -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    # TensorFlow maps a lot that it never uses.
    resource.setrlimit(resource.RLIMIT_AS, (size + (16 << 30), -1))


def _work_in_process(name: str, seed: int, numbers: Sequence[int], model: Path | None) -> Iterator[dict[str, Any]]:
    """Run `work` in a process; of an input that ends the process, that is the finding."""
    command = [sys.executable, "-m", "benchmarks.hostile_input", name, "--seed", str(seed), "--work"]
    command.append(f"{numbers[0]}-{numbers[-1]}")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    environment |= {"HOSTILE_INPUT_MODEL": str(model)} if model else {}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, env=environment, text=True, start_new_session=True
        )
        assert process.stdout is not None
        begun = None
        try:
            for line in process.stdout:
                result = json.loads(line)
                begun = None if "outcome" in result else result["number"]
                if "outcome" in result:
                    yield result
            status = process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if status == 0:
            return
        log.seek(0)
        words = log.read()[-2000:]
        if begun is None:
            raise SystemExit(f"{name}: the process ended with status {status} between inputs\n{words}")
        how = {
            -signal.SIGPROF: f"took over {CPU_SECONDS} s of processor time",
            -signal.SIGALRM: f"took over {WALL_SECONDS} s",
        }.get(status, f"ended the process with status {status}")
        yield {"number": begun, "outcome": "ended", "finding": f"{how}\n{words}", "seconds": 0.0, "mib": 0.0}


# --- The whole, in pieces that a killed run does not lose ---


def quota(names: Sequence[str], inputs: int) -> dict[str, int]:
    """Return how many of all inputs go to each target."""
    shares = sum(TARGETS[name].share for name in names)
    return {name: -(-inputs * TARGETS[name].share // shares) for name in names}


def run(names: Sequence[str], inputs: int, seed: int, seconds: float, model: Path | None, out: Path) -> dict[str, Any]:
    """Feed inputs until there were enough, or the time is over; keep what was found in `out`.

    Returns
    -------
    dict
        Target -> number of inputs, outcomes, findings, and the most time and memory that an input took.
    """
    out.mkdir(parents=True, exist_ok=True)
    record = out / "hostile_input.json"
    state: dict[str, Any] = json.loads(record.read_text()) if record.is_file() else {"seed": seed, "targets": {}}
    if state["seed"] != seed:
        raise SystemExit(f"{record}: is of seed {state['seed']}; name another --out")
    wanted = quota(names, inputs)
    end = time.monotonic() + seconds
    blank = {"inputs": 0, "outcomes": {}, "findings": [], "seconds": 0.0, "mib": 0.0}
    for name in names:
        state["targets"].setdefault(name, json.loads(json.dumps(blank)))
    done = sum(min(state["targets"][name]["inputs"], wanted[name]) for name in names)
    with Progress(sum(wanted.values()), "inputs", done=done) as progress:
        open_targets = collections.deque(names)
        while open_targets and time.monotonic() < end:
            name = open_targets.popleft()
            found = state["targets"][name]
            numbers = range(found["inputs"], min(found["inputs"] + SLICE, wanted[name]))
            if not numbers:
                continue
            open_targets.append(name)
            for result in _work_in_process(name, seed, numbers, model):
                found["inputs"] = result["number"] + 1
                found["outcomes"][result["outcome"]] = found["outcomes"].get(result["outcome"], 0) + 1
                found["seconds"], found["mib"] = (
                    max(found["seconds"], result["seconds"]),
                    max(found["mib"], result["mib"]),
                )
                if result["finding"]:
                    found["findings"].append({"number": result["number"], "finding": result["finding"]})
                    progress.say(f"{name} {result['number']}: {result['finding']}")
                progress.advance()
                if time.monotonic() > end:
                    break
            files.write_json(record, state)
    return state["targets"]


def table(targets: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [
        "| target | inputs | taken | refused | findings | longest | most memory |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, found in targets.items():
        taken = found["outcomes"].get("taken", 0)
        lines.append(
            f"| {name} | {found['inputs']} | {taken} | {found['inputs'] - taken} | {len(found['findings'])} | "
            f"{found['seconds']:.2f} s | {found['mib']:.0f} MiB |"
        )
    inputs, findings = (
        sum(each) for each in zip(*((f["inputs"], len(f["findings"])) for f in targets.values()), strict=True)
    )
    return "\n".join([*lines, f"| all | {inputs} | | | {findings} | | |"])


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hostile_input", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--inputs", type=int, default=20_000, metavar="N", help="how many in all (20000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--seconds", type=float, default=1e9, metavar="S", help="stop then; the same command goes on")
    parser.add_argument("--model", type=Path, metavar="NAME", help="SavedModel for the server; without it, no server")
    parser.add_argument("--out", type=Path, default=Path("hostile_input"), metavar="FOLDER")
    parser.add_argument("--show", nargs=2, metavar=("TARGET", "NUMBER"), help="write an input to standard output")
    parser.add_argument("--work", metavar="FIRST-LAST", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.show:
        sys.stdout.buffer.write(input_of(options.show[0], options.seed, int(options.show[1])))
        return cli.DONE
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(TARGETS)}")
    if options.work:
        first, last = map(int, options.work.split("-"))
        if options.targets[0] != "server":
            # The server would inherit it, and TensorFlow aborts where addresses run out.
            _limit_memory()
        for result in work(options.targets[0], options.seed, range(first, last + 1)):
            print(json.dumps(result), flush=True)
        return cli.DONE
    names = options.targets or [name for name in TARGETS if name != "server" or options.model]
    found = run(names, options.inputs, options.seed, options.seconds, options.model, options.out)
    print(table(found))
    return cli.SOME_FAILED if any(each["findings"] for each in found.values()) else cli.DONE


if __name__ == "__main__":
    sys.exit(main())
