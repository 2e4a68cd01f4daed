"""A file is whole or absent, and a folder has one writer."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from keras_genre import files
from keras_genre.errors import FolderInUseError

ROOT = Path(__file__).resolve().parents[1]

HOLDER = """
import sys, time
from keras_genre import files
with files.locked_folder(sys.argv[1]):
    with files.atomic_path(sys.argv[1] + "/shard.json") as temporary:
        temporary.write_text("half a fi")
        print("holding", flush=True)
        time.sleep(600)
"""

ASKER = """
import sys
from keras_genre import errors, files
try:
    with files.locked_folder(sys.argv[1]):
        print("free")
except errors.FolderInUseError as error:
    print(error)
"""


@contextlib.contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def ask(folder):
    return subprocess.run(
        [sys.executable, "-c", ASKER, str(folder)], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "a.json"
    with files.atomic_path(path) as temporary:
        temporary.write_text("{}")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.suffix == ".json"
    assert path.read_text() == "{}"
    assert names(path.parent) == ["a.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), files.atomic_path(path) as temporary:
        temporary.write_text("half of the ne")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_file_has_the_permissions_of_any_other_new_file(tmp_path, mask):
    with umask(mask):
        files.write_text(tmp_path / "a", "")
        (tmp_path / "b").write_text("")
        assert os.umask(mask) == mask
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_json_is_readable_by_people_and_keeps_all_letters(tmp_path):
    value = {"genre": "música", "values": [1, 2.5, None, True]}
    files.write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert "música" in text
    assert text.startswith('{\n  "genre"')
    assert text.endswith("}\n")


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (2 << 20) + 1])
def test_the_checksum_is_of_all_bytes(tmp_path, size):
    content = bytes(range(256)) * (size // 256 + 1)
    files.write_bytes(tmp_path / "a", content[:size])
    assert files.sha256_of(tmp_path / "a") == hashlib.sha256(content[:size]).hexdigest()


def test_a_folder_is_made_and_free_again_after_use(tmp_path):
    folder = tmp_path / "deep" / "store"
    for _ in range(2):
        with files.locked_folder(folder):
            assert folder.is_dir()
            with pytest.raises(FolderInUseError), files.locked_folder(folder):
                pass
    assert names(folder) == []


def test_a_second_process_is_told_that_the_folder_is_in_use(tmp_path):
    with files.locked_folder(tmp_path):
        assert ask(tmp_path) == f"{tmp_path}: another process is writing here; wait for it or name another folder"
    assert ask(tmp_path) == "free"


def test_a_killed_writer_frees_the_folder_and_its_half_file_is_cleared(tmp_path):
    (tmp_path / "shard-00000.json").write_text("whole")
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "holding\n"
            half_folder = tmp_path / f"{files.PARTIAL_PREFIX}1.x"
            half_folder.mkdir()
            (half_folder / "a.txt").write_text("half a fi")
            assert len(names(tmp_path)) == 3
            with pytest.raises(FolderInUseError), files.locked_folder(tmp_path):
                pass
        finally:
            holder.send_signal(signal.SIGKILL)
    assert len(names(tmp_path)) == 3
    with files.locked_folder(tmp_path):
        assert names(tmp_path) == ["shard-00000.json"]


def fill(folder, content):
    (folder / "deep").mkdir()
    (folder / "deep" / "a.txt").write_text(content)


def test_a_folder_is_written_whole_beside_its_place(tmp_path):
    path = tmp_path / "models" / "1"
    with umask(0o022), files.atomic_folder(path) as temporary:
        fill(temporary, "new")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert names(path.parent) == ["1"]
    assert (path / "deep" / "a.txt").read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o755


def test_a_folder_that_is_there_stays_unless_it_is_to_be_replaced(tmp_path):
    path = tmp_path / "1"
    path.mkdir()
    fill(path, "old")
    with pytest.raises(FileExistsError, match="1"), files.atomic_folder(path) as temporary:
        fill(temporary, "new")
    assert (path / "deep" / "a.txt").read_text() == "old"
    with files.atomic_folder(path, replace=True) as temporary:
        fill(temporary, "new")
    assert (path / "deep" / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["1"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_while_writing_a_folder_leaves_the_old_one_and_nothing_else(tmp_path, error):
    path = tmp_path / "1"
    path.mkdir()
    fill(path, "old")
    with pytest.raises(error), files.atomic_folder(path, replace=True) as temporary:
        fill(temporary, "half of the ne")
        raise error
    assert (path / "deep" / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["1"]
