"""Files that are either whole or absent."""

import contextlib
import csv
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

from keras_genre.errors import FolderInUseError, FolderLostError

PARTIAL_PREFIX = ".partial-"


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it is synced to disk and takes the name `path`.

    Parameters
    ----------
    path : Path or str
        The file to write. Its folder is made if missing.

    Yields
    ------
    Path
        Where to write. If the block raises, that file is removed and `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{PARTIAL_PREFIX}{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with _blaming(path, temporary):
            yield temporary
            # mkstemp makes private files; what is published gets the permissions of any other new file.
            temporary.chmod(0o666 & ~_umask())
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path | str, *, replace: bool = False) -> Iterator[Path]:
    """Give an empty temporary folder beside `path`; on success all in it is synced and it takes the name `path`.

    Parameters
    ----------
    path : Path or str
        The folder to write. Its parent is made if missing.
    replace : bool
        Put it in place of a folder that is there already.

    Yields
    ------
    Path
        Where to write. If the block raises, that folder is removed and `path` stays as it was.

    Raises
    ------
    FileExistsError
        If `path` is there and is not to be replaced.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f"{PARTIAL_PREFIX}{path.name}.", dir=path.parent))
    old = temporary.with_name(f"{temporary.name}.old")
    try:
        with _blaming(path, temporary):
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            for inner in (*temporary.rglob("*"), temporary):
                sync(inner)
        if path.exists():
            if not replace:
                raise FileExistsError(errno.EEXIST, "exists already", str(path))
            os.rename(path, old)
        try:
            os.rename(temporary, path)
        except OSError:
            if old.exists():
                os.rename(old, path)
            raise
        sync(path.parent)
    finally:
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def _blaming(path: Path, temporary: Path) -> Iterator[None]:
    """Let errors name what was to be written: the system names the temporary path, or none if a disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            # NumPy counts the bytes that could not be written.
            raise OSError(errno.EIO, f"cannot be written ({error})", str(path)) from error
        if error.filename is None or str(error.filename).startswith(str(temporary)):
            error.filename = str(path)
        raise


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


@contextlib.contextmanager
def locked_folder(folder: Path | str) -> Iterator[Callable[[], None]]:
    """Make `folder` if missing and hold it for this process alone; clear what a killed writer left there.

    The lock goes with the process, however it ends.

    Yields
    ------
    callable
        Raises FolderLostError if the folder is no longer there; called at the end of the block in any case.

    Raises
    ------
    FolderInUseError
        If another process holds the folder.
    FolderLostError
        At the end, if the folder was removed, moved or replaced meanwhile: not all that was written is in it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderInUseError(
                f"{folder}: another process is writing here; wait for it or name another folder"
            ) from error
        for leftover in folder.glob(f"{PARTIAL_PREFIX}*"):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink()

        def require_held() -> None:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(folder), os.fstat(descriptor)):
                    return
            raise FolderLostError(
                f"{folder}: was removed or replaced while it was being written; run the command again"
            )

        yield require_held
        require_held()
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write a file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path | str, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_bytes(path, text.encode())


def json_text(value: object) -> str:
    """Return a value as indented JSON with a final newline."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path | str, value: object) -> None:
    """Write a JSON file atomically, as `json_text` gives it."""
    write_text(path, json_text(value))


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as CSV text, each ended by a line feed; in quotes is what holds a comma, a quote or a line's end."""
    lines: list[str] = []
    # A value that holds a carriage return, Python puts in quotes for sure only where rows end in one.
    csv.writer(SimpleNamespace(write=lines.append), lineterminator="\r\n").writerows(rows)
    return "".join(line.removesuffix("\r\n") + "\n" for line in lines)


def sha256_of(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    return digest_of(path, "sha256")


def digest_of(path: Path | str, algorithm: str, advance: Callable[[int], None] = lambda _: None) -> str:
    """Return a checksum of a file's bytes in hexadecimal digits.

    Parameters
    ----------
    path : Path or str
    algorithm : str
        A name of `hashlib`.
    advance : callable, optional
        Called with the size in bytes of every part that has been read.
    """
    # Old ones too, where a data set was published with them: they tell a damaged file, not a forged one.
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            advance(len(block))
    return digest.hexdigest()
