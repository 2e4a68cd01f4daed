"""Connections that send no request, or half of one, are closed with a reason."""

import contextlib
import socket
import threading
import time

import pytest

uvicorn = pytest.importorskip("uvicorn", reason="needs the extra 'serve'")


@pytest.fixture(scope="module")
def port():
    """A server that answers `ok` and gives requests half a second for their head."""
    from keras_genre.serving.connections import PatientProtocol

    class Impatient(PatientProtocol):
        head_seconds = 0.5

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=Impatient, lifespan="off", log_level="critical", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join()


def talk(port, *parts, pause=0.0):
    """Send parts of a request with pauses before them; return all that comes back until the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        with contextlib.suppress(OSError):
            for part in parts:
                time.sleep(pause)
                connection.sendall(part)
        return connection.makefile("rb").read()


@pytest.mark.parametrize("parts", [(), (b"GET / HTTP/1.1\r\n",), (b"GET / HTTP/1.1\r\nHost: x\r\nA: b",)])
def test_half_a_head_gets_408(port, parts):
    answer = talk(port, *parts)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert answer.endswith(b'{"error": "no request within 0.5 s"}')


def test_a_head_that_trickles_gets_408(port):
    answer = talk(port, b"GET / HTTP/1.1\r\n", *[b"A: b\r\n"] * 8, pause=0.1)
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_the_second_request_of_a_connection_has_the_limit_too(port):
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = talk(port, request, request[:10], pause=0.2)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b'{"error": "no request within 0.5 s"}')


def test_whole_requests_are_answered_and_what_is_no_http_gets_400(port):
    assert talk(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").endswith(b"ok")
    answer = talk(port, b"\x00\x01\x02\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'{"error": "Invalid HTTP request received."}' in answer
