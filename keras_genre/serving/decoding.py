"""Uploaded audio is decoded in processes of its own, which hostile files may take along without harm."""

import asyncio
import contextlib
import multiprocessing
import signal
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import numpy as np

from keras_genre.errors import AudioError, AudioTooLongError, NotAudioError
from keras_genre.serving.protocol import RequestError


class DecoderPool:
    """Processes that turn the bytes of audio files into waveforms.

    Each works on one file at a time, so that a crash or a file without end costs one request and one process.

    Parameters
    ----------
    processes : int > 0
    """

    def __init__(self, processes: int):
        self._executor = ThreadPoolExecutor(processes, thread_name_prefix="decoding")
        self._idle: asyncio.Queue[_Decoder] = asyncio.Queue()
        self._decoders = [_Decoder() for _ in range(processes)]
        for decoder in self._decoders:
            self._idle.put_nowait(decoder)

    async def decode(
        self, content: bytes, name: str, sample_rate_hz: int, max_seconds: float, timeout_seconds: float
    ) -> np.ndarray:
        """Decode a file.

        Parameters
        ----------
        content : bytes
            The file.
        name : str
            What to call it in errors; never opened.
        sample_rate_hz : int
            Rate of the result.
        max_seconds : float
            Longer audio is refused.
        timeout_seconds : float
            For waiting and decoding.

        Returns
        -------
        np.ndarray [shape=(samples,), float32]

        Raises
        ------
        RequestError
            413 for what is too long, 415 for what is not audio, 400 for other audio that cannot be used, 504 if
            no decoder is free in time.
        """
        deadline = time.monotonic() + timeout_seconds
        try:
            decoder = await asyncio.wait_for(self._idle.get(), timeout_seconds)
        except asyncio.TimeoutError as error:
            raise RequestError(504, "no decoder was free in time") from error
        job = (content, name, sample_rate_hz, max_seconds)
        call = asyncio.get_running_loop().run_in_executor(self._executor, decoder.decode, job, deadline)
        # Also when the request is cancelled, the decoder is idle only when its thread is done with it.
        call.add_done_callback(lambda _: self._idle.put_nowait(decoder))
        result = await call
        if isinstance(result, np.ndarray):
            return result
        status, reason = result
        raise RequestError(status, reason)

    def close(self) -> None:
        """End the processes."""
        for decoder in self._decoders:
            decoder.end()
        self._executor.shutdown(wait=True, cancel_futures=True)


Job = tuple[bytes, str, int, float]
Result = np.ndarray | tuple[int, str]


class _Decoder:
    """One process, replaced when it dies."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        # Fresh interpreters, because a fork of a process that runs TensorFlow can hang.
        context = multiprocessing.get_context("spawn")
        self._connection, far_end = context.Pipe()
        self._process = context.Process(target=_decode_until_closed, args=(far_end,), daemon=True)
        self._process.start()
        far_end.close()

    def decode(self, job: Job, deadline: float) -> Result:
        name = job[1]
        if not self._process.is_alive():
            self._restart()
        try:
            self._connection.send(job)
            if self._connection.poll(max(deadline - time.monotonic(), 0.0)):
                return self._connection.recv()
            reason = f"{name}: could not be decoded in time"
        except (EOFError, OSError):
            reason = f"{name}: killed the process that read it"
        self._restart()
        return 400, reason

    def _restart(self) -> None:
        self.end()
        self._start()

    def end(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.join()


def _decode_until_closed(connection: Connection) -> None:
    # The server decides when it stops; a signal to the whole group must not cut off what it still has to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    from keras_genre import audio

    with contextlib.suppress(EOFError, OSError):
        while True:
            content, name, sample_rate_hz, max_seconds = connection.recv()
            connection.send(_decode(audio, content, name, sample_rate_hz, max_seconds))


def _decode(audio, content: bytes, name: str, sample_rate_hz: int, max_seconds: float) -> Result:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return audio.load(content, sample_rate_hz, audio.AudioLimits(max_seconds=max_seconds), name=name)
    except AudioTooLongError as error:
        return 413, str(error)
    except NotAudioError as error:
        return 415, str(error)
    except AudioError as error:
        return 400, str(error)
    except MemoryError:
        return 413, f"{name}: too long for the memory of this machine"
