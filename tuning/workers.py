"""Worker processes: those that a search starts on this machine, and what a worker does wherever it runs."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
from keras_tuner.src.distribute import oracle_client

from keras_genre import cli
from keras_genre.errors import SearchError
from keras_genre.extract import THREAD_VARIABLES
from tuning.chief import IDENTITY, Chief
from tuning.project import differences
from tuning.tuner import GenreTuner

PARENT = "KERAS_GENRE_SEARCH_PARENT"
TUNER_ID = "KERASTUNER_TUNER_ID"
DEATHS_IN_A_ROW = 3
"""So many deaths a worker, without a trial that ended in between, and the search gives up."""


def address_of(text: str) -> tuple[str, int]:
    """Split `HOST:PORT`.

    Raises
    ------
    ValueError
        If it is not that.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host, int(port)


class LocalWorkers:
    """Worker processes on this machine, started again when they die.

    Parameters
    ----------
    number : int > 0
    command : sequence of str
        That runs a worker.
    logs : Path
        Folder for what they say.
    gpus : sequence of str
        Identifiers of the GPUs, which are shared out in turn; empty: none.
    """

    def __init__(self, number: int, command: Sequence[str], logs: Path, gpus: Sequence[str]):
        self._command = list(command)
        self._logs = logs
        self._gpus = gpus
        self._number = number
        self._processes: dict[str, subprocess.Popen] = {}
        self._deaths = 0
        self._ended = 0

    def __enter__(self) -> "LocalWorkers":
        self._logs.mkdir(parents=True, exist_ok=True)
        for number in range(self._number):
            self._start(number)
        return self

    def __exit__(self, *_) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, number: int) -> None:
        name = f"worker-{number}"
        # Two processes of as many threads as there are cores would only be in each other's way.
        threads = max(1, (os.cpu_count() or 1) // self._number)
        environment = os.environ | threads_of(threads) | {TUNER_ID: name, PARENT: str(os.getpid())}
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[number % len(self._gpus)]
        with (self._logs / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )

    def look_after(self, chief: Chief, ended: int, is_over: bool) -> None:
        """Tell the chief of workers that died, and start others in their place.

        Parameters
        ----------
        chief : Chief
        ended : int
            Trials that have ended so far.
        is_over : bool
            All trials have ended: workers that end are not missed.

        Raises
        ------
        SearchError
            If they die again and again.
        """
        if ended > self._ended:
            self._ended, self._deaths = ended, 0
        for number, (name, process) in enumerate(list(self._processes.items())):
            status = process.poll()
            if status is None:
                continue
            chief.lost(name)
            if is_over:
                continue
            self._deaths += 1
            log = self._logs / f"{name}.log"
            if self._deaths > DEATHS_IN_A_ROW * self._number:
                raise SearchError(f"workers die again and again, the last one with status {status}; see {log}")
            cli.say(f"{name} ended with status {status}; another takes its place ({log})")
            self._start(number)


def threads_of(threads: int) -> dict[str, str]:
    """Return the environment of a process that may use so many threads."""
    names = (*THREAD_VARIABLES, "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    return dict.fromkeys(names, str(threads))


def visible_gpus() -> list[str]:
    """Return the identifiers of the GPUs that may be used, as `CUDA_VISIBLE_DEVICES` takes them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [each for each in given.split(",") if each and each != "-1"]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(number) for number, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU ")]


def end_with_parent() -> None:
    """Make this process end when the one that started it is gone, however it ended."""
    parent = int(os.environ.get(PARENT, "0"))
    if not parent:
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def worker_environment(host: str, port: int) -> dict[str, str]:
    """Return what makes KerasTuner ask a chief."""
    # An identifier with "chief" in it would make a worker the chief.
    identifier = os.environ.get(TUNER_ID) or f"worker-{uuid.uuid4().hex[:12]}"
    return {
        "KERASTUNER_ORACLE_IP": host,
        "KERASTUNER_ORACLE_PORT": str(port),
        TUNER_ID: identifier,
        # Through a proxy a chief in the neighbourhood would not be found.
        "no_grpc_proxy": host,
    }


@contextlib.contextmanager
def asking(host: str, port: int, wait_seconds: float) -> Iterator[None]:
    """Wait so long at most for each answer of the chief.

    Raises
    ------
    SearchError
        If there is none, or the chief failed.
    """
    before, oracle_client.TIMEOUT = oracle_client.TIMEOUT, wait_seconds
    try:
        yield
    except grpc.RpcError as error:
        code = error.code() if isinstance(error, grpc.Call) else None
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise SearchError(f"the chief at {host}:{port} gave no answer for {wait_seconds:g} s") from error
        details = error.details() if isinstance(error, grpc.Call) else error
        raise SearchError(f"the chief at {host}:{port} is gone ({details})") from error
    finally:
        oracle_client.TIMEOUT = before


def check_chief(tuner: GenreTuner, identity: Mapping[str, Any]) -> None:
    """Make sure that the chief's search is this worker's.

    Raises
    ------
    SearchError
        With the difference.
    """
    found = tuner.oracle.get_space().values.get(IDENTITY)
    theirs = json.loads(found) if found else {}
    if changes := "; ".join(differences(theirs, json.loads(json.dumps(identity)))):
        raise SearchError(f"the chief searches with other parameters or data than this worker ({changes})")


def start_again() -> None:
    """Replace this process with a new one of the same command: memory that leaked over its trials is given back."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
