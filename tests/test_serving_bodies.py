"""Bodies are taken within limits; large ones cannot shut out small ones."""

import asyncio

import pytest

from keras_genre.serving.protocol import RequestError

pytest.importorskip("starlette", reason="needs the extra 'serve'")
from starlette.requests import Request

from keras_genre.serving.bodies import Body, Memory


def request_of(parts, headers=()):
    """A request whose body comes in parts, the last of which may be followed by nothing (None)."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts if part is not None]
    if parts[-1] is not None:
        messages[-1]["more_body"] = False

    async def receive():
        if messages:
            return messages.pop(0)
        await asyncio.sleep(3600)

    return Request({"type": "http", "headers": list(headers), "method": "POST", "path": "/"}, receive)


def read(request, memory=None, max_bytes=100, timeout=20.0):
    """Return the body of a request, and what was held while it was read."""
    memory = memory or Memory(10_000, 1_000)

    async def run():
        with Body(request, memory, max_bytes, timeout) as body:
            return await body.read(), memory.held_bytes

    return asyncio.run(run())


def error_of(*arguments, **options) -> RequestError:
    with pytest.raises(RequestError) as caught:
        read(*arguments, **options)
    return caught.value


def test_a_body_is_put_together_and_its_memory_given_back():
    memory = Memory(100, 10)
    assert read(request_of([b"ab", b"", b"cd"]), memory) == (b"abcd", 4)
    assert memory.held_bytes == 0


def test_a_body_may_have_just_the_size_allowed():
    assert read(request_of([b"a" * 60, b"b" * 40]))[0] == b"a" * 60 + b"b" * 40
    memory = Memory(1000, 10)
    assert error_of(request_of([b"a" * 60, b"b" * 41]), memory).status == 413
    assert error_of(request_of([b"a"], [(b"content-length", b"101")]), memory).status == 413
    assert memory.held_bytes == 0


def test_a_body_that_does_not_end_is_not_waited_for():
    error = error_of(request_of([b"ab", None]), timeout=0.05)
    assert error.status == 408
    assert "2 bytes" in str(error)


def test_a_client_that_leaves_is_noticed():
    async def receive():
        return {"type": "http.disconnect"}

    assert error_of(Request({"type": "http", "headers": [], "method": "POST", "path": "/"}, receive)).status == 499


def test_large_bodies_leave_room_for_small_ones():
    memory = Memory(100, 10)
    memory.take(75, 0)
    refused = error_of(request_of([b"x" * 11]), memory)
    assert (refused.status, refused.headers) == (413, {"retry-after": "1"})
    assert read(request_of([b"x" * 10]), memory)[1] == 85
    memory.take(10, 0)
    memory.take(10, 0)
    refused = error_of(request_of([b"x" * 10]), memory)
    assert (refused.status, refused.headers) == (503, {"retry-after": "1"})
    assert memory.held_bytes == 95
