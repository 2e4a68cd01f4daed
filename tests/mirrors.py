"""A web server on 127.0.0.1 that offers files and can be told to misbehave, and small data sets to offer."""

import hashlib
import http.server
import io
import re
import socket
import struct
import tarfile
import threading
import time
import zipfile

import numpy as np

from keras_genre.datasets.catalogue import Archive, DownloadableSet


def noise(size, seed=0):
    """Bytes that cannot be packed."""
    return np.random.default_rng(seed).bytes(size)


def tar_gz(members):
    """A .tar.gz file of names and contents; a content of None makes a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            if content is None:
                entry.type = tarfile.DIRTYPE
            else:
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content or b""))
    return buffer.getvalue()


def zipped(members, compression=zipfile.ZIP_BZIP2):
    """A .zip file of names and contents, packed as FMA's are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def archive_of(content, url, folder, algorithm="sha1", **changes):
    """The description of an archive file that a mirror offers."""
    values = {
        "name": url.rpartition("/")[2],
        "urls": (url,),
        "size_bytes": len(content),
        "algorithm": algorithm,
        "digest": hashlib.new(algorithm, content).hexdigest(),
        "folder": folder,
        "max_unpacked_bytes": 10_000_000,
        "max_members": 100,
    }
    return Archive(**(values | changes))


def set_of(*archives):
    """A data set that consists of archives."""
    return DownloadableSet("toy", "Toy", archives, "No terms.")


class Mirror:
    """A server that behaves well, except for as many requests as there are `faults`.

    Parameters
    ----------
    files : dict of str to bytes
        By path.

    Attributes
    ----------
    faults : list of callables
        Each answers one request in its own way; it is called with the handler.
    requests : list of (path, headers)
        What was asked.
    etag : str
    ranges : bool
        Whether it knows Range.
    """

    def __init__(self, files):
        self.files = dict(files)
        self.faults = []
        self.requests = []
        self.etag = '"first"'
        self.ranges = True

    def __enter__(self):
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                mirror.requests.append((self.path, self.headers))
                self.close_connection = True
                try:
                    if mirror.faults:
                        mirror.faults.pop(0)(self)
                    else:
                        mirror.give(self)
                except (BrokenPipeError, ConnectionResetError):
                    pass

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def url(self, path=""):
        return f"http://127.0.0.1:{self.server.server_address[1]}/{path}"

    @property
    def ranges_asked(self):
        """The Range header of each request; None where there was none."""
        return [headers.get("Range") for _, headers in self.requests]

    def start(self, handler, status=None, **headers):
        """Send status and headers, and return what the body should be."""
        content = self.files[handler.path.lstrip("/")]
        first = 0
        match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        if self.ranges and match and handler.headers.get("If-Range", self.etag) == self.etag:
            first = int(match[1])
            headers.setdefault("Content_Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        handler.send_response(status or (206 if "Content_Range" in headers else 200))
        headers = {"ETag": self.etag, "Content_Length": str(len(content) - first)} | headers
        for name, value in headers.items():
            if value is not None:
                handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        return content[first:]

    def give(self, handler):
        """Answer as one should."""
        if handler.path.lstrip("/") not in self.files:
            handler.send_error(404)
            return
        handler.wfile.write(self.start(handler))

    # Ways to misbehave.

    def cut_after(self, size, reset=False):
        """Give some bytes and end the connection, in order or by a reset."""

        def fault(handler):
            handler.wfile.write(self.start(handler)[:size])
            handler.wfile.flush()
            if reset:
                time.sleep(0.1)
                handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                handler.connection.close()

        return fault

    def fall_silent_after(self, size, seconds=1.0):
        """Give some bytes, then nothing for longer than anybody waits."""

        def fault(handler):
            handler.wfile.write(self.start(handler)[:size])
            handler.wfile.flush()
            time.sleep(seconds)

        return fault

    def trickle(self, size=10, seconds=0.02):
        """Give a few bytes at a time."""

        def fault(handler):
            body = self.start(handler)
            for first in range(0, len(body), size):
                handler.wfile.write(body[first : first + size])
                handler.wfile.flush()
                time.sleep(seconds)

        return fault

    @staticmethod
    def status(code, **headers):
        """Answer with a status and nothing else."""

        def fault(handler):
            handler.send_response(code)
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.end_headers()

        return fault

    @staticmethod
    def say(text):
        """Send bytes that may be no HTTP."""

        def fault(handler):
            handler.wfile.write(text)

        return fault
