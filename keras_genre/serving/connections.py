"""Connections on which no request arrives are closed, so that they cannot be collected to starve the server."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from keras_genre.serving.protocol import format_error


class PatientProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn has it, with a limit of the time that a request's first line and headers take.

    Attributes
    ----------
    head_seconds : float > 0
        The limit. Between two requests of a connection, uvicorn's own and shorter one holds.
    """

    head_seconds = 15.0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes; a request whose head is not complete by now has its time limit."""
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, in the form of all other errors."""
        self._write_error("400 Bad Request", msg)

    def _watch_head(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._cancel()
        elif self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(self.head_seconds, self._give_up)

    def _cancel(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            self._write_error("408 Request Timeout", f"no request within {self.head_seconds:g} s")

    def _write_error(self, status: str, reason: str) -> None:
        body = format_error(reason)
        head = (
            f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
