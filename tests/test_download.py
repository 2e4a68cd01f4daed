"""Whatever a mirror does, a download ends whole or with an error that says why, and goes on when it is run again."""

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from mirrors import Mirror, archive_of, noise, set_of, tar_gz, zipped

from keras_genre import files
from keras_genre.__main__ import main as keras_genre
from keras_genre.datasets.catalogue import CATALOGUE
from keras_genre.datasets.download import Patience, download, require_http
from keras_genre.errors import (
    ArchiveError,
    ChecksumError,
    CutConnectionError,
    DatasetError,
    DiskFullError,
    DownloadError,
    FolderInUseError,
    MirrorError,
    ParameterError,
)

ROOT = Path(__file__).resolve().parents[1]
AUDIO = {"genres/jazz/a.au": noise(700_000, 1), "genres/rock/b.au": noise(600_000, 2)}
TABLE = {"table/tracks.csv": b"track\n" * 1000}
GENRES_TAR, TABLE_ZIP = tar_gz(AUDIO), zipped(TABLE)
HALF = len(GENRES_TAR) // 2
QUICK = Patience(timeout_seconds=20, attempts=3, pause_seconds=0.01)
IMPATIENT = Patience(timeout_seconds=0.5, attempts=3, pause_seconds=0.01)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def mirror():
    with Mirror({"genres.tar.gz": GENRES_TAR, "table.zip": TABLE_ZIP}) as server:
        yield server


@pytest.fixture
def toy(mirror):
    """A data set of one archive, on the mirror."""
    return set_of(archive_of(GENRES_TAR, mirror.url("genres.tar.gz"), "genres", "md5"))


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def files_below(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def failure_of(data_set, folder, kind, *mirrors, patience=QUICK):
    """What the error says, of exactly this type, after a download that must fail."""
    with pytest.raises(kind) as caught:
        download(data_set, folder, mirrors, patience)
    assert type(caught.value) is kind
    assert isinstance(caught.value, DownloadError) and isinstance(caught.value, DatasetError)
    assert not list(folder.rglob("genres"))
    return str(caught.value)


# What a download leaves.


def test_archives_are_fetched_checked_unpacked_and_removed(mirror, tmp_path):
    said = []
    data_set = set_of(
        archive_of(TABLE_ZIP, mirror.url("table.zip"), "table"),
        archive_of(GENRES_TAR, mirror.url("genres.tar.gz"), "genres", "md5"),
    )
    assert not data_set.is_complete(tmp_path / "toy")
    download(data_set, tmp_path / "toy", patience=QUICK, say=said.append)
    assert files_below(tmp_path / "toy") == AUDIO | TABLE
    assert names_in(tmp_path / "toy") == ["genres", "table"]
    assert data_set.is_complete(tmp_path / "toy")
    assert [path for path, _ in mirror.requests] == ["/table.zip", "/genres.tar.gz"]
    assert f"fetching genres.tar.gz from {mirror.url('genres.tar.gz')}" in said


def test_what_is_there_is_not_fetched_again(mirror, toy, tmp_path):
    download(toy, tmp_path, patience=QUICK)
    before = (tmp_path / "genres" / "jazz" / "a.au").stat().st_mtime_ns
    mirror.requests.clear()
    download(toy, tmp_path, patience=QUICK)
    assert mirror.requests == []
    assert (tmp_path / "genres" / "jazz" / "a.au").stat().st_mtime_ns == before


def test_an_archive_that_was_put_there_by_hand_is_taken(mirror, toy, tmp_path):
    (tmp_path / "genres.tar.gz").write_bytes(GENRES_TAR)
    download(toy, tmp_path, patience=QUICK)
    assert mirror.requests == []
    assert files_below(tmp_path) == AUDIO


def test_a_wrong_archive_that_was_put_there_by_hand_is_named_and_stays(mirror, toy, tmp_path):
    (tmp_path / "genres.tar.gz").write_bytes(b"the wrong one")
    message = failure_of(toy, tmp_path, ChecksumError)
    assert f"{tmp_path / 'genres.tar.gz'}: its MD5 is" in message
    assert "remove it" in message
    assert files_below(tmp_path) == {"genres.tar.gz": b"the wrong one"}


def test_a_mirror_is_a_folder_or_an_archive(mirror, toy, tmp_path):
    mirror.files = {"sets/of/music/genres.tar.gz": GENRES_TAR}
    for number, address in enumerate(("sets/of/music", "sets/of/music/", "sets/of/music/genres.tar.gz")):
        download(toy, tmp_path / str(number), [mirror.url(address)], QUICK)
        assert files_below(tmp_path / str(number)) == AUDIO


def test_progress_is_in_megabytes(mirror, toy, tmp_path, capsys):
    download(toy, tmp_path, patience=QUICK)
    assert "2/2 MB, " in capsys.readouterr().err


# Connections that end.


@pytest.mark.parametrize("reset", [False, True], ids=["ended", "reset"])
def test_a_cut_connection_goes_on_where_it_was(mirror, toy, tmp_path, reset):
    mirror.faults = [mirror.cut_after(HALF, reset)]
    download(toy, tmp_path, patience=QUICK)
    assert files_below(tmp_path) == AUDIO
    first, second = mirror.ranges_asked
    assert first is None
    assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= HALF
    assert mirror.requests[1][1]["If-Range"] == '"first"'


def test_a_mirror_that_always_cuts_is_given_up_and_the_next_call_goes_on(mirror, toy, tmp_path):
    mirror.faults = [mirror.cut_after(1000) for _ in range(QUICK.attempts)]
    message = failure_of(toy, tmp_path, CutConnectionError)
    assert mirror.url("genres.tar.gz") in message
    assert "it goes on where it was" in message
    assert names_in(tmp_path) == ["genres.tar.gz.part", "genres.tar.gz.part.json"]
    assert (tmp_path / "genres.tar.gz.part").read_bytes() == GENRES_TAR[: 1000 * QUICK.attempts]
    mirror.requests.clear()
    download(toy, tmp_path, patience=QUICK)
    assert mirror.ranges_asked == [f"bytes={1000 * QUICK.attempts}-"]
    assert files_below(tmp_path) == AUDIO


def test_a_mirror_that_gives_a_megabyte_each_time_is_asked_as_often_as_it_takes(mirror, tmp_path):
    members = {"genres/a.au": noise(4_500_000, 7)}
    content = tar_gz(members)
    mirror.files["genres.tar.gz"] = content
    mirror.faults = [mirror.cut_after(1_000_000)] * 4
    data_set = set_of(archive_of(content, mirror.url("genres.tar.gz"), "genres"))
    download(data_set, tmp_path, patience=Patience(attempts=2, pause_seconds=0.01))
    assert mirror.ranges_asked == [None, *(f"bytes={number}000000-" for number in (1, 2, 3, 4))]
    assert files_below(tmp_path) == members


def test_a_cut_in_chunked_coding_is_noticed(mirror, toy, tmp_path):
    def chunked(handler):
        handler.protocol_version = "HTTP/1.1"
        mirror.start(handler, Content_Length=None, Transfer_Encoding="chunked")
        handler.wfile.write(b"%x\r\n" % HALF + GENRES_TAR[: HALF - 10])

    mirror.faults = [chunked]
    download(toy, tmp_path, patience=QUICK)
    assert mirror.ranges_asked == [None, f"bytes={HALF - 10}-"]
    assert files_below(tmp_path) == AUDIO


def test_a_process_that_was_killed_goes_on_where_it_was(mirror, toy, tmp_path):
    mirror.faults = [mirror.fall_silent_after(HALF, seconds=60)]
    code = f"""
        from mirrors import archive_of, set_of
        from keras_genre.datasets.catalogue import Archive, DownloadableSet
        from keras_genre.datasets.download import download
        from pathlib import Path
        download({toy!r}, Path({str(tmp_path)!r}))
    """
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], env=environment) as process:
        end = time.monotonic() + 60
        part = tmp_path / "genres.tar.gz.part"
        while not part.exists() or part.stat().st_size < HALF:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    download(toy, tmp_path, patience=QUICK)
    assert mirror.ranges_asked == [None, f"bytes={HALF}-"]
    assert files_below(tmp_path) == AUDIO


# Parts.


def test_without_ranges_it_begins_anew(mirror, toy, tmp_path):
    mirror.ranges = False
    mirror.faults = [mirror.cut_after(HALF)]
    said = []
    download(toy, tmp_path, patience=QUICK, say=said.append)
    assert mirror.ranges_asked == [None, f"bytes={HALF}-"]
    assert files_below(tmp_path) == AUDIO
    assert any("only from its beginning" in text for text in said)


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_a_file_that_changed_is_not_spliced(mirror, toy, tmp_path, heeds_if_range):
    other = noise(len(GENRES_TAR), 99)
    mirror.files["genres.tar.gz"] = other
    mirror.faults = [mirror.cut_after(HALF)] * QUICK.attempts
    failure_of(toy, tmp_path, CutConnectionError, patience=Patience(attempts=1))
    assert (tmp_path / "genres.tar.gz.part").read_bytes() == other[:HALF]
    mirror.files["genres.tar.gz"] = GENRES_TAR
    mirror.etag = '"second"'
    mirror.faults.clear()
    if not heeds_if_range:

        def ignoring(handler):
            del handler.headers["If-Range"]
            mirror.give(handler)

        mirror.faults = [ignoring]
    download(toy, tmp_path, patience=QUICK)
    assert files_below(tmp_path) == AUDIO


def test_an_answer_from_another_place_is_not_spliced(mirror, toy, tmp_path):
    def elsewhere(handler):
        del handler.headers["Range"]
        mirror.start(handler, 206, Content_Range=f"bytes 0-{len(GENRES_TAR) - 1}/{len(GENRES_TAR)}")
        handler.wfile.write(GENRES_TAR)

    mirror.faults = [mirror.cut_after(HALF), elsewhere]
    download(toy, tmp_path, patience=QUICK)
    assert files_below(tmp_path) == AUDIO


def test_a_part_that_nobody_asked_for_is_refused(mirror, toy, tmp_path):
    def later(handler):
        mirror.start(handler, 206, Content_Range=f"bytes {HALF}-{len(GENRES_TAR) - 1}/{len(GENRES_TAR)}")
        handler.wfile.write(GENRES_TAR[HALF:])

    mirror.faults = [later] * QUICK.attempts
    assert "gives another part of the file" in failure_of(toy, tmp_path / "toy", MirrorError)
    assert not (tmp_path / "toy").exists()


def test_a_weak_etag_is_not_relied_on(mirror, toy, tmp_path):
    mirror.etag = 'W/"first"'
    date = "Tue, 24 Nov 2026 08:00:00 GMT"
    mirror.faults = [lambda handler: handler.wfile.write(mirror.start(handler, Last_Modified=date)[:HALF])]
    download(toy, tmp_path, patience=QUICK)
    assert mirror.requests[1][1]["If-Range"] == date
    assert files_below(tmp_path) == AUDIO


def test_a_part_of_unknown_origin_is_not_used(mirror, toy, tmp_path):
    (tmp_path / "genres.tar.gz.part").write_bytes(noise(HALF, 5))
    for identity in (None, "no JSON", "[]", '{"length": 3, "md5": "0", "url": "http://127.0.0.1/"}'):
        if identity is not None:
            (tmp_path / "genres.tar.gz.part.json").write_text(identity)
        shutil.rmtree(tmp_path / "genres", ignore_errors=True)
        mirror.requests.clear()
        download(toy, tmp_path, patience=QUICK)
        assert mirror.ranges_asked == [None]
        assert files_below(tmp_path) == AUDIO


def test_another_mirror_goes_on_with_the_part_of_the_first(mirror, toy, tmp_path):
    with Mirror({"genres.tar.gz": GENRES_TAR}) as second:
        second.etag = '"of the second"'
        mirror.faults = [mirror.cut_after(HALF), *[mirror.status(404)] * 2]
        download(toy, tmp_path, [mirror.url(), second.url()], QUICK)
        assert second.ranges_asked == [f"bytes={HALF}-"]
        assert "If-Range" not in second.requests[0][1]
    assert files_below(tmp_path) == AUDIO


# Wrong content.


def test_a_wrong_checksum_leaves_nothing_and_says_both(mirror, toy, tmp_path):
    mirror.files["genres.tar.gz"] = noise(len(GENRES_TAR), 99)
    message = failure_of(toy, tmp_path / "toy", ChecksumError)
    assert toy.archives[0].digest in message
    assert "MD5" in message
    assert "--mirror" in message
    assert not (tmp_path / "toy").exists()
    mirror.files["genres.tar.gz"] = GENRES_TAR
    download(toy, tmp_path / "toy", patience=QUICK)
    assert files_below(tmp_path / "toy") == AUDIO


def test_a_part_that_was_damaged_on_the_disk_is_not_unpacked(mirror, toy, tmp_path):
    mirror.faults = [mirror.cut_after(HALF)]
    failure_of(toy, tmp_path, CutConnectionError, patience=Patience(attempts=1))
    with open(tmp_path / "genres.tar.gz.part", "r+b") as file:
        file.write(b"XXXX")
    failure_of(toy, tmp_path, ChecksumError)
    assert names_in(tmp_path) == []
    download(toy, tmp_path, patience=QUICK)
    assert files_below(tmp_path) == AUDIO


def test_another_size_is_refused_before_anything_is_fetched(mirror, toy, tmp_path):
    mirror.files["genres.tar.gz"] = b"<html>Please log in to the network</html>"
    message = failure_of(toy, tmp_path / "toy", MirrorError)
    assert f"offers 41 bytes, the published file has {len(GENRES_TAR)}" in message
    assert len(mirror.requests) == 1
    assert not (tmp_path / "toy").exists()


def test_a_body_without_end_is_read_as_far_as_the_file_would_go(mirror, toy, tmp_path):
    def endless(handler):
        mirror.start(handler, Content_Length=None)
        while True:
            handler.wfile.write(bytes(100_000))

    mirror.faults = [endless]
    failure_of(toy, tmp_path, ChecksumError)
    assert names_in(tmp_path) == []


def test_an_archive_without_the_folder_that_is_wanted_is_refused(mirror, tmp_path):
    content = tar_gz({"other/a": b"a"})
    mirror.files["genres.tar.gz"] = content
    data_set = set_of(archive_of(content, mirror.url("genres.tar.gz"), "genres"))
    assert "holds no folder genres" in failure_of(data_set, tmp_path, ArchiveError)
    assert names_in(tmp_path) == ["genres.tar.gz"]


def test_a_dangerous_archive_leaves_no_folder_even_if_its_checksum_is_right(mirror, tmp_path):
    content = tar_gz({"genres/a": b"a", "genres/../../evil": b"evil"})
    mirror.files["genres.tar.gz"] = content
    data_set = set_of(archive_of(content, mirror.url("genres.tar.gz"), "genres"))
    assert "outside of the folder" in failure_of(data_set, tmp_path / "toy", ArchiveError)
    assert names_in(tmp_path / "toy") == ["genres.tar.gz"]
    assert names_in(tmp_path) == ["toy"]


# Mirrors that do not serve.


def test_a_dead_mirror_is_named_and_leaves_nothing(toy, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/genres.tar.gz"
        message = failure_of(toy, tmp_path / "toy", MirrorError, address)
    assert f"{address}: cannot be reached (Connection refused)" in message
    assert "--mirror" in message
    assert not (tmp_path / "toy").exists()


def test_after_a_dead_mirror_comes_the_next(mirror, toy, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        download(toy, tmp_path, [dead, mirror.url()], QUICK)
    assert files_below(tmp_path) == AUDIO


def test_where_all_mirrors_fail_all_are_named(mirror, toy, tmp_path):
    mirrors = [mirror.url("gone"), mirror.url("away")]
    message = failure_of(toy, tmp_path, MirrorError, *mirrors)
    assert all(f"{address}/genres.tar.gz: answers with status 404" in message for address in mirrors)


@pytest.mark.parametrize(("status", "requests"), [(403, 1), (404, 1), (410, 1), (204, 1), (429, 3), (500, 3), (503, 3)])
def test_an_error_status_is_said_and_those_that_may_pass_are_asked_again(mirror, toy, tmp_path, status, requests):
    mirror.faults = [mirror.status(status)] * 10
    assert f"answers with status {status}" in failure_of(toy, tmp_path / "toy", MirrorError)
    assert len(mirror.requests) == requests
    assert not (tmp_path / "toy").exists()


def test_a_server_that_is_busy_for_a_moment_is_no_failure(mirror, toy, tmp_path):
    mirror.faults = [mirror.status(503), mirror.cut_after(HALF)]
    download(toy, tmp_path, patience=QUICK)
    assert files_below(tmp_path) == AUDIO


def test_redirects_are_followed_and_keep_the_range(mirror, toy, tmp_path):
    mirror.files["elsewhere"] = GENRES_TAR
    away = mirror.status(302, Location=mirror.url("elsewhere"))
    mirror.faults = [away, mirror.cut_after(HALF), away]
    download(toy, tmp_path, patience=QUICK)
    assert mirror.ranges_asked == [None, None, f"bytes={HALF}-", f"bytes={HALF}-"]
    assert files_below(tmp_path) == AUDIO


def test_redirects_in_a_circle_are_left(mirror, toy, tmp_path):
    mirror.faults = [mirror.status(302, Location=mirror.url("genres.tar.gz"))] * 100
    assert "redirects in a circle" in failure_of(toy, tmp_path, MirrorError)
    assert len(mirror.requests) < 20


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/genres.tar.gz", "data:,genres"])
def test_redirects_out_of_the_web_are_not_followed(mirror, toy, tmp_path, target):
    mirror.faults = [mirror.status(302, Location=target)]
    assert target in failure_of(toy, tmp_path, MirrorError)


def test_a_server_that_does_not_answer_is_given_up(mirror, toy, tmp_path):
    mirror.faults = [lambda _: time.sleep(0.8)] * IMPATIENT.attempts
    assert "nothing arrived for 0.5 s" in failure_of(toy, tmp_path / "toy", MirrorError, patience=IMPATIENT)
    assert len(mirror.requests) == QUICK.attempts
    assert not (tmp_path / "toy").exists()


def test_a_server_that_does_not_even_take_a_connection_is_given_up(toy, tmp_path):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as stack:
        address = server.getsockname()
        # The system answers for the server until its queue is full.
        with contextlib.suppress(TimeoutError):
            for _ in range(20):
                stack.enter_context(socket.create_connection(address, timeout=0.2))
        mirror = f"http://127.0.0.1:{address[1]}/genres.tar.gz"
        message = failure_of(toy, tmp_path / "toy", MirrorError, mirror, patience=IMPATIENT)
    assert "no answer within 0.5 s" in message
    assert not (tmp_path / "toy").exists()


def test_a_server_that_falls_silent_is_given_up_and_the_part_stays(mirror, toy, tmp_path):
    mirror.faults = [mirror.fall_silent_after(HALF)] + [mirror.fall_silent_after(0)] * QUICK.attempts
    message = failure_of(toy, tmp_path, MirrorError, patience=IMPATIENT)
    assert "nothing arrived for 0.5 s" in message
    assert (tmp_path / "genres.tar.gz.part").read_bytes() == GENRES_TAR[:HALF]
    mirror.faults.clear()
    mirror.requests.clear()
    download(toy, tmp_path, patience=QUICK)
    assert mirror.ranges_asked == [f"bytes={HALF}-"]


def test_a_server_that_trickles_is_given_up_and_the_part_stays(mirror, toy, tmp_path):
    mirror.faults = [mirror.trickle()] * 3
    patience = Patience(timeout_seconds=5, attempts=3, min_bytes_per_second=100_000, slow_seconds=0.3)
    assert "too slow" in failure_of(toy, tmp_path, MirrorError, patience=patience)
    part = (tmp_path / "genres.tar.gz.part").read_bytes()
    assert 0 < len(part) < HALF
    assert part == GENRES_TAR[: len(part)]


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (b"", CutConnectionError, "the connection was cut"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", MirrorError, "does not answer as a web server should"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n", MirrorError, "does not answer as a web server should"),
    ],
    ids=["nothing", "another protocol", "headers without end"],
)
def test_what_is_no_answer_of_a_web_server_is_said_to_be_that(mirror, toy, tmp_path, text, kind, words):
    mirror.faults = [mirror.say(text)] * QUICK.attempts
    message = failure_of(toy, tmp_path / "toy", kind)
    assert f"{mirror.url('genres.tar.gz')}: {words}" in message
    assert not (tmp_path / "toy").exists()


def test_a_server_without_a_certificate_is_said_to_be_that(mirror, toy, tmp_path):
    address = mirror.url("genres.tar.gz").replace("http:", "https:")
    assert "SSL" in failure_of(toy, tmp_path, MirrorError, address)


@pytest.mark.parametrize(
    "address",
    ["file:///etc/passwd", "ftp://127.0.0.1/", "/etc", "", "http://", "http://[::1", "http://a:x/", "http://a/\n"],
)
def test_only_addresses_of_the_web_are_taken(mirror, toy, tmp_path, address):
    with pytest.raises(ParameterError, match="no address of a mirror"):
        download(toy, tmp_path / "toy", [address])
    assert not (tmp_path / "toy").exists()


# Disks.


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_fetched(mirror, toy, small_disk):
    folder = small_disk(2) / "toy"
    message = failure_of(toy, folder, DiskFullError)
    assert "2 MB are free, about 3 MB are needed" in message
    assert mirror.requests == []
    assert not folder.exists()


def test_a_disk_that_fills_up_keeps_the_part_and_goes_on_with_room(mirror, toy, small_disk):
    disk = small_disk(4)

    def fill_up(handler):
        body = mirror.start(handler)
        handler.wfile.write(body[:HALF])
        handler.wfile.flush()
        # The first half must be there before the ballast is.
        while not (disk / "genres.tar.gz.part").exists() or (disk / "genres.tar.gz.part").stat().st_size < HALF:
            time.sleep(0.01)
        with pytest.raises(OSError), open(disk / "ballast", "wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4096))
        handler.wfile.write(body[HALF:])

    mirror.faults = [fill_up]
    message = failure_of(toy, disk, DiskFullError, patience=Patience(timeout_seconds=20))
    assert "no room to write (No space left on device)" in message
    assert "make room" in message
    part = (disk / "genres.tar.gz.part").read_bytes()
    assert len(part) >= HALF
    assert part == GENRES_TAR[: len(part)]
    (disk / "ballast").unlink()
    mirror.requests.clear()
    download(toy, disk, patience=QUICK)
    assert mirror.ranges_asked == [f"bytes={len(part)}-"]
    assert files_below(disk) == AUDIO


def test_a_disk_that_fills_up_while_unpacking_keeps_the_archive_only(mirror, small_disk):
    disk = small_disk(3)
    members = {"genres/jazz/silence.au": bytes(2_000_000), "genres/jazz/more.au": bytes(2_000_000)}
    content = tar_gz(members)
    mirror.files["genres.tar.gz"] = content
    data_set = set_of(archive_of(content, mirror.url("genres.tar.gz"), "genres"))
    assert "No space left on device" in failure_of(data_set, disk, DiskFullError)
    assert names_in(disk) == ["genres.tar.gz"]
    subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
    mirror.requests.clear()
    download(data_set, disk, patience=QUICK)
    assert mirror.requests == []
    assert files_below(disk) == members


def test_a_limit_of_the_size_of_files_is_like_a_full_disk(mirror, toy, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, before[1]))
    try:
        message = failure_of(toy, tmp_path, DiskFullError)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "no room to write (File too large)" in message
    assert (tmp_path / "genres.tar.gz.part").read_bytes() == GENRES_TAR[:HALF]
    download(toy, tmp_path, patience=QUICK)
    assert mirror.ranges_asked[1:] == [f"bytes={HALF}-"]
    assert files_below(tmp_path) == AUDIO


# Whole or not at all.


def test_what_a_killed_unpacking_left_is_cleared(mirror, toy, tmp_path):
    (tmp_path / ".unpacking" / "genres" / "jazz").mkdir(parents=True)
    (tmp_path / ".unpacking" / "genres" / "jazz" / "half.au").write_bytes(b"half")
    download(toy, tmp_path, patience=QUICK)
    assert files_below(tmp_path) == AUDIO
    assert names_in(tmp_path) == ["genres"]
    # Killed between the last two steps.
    (tmp_path / ".unpacking").mkdir()
    (tmp_path / "genres.tar.gz").write_bytes(GENRES_TAR)
    said = []
    download(toy, tmp_path, patience=QUICK, say=said.append)
    assert said[-1] == f"{tmp_path / 'genres.tar.gz'} is not needed any more"
    assert names_in(tmp_path) == ["genres", "genres.tar.gz"]


def test_a_set_of_two_archives_is_complete_only_with_both(mirror, tmp_path):
    data_set = set_of(
        archive_of(TABLE_ZIP, mirror.url("table.zip"), "table"),
        archive_of(GENRES_TAR, mirror.url("genres.tar.gz"), "genres"),
    )
    mirror.faults = [mirror.give, mirror.status(404)]
    failure_of(data_set, tmp_path, MirrorError)
    assert names_in(tmp_path) == ["table"]
    assert not data_set.is_complete(tmp_path)
    download(data_set, tmp_path, patience=QUICK)
    assert data_set.is_complete(tmp_path)
    assert [path for path, _ in mirror.requests].count("/table.zip") == 1


def test_two_processes_do_not_write_to_one_folder(toy, tmp_path):
    with files.locked_folder(tmp_path), pytest.raises(FolderInUseError):
        download(toy, tmp_path)
    assert names_in(tmp_path) == []


# The command and its catalogue.


def test_the_command_says_what_is_wrong_in_a_line(mirror, tmp_path, capsys):
    mirror.files["genres.tar.gz"] = b"small"
    arguments = ["datasets", "download", "gtzan", "--mirror", mirror.url(), "--out", str(tmp_path / "gtzan")]
    assert keras_genre(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    last = captured.err.splitlines()[-1]
    assert last.startswith(f"error: {mirror.url('genres.tar.gz')}: offers 5 bytes, the published file has 1225571541")
    assert not (tmp_path / "gtzan").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--mirror", "file:///etc"], "no address of a mirror"),
        (["--timeout", "0"], "time-out"),
        (["--timeout", "nan"], "time-out"),
    ],
)
def test_flags_that_cannot_work_are_wrong_usage(tmp_path, capsys, flags, words):
    assert keras_genre(["datasets", "download", "gtzan", "--out", str(tmp_path / "toy"), *flags]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "toy").exists()


def test_ctrl_c_ends_it_without_a_traceback_and_the_part_stays(mirror, tmp_path):
    size = CATALOGUE["gtzan"].archives[0].size_bytes

    def begin(handler):
        mirror.start(handler, Content_Length=str(size))
        handler.wfile.write(GENRES_TAR)
        handler.wfile.flush()
        time.sleep(60)

    mirror.faults = [begin]
    part = tmp_path / "genres.tar.gz.part"
    command = [sys.executable, "-m", "keras_genre.datasets", "download", "gtzan", "--mirror", mirror.url()]
    with subprocess.Popen([*command, "--out", str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 60
        while not part.exists() or part.stat().st_size < len(GENRES_TAR):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted"
    assert "Traceback" not in said
    assert part.read_bytes() == GENRES_TAR


def test_the_catalogue_is_consistent():
    for name, data_set in CATALOGUE.items():
        assert data_set.name == name
        assert data_set.default_folder == ROOT / "data" / name
        assert data_set.archives[-1].folder in ("genres", "fma_small")
        for archive in data_set.archives:
            assert len(archive.digest) == {"md5": 32, "sha1": 40}[archive.algorithm]
            assert archive.max_unpacked_bytes > archive.size_bytes
            for url in archive.urls:
                require_http(url)
                assert url.endswith(f"/{archive.name}")
