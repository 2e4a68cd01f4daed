"""From audio files to feature frames, in worker processes that bad files cannot take along."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from keras_genre.augmentation import altered
from keras_genre.errors import AudioError, UnreachableAudioError
from keras_genre.params import FrontEndParams

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
# One thread a process uses the cores best. A GPU is left to the process that trains or predicts.
WORKER_ENVIRONMENT = {
    **dict.fromkeys(THREAD_VARIABLES, "1"),
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
}


DECODED_BYTES = 2 << 30
"""What decoded waveforms that wait for their reader may take, were all as long as their jobs allow."""

Ticket = TypeVar("Ticket")


@dataclasses.dataclass(frozen=True)
class Job:
    """A file to decode, or to compute features of.

    Attributes
    ----------
    path : Path
    name : str
        What messages call it.
    sample_rate_hz : int > 0
        Of the waveform.
    min_seconds, max_seconds : float
        Shorter and longer files are refused, and for features those without a single frame.
    front_end : FrontEndParams, optional
        Of the features, at that rate.
    variant, track : str
        How to alter the waveform, as for `augmentation.altered`.
    """

    path: Path
    name: str
    sample_rate_hz: int
    min_seconds: float
    max_seconds: float
    front_end: FrontEndParams | None = None
    variant: str = ""
    track: str = ""


@dataclasses.dataclass(frozen=True)
class Extracted:
    """What came of a job: an error, or the duration and what was wanted; and warnings.

    `extract` gives frames (frames, dims) float32, `decode` a waveform (samples,) float32. `may_pass` says of an error
    that it is the machine's, not the file's: another time it may be none.
    """

    frames: np.ndarray | None = None
    waveform: np.ndarray | None = None
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    error: str = ""
    may_pass: bool = False


def extract(job: Job) -> Extracted:
    """Compute a file's feature frames, or find out why they cannot be computed."""
    from keras_genre.features.extractor import waveform_to_frames

    front_end = job.front_end
    assert front_end is not None

    def frames_of(waveform: np.ndarray) -> Extracted:
        return Extracted(frames=waveform_to_frames(altered(waveform, job.variant, job.track), front_end, job.name))

    return _worked(job, frames_of, front_end.samples_of(1) / front_end.sample_rate_hz)


def decode(job: Job) -> Extracted:
    """Decode a file to a waveform, or find out why it cannot be decoded."""
    return _worked(job, lambda waveform: Extracted(waveform=waveform))


def _worked(job: Job, work: Callable[[np.ndarray], Extracted], least_seconds: float = 0.0) -> Extracted:
    from keras_genre import audio

    rate = job.sample_rate_hz
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            limits = audio.AudioLimits(max(job.min_seconds, least_seconds), job.max_seconds)
            waveform = audio.load(job.path, rate, limits, name=job.name)
            found = work(waveform)
    except AudioError as error:
        return Extracted(error=str(error), may_pass=isinstance(error, UnreachableAudioError))
    except MemoryError:
        message = f"{job.name}: too long for the memory of this machine; lower --max-seconds or --jobs"
        return Extracted(error=message, may_pass=True)
    own = tuple(str(w.message) for w in caught if w.category.__module__.startswith("keras_genre"))
    return dataclasses.replace(found, seconds=waveform.size / rate, warnings=own)


Work = Callable[[Job], Extracted]


class Workers(Protocol):
    """Where jobs are done: in processes of this machine, or of others."""

    def run(self, jobs: Sequence[Job], work: Work = extract) -> Iterator[Extracted]:
        """Do `work`, `extract` or `decode`, on many files and yield what came of them, in the order of the jobs.

        A file that kills its worker (a crash in a decoder, no memory) is a failure like any other; the rest go on.
        A worker that is killed for another reason costs nothing but time.
        """


def killed_its_worker(job: Job) -> Extracted:
    """Return what came of a job whose worker ended with it in hand, again and again."""
    return Extracted(error=f"{job.name}: killed the process that read it", may_pass=True)


def in_order(
    jobs: Iterable[Job], most: int, submit: Callable[[Job], Ticket], result: Callable[[Ticket], Extracted]
) -> Iterator[Extracted]:
    """Submit jobs and yield their results in order, with at most `most` jobs submitted at a time.

    Results must not pile up in memory while the reader of them is busy.
    """
    waiting: collections.deque[Ticket] = collections.deque()
    for job in jobs:
        waiting.append(submit(job))
        if len(waiting) >= most:
            yield result(waiting.popleft())
    while waiting:
        yield result(waiting.popleft())


@dataclasses.dataclass(frozen=True)
class LocalWorkers:
    """Worker processes of this machine.

    Attributes
    ----------
    processes : int > 0
    """

    processes: int

    def run(self, jobs: Sequence[Job], work: Work = extract) -> Iterator[Extracted]:
        """Do work as `Workers.run` says."""
        position = 0
        while position < len(jobs):
            try:
                for result in _extract_in_pool(jobs[position:], self.processes, work):
                    position += 1
                    yield result
                    # Its reader may have done with it before the next one is there.
                    del result
            except BrokenProcessPool:
                # Any of the files in flight may be the culprit: the first of them runs alone to find out.
                try:
                    yield from _extract_in_pool(jobs[position : position + 1], 1, work)
                except BrokenProcessPool:
                    yield killed_its_worker(jobs[position])
                position += 1


def most_at_a_time(jobs: Sequence[Job], processes: int, work: Work) -> int:
    """Return how many jobs may be in hand, one at least: enough for all processes, but not more than memory allows.

    Frames are small, and `extract` is slower than its reader. Waveforms pile up before a reader that is slower.
    """
    most = 4 * processes
    if work is not decode:
        return most
    waveform_bytes = max(4 * job.sample_rate_hz * job.max_seconds for job in jobs)
    return max(1, min(most, int(DECODED_BYTES / waveform_bytes)))


def _extract_in_pool(jobs: Sequence[Job], processes: int, work: Work) -> Iterator[Extracted]:
    context = _worker_context(computing=work is extract)
    with concurrent.futures.ProcessPoolExecutor(
        min(processes, len(jobs)), mp_context=context, initializer=end_with_parent
    ) as pool:

        def submit(job: Job) -> concurrent.futures.Future[Extracted]:
            with _settings_of_workers():
                return pool.submit(work, job)

        try:
            yield from in_order(jobs, most_at_a_time(jobs, processes, work), submit, concurrent.futures.Future.result)
        finally:
            pool.shutdown(cancel_futures=True)


def _worker_context(computing: bool) -> multiprocessing.context.BaseContext:
    """Return how workers are started: as forks of one process that has the libraries loaded and runs nothing.

    A fork of this process could hang, as it may run TensorFlow; and loading that anew in every worker takes
    several seconds and several hundred megabytes for each of them.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["keras_genre.audio", *(["keras_genre.features.extractor"] if computing else [])])
    return context


def end_with_parent() -> None:
    """Make this worker process end when the process that started it ends, in whatever way.

    It would outlive a parent that is killed, waiting for work from a pipe that it holds open itself.
    """
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _settings_of_workers() -> Iterator[None]:
    """Set what a process that is started meanwhile takes over from this one."""
    before = {name: os.environ.get(name) for name in WORKER_ENVIRONMENT}
    os.environ.update(WORKER_ENVIRONMENT)
    # Ctrl-C on a terminal reaches the workers too: it is the parent that ends them, after the files in hand.
    signals_before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _uninterrupted():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, signals_before)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put Ctrl-C off to the end of the block: a worker of whose start nobody knows would never be ended.

    A blocked signal is not enough, as it may come by a thread of a library, which does not block it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    put_off: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: put_off.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if put_off:
            signal.raise_signal(signal.SIGINT)
