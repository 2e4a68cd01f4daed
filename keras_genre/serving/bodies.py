"""Requests' bodies, received within limits of size, time and memory; and answers to those that are not."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from keras_genre.serving.protocol import RequestError, format_error

LINGER_SECONDS = 1.0
LINGER_BYTES = 16 << 20
RETRY_AFTER_SECONDS = 1


class Memory:
    """Counts the bytes of all bodies that are held.

    Large bodies leave a fifth of the memory to small ones, so that a few of them cannot shut out everybody else.

    Parameters
    ----------
    limit_bytes : int > 0
    small_bytes : int > 0
        Bodies up to this size are small.
    """

    def __init__(self, limit_bytes: int, small_bytes: int):
        self._limit_bytes = limit_bytes
        self._small_bytes = small_bytes
        self.held_bytes = 0

    def take(self, count: int, body_bytes: int) -> None:
        """Add bytes to those of a body.

        Parameters
        ----------
        count, body_bytes : int
            How many to add, and how many the body has without them.

        Raises
        ------
        RequestError
            If they would be too many: 413 for large bodies, 503 for small ones, both with `Retry-After`.
        """
        is_small = body_bytes + count <= self._small_bytes
        if self.held_bytes + count > self._limit_bytes * (1.0 if is_small else 0.8):
            error = overloaded("the requests at hand fill the memory")
            raise error if is_small else RequestError(413, f"{error}, or send less at once", error.headers)
        self.held_bytes += count

    def give_back(self, count: int) -> None:
        """Subtract bytes."""
        self.held_bytes -= count


class Body:
    """The body of a request; a context manager that gives the memory back.

    Parameters
    ----------
    request : Request
    memory : Memory
    max_bytes : int
        More are refused.
    timeout_seconds : float
        For the whole of it.
    """

    def __init__(self, request: Request, memory: Memory, max_bytes: int, timeout_seconds: float):
        self._request = request
        self._memory = memory
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds
        self._bytes = 0

    def __enter__(self) -> "Body":
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.give_back(self._bytes)

    async def read(self) -> bytes:
        """Receive all of it.

        Raises
        ------
        RequestError
            408, 413 or 503; 499 if the client is gone.
        """
        return b"".join([chunk async for chunk in self.chunks()])

    async def read_file(self) -> tuple[bytes, str]:
        """Receive an uploaded file: the first of a `multipart/form-data`, or the body itself.

        Returns
        -------
        content : bytes
        name : str
            As the client calls it; of a raw body the query's `file`.

        Raises
        ------
        RequestError
            As `read`; 400 if it is a form without a file.
        """
        if not self._request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            return await self.read(), self._request.query_params.get("file", "") or "upload"
        parser = MultiPartParser(self._request.headers, self.chunks(), max_files=1, max_fields=10, max_part_size=4096)
        # The body is bounded, so it need not go through files.
        parser.spool_max_size = self._max_bytes + 1
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise RequestError(400, f"the form cannot be read: {error.message}") from error
        try:
            for value in form.values():
                if isinstance(value, UploadFile):
                    return await value.read(), value.filename or "upload"
        finally:
            await form.close()
        raise RequestError(400, "the form has no file; send one as the field 'file'")

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield what arrives, counted."""
        announced = self._request.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > self._max_bytes:
            raise self._too_large()
        deadline = time.monotonic() + self._timeout_seconds
        stream = self._request.stream().__aiter__()
        while True:
            try:
                chunk = await asyncio.wait_for(stream.__anext__(), max(deadline - time.monotonic(), 0.0))
            except StopAsyncIteration:
                self._request.state.body_is_complete = True
                return
            except asyncio.TimeoutError as error:
                raise RequestError(
                    408, f"the request did not arrive within {self._timeout_seconds:g} s ({self._bytes} bytes did)"
                ) from error
            except ClientDisconnect as error:
                raise RequestError(499, "the client is gone") from error
            if self._bytes + len(chunk) > self._max_bytes:
                raise self._too_large()
            self._memory.take(len(chunk), self._bytes)
            self._bytes += len(chunk)
            yield chunk

    def _too_large(self) -> RequestError:
        return RequestError(413, f"the request is larger than the limit of {self._max_bytes} bytes")


def refusal(request: Request, error: RequestError) -> Response:
    """Return the answer that says why a request is not answered as it wants.

    While the request is still arriving, the answer ends the connection.
    """
    content, headers = format_error(str(error)), error.headers
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    if has_body and not getattr(request.state, "body_is_complete", False):
        return _EarlyRefusal(content, error.status, {**headers, "connection": "close"}, "application/json")
    return Response(content, error.status, headers, "application/json")


class _EarlyRefusal(Response):
    """An answer to a request that is still arriving.

    A client that is busy sending would lose the answer if the connection were closed under it, so for a short while
    what it sends is read and thrown away.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, then wait for the end of the request, but not for long."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(_discard(receive), LINGER_SECONDS)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _discard(receive: Receive) -> None:
    discarded = 0
    while discarded < LINGER_BYTES:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            return
        discarded += len(message.get("body", b""))


def overloaded(why: str) -> RequestError:
    """Return the error that tells a client to come back: status 503 with `Retry-After`."""
    return RequestError(503, f"overloaded: {why}; try again", {"retry-after": str(RETRY_AFTER_SECONDS)})
