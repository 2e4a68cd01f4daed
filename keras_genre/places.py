"""Places on this machine and on others: paths, and what TensorFlow's file systems reach, such as `gs://` and `s3://`.

A place elsewhere is no folder: it knows neither locks nor renames. Stores there are read where they are. A run there is
a run of this machine whose finished files are copied.
"""

import argparse
import contextlib
import dataclasses
import errno
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from keras_genre.errors import KerasGenreError, RunError
from keras_genre.files import PARTIAL_PREFIX

_ELSEWHERE = re.compile(r"([a-z][a-z0-9+.-]*)://.+")


@dataclasses.dataclass(frozen=True)
class RemotePath:
    """A place on a file system of TensorFlow's, with the part of `pathlib.Path` that readers need.

    What goes wrong is an OSError that names the place.

    Attributes
    ----------
    text : str
        Such as `gs://bucket/store`, without a slash at the end.
    """

    text: str

    def __str__(self) -> str:
        return self.text

    def __lt__(self, other: "RemotePath") -> bool:
        return self.text < other.text

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self.text}/{name}")

    @property
    def name(self) -> str:
        """The last part."""
        return self.text.rpartition("/")[2]

    @property
    def parent(self) -> "RemotePath":
        """The place that this one is in."""
        return RemotePath(self.text.rpartition("/")[0])

    def resolve(self) -> "RemotePath":
        """Return the same place: it depends on no working folder and no link."""
        return self

    def exists(self) -> bool:
        """Tell whether something is here."""
        with self._files() as gfile:
            return gfile.exists(self.text)

    def is_file(self) -> bool:
        """Tell whether a file is here."""
        with self._files() as gfile:
            return gfile.exists(self.text) and not gfile.isdir(self.text)

    def read_bytes(self) -> bytes:
        """Return the content of this file."""
        with self._files() as gfile, gfile.GFile(self.text, "rb") as file:
            return file.read()

    def glob(self, pattern: str) -> list["RemotePath"]:
        """Return the places below this one that fit a pattern."""
        with self._files() as gfile:
            return [RemotePath(found) for found in gfile.glob(f"{self.text}/{pattern}")]

    def fetch(self, folder: Path) -> None:
        """Copy all that is below here into a folder of this machine."""
        with self._files() as gfile:
            for place, _, names in gfile.walk(self.text):
                inside = folder / place.removeprefix(self.text).strip("/")
                inside.mkdir(parents=True, exist_ok=True)
                for name in names:
                    if name.startswith(PARTIAL_PREFIX):
                        continue
                    gfile.copy(f"{place.rstrip('/')}/{name}", str(inside / name), overwrite=True)

    def store(self, file: Path) -> None:
        """Make this a copy of a file of this machine, in the place of what is here."""
        beside = self.parent / f"{PARTIAL_PREFIX}{self.name}"
        with self._files() as gfile:
            gfile.makedirs(self.parent.text)
            # What an interrupted copy left: some file systems would write on at its end.
            if gfile.exists(beside.text):
                gfile.remove(beside.text)
            gfile.copy(str(file), beside.text)
            gfile.rename(beside.text, self.text, overwrite=True)

    @contextlib.contextmanager
    def _files(self) -> Iterator:
        """Give TensorFlow's functions for files; their errors become OSErrors."""
        import tensorflow as tf

        scheme = self.text.partition("://")[0]
        if scheme not in tf.io.gfile.get_registered_schemes():
            with contextlib.suppress(ImportError, NotImplementedError):
                # It brings more file systems.
                import tensorflow_io  # noqa: F401
        try:
            yield tf.io.gfile
        except tf.errors.NotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, "no such file", self.text) from error
        except tf.errors.UnimplementedError as error:
            why = f"this TensorFlow reaches no {scheme}://; for s3:// and others: pip install -e '.[io]'"
            raise OSError(errno.EPROTONOSUPPORT, why, self.text) from error
        except tf.errors.OpError as error:
            raise OSError(errno.EIO, error.message, self.text) from error


Place = Path | RemotePath


def place(text: "str | Place") -> Place:
    """Return the place that a flag or a record names."""
    if isinstance(text, RemotePath):
        return text
    return RemotePath(str(text).rstrip("/")) if _ELSEWHERE.fullmatch(str(text)) else Path(text)


def local_path(text: str) -> Path:
    """Return the path of this machine that a flag names.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is elsewhere.
    """
    found = place(text)
    if isinstance(found, RemotePath):
        raise argparse.ArgumentTypeError(
            f"{text} is not on this machine, where it must be; copy it here, or there once written"
        )
    return found


class RunFolder:
    """A run folder at hand, whose finished files are copied to where the run belongs, if that is elsewhere.

    Attributes
    ----------
    path : Path
        The folder on this machine.
    """

    def __init__(self, home: Place, path: Path):
        self._home = home
        self.path = path
        # What came from there need not go back.
        self._published = {stamp for stamp, _ in self._finished()}

    def publish(self) -> None:
        """Copy what is new or changed; the files in the order in which they were written, as a checkpoint comes last.

        Raises
        ------
        OSError
            If the copy fails.
        """
        if isinstance(self._home, RemotePath):
            for stamp, file in self._finished():
                if stamp not in self._published:
                    RemotePath(self.shown(file)).store(file)
                    self._published.add(stamp)

    def shown(self, path: Path) -> str:
        """Return what to call a path in this folder."""
        return str(path).replace(str(self.path), str(self._home), 1)

    def _finished(self) -> list[tuple[tuple[Path, int, int], Path]]:
        if not isinstance(self._home, RemotePath):
            return []
        found = []
        for file in self.path.rglob("*"):
            inside = file.relative_to(self.path)
            if file.is_file() and not any(part.startswith(PARTIAL_PREFIX) for part in inside.parts):
                status = file.stat()
                found.append(((inside, status.st_mtime_ns, status.st_size), file))
        return sorted(found, key=lambda pair: pair[0][1])


@contextlib.contextmanager
def run_folder(home: Place) -> Iterator[RunFolder]:
    """Have a run folder at hand, wherever it belongs; at the end of the block all of it is there.

    A run of this machine is its own folder. Of a run elsewhere, what is there is fetched into a temporary folder. An
    error of this package ends the block, too: what was finished before it is not lost.

    Raises
    ------
    RunError
        If something is there that is no run.
    """
    if not isinstance(home, RemotePath):
        yield RunFolder(home, home)
        return
    # Here, because runs are made of stores, and stores of places.
    from keras_genre.runs import RUN

    is_run = (home / RUN).is_file()
    if not is_run and home.glob("*"):
        # It may be a whole bucket.
        raise RunError(f"{home}: is not empty and holds no run ({RUN} is missing); name a run, or a place for one")
    with tempfile.TemporaryDirectory(prefix="keras_genre-") as temporary:
        local = Path(temporary) / home.name
        local.mkdir()
        if is_run:
            home.fetch(local)
        folder = RunFolder(home, local)
        try:
            yield folder
        except KerasGenreError as error:
            message = str(error).replace(str(local), str(home))
            try:
                folder.publish()
            except OSError as lost:
                message += f"; what was written before cannot be copied there ({lost.strerror})"
            raise type(error)(message) from error
        folder.publish()
