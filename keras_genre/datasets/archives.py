"""Archives unpacked without trusting them: only plain files and folders, only below one folder, only so much."""

import errno
import gzip
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from lzma import LZMAError
from pathlib import Path
from typing import IO, NamedTuple

from keras_genre.errors import ArchiveError, DiskFullError
from keras_genre.files import sync

_BLOCK_BYTES = 1 << 20
# What a tar archive may hold of a member beside its content: header, long name, padding.
_TAR_BYTES_OF_MEMBER = 4096
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# A file where a folder should be, a place outside of the file, and the like, are the archive's fault. gzip and bz2 give
# damage no number.
_DAMAGE = (None, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL)

Advance = Callable[[int], None]


class _Member(NamedTuple):
    """What an archive says of a member, and how to read it if it is a plain file."""

    name: str
    size_bytes: int
    is_folder: bool
    open: Callable[[], IO[bytes] | None]


def unpack(archive: Path, into: Path, max_bytes: int, max_members: int, advance: Advance = lambda _: None) -> None:
    """Unpack a `.zip`, `.tar` or `.tar.gz` file into a new folder and flush all of it to the disk.

    Permissions, owners and times of the archive are not taken over.

    Parameters
    ----------
    archive : Path
        The file.
    into : Path
        A folder that does not exist yet. If the unpacking fails, it is the caller who removes it.
    max_bytes, max_members : int > 0
        Bounds of the unpacked size and of the number of files and folders.
    advance : callable, optional
        Called with the number of bytes of the archive that have been used since the last call.

    Raises
    ------
    ArchiveError
        If the archive is damaged; holds links, devices or names outside of `into`; or exceeds the bounds.
    DiskFullError
        If there is no room for what it holds.
    """
    read = _zip_members if archive.suffix == ".zip" else _tar_members
    try:
        into.mkdir(parents=True)
        for member in read(archive, max_bytes, max_members, advance):
            path = into.joinpath(*_safe_parts(archive, member.name))
            if member.is_folder:
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                _write(path, member, archive)
        for folder, _, _ in os.walk(into, topdown=False):
            sync(Path(folder))
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, EOFError, ValueError) as error:
        raise ArchiveError(_damaged(archive, error)) from error
    except RuntimeError as error:
        # What zipfile says of encryption, and (NotImplementedError) of compression that it does not know.
        raise ArchiveError(f"{archive}: cannot be unpacked ({error})") from error
    except OSError as error:
        if is_no_room(error):
            raise DiskFullError(no_room(into.parent, error)) from error
        if error.errno in _DAMAGE:
            raise ArchiveError(_damaged(archive, error)) from error
        raise


def is_no_room(error: OSError) -> bool:
    """Whether a full disk, a quota or a limit of the size of files is the cause of an error."""
    return error.errno in _NO_ROOM


def no_room(folder: Path, error: OSError) -> str:
    """Say that there is no room in a folder, and what to do."""
    return (
        f"{folder}: no room to write ({error.strerror}); make room, or name a folder elsewhere with --out, "
        "and run the same command again: it goes on where it was"
    )


def _write(path: Path, member: _Member, archive: Path) -> None:
    with member.open() as source, open(path, "wb") as target:  # type: ignore[union-attr]
        written = 0
        while block := source.read(_BLOCK_BYTES):
            written += len(block)
            if written > member.size_bytes:
                break
            target.write(block)
        if written != member.size_bytes:
            raise ArchiveError(f"{archive}: {member.name!r} has not the {member.size_bytes} bytes that are announced")
        target.flush()
        os.fsync(target.fileno())


def _damaged(archive: Path, error: Exception) -> str:
    return f"{archive}: damaged ({error}); remove it and download it again"


def _safe_parts(archive: Path, name: str) -> list[str]:
    """Return the parts of a member's name, none of which leads out of the folder."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    # A backslash separates folders on other systems, and no file of a data set needs one.
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise ArchiveError(f"{archive}: holds {name!r}, which could be outside of the folder; nothing was unpacked")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ArchiveError(f"{archive}: holds {name!r}, a name that is not UTF-8; nothing was unpacked") from None
    return parts


def _refused(archive: Path, name: str, kind: str) -> ArchiveError:
    return ArchiveError(f"{archive}: {name!r} is {kind}; only files and folders are unpacked")


def _too_much(archive: Path, bound: str) -> ArchiveError:
    return ArchiveError(
        f"{archive}: holds more than {bound}, which is more than the data set has; nothing was unpacked"
    )


def _zip_members(archive: Path, max_bytes: int, max_members: int, advance: Advance) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        entries = opened.infolist()
        if len(entries) > max_members:
            raise _too_much(archive, f"{max_members} files")
        if sum(entry.file_size for entry in entries) > max_bytes:
            raise _too_much(archive, f"{max_bytes} bytes")
        for entry in entries:
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(archive, entry.filename, "a link" if kind == stat.S_IFLNK else "a special file")
            # zipfile cuts a name at its first NUL; what was cut off is in the original one.
            name = getattr(entry, "orig_filename", entry.filename)
            yield _Member(name, entry.file_size, name.endswith("/"), lambda entry=entry: opened.open(entry))  # type: ignore
            advance(entry.compress_size)


def _tar_members(archive: Path, max_bytes: int, max_members: int, advance: Advance) -> Iterator[_Member]:
    bound = max_bytes + (max_members + 8) * _TAR_BYTES_OF_MEMBER
    with open(archive, "rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream: IO[bytes] = _BoundedGzip(archive, file, bound) if is_gzip else file  # type: ignore[assignment]
        used = total = 0
        with stream, tarfile.open(fileobj=stream, mode="r:") as opened:
            for count, entry in enumerate(opened, 1):
                total += entry.size
                if count > max_members:
                    raise _too_much(archive, f"{max_members} files")
                if total > max_bytes:
                    raise _too_much(archive, f"{max_bytes} bytes")
                if entry.issym() or entry.islnk():
                    raise _refused(archive, entry.name, "a link")
                if not (entry.isfile() or entry.isdir()) or entry.issparse():
                    raise _refused(archive, entry.name, "a special file")
                yield _Member(entry.name, entry.size, entry.isdir(), lambda entry=entry: opened.extractfile(entry))  # type: ignore
                advance(file.tell() - used)
                used = file.tell()
            # tarfile stops at the first block that is no header; the checksum of gzip comes after all of them.
            while stream.read(_BLOCK_BYTES):
                pass


class _BoundedGzip(gzip.GzipFile):
    """A gzip file that never gives more than a number of bytes, nor much of it at once.

    How much of an archive tarfile reads into memory is for the archive's headers to say.
    """

    def __init__(self, archive: Path, file: IO[bytes], max_bytes: int):
        super().__init__(fileobj=file, mode="rb")
        self._archive = archive
        self._max_bytes = max_bytes

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _BLOCK_BYTES:
            raise ArchiveError(f"{self._archive}: a header claims {size} bytes for itself; nothing was unpacked")
        block = super().read(size)
        if self.tell() > self._max_bytes:
            raise _too_much(self._archive, f"{self._max_bytes} bytes")
        return block

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET and offset > self._max_bytes:
            raise _too_much(self._archive, f"{self._max_bytes} bytes")
        return super().seek(offset, whence)
