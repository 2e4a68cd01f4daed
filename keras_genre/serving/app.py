"""The server's addresses, and what happens between a request and its answer."""

import asyncio
import contextlib
import functools
import importlib.resources
import json
import re
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from fastapi import FastAPI, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.responses import Response

from keras_genre.saved_models import PROBABILITIES, WINDOW_PROBABILITIES
from keras_genre.serving import protocol
from keras_genre.serving.batching import Batcher
from keras_genre.serving.bodies import Body, Memory, overloaded, refusal
from keras_genre.serving.contract import WAVEFORM, AudioContract
from keras_genre.serving.decoding import DecoderPool
from keras_genre.serving.models import MAX_VERSION, ModelVersions, Servable
from keras_genre.serving.monitoring import Metrics
from keras_genre.serving.protocol import RequestError
from keras_genre.serving.settings import ServerSettings

JSON = "application/json"
MAX_NAME_CHARACTERS = 255

# TensorFlow Serving's own patterns, in meaning; versions are numbers, names have neither slash nor colon.
PREDICT_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/([0-9]+))?:predict", re.IGNORECASE)
STATUS_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/([0-9]+))?(/metadata)?", re.IGNORECASE)

PAGE_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "media-src blob:; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}

Handler = Callable[[Request], Awaitable[Response]]


def make_app(versions: ModelVersions, settings: ServerSettings) -> FastAPI:
    """Make the application that serves a model.

    Parameters
    ----------
    versions : ModelVersions
        With at least one version available; the application keeps it up with its folder.
    settings : ServerSettings
    """
    service = Service(versions, settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.begin()
        yield
        await service.end()

    # No pages of documentation: they take their scripts from other hosts.
    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    for path in PAGE_FILES:
        app.add_route(path, service.observed("page", page), methods=["GET"])
    app.add_route("/healthz", service.observed("healthz", service.health), methods=["GET"])
    app.add_route("/metrics", service.observed("metrics", service.metrics_text), methods=["GET"])
    # Routes with all methods: TensorFlow Serving has one answer to everything that is no call of its API.
    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    app.add_route("/v1/audio", service.observed("audio", service.audio), methods=methods)
    app.add_route("/v1/{rest:path}", service.observed("rest", service.rest), methods=methods)

    async def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        service.metrics.requests.labels("other", error.status_code).inc()
        reason = f"{request.method} {request.scope['path'][:MAX_NAME_CHARACTERS]}: {error.detail}"
        return refusal(request, RequestError(error.status_code, reason, error.headers))

    app.add_exception_handler(HTTPException, unknown)
    return app


async def page(request: Request) -> Response:
    """`GET /`: the page and its parts."""
    name, media_type = PAGE_FILES[request.scope["path"]]
    content = importlib.resources.files("keras_genre.serving").joinpath("page", name).read_bytes()
    return Response(content, media_type=media_type, headers=PAGE_HEADERS)


class Service:
    """What the addresses do.

    Parameters
    ----------
    versions : ModelVersions
    settings : ServerSettings
    """

    def __init__(self, versions: ModelVersions, settings: ServerSettings):
        self.metrics = Metrics()
        self._versions = versions
        self._settings = settings
        self._memory = Memory(settings.max_bodies_bytes, settings.max_body_bytes // 16)
        self._at_work = 0

    async def begin(self) -> None:
        """Start threads and processes."""
        settings = self._settings
        # One thread: JSON is read under the interpreter's lock, so more would only hold more memory.
        self._parsing = ThreadPoolExecutor(1, thread_name_prefix="json")
        self._batcher = Batcher(
            settings.batch_rows,
            settings.batch_values,
            settings.batch_wait_seconds,
            settings.inference_threads,
            self._count_batch,
        )
        self._decoders = DecoderPool(settings.decoders)
        self._polling = asyncio.create_task(self._poll())
        gauge = self.metrics.gauge
        gauge("keras_genre_requests_at_work", "Requests received and not answered", lambda: self._at_work)
        gauge("keras_genre_requests_waiting", "Requests waiting for the model", lambda: self._batcher.waiting)
        gauge("keras_genre_body_bytes", "Bytes of requests in memory", lambda: self._memory.held_bytes)
        gauge("keras_genre_versions_available", "Versions served", lambda: len(self._versions.available))
        gauge(
            "keras_genre_newest_version", "Version served by default", lambda: max(self._versions.available, default=0)
        )

    async def end(self) -> None:
        """Stop them; every request has been answered by now."""
        self._polling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._polling
        await self._batcher.close()
        await asyncio.to_thread(self._decoders.close)
        self._parsing.shutdown(wait=True, cancel_futures=True)

    def observed(self, endpoint: str, handler: Handler) -> Handler:
        """Wrap a handler so that its errors become answers, and both are counted."""

        async def handle(request: Request) -> Response:
            begin = time.monotonic()
            try:
                response = await handler(request)
            except RequestError as error:
                response = refusal(request, error)
            except Exception:
                traceback.print_exc(file=sys.stderr)
                response = refusal(request, RequestError(500, "internal error; the server's log says which"))
            self.metrics.requests.labels(endpoint, response.status_code).inc()
            self.metrics.seconds.labels(endpoint).observe(time.monotonic() - begin)
            return response

        return handle

    async def health(self, request: Request) -> Response:
        """`GET /healthz`: 200 while a version is available."""
        available = self._versions.available
        content = json.dumps({"status": "ok" if available else "no version available", "versions": available})
        return Response(content, 200 if available else 503, media_type=JSON)

    async def metrics_text(self, request: Request) -> Response:
        """`GET /metrics`."""
        return Response(self.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def rest(self, request: Request) -> Response:
        """`/v1/...`: TensorFlow Serving's REST API."""
        path = request.scope["path"]
        if request.method == "POST" and (match := PREDICT_PATH.fullmatch(path)):
            return await self._predict(request, match[1], _version(match[2]))
        if request.method == "GET" and (match := STATUS_PATH.fullmatch(path)):
            name, version = match[1], _version(match[2])
            return self._metadata(name, version) if match[3] else self._status(name, version)
        if request.method == "GET" and path.rstrip("/").lower() == "/v1/models":
            raise RequestError(400, "Missing model name in request.")
        raise RequestError(400, f"Malformed request: {request.method} {path[:MAX_NAME_CHARACTERS]}")

    async def audio(self, request: Request) -> Response:
        """`POST /v1/audio`: an audio file in, what the command `predict` gives out."""
        if request.method != "POST":
            raise RequestError(405, "send the file with POST", {"allow": "POST"})
        _audio_contract(self._versions.get())
        self._require_room()
        settings = self._settings
        with Body(request, self._memory, settings.max_body_bytes, settings.body_seconds) as body:
            content, name = await body.read_file()
            name = _printable(name)
            with self._working() as deadline:
                # Another version may have come while the file was on its way.
                servable = self._versions.get()
                contract = _audio_contract(servable)
                waveform = await self._decoders.decode(
                    content, name, contract.sample_rate_hz, settings.max_audio_seconds, deadline - time.monotonic()
                )
                signature = servable.signatures[protocol.DEFAULT_SIGNATURE]
                outputs = await self._run(servable, signature, {WAVEFORM: waveform[np.newaxis]}, deadline)
                answer = contract.answer(
                    name, waveform.size, outputs[PROBABILITIES][0], outputs[WINDOW_PROBABILITIES][0]
                )
                return Response(json.dumps(answer), media_type=JSON)

    async def _predict(self, request: Request, name: str, version: int | None) -> Response:
        servable = self._servable(name, version)
        self._require_room()
        settings = self._settings
        parse = functools.partial(asyncio.get_running_loop().run_in_executor, self._parsing)
        with Body(request, self._memory, settings.max_body_bytes, settings.body_seconds) as body:
            content = await body.read()
            with self._working() as deadline:
                call = await parse(protocol.parse_call, content, servable.signatures)
                outputs = await self._run(servable, call.signature, call.inputs, deadline)
                return Response(await parse(protocol.format_answer, outputs, call.by_row), media_type=JSON)

    def _metadata(self, name: str, version: int | None) -> Response:
        servable = self._servable(name, version)
        answer = {
            "model_spec": {"name": name, "signature_name": "", "version": str(servable.version)},
            "metadata": {"signature_def": {"signature_def": servable.metadata}},
        }
        return Response(json.dumps(answer, indent=1), media_type=JSON)

    def _status(self, name: str, version: int | None) -> Response:
        states = self._versions.states if name == self._versions.name else {}
        if version is not None:
            if version not in states:
                raise RequestError(404, f"Could not find version {version} of model {name}")
            states = {version: states[version]}
        if not states:
            raise RequestError(404, f"Could not find any versions of model {name}")
        answer = [
            {
                "version": str(number),
                "state": state.state,
                "status": {"error_code": state.error_code, "error_message": state.error_message},
            }
            for number, state in states.items()
        ]
        return Response(json.dumps({"model_version_status": answer}, indent=1), media_type=JSON)

    async def _run(
        self, servable: Servable, signature: protocol.Signature, inputs: dict[str, np.ndarray], deadline: float
    ) -> dict[str, np.ndarray]:
        if isinstance(servable.contract, AudioContract):
            servable.contract.require_usable(inputs, signature, self._settings.max_audio_seconds)
        return await self._batcher.run(servable, signature, inputs, deadline - time.monotonic())

    def _servable(self, name: str, version: int | None) -> Servable:
        if name != self._versions.name:
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise RequestError(404, f"Servable not found for request: {wanted}")
        return self._versions.get(version)

    def _require_room(self) -> None:
        if self._at_work >= self._settings.max_requests:
            raise overloaded(f"{self._at_work} requests are at work or waiting")

    @contextlib.contextmanager
    def _working(self) -> Iterator[float]:
        """Count a request that has arrived as one at work; give the time when it must be answered."""
        self._require_room()
        self._at_work += 1
        try:
            yield time.monotonic() + self._settings.answer_seconds
        finally:
            self._at_work -= 1

    def _count_batch(self, rows: int, seconds: float) -> None:
        self.metrics.batch_rows.observe(rows)
        self.metrics.batch_seconds.observe(seconds)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._settings.poll_seconds)
            try:
                await asyncio.to_thread(self._versions.poll)
            except Exception:
                traceback.print_exc(file=sys.stderr)


def _audio_contract(servable: Servable) -> AudioContract:
    if isinstance(servable.contract, AudioContract):
        return servable.contract
    raise RequestError(404, f"this model does not classify audio: {servable.contract}")


def _version(digits: str | None) -> int | None:
    if digits is None:
        return None
    if len(digits) > len(str(MAX_VERSION)) or int(digits) > MAX_VERSION:
        raise RequestError(400, f"Failed to convert version: {digits[:MAX_NAME_CHARACTERS]} to numeric.")
    return int(digits)


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in name[:MAX_NAME_CHARACTERS])
