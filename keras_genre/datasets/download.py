"""Downloads that go on where they were, are what was published, and appear whole or not at all.

In the data set's folder, beside what is finished:

```
NAME.part          what has been fetched of an archive
NAME.part.json     what identifies it: address, ETag, Last-Modified, length
NAME               a whole archive whose checksum is right, until it is unpacked
.unpacking         what has been unpacked of an archive
```
"""

import contextlib
import dataclasses
import email.message
import http.client
import json
import math
import re
import shutil
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_genre import __version__, files
from keras_genre.datasets.archives import is_no_room, no_room, unpack
from keras_genre.datasets.catalogue import Archive, DownloadableSet
from keras_genre.errors import (
    ArchiveError,
    ChecksumError,
    CutConnectionError,
    DiskFullError,
    DownloadError,
    MirrorError,
    ParameterError,
)
from keras_genre.progress import Progress

UNPACKING = ".unpacking"
_BLOCK_BYTES = 1 << 18
_MEGABYTE = 1_000_000
_IDENTIFYING_HEADERS = {"etag": "ETag", "last_modified": "Last-Modified"}


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long to put up with a mirror.

    Attributes
    ----------
    timeout_seconds : float > 0
        Longest wait for a connection, an answer or its next bytes.
    attempts : int > 0
        How often in a row to ask a mirror that gives nothing; one that gives something is asked again.
    pause_seconds : float >= 0
        Before the second attempt; doubled before each further one.
    min_bytes_per_second : float >= 0
        A mirror that is slower over `slow_seconds` is given up.
    slow_seconds : float > 0
    """

    timeout_seconds: float = 30.0
    attempts: int = 4
    pause_seconds: float = 1.0
    min_bytes_per_second: float = 1_000.0
    slow_seconds: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.timeout_seconds < math.inf or not self.slow_seconds > 0 or self.attempts < 1:
            raise ParameterError("the time-out and the number of attempts must be greater than 0")


def download(
    data_set: DownloadableSet,
    folder: Path,
    mirrors: Sequence[str] = (),
    patience: Patience | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Fetch the archives of a data set, compare their checksums, unpack them and remove them.

    What is there already is not fetched again, be it an unpacked archive, an archive or a part of one.

    Parameters
    ----------
    data_set : DownloadableSet
        What to fetch.
    folder : Path
        Where; made if missing.
    mirrors : sequence of str
        Addresses to use instead of the data set's own, in this order: of a folder that has the archives under
        their own names, or of an archive itself.
    patience : Patience, optional
    say : callable, optional
        Takes messages for the user.

    Raises
    ------
    DownloadError
        One of its kinds; what has been fetched and may still be right stays for the next call.
    FolderInUseError
        If another process downloads into `folder`.
    ParameterError
        If a mirror is no http or https address.
    """
    patience = patience or Patience()
    for url in (*mirrors, *(url for archive in data_set.archives for url in archive.urls)):
        require_http(url)
    is_new = not folder.exists()
    try:
        with files.locked_folder(folder):
            _remove_folder(folder / UNPACKING)
            for archive in data_set.archives:
                if (folder / archive.folder).is_dir():
                    say(f"{folder / archive.folder} is there already")
                    if (folder / archive.name).exists():
                        say(f"{folder / archive.name} is not needed any more")
                    continue
                urls = [_address(mirror, archive.name) for mirror in mirrors] or archive.urls
                _fetch(archive, folder, urls, patience, say)
                _publish(archive, folder, say)
    except OSError as error:
        if is_no_room(error):
            raise DiskFullError(no_room(folder, error)) from error
        raise
    finally:
        if is_new:
            # Only an empty folder can be removed so; it would look like a download that had begun.
            with contextlib.suppress(OSError):
                folder.rmdir()


def require_http(url: str) -> None:
    """Refuse an address that is not one of the web.

    Raises
    ------
    ParameterError
    """
    try:
        parts = urllib.parse.urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_address = False
    if not is_address or not url.isascii() or re.search(r"[\x00-\x20\x7f]", url):
        raise ParameterError(f"{url!r} is no address of a mirror: give one that begins with http:// or https://")


def _address(mirror: str, name: str) -> str:
    parts = urllib.parse.urlsplit(mirror)
    if parts.path.endswith(f"/{name}"):
        return mirror
    return urllib.parse.urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))


def _fetch(archive: Archive, folder: Path, urls: Sequence[str], patience: Patience, say: Callable[[str], None]) -> None:
    """Make sure that the whole archive lies in the folder and is the right one."""
    path = folder / archive.name
    if path.exists():
        found = _digest(path, archive)
        if found != archive.digest:
            raise ChecksumError(
                f"{path}: its {archive.algorithm.upper()} is {found}, of the published file it is {archive.digest}; "
                "remove it, and run the same command again"
            )
        say(f"{path} is there already")
        return
    part = _Part(path, archive)
    if part.size < archive.size_bytes:
        _require_room(folder, archive, part.size)
        _from_any(part, archive, urls, patience, say)
    say(f"checking {archive.name}")
    found = _digest(part.path, archive)
    if found != archive.digest:
        source = part.url
        part.remove()
        raise ChecksumError(
            f"{archive.name} from {source}: its {archive.algorithm.upper()} is {found}, of the published file it is "
            f"{archive.digest}; what was fetched has been removed. Run the same command again, or name another source "
            "with --mirror"
        )
    files.sync(part.path)
    part.path.replace(path)
    part.remove()
    files.sync(folder)


def _require_room(folder: Path, archive: Archive, present_bytes: int) -> None:
    # Music hardly packs: what is unpacked takes about the room of the archive once more.
    needed = 2 * archive.size_bytes - present_bytes
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFullError(
            f"{folder}: {free / _MEGABYTE:.0f} MB are free, about {math.ceil(needed / _MEGABYTE)} MB are needed for "
            f"{archive.name} and what is in it; make room, or name a folder elsewhere with --out"
        )


def _digest(path: Path, archive: Archive) -> str:
    with _Megabytes(path.stat().st_size) as progress:
        return files.digest_of(path, archive.algorithm, progress.advance)


def _publish(archive: Archive, folder: Path, say: Callable[[str], None]) -> None:
    """Unpack an archive beside, and give the folder that is wanted of it its name when all of it is on the disk."""
    path, beside = folder / archive.name, folder / UNPACKING
    say(f"unpacking {archive.name}")
    try:
        with _Megabytes(path.stat().st_size) as progress:
            unpack(path, beside, archive.max_unpacked_bytes, archive.max_members, progress.advance)
        if not (beside / archive.folder).is_dir():
            raise ArchiveError(f"{path}: holds no folder {archive.folder}; it is not the archive that was expected")
        (beside / archive.folder).rename(folder / archive.folder)
        files.sync(folder)
    finally:
        _remove_folder(beside)
    path.unlink()
    say(f"{folder / archive.folder} is complete")


def _remove_folder(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)


class _Megabytes:
    """Progress of bytes, shown in megabytes."""

    def __init__(self, total_bytes: int, done_bytes: int = 0):
        self._total_bytes = total_bytes
        self._bytes = done_bytes
        self._progress = Progress(math.ceil(total_bytes / _MEGABYTE), "MB", done=done_bytes // _MEGABYTE)

    def __enter__(self) -> "_Megabytes":
        self._progress.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._progress.__exit__(*error)

    def advance(self, count: int) -> None:
        """Count bytes as done."""
        self.reach(self._bytes + count)

    def reach(self, done_bytes: int) -> None:
        """Count as many bytes as done and no other."""
        self._bytes = done_bytes
        is_end = done_bytes >= self._total_bytes
        megabytes = self._progress.total if is_end else done_bytes // _MEGABYTE
        self._progress.advance(megabytes - self._progress.done)


class _Part:
    """A part of an archive, from its beginning, and what identifies where it is from.

    A part that is of another archive, or of which that is not known, is worthless and removed.

    Parameters
    ----------
    path : Path
        Of the whole archive.
    archive : Archive
    """

    def __init__(self, path: Path, archive: Archive):
        self.path = path.with_name(f"{path.name}.part")
        self._identity_path = path.with_name(f"{path.name}.part.json")
        self._wanted = {"length": archive.size_bytes, archive.algorithm: archive.digest}
        self._identity: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            identity = json.loads(self._identity_path.read_text(encoding="utf-8"))
            if isinstance(identity, dict) and self._wanted.items() <= identity.items():
                self._identity = identity
        if not self._identity:
            self.remove()

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def url(self) -> str:
        """Where they are from."""
        return str(self._identity.get("url", ""))

    def validator(self, url: str) -> str:
        """Return what an If-Range header needs: an ETag or a date; empty if this server gave none."""
        if url != self.url:
            return ""
        etag = self._identity.get("etag") or ""
        # A weak ETag may be the same for files that differ.
        return etag if etag and not etag.startswith("W/") else self._identity.get("last_modified") or ""

    def is_of(self, url: str, headers: email.message.Message) -> bool:
        """Whether an answer speaks of the same file as far as one can see."""
        # Servers number their files each in their own way; between two of them the checksum decides.
        pairs = [(self._identity.get(name), headers.get(header)) for name, header in _IDENTIFYING_HEADERS.items()]
        return url != self.url or all(had == has for had, has in pairs if had and has)

    def begin(self, url: str, headers: email.message.Message) -> None:
        """Start anew, with the first bytes of another file."""
        self.path.unlink(missing_ok=True)
        identity = {name: headers.get(header) for name, header in _IDENTIFYING_HEADERS.items()}
        self._identity = {"url": url, **identity, **self._wanted}
        files.write_json(self._identity_path, self._identity)

    def remove(self) -> None:
        """Remove it and what is known of it."""
        self.path.unlink(missing_ok=True)
        self._identity_path.unlink(missing_ok=True)
        self._identity = {}


class _Refused(MirrorError):
    """Asking this mirror again would not help."""


def _from_any(
    part: _Part, archive: Archive, urls: Sequence[str], patience: Patience, say: Callable[[str], None]
) -> None:
    """Fetch what is missing from the first mirror that gives it."""
    errors: list[DownloadError] = []
    for url in urls:
        try:
            return _from_one(part, archive, url, patience, say)
        except (MirrorError, CutConnectionError) as error:
            errors.append(error)
            if len(urls) > 1:
                say(f"note: {error}")
    kept = f" {part.size / _MEGABYTE:.0f} MB have been fetched and stay." if part.size else ""
    advice = f"{kept} Run the same command again later: it goes on where it was; or name another source with --mirror"
    kind = CutConnectionError if all(isinstance(error, CutConnectionError) for error in errors) else MirrorError
    raise kind(f"{'; '.join(str(error) for error in errors)}.{advice}") from errors[-1]


def _from_one(part: _Part, archive: Archive, url: str, patience: Patience, say: Callable[[str], None]) -> None:
    """Fetch what is missing from one mirror, again and again as long as that helps."""
    failures = 0
    say(f"fetching {archive.name} from {url}")
    with _Megabytes(archive.size_bytes, part.size) as progress:
        while part.size < archive.size_bytes:
            before = part.size
            try:
                _ask(part, archive, url, patience, progress, say)
            except _Refused:
                raise
            except (MirrorError, CutConnectionError) as error:
                # A mirror that gives a little each time is asked as often as it takes, if not for every byte.
                failures = 1 if part.size >= before + _MEGABYTE else failures + 1
                if failures >= patience.attempts:
                    raise
                say(f"note: {error}; trying again")
                time.sleep(patience.pause_seconds * 2 ** (failures - 1))


def _ask(
    part: _Part, archive: Archive, url: str, patience: Patience, progress: "_Megabytes", say: Callable[[str], None]
) -> None:
    """Make one request and keep what it gives.

    Raises
    ------
    MirrorError, CutConnectionError
    """
    size = part.size
    headers = {"User-Agent": f"keras_genre/{__version__}", "Accept-Encoding": "identity"}
    if size:
        headers["Range"] = f"bytes={size}-"
        if validator := part.validator(url):
            headers["If-Range"] = validator
    with _answer(url, headers, patience) as response:
        length = _length_of(response)
        if length not in (None, archive.size_bytes):
            raise _Refused(f"{url}: offers {length} bytes, the published file has {archive.size_bytes}")
        first = _first_byte(response) if response.status == 206 else 0
        if size and not part.is_of(url, response.headers) and first == size:
            # It is the beginning of something else that lies here, and this the end of it.
            part.remove()
            raise MirrorError(f"{url}: what it offers has changed since the download began")
        if first == 0:
            if size:
                say(f"note: {url}: gives the file only from its beginning, or it has changed")
            part.begin(url, response.headers)
        elif first != size:
            raise MirrorError(f"{url}: gives another part of the file than it was asked for")
        _keep(part, response, archive, url, patience, progress)


def _keep(
    part: _Part,
    response: http.client.HTTPResponse,
    archive: Archive,
    url: str,
    patience: Patience,
    progress: "_Megabytes",
) -> None:
    missing = archive.size_bytes - part.size
    window_started, window_bytes = time.monotonic(), 0
    # Unbuffered: what has arrived is in the file, whatever ends this process.
    with open(part.path, "ab", buffering=0) as file:
        while missing:
            with _reading(url, patience):
                block = response.read1(min(_BLOCK_BYTES, missing))
            if not block:
                raise CutConnectionError(f"{url}: the connection ended {missing} bytes before the end of the file")
            _write_all(file, block)
            missing -= len(block)
            window_bytes += len(block)
            progress.reach(archive.size_bytes - missing)
            elapsed = time.monotonic() - window_started
            if elapsed >= patience.slow_seconds:
                if window_bytes < patience.min_bytes_per_second * elapsed:
                    raise _Refused(f"{url}: too slow, {window_bytes / elapsed:.0f} bytes/s over {elapsed:.0f} s")
                window_started, window_bytes = time.monotonic(), 0


def _write_all(file: Any, block: bytes) -> None:
    # The last write before a disk is full takes only a part.
    view = memoryview(block)
    while view:
        view = view[file.write(view) :]


class _WebRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not out of the web."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if urllib.parse.urlsplit(newurl).scheme not in ("http", "https"):
            raise _Refused(f"{req.full_url}: redirects to {newurl}, which is no http or https address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    # Built by hand: the default one opens file:// and ftp:// too.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        _WebRedirects,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


@contextlib.contextmanager
def _answer(url: str, headers: dict[str, str], patience: Patience) -> Iterator[http.client.HTTPResponse]:
    """Ask, and give the answer if it has the status 200 or 206."""
    request = urllib.request.Request(url, headers=headers)
    with _reading(url, patience):
        response = _opener().open(request, timeout=patience.timeout_seconds)
    with contextlib.closing(response):
        if response.status not in (200, 206):
            raise _Refused(f"{url}: answers with status {response.status}")
        yield response


@contextlib.contextmanager
def _reading(url: str, patience: Patience) -> Iterator[None]:
    """Say what goes wrong on the network in terms of the mirror."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        text = f"{url}: answers with status {error.code} ({error.reason})"
        if "infinite loop" in str(error.msg):
            raise _Refused(f"{url}: redirects in a circle") from error
        # Too many requests, and troubles of the server, may pass; that something is not there will not.
        raise (MirrorError if error.code == 429 or error.code >= 500 else _Refused)(text) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise MirrorError(f"{url}: no answer within {patience.timeout_seconds:g} s") from error
        if isinstance(error.reason, socket.gaierror):
            raise _Refused(f"{url}: no such host is known ({error.reason.strerror}); is the network up?") from error
        raise MirrorError(f"{url}: cannot be reached ({_reason(error.reason)})") from error
    except TimeoutError as error:
        raise MirrorError(f"{url}: nothing arrived for {patience.timeout_seconds:g} s") from error
    except (http.client.IncompleteRead, ConnectionError) as error:
        raise CutConnectionError(f"{url}: the connection was cut ({_reason(error)})") from error
    except http.client.HTTPException as error:
        raise MirrorError(f"{url}: does not answer as a web server should ({_reason(error)})") from error
    except OSError as error:
        raise MirrorError(f"{url}: cannot be read ({_reason(error)})") from error


def _reason(error: object) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__


def _length_of(response: http.client.HTTPResponse) -> int | None:
    """Return the size of the whole file, if the answer says it."""
    if response.status == 206:
        match = re.fullmatch(r"bytes \d+-\d+/(\d+)", response.headers.get("Content-Range", "").strip())
        return int(match[1]) if match else None
    text = response.headers.get("Content-Length", "").strip()
    return int(text) if text.isdecimal() else None


def _first_byte(response: http.client.HTTPResponse) -> int | None:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", "").strip())
    return int(match[1]) if match else None
