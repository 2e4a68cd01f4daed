"""Requests that are computed together get the answers that they get alone."""

import asyncio
import threading
import time

import numpy as np
import pytest

from keras_genre.serving.batching import Batcher
from keras_genre.serving.protocol import RequestError, Signature, TensorSpec

ROWS = Signature("rows", {"x": TensorSpec("DT_FLOAT", (None, None))}, {"y": TensorSpec("DT_FLOAT", (None,))})
SCALAR = Signature("scalar", {"x": TensorSpec("DT_FLOAT", ())}, {"y": TensorSpec("DT_FLOAT", ())})


class Model:
    """Sums rows, notes what it was asked, and waits for `gate` before it answers."""

    def __init__(self):
        self.calls = []
        self.gate = threading.Event()
        self.gate.set()

    def run(self, name, inputs):
        self.calls.append(inputs["x"].shape)
        assert self.gate.wait(20)
        if (inputs["x"] < 0).any():
            raise RequestError(400, "negative")
        return {"y": inputs["x"].sum(axis=-1) if name == "rows" else inputs["x"]}


def with_batcher(test, **options):
    """Run a coroutine function with a model and a batcher."""
    parameters = {"rows": 8, "values": 1000, "wait_seconds": 0.05, "threads": 1, **options}

    async def run():
        batcher = Batcher(**parameters)
        try:
            return await test(Model(), batcher)
        finally:
            await batcher.close()

    return asyncio.run(run())


def ask(batcher, model, array, signature=ROWS, timeout=20.0):
    return asyncio.create_task(batcher.run(model, signature, {"x": np.asarray(array, np.float32)}, timeout))


def test_requests_of_equal_shape_are_computed_at_once_and_answered_apart():
    async def test(model, batcher):
        requests = [np.full((rows, 3), number) for number, rows in enumerate((1, 2, 1, 3))]
        answers = await asyncio.gather(*[ask(batcher, model, array) for array in requests])
        assert model.calls == [(7, 3)]
        for array, answer in zip(requests, answers, strict=True):
            np.testing.assert_array_equal(answer["y"], array.sum(axis=1))

    with_batcher(test)


def test_other_shapes_signatures_and_models_stay_apart():
    async def test(model, batcher):
        other = Model()
        tasks = [ask(batcher, model, np.ones((1, 3))), ask(batcher, model, np.ones((1, 4)))]
        tasks += [ask(batcher, other, np.ones((1, 3))), ask(batcher, model, 5, SCALAR), ask(batcher, model, 6, SCALAR)]
        answers = await asyncio.gather(*tasks)
        assert sorted(model.calls) == [(), (), (1, 3), (1, 4)]
        assert other.calls == [(1, 3)]
        assert [answers[3]["y"], answers[4]["y"]] == [5, 6]

    with_batcher(test)


def test_batches_have_at_most_the_rows_and_values_allowed():
    async def test(model, batcher):
        await asyncio.gather(*[ask(batcher, model, np.ones((3, 10))) for _ in range(5)])
        assert sum(rows for rows, _ in model.calls) == 15
        assert max(rows for rows, _ in model.calls) == 6
        model.calls.clear()
        await asyncio.gather(*[ask(batcher, model, np.ones((1, 400))) for _ in range(4)])
        assert max(rows for rows, _ in model.calls) == 2
        model.calls.clear()
        await ask(batcher, model, np.ones((20, 100)))
        assert model.calls == [(20, 100)]

    with_batcher(test)


def test_what_one_request_does_wrong_is_not_told_the_others():
    async def test(model, batcher):
        good = [ask(batcher, model, np.full((1, 2), number)) for number in range(3)]
        bad = ask(batcher, model, [[-1, 0]])
        answers = await asyncio.gather(*good, bad, return_exceptions=True)
        assert isinstance(answers[-1], RequestError)
        assert [answer["y"].tolist() for answer in answers[:3]] == [[0], [2], [4]]
        assert model.calls[0] == (4, 2)

    with_batcher(test)


def test_outputs_that_are_not_a_row_each_are_computed_one_by_one():
    class Total(Model):
        def run(self, name, inputs):
            self.calls.append(inputs["x"].shape)
            return {"y": inputs["x"].sum(keepdims=True).reshape(1)}

    async def test(_, batcher):
        model = Total()
        answers = await asyncio.gather(*[ask(batcher, model, np.full((1, 2), number)) for number in (1, 2)])
        assert [answer["y"].tolist() for answer in answers] == [[2], [4]]

    with_batcher(test)


def test_who_waits_too_long_is_told_so_and_not_computed():
    async def test(model, batcher):
        model.gate.clear()
        first = ask(batcher, model, np.ones((1, 2)))
        while not model.calls:
            await asyncio.sleep(0.005)
        with pytest.raises(RequestError) as caught:
            await ask(batcher, model, np.ones((1, 7)), timeout=0.05)
        assert caught.value.status == 504
        model.gate.set()
        await first
        await ask(batcher, model, np.ones((1, 3)))
        assert (1, 7) not in model.calls
        assert batcher.waiting == 0

    with_batcher(test)


def test_the_loop_goes_on_while_a_model_computes():
    async def test(model, batcher):
        model.gate.clear()
        task = ask(batcher, model, np.ones((1, 2)))
        while not model.calls:
            await asyncio.sleep(0.005)
        assert not task.done()
        model.gate.set()
        await task

    with_batcher(test)


def test_as_many_batches_are_computed_at_a_time_as_there_are_threads():
    async def test(model, batcher):
        model.gate.clear()
        tasks = [ask(batcher, model, np.ones((1, 2 + number))) for number in range(3)]
        end = time.monotonic() + 20
        while len(model.calls) < 2 and time.monotonic() < end:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        assert len(model.calls) == 2
        model.gate.set()
        await asyncio.gather(*tasks)

    with_batcher(test, threads=2, wait_seconds=0.0)


def test_defects_of_a_model_reach_who_asked():
    class Broken(Model):
        def run(self, name, inputs):
            raise ZeroDivisionError

    async def test(_, batcher):
        with pytest.raises(ZeroDivisionError):
            await ask(batcher, Broken(), np.ones((1, 2)))
        assert (await ask(batcher, Model(), np.ones((1, 2))))["y"] == 2

    with_batcher(test)
