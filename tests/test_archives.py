"""Archives are unpacked whole, and nothing in one can get out of its folder or fill the disk."""

import io
import os
import stat
import tarfile
import zipfile

import pytest
from mirrors import noise, tar_gz, zipped

from keras_genre.datasets.archives import unpack
from keras_genre.errors import ArchiveError

MEMBERS = {
    "set/": None,
    "set/jazz/a.au": noise(300_000, 1),
    "./set/jazz/b.au": b"",
    "set/rock/über.au": noise(2_000_000, 2),
}
MAX_BYTES, MAX_MEMBERS = 5_000_000, 50


def unpack_bytes(folder, content, name="set.tar.gz", **limits):
    archive = folder / name
    archive.write_bytes(content)
    limits = {"max_bytes": MAX_BYTES, "max_members": MAX_MEMBERS} | limits
    unpack(archive, folder / "out", **limits)


def files_below(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tar_of(*entries):
    """A tar archive of entries that tarfile.TarInfo describes; none has content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, kind, changes in entries:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            for attribute, value in changes.items():
                setattr(entry, attribute, value)
            archive.addfile(entry)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("set.tar.gz", tar_gz(MEMBERS)),
        ("set.zip", zipped({name: content or b"" for name, content in MEMBERS.items()})),
        ("set.zip", zipped({name: content or b"" for name, content in MEMBERS.items()}, zipfile.ZIP_DEFLATED)),
    ],
    ids=["tar.gz", "zip with bzip2", "zip with deflate"],
)
def test_files_come_out_as_they_went_in(tmp_path, name, content):
    used = []
    archive = tmp_path / name
    archive.write_bytes(content)
    unpack(archive, tmp_path / "out", MAX_BYTES, MAX_MEMBERS, used.append)
    assert files_below(tmp_path / "out") == {
        "set/jazz/a.au": MEMBERS["set/jazz/a.au"],
        "set/jazz/b.au": b"",
        "set/rock/über.au": MEMBERS["set/rock/über.au"],
    }
    # What is counted is the archive's size, save its headers.
    assert len(content) - 2000 <= sum(used) <= len(content)


def test_a_plain_tar_is_unpacked_too(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("set/a")
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b"abc"))
    unpack_bytes(tmp_path, buffer.getvalue(), "set.tar")
    assert files_below(tmp_path / "out") == {"set/a": b"abc"}


def test_permissions_of_the_archive_are_not_taken_over(tmp_path):
    unpack_bytes(tmp_path, tar_of(("set/a", tarfile.REGTYPE, {"mode": 0o6777, "uid": 12345})))
    status = (tmp_path / "out" / "set" / "a").stat()
    assert stat.S_IMODE(status.st_mode) & 0o7111 == 0
    assert status.st_uid == os.getuid()


OUTSIDE = ["../evil", "set/../../evil", "/evil", "set/..", "set\\..\\..\\evil"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_outside_are_refused(tmp_path, name):
    for archive, content in (("set.tar.gz", tar_gz({name: b"evil"})), ("set.zip", zipped({name: b"evil"}))):
        folder = tmp_path / archive
        folder.mkdir()
        with pytest.raises(ArchiveError, match="outside of the folder"):
            unpack_bytes(folder, content, archive)
        assert files_below(folder) == {archive: content}
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize(
    ("kind", "changes", "word"),
    [
        (tarfile.SYMTYPE, {"linkname": "/etc/passwd"}, "a link"),
        (tarfile.LNKTYPE, {"linkname": "set/a"}, "a link"),
        (tarfile.FIFOTYPE, {}, "a special file"),
        (tarfile.CHRTYPE, {"devmajor": 1, "devminor": 5}, "a special file"),
        (tarfile.BLKTYPE, {"devmajor": 8, "devminor": 0}, "a special file"),
    ],
    ids=["symbolic link", "hard link", "pipe", "character device", "block device"],
)
def test_links_and_devices_are_refused(tmp_path, kind, changes, word):
    content = tar_of(("set/a", tarfile.REGTYPE, {}), ("set/x", kind, changes))
    with pytest.raises(ArchiveError, match=rf"'set/x' is {word}"):
        unpack_bytes(tmp_path, content)
    assert not os.path.lexists(tmp_path / "out" / "set" / "x")


def test_a_link_to_write_through_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    content = tar_of(
        ("set", tarfile.SYMTYPE, {"linkname": str(tmp_path / "elsewhere")}), ("set/evil", tarfile.REGTYPE, {})
    )
    with pytest.raises(ArchiveError, match="'set' is a link"):
        unpack_bytes(tmp_path, content)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_links_in_a_zip_are_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("set/x")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ArchiveError, match="'set/x' is a link"):
        unpack_bytes(tmp_path, buffer.getvalue(), "set.zip")


@pytest.mark.parametrize("name", ["set.tar.gz", "set.zip"])
def test_more_bytes_than_there_can_be_are_refused(tmp_path, name):
    make = tar_gz if name.endswith("gz") else zipped
    bomb = make({"set/a": b"small", "set/bomb": bytes(MAX_BYTES)})
    assert len(bomb) < 30_000
    with pytest.raises(ArchiveError, match=f"more than {MAX_BYTES} bytes"):
        unpack_bytes(tmp_path, bomb, name)
    assert sum(map(len, files_below(tmp_path / "out").values())) <= len(b"small")


@pytest.mark.parametrize("name", ["set.tar.gz", "set.zip"])
def test_more_files_than_there_can_be_are_refused(tmp_path, name):
    make = tar_gz if name.endswith("gz") else zipped
    with pytest.raises(ArchiveError, match=f"more than {MAX_MEMBERS} files"):
        unpack_bytes(tmp_path, make({f"set/{number}": b"" for number in range(MAX_MEMBERS + 1)}), name)


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("set/a")
        entry.pax_headers = {"comment": "0" * 3_000_000}
        archive.addfile(entry)
    with pytest.raises(ArchiveError, match="a header claims"):
        unpack_bytes(tmp_path, buffer.getvalue())


def test_zeros_behind_the_last_file_do_not_go_on_for_ever(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("set/a"))
    import gzip

    with pytest.raises(ArchiveError, match="more than"):
        unpack_bytes(tmp_path, gzip.compress(buffer.getvalue() + bytes(2 * MAX_BYTES)))


def test_a_zip_that_lies_about_sizes_is_refused(tmp_path):
    honest = zipped({"set/a": bytes(100_000)}, zipfile.ZIP_DEFLATED)
    size = (100_000).to_bytes(4, "little")
    assert honest.count(size) == 2
    with pytest.raises(ArchiveError):
        unpack_bytes(tmp_path, honest.replace(size, (10).to_bytes(4, "little")), "set.zip")


def test_encryption_is_refused(tmp_path):
    content = bytearray(zipped({"set/a": b"a"}, zipfile.ZIP_STORED))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ArchiveError, match="encrypted"):
        unpack_bytes(tmp_path, bytes(content), "set.zip")


def test_compression_that_is_not_known_is_refused(tmp_path):
    content = bytearray(zipped({"set/a": b"a"}, zipfile.ZIP_STORED))
    content[8] = 99
    content[content.index(b"PK\x01\x02") + 10] = 99
    with pytest.raises(ArchiveError, match="cannot be unpacked"):
        unpack_bytes(tmp_path, bytes(content), "set.zip")


def test_a_file_where_a_folder_should_be_is_refused(tmp_path):
    for name, make in (("set.tar.gz", tar_gz), ("set.zip", zipped)):
        (tmp_path / name[-3:]).mkdir()
        with pytest.raises(ArchiveError, match="damaged"):
            unpack_bytes(tmp_path / name[-3:], make({"set/a": b"file", "set/a/b": b"file"}), name)


@pytest.mark.parametrize("name", ["set.tar.gz", "set.zip"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_an_archive_that_was_cut_is_refused(tmp_path, name, share):
    members = {"set/a": noise(50_000), "set/b": noise(60_000)}
    content = (tar_gz if name.endswith("gz") else zipped)(members)
    with pytest.raises(ArchiveError, match="damaged"):
        unpack_bytes(tmp_path, content[: int(share * len(content))], name)


@pytest.mark.parametrize("name", ["set.tar.gz", "set.zip"])
def test_a_byte_that_flipped_is_noticed(tmp_path, name):
    members = {"set/a": noise(50_000), "set/b": noise(60_000)}
    content = bytearray((tar_gz if name.endswith("gz") else zipped)(members))
    content[40_000] ^= 1
    with pytest.raises(ArchiveError, match="damaged"):
        unpack_bytes(tmp_path, bytes(content), name)


def test_a_name_that_is_no_text_is_refused(tmp_path):
    content = tar_gz({"set/\udcff": b"x"})
    with pytest.raises(ArchiveError, match="not UTF-8"):
        unpack_bytes(tmp_path, content)
