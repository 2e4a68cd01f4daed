"""Serve a SavedModel over HTTP.

Command: `python -m keras_genre.serve --model saved_models/NAME`: TensorFlow Serving's REST API, audio upload, a page.
"""

import argparse
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_genre import cli, saved_models
from keras_genre.errors import ParameterError, ServingError
from keras_genre.places import local_path
from keras_genre.serving.settings import ServerSettings

if TYPE_CHECKING:
    from keras_genre.serving.models import ModelVersions

MEBIBYTE = 1 << 20


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    defaults = ServerSettings()
    parser = cli.parser("keras_genre.serve", "Serve a SavedModel over HTTP.")
    parser.add_argument(
        "--model",
        type=local_path,
        default=saved_models.SHIPPED,
        metavar="FOLDER",
        help=f"folder of version folders: saved_models/NAME (default: saved_models/{saved_models.SHIPPED.name}, which "
        "comes with keras_genre)",
    )
    parser.add_argument("--name", help="the model's name in addresses (default: the folder's)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: all of them")
    parser.add_argument("--port", type=int, default=8501, help="port to listen on; 0: any free one")
    parser.add_argument("--versions", type=int, default=defaults.versions, help="serve the newest so many versions")
    parser.add_argument("--poll-seconds", type=float, default=defaults.poll_seconds, help="look for new versions")
    parser.add_argument(
        "--max-upload-mb", type=float, default=defaults.max_body_bytes / MEBIBYTE, help="refuse larger requests"
    )
    parser.add_argument(
        "--max-seconds",
        type=float,
        default=defaults.max_audio_seconds,
        help="refuse requests of longer audio, as samples, frames or a file (seconds)",
    )
    parser.add_argument(
        "--max-requests", type=int, default=defaults.max_requests, help="at work or waiting; further ones get 503"
    )
    parser.add_argument("--body-seconds", type=float, default=defaults.body_seconds, help="for a request to arrive")
    parser.add_argument(
        "--answer-seconds", type=float, default=defaults.answer_seconds, help="from a request to its answer"
    )
    parser.add_argument("--batch-rows", type=int, default=defaults.batch_rows, help="1: no batching")
    parser.add_argument(
        "--batch-wait-ms", type=float, default=1e3 * defaults.batch_wait_seconds, help="wait for a batch to fill"
    )
    parser.add_argument("--threads", type=int, default=defaults.inference_threads, help="batches computed at a time")
    parser.add_argument("--decoders", type=int, default=defaults.decoders, help="processes that decode uploads")
    return parser


def settings_from(options: argparse.Namespace) -> ServerSettings:
    """Return the settings that flags ask for."""
    return ServerSettings(
        max_body_bytes=round(options.max_upload_mb * MEBIBYTE),
        # Room for a few of the largest.
        max_bodies_bytes=round(4 * options.max_upload_mb * MEBIBYTE),
        max_audio_seconds=options.max_seconds,
        max_requests=options.max_requests,
        body_seconds=options.body_seconds,
        answer_seconds=options.answer_seconds,
        batch_rows=options.batch_rows,
        batch_wait_seconds=options.batch_wait_ms / 1e3,
        inference_threads=options.threads,
        decoders=options.decoders,
        versions=options.versions,
        poll_seconds=options.poll_seconds,
        stop_seconds=options.body_seconds + options.answer_seconds,
    )


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    settings = settings_from(options)
    require_versions(options.model)
    listener = listen(options.host, options.port)
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise ServingError(f"the server needs {error.name}: pip install 'keras_genre[serve]'") from error
    from keras_genre.serving.app import make_app
    from keras_genre.serving.connections import PatientProtocol
    from keras_genre.serving.models import ModelVersions

    name = options.name or options.model.resolve().name
    versions = ModelVersions(options.model, name, settings.versions, on_change=lambda text: cli.say(f"{name}: {text}"))
    load_first(versions)
    config = uvicorn.Config(
        make_app(versions, settings),
        http=PatientProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=round(settings.stop_seconds) or 1,
        server_header=False,
    )
    # From here on connections are not refused, whenever the server comes to accept them.
    listener.listen()
    host, port = listener.getsockname()[:2]
    cli.say(f"serving {name} on http://{f'[{host}]' if ':' in host else host}:{port}")
    # uvicorn stops gracefully and then sends itself the signal again, for whoever handled it before.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    uvicorn.Server(config).run(sockets=[listener])
    cli.say("stopped")
    return cli.DONE


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that has the port and does not accept connections yet.

    Raises
    ------
    ParameterError
        If the port cannot be had.
    """
    if not 0 <= port <= 65535:
        raise ParameterError(f"--port must be 0 to 65535, not {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise ParameterError(f"--host {host} --port {port}: {error.strerror}") from error
    return listener


def require_versions(model: Path) -> None:
    """Refuse a folder without a version, before TensorFlow is started.

    Raises
    ------
    ServingError
    """
    if not model.is_dir():
        raise ServingError(f"{model}: no such folder")
    if not saved_models.versions(model):
        raise ServingError(
            f"{model}: holds no version, which is a folder named by a number with a SavedModel in it "
            f"(python -m keras_genre.export RUN --out {model / '1'} writes one)"
        )


def load_first(versions: "ModelVersions") -> None:
    """Load what there is.

    Raises
    ------
    ServingError
        If no version can be served.
    """
    versions.poll()
    if not versions.available:
        reasons = [f"version {number}: {state.error_message}" for number, state in versions.states.items()]
        raise ServingError(f"{versions.base}: no version can be loaded; {'; '.join(reasons)}")


if __name__ == "__main__":
    sys.exit(main())
