"""Requests of equal shape are computed together, in threads beside the event loop."""

import asyncio
import collections
import dataclasses
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np

from keras_genre.serving.protocol import RequestError, Signature

Tensors = Mapping[str, np.ndarray]


class Runs(Protocol):
    """What a batcher calls: a `models.Servable`."""

    def run(self, name: str, inputs: Tensors) -> dict[str, np.ndarray]:
        """Call the signature `name`."""


@dataclasses.dataclass(frozen=True)
class _Item:
    inputs: Tensors
    rows: int
    values: int
    arrived: float
    answer: "asyncio.Future[dict[str, np.ndarray]]"


@dataclasses.dataclass
class _Group:
    """Requests that may be computed together."""

    servable: Runs
    signature: str
    is_batched: bool
    items: "collections.deque[_Item]" = dataclasses.field(default_factory=collections.deque)


class Batcher:
    """Gathers requests for a short time and computes them as one.

    It assumes of a signature whose first dimensions are all open that its rows do not depend on each other.
    Signatures of other shapes are called for each request alone.

    Parameters
    ----------
    rows, values : int > 0
        Most rows and numbers of a batch; a request that alone has more is a batch by itself.
    wait_seconds : float >= 0
        How long the first request of a batch waits for others.
    threads : int > 0
        Batches computed at a time.
    on_batch : callable
        Is told the number of rows and the seconds of every batch.
    """

    def __init__(
        self,
        rows: int,
        values: int,
        wait_seconds: float,
        threads: int,
        on_batch: Callable[[int, float], None] = lambda rows, seconds: None,
    ):
        self._rows = rows
        self._values = values
        self._wait_seconds = wait_seconds
        self._on_batch = on_batch
        self._groups: collections.OrderedDict[Hashable, _Group] = collections.OrderedDict()
        self._arrival = asyncio.Event()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="inference")
        self._runners = [asyncio.create_task(self._work()) for _ in range(threads)]

    @property
    def waiting(self) -> int:
        """Requests that no thread has taken up yet."""
        return sum(len(group.items) for group in self._groups.values())

    async def run(
        self, servable: Runs, signature: Signature, inputs: Tensors, timeout_seconds: float
    ) -> dict[str, np.ndarray]:
        """Call a signature of a servable, together with others.

        Raises
        ------
        RequestError
            What the servable raises; status 504 if there is no answer in time.
        """
        heads = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
        # Without rows of one number there is nothing that could be put together and taken apart again.
        is_batched = signature.is_batched and len(heads) == 1 and 0 not in heads
        shapes = tuple(sorted((name, array.shape[1:]) for name, array in inputs.items()))
        key: Hashable = (id(servable), signature.name, shapes) if is_batched else object()
        group = self._groups.setdefault(key, _Group(servable, signature.name, is_batched))
        item = _Item(
            inputs,
            heads.pop() if is_batched else 1,
            sum(array.size for array in inputs.values()),
            time.monotonic(),
            asyncio.get_running_loop().create_future(),
        )
        group.items.append(item)
        self._arrival.set()
        try:
            return await asyncio.wait_for(item.answer, timeout_seconds)
        except asyncio.TimeoutError as error:
            raise RequestError(504, "no answer in time") from error

    async def close(self) -> None:
        """Stop; requests that wait are not answered any more."""
        for runner in self._runners:
            runner.cancel()
        await asyncio.gather(*self._runners, return_exceptions=True)
        self._executor.shutdown(wait=True, cancel_futures=True)

    async def _work(self) -> None:
        while True:
            if not self._groups:
                self._arrival.clear()
                await self._arrival.wait()
            key, group = next(iter(self._groups.items()))
            early = group.items[0].arrived + self._wait_seconds - time.monotonic()
            if group.is_batched and early > 0 and not self._is_full(group):
                await asyncio.sleep(early)
                # Another runner may have taken the group meanwhile.
                continue
            batch = self._take(key, group)
            if batch:
                await self._answer(group, batch)

    def _is_full(self, group: _Group) -> bool:
        return (
            sum(item.rows for item in group.items) >= self._rows
            or sum(item.values for item in group.items) >= self._values
        )

    def _take(self, key: Hashable, group: _Group) -> list[_Item]:
        batch: list[_Item] = []
        rows = values = 0
        while group.items:
            item = group.items[0]
            if batch and (rows + item.rows > self._rows or values + item.values > self._values):
                break
            group.items.popleft()
            # Whoever asked may have stopped waiting.
            if not item.answer.done():
                batch.append(item)
                rows += item.rows
                values += item.values
        if group.items:
            self._groups.move_to_end(key)
        else:
            del self._groups[key]
        return batch

    async def _answer(self, group: _Group, batch: Sequence[_Item]) -> None:
        begin = time.monotonic()
        loop = asyncio.get_running_loop()
        call = loop.run_in_executor(
            self._executor, _run_batch, group.servable, group.signature, [i.inputs for i in batch]
        )
        results = await call
        self._on_batch(sum(item.rows for item in batch), time.monotonic() - begin)
        for item, result in zip(batch, results, strict=True):
            if item.answer.done():
                continue
            if isinstance(result, Exception):
                item.answer.set_exception(result)
            else:
                item.answer.set_result(result)


def _run_batch(
    servable: Runs, signature: str, requests: Sequence[Tensors]
) -> Sequence[dict[str, np.ndarray] | Exception]:
    if len(requests) > 1:
        stacked = {name: np.concatenate([inputs[name] for inputs in requests]) for name in requests[0]}
        lengths = [next(iter(inputs.values())).shape[0] for inputs in requests]
        outputs = _try(servable, signature, stacked)
        if not isinstance(outputs, Exception) and all(
            array.ndim and array.shape[0] == sum(lengths) for array in outputs.values()
        ):
            ends = np.cumsum(lengths)
            return [
                {name: array[end - length : end] for name, array in outputs.items()}
                for end, length in zip(ends, lengths, strict=True)
            ]
        # One of them may be what the model refuses: the others are not to suffer for it.
    return [_try(servable, signature, inputs) for inputs in requests]


def _try(servable: Runs, signature: str, inputs: Tensors) -> dict[str, np.ndarray] | Exception:
    try:
        return servable.run(signature, inputs)
    except Exception as error:
        return error
