"""From audio files to feature frames, in worker processes that bad files cannot take along."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

from keras_genre.errors import AudioError
from keras_genre.params import FrontEndParams

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclasses.dataclass(frozen=True)
class Job:
    """A file to compute features of.

    Attributes
    ----------
    path : Path
    name : str
        What messages call it.
    front_end : FrontEndParams
    min_seconds, max_seconds : float
        Shorter and longer files are refused.
    """

    path: Path
    name: str
    front_end: FrontEndParams
    min_seconds: float
    max_seconds: float


@dataclasses.dataclass(frozen=True)
class Extracted:
    """What came of a job: frames (frames, dims) float32 and their duration, or an error; and warnings."""

    frames: np.ndarray | None = None
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    error: str = ""


def extract(job: Job) -> Extracted:
    """Compute a file's feature frames, or find out why they cannot be computed."""
    from keras_genre import audio
    from keras_genre.features.reference import waveform_to_frames

    rate = job.front_end.sample_rate_hz
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            limits = audio.AudioLimits(min_seconds=job.min_seconds, max_seconds=job.max_seconds)
            waveform = audio.load(job.path, rate, limits, name=job.name)
            frames = waveform_to_frames(waveform, job.front_end)
    except AudioError as error:
        return Extracted(error=str(error))
    except MemoryError:
        return Extracted(error=f"{job.name}: too long for the memory of this machine; lower --max-seconds")
    own = tuple(str(w.message) for w in caught if w.category.__module__.startswith("keras_genre"))
    return Extracted(frames, waveform.size / rate, own)


def extract_all(jobs: Sequence[Job], processes: int) -> Iterator[Extracted]:
    """Compute many files in worker processes and yield what came of them, in order.

    A file that kills its worker (a crash in a decoder, no memory) is a failure like any other; the rest go on.
    """
    position = 0
    while position < len(jobs):
        try:
            for result in _extract_in_pool(jobs[position:], processes):
                position += 1
                yield result
        except BrokenProcessPool:
            # Any of the files in flight may be the culprit: the first of them runs alone to find out.
            try:
                yield from _extract_in_pool(jobs[position : position + 1], 1)
            except BrokenProcessPool:
                yield Extracted(error=f"{jobs[position].name}: killed the process that read it")
            position += 1


def _extract_in_pool(jobs: Sequence[Job], processes: int) -> Iterator[Extracted]:
    # Fresh interpreters, because a fork of a process that runs TensorFlow can hang.
    context = multiprocessing.get_context("spawn")
    waiting: collections.deque[concurrent.futures.Future[Extracted]] = collections.deque()
    with (
        _single_threaded_children(),
        concurrent.futures.ProcessPoolExecutor(min(processes, len(jobs)), mp_context=context) as pool,
    ):
        try:
            for job in jobs:
                waiting.append(pool.submit(extract, job))
                # A bounded queue: results must not pile up in memory while the reader of them is busy.
                if len(waiting) >= 4 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextlib.contextmanager
def _single_threaded_children() -> Iterator[None]:
    # One thread a process uses the cores best, and sums are then made in one order on every machine.
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
