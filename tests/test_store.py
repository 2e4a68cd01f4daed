"""A store gives back what was put in, goes on where it was, and never passes damage off as data."""

import csv
import dataclasses
import io
import json
import os
import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_genre import files
from keras_genre.clips import Clip
from keras_genre.encodings import ENCODINGS, decode, encode
from keras_genre.errors import FolderInUseError, ParameterError, StoreError
from keras_genre.params import FrontEndParams
from keras_genre.store import CLIPS_PER_SHARD, MANIFEST, StoreHeader, StoreWriter, main, open_store, validate_store

ROOT = Path(__file__).resolve().parents[1]
MINE = StoreHeader("mine", 3, 0.5, None)


def some_clips(count):
    return [
        Clip(f"t{n:03d}", "jazz" if n % 3 else "rock", f"{n}.wav", 0.5 * n, f"g{n // 2}", "train", f"{n:064x}")
        for n in range(count)
    ]


def frames_of(clip, dims=3):
    number = int(clip.track[1:])
    return np.random.default_rng(number).standard_normal((1 + number % 5, dims)).astype(np.float32) * 50


def fill(writer):
    for number, members in writer.missing():
        writer.add(number, [frames_of(clip, writer.header.dims) for clip in members])


def write(path, clips, header=MINE, **options):
    with StoreWriter(path, header, clips, **options) as writer:
        fill(writer)
        return writer.finish()


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def identity(path):
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def flipped(data, position, mask):
    return data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :]


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """One store of three shards, and small ones of one; tests that change them work on copies."""
    folder = tmp_path_factory.mktemp("stores")
    write(folder / "three", some_clips(130))
    for encoding in ("float32", "uint16"):
        write(folder / encoding, some_clips(7), dataclasses.replace(MINE, encoding=encoding, hop_seconds=512 / 22050))
    return folder


@pytest.fixture
def copy_of(stores, tmp_path):
    return lambda name: Path(shutil.copytree(stores / name, tmp_path / name))


# What is put in comes out.


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_clips_of_unequal_length_come_back_with_all_that_is_known(tmp_path, encoding):
    clips = some_clips(70)
    store = write(tmp_path / "store", clips, dataclasses.replace(MINE, encoding=encoding))
    assert sorted(store.clips, key=lambda clip: clip.track) == clips
    found = dict(store.read())
    assert list(found) == list(store.clips)
    for clip, length in zip(store.clips, store.frames, strict=True):
        assert length == 1 + int(clip.track[1:]) % 5
        np.testing.assert_array_equal(found[clip], decode(encode(frames_of(clip), encoding)), strict=True)
    assert validate_store(tmp_path / "store") == []


def test_shards_are_filled_and_nothing_but_shards_and_manifest_is_left(stores):
    store = open_store(stores / "three")
    assert [len(shard.clips) for shard in store.shards] == [CLIPS_PER_SHARD, CLIPS_PER_SHARD, 2]
    assert sorted(content(stores / "three")) == [
        "shard-00000.tfrecord",
        "shard-00001.tfrecord",
        "shard-00002.tfrecord",
        "store.json",
    ]


def test_the_bytes_do_not_depend_on_the_order_of_the_clips(stores, tmp_path):
    clips = some_clips(130)
    random.Random(0).shuffle(clips)
    write(tmp_path / "store", clips)
    assert content(tmp_path / "store") == content(stores / "three")


def test_every_shard_mixes_the_genres(stores):
    for shard in open_store(stores / "three").shards[:2]:
        share = sum(clip.genre == "rock" for clip in shard.clips) / len(shard.clips)
        assert 0.15 < share < 0.55


def test_some_rows_are_read_without_opening_the_shards_of_the_others(copy_of):
    path = copy_of("three")
    store = open_store(path)
    (path / "shard-00000.tfrecord").unlink()
    rows = [129, 70, 100]
    assert [clip for clip, _ in store.read(rows)] == [store.clips[row] for row in sorted(rows)]
    with pytest.raises(StoreError, match=r"shard-00000\.tfrecord: damaged or missing"):
        list(store.read([0]))


def test_a_shard_all_of_whose_clips_failed_is_empty(tmp_path):
    clips = some_clips(66)
    with StoreWriter(tmp_path, dataclasses.replace(MINE, encoding="uint8"), clips) as writer:
        for number, members in writer.missing():
            writer.add(number, [frames_of(clip) if number == 0 else "no music" for clip in members])
        store = writer.finish(unread=[("x.mp3", "is text")])
    assert len(store.clips) == 64
    assert len(list(store.read())) == 64
    lost = sorted(set(clips) - set(store.clips), key=lambda clip: clip.track)
    assert sorted(store.failures) == sorted([("x.mp3", "is text"), *((clip.file, "no music") for clip in lost)])
    assert open_store(tmp_path).failures == store.failures
    assert store.with_splits({}).failures == store.failures
    assert validate_store(tmp_path) == []


def test_two_clips_of_one_name_are_refused_before_the_folder_is_touched(tmp_path):
    with pytest.raises(StoreError, match="two clips would be called t000"):
        StoreWriter(tmp_path / "store", MINE, [*some_clips(2), *some_clips(1)])
    assert not (tmp_path / "store").exists()


def test_a_store_without_any_features_is_refused_with_the_reasons(tmp_path):
    with (
        StoreWriter(tmp_path, MINE, some_clips(2)) as writer,
        pytest.raises(StoreError, match=r"no clip gave features\n  [01].wav: too loud\n  [01].wav: too loud$"),
    ):
        writer.add(0, ["too loud"] * 2)
        writer.finish()


def test_splits_can_be_exchanged_without_writing(stores):
    store = open_store(stores / "three")
    other = store.with_splits({"t000": "test", "t005": "validation"})
    assert [other.clips[row].track for row in other.rows_of("test")] == ["t000"]
    assert [other.clips[row].track for row in other.rows_of("validation")] == ["t005"]
    assert other.rows_of("train") == []
    assert len(store.rows_of("train")) == 130
    (row,) = other.rows_of("test")
    ((clip, frames),) = other.read([row])
    assert clip.split == "test"
    np.testing.assert_array_equal(frames, frames_of(clip))


@pytest.mark.parametrize("shape", [(3, 4), (0, 3), (3,), (2, 3, 3)])
def test_frames_of_another_form_are_refused_by_track(tmp_path, shape):
    with StoreWriter(tmp_path, MINE, some_clips(1)) as writer:
        with pytest.raises(StoreError, match=r"t000 has the shape \(.*\), not \(frames, 3\)"):
            writer.add(0, [np.zeros(shape, np.float32)])
        assert [path.name for path in tmp_path.iterdir()] == ["unfinished.json"]


@pytest.mark.parametrize(("encoding", "value"), [("float16", 70000.0), ("float32", np.nan), ("uint8", np.inf)])
def test_values_that_the_encoding_cannot_keep_are_refused_by_track(tmp_path, encoding, value):
    header = dataclasses.replace(MINE, encoding=encoding)
    with (
        StoreWriter(tmp_path, header, some_clips(1)) as writer,
        pytest.raises(ParameterError, match=f"t000 has NaN, infinity or .* {encoding} cannot keep"),
    ):
        writer.add(0, [np.full((2, 3), value, np.float32)])


def test_a_disk_that_takes_no_more_is_an_error_and_leaves_no_shard(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with StoreWriter(tmp_path, MINE, some_clips(1)) as writer:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
        try:
            with pytest.raises(StoreError, match="a shard cannot be written"):
                writer.add(0, [np.ones((100_000, 3), np.float32)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["unfinished.json"]


@pytest.mark.parametrize(
    "values",
    [{"encoding": "float64"}, {"dims": 0}, {"hop_seconds": -1.0}, {"hop_seconds": float("nan")}],
)
def test_a_header_that_cannot_be_is_refused(values):
    with pytest.raises(ParameterError):
        dataclasses.replace(MINE, **values)


# Kinds.


def test_mfcc13_is_the_first_columns_of_spectral33(tmp_path):
    write(tmp_path, some_clips(2), StoreHeader.of(FrontEndParams()))
    store = open_store(tmp_path, "mfcc13")
    assert store.header.kind == "spectral33"
    assert store.header.columns_of("mfcc13") == 13
    assert store.header.columns_of("spectral33") == 33
    assert store.header.columns_of("log_mel128") is None
    assert StoreHeader.of(FrontEndParams("mfcc13")).columns_of("spectral33") is None


def test_a_store_of_another_kind_is_refused(stores):
    with pytest.raises(StoreError, match="holds mine, not mfcc13; precompute a store with --features mfcc13"):
        open_store(stores / "three", "mfcc13")


def test_a_folder_of_stores_gives_the_one_that_fits_best(tmp_path):
    for kind in ("log_mel128", "spectral33"):
        write(tmp_path / kind, some_clips(2), StoreHeader.of(FrontEndParams(kind)))
    assert open_store(tmp_path, "log_mel128").header.kind == "log_mel128"
    assert open_store(tmp_path, "mfcc13").header.kind == "spectral33"
    write(tmp_path / "z", some_clips(2), StoreHeader.of(FrontEndParams("mfcc13")))
    assert open_store(tmp_path, "mfcc13").header.kind == "mfcc13"
    with pytest.raises(StoreError, match="has stores of log_mel128, spectral33, mfcc13, none of taggrams"):
        open_store(tmp_path, "taggrams")
    with pytest.raises(StoreError, match="has several stores; name one"):
        open_store(tmp_path)


def test_a_folder_of_one_store_needs_no_kind(stores, tmp_path):
    (tmp_path / "a").symlink_to(stores / "three")
    assert open_store(tmp_path).header == MINE


# Going on.


def test_an_unfinished_store_says_so_and_goes_on_with_what_is_missing(stores, tmp_path):
    path = tmp_path / "store"
    with StoreWriter(path, MINE, some_clips(130)) as writer:
        number, members = writer.missing()[1]
        writer.add(number, [frames_of(clip) for clip in members])
    with pytest.raises(StoreError, match="this store is unfinished; run the command that was writing it again"):
        open_store(path)
    shard = path / "shard-00001.tfrecord"
    before = identity(shard)
    with StoreWriter(path, MINE, some_clips(130)) as writer:
        assert [number for number, _ in writer.missing()] == [0, 2]
        assert writer.clips_done == 64
        fill(writer)
        writer.finish()
    assert identity(shard) == before
    assert content(path) == content(stores / "three")


def test_a_damaged_shard_of_an_unfinished_store_is_written_again(stores, tmp_path):
    path = tmp_path / "store"
    with StoreWriter(path, MINE, some_clips(130)) as writer:
        fill(writer)
    shard = path / "shard-00001.tfrecord"
    shard.write_bytes(flipped(shard.read_bytes(), 100, 1))
    with StoreWriter(path, MINE, some_clips(130)) as writer:
        assert [number for number, _ in writer.missing()] == [1]
        fill(writer)
        writer.finish()
    assert content(path) == content(stores / "three")


def test_a_damaged_journal_is_found(tmp_path):
    with StoreWriter(tmp_path, MINE, some_clips(3)) as writer:
        fill(writer)
    journal = tmp_path / "shard-00000.json"
    assert '"frames": 2' in journal.read_text()
    journal.write_text(journal.read_text().replace('"frames": 2', '"frames": 4'))
    with pytest.raises(StoreError, match=r"shard-00000.json: damaged .*--overwrite"):
        write(tmp_path, some_clips(3))
    write(tmp_path, some_clips(3), overwrite=True)
    assert validate_store(tmp_path) == []


def test_splits_genres_and_groups_change_without_writing_a_shard(copy_of):
    path = copy_of("three")
    before = {shard.name: identity(shard) for shard in path.glob("*.tfrecord")}
    clips = [dataclasses.replace(clip, split="test", genre=clip.genre.upper(), group="") for clip in some_clips(130)]
    with StoreWriter(path, MINE, clips) as writer:
        assert writer.missing() == []
        writer.finish()
    store = open_store(path)
    assert sorted(store.clips, key=lambda clip: clip.track) == clips
    assert store.genres == ["JAZZ", "ROCK"]
    assert {shard.name: identity(shard) for shard in path.glob("*.tfrecord")} == before
    assert validate_store(path) == []


def test_a_changed_clip_has_only_its_shard_written_again(copy_of):
    path = copy_of("three")
    store = open_store(path)
    changed = store.shards[1].clips[5]
    clips = [
        dataclasses.replace(clip, sha256="f" * 64) if clip.track == changed.track else clip for clip in store.clips
    ]
    with StoreWriter(path, MINE, clips) as writer:
        ((number, members),) = writer.missing()
        assert number == 1
        assert changed.track in [clip.track for clip in members]


def test_a_store_of_fewer_clips_leaves_no_shard_of_the_larger_one(copy_of, tmp_path):
    path = copy_of("three")
    write(path, some_clips(60))
    write(tmp_path / "fresh", some_clips(60))
    assert content(path) == content(tmp_path / "fresh")


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("header", "limits", "difference"),
    [
        (dataclasses.replace(MINE, encoding="uint8"), {}, "encoding: float32 -> uint8"),
        (
            dataclasses.replace(MINE, kind="yours", hop_seconds=0.25),
            {},
            "kind: mine -> yours; hop_seconds: 0.5 -> 0.25",
        ),
        (dataclasses.replace(MINE, front_end=FrontEndParams()), {}, "front_end: known in one, unknown in the other"),
        (MINE, {"min_seconds": 3.0}, "min_seconds: None -> 3.0"),
    ],
)
def test_other_parameters_are_refused_with_the_difference(tmp_path, header, limits, difference, finished):
    with StoreWriter(tmp_path, MINE, some_clips(2)) as writer:
        fill(writer)
        if finished:
            writer.finish()
    before = content(tmp_path)
    with pytest.raises(StoreError) as caught:
        write(tmp_path, some_clips(2), header, limits=limits)
    assert f"holds a store of other parameters ({difference})" in str(caught.value)
    assert "--overwrite" in str(caught.value)
    assert content(tmp_path) == before
    store = write(tmp_path, some_clips(2), header, limits=limits, overwrite=True)
    assert (store.header, store.limits) == (header, limits)


def test_the_difference_in_a_front_end_is_named(tmp_path):
    write(tmp_path, some_clips(2), StoreHeader.of(FrontEndParams()))
    with pytest.raises(StoreError, match=r"front_end\.hop_samples: 512 -> 256"):
        write(tmp_path, some_clips(2), StoreHeader.of(FrontEndParams(hop_samples=256)))


def test_overwriting_writes_every_shard_again(copy_of, stores):
    path = copy_of("three")
    with StoreWriter(path, MINE, some_clips(130), overwrite=True) as writer:
        assert [number for number, _ in writer.missing()] == [0, 1, 2]
        fill(writer)
        writer.finish()
    assert content(path) == content(stores / "three")


@pytest.mark.parametrize("name", ["notes.txt", "shard-plan.json", "shard-00000.npz", ".hidden"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_folder_with_other_files_is_refused_and_left_as_it_is(copy_of, name, overwrite):
    path = copy_of("float32")
    (path / name).write_text("precious")
    before = content(path)
    with pytest.raises(StoreError, match=f"is no store \\({name} is in it\\)"):
        write(path, some_clips(7), overwrite=overwrite)
    assert content(path) == before


def test_a_second_writer_is_told(tmp_path):
    with StoreWriter(tmp_path, MINE, some_clips(1)), pytest.raises(FolderInUseError):
        write(tmp_path, some_clips(1))
    write(tmp_path, some_clips(1))


# Damage.


def test_a_changed_byte_of_a_manifest_is_found_at_every_position(copy_of):
    path = copy_of("float32")
    whole = (path / MANIFEST).read_bytes()
    masks = random.Random(0)
    for position in range(len(whole)):
        # 1 makes another digit of most digits.
        mask = 1 if chr(whole[position]).isdigit() else masks.randrange(1, 256)
        (path / MANIFEST).write_bytes(flipped(whole, position, mask))
        with pytest.raises(StoreError, match=r"store\.json: damaged"):
            open_store(path)
    (path / MANIFEST).write_bytes(whole)
    assert open_store(path).header.hop_seconds == 512 / 22050


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_cut_manifest_is_found(copy_of, length):
    path = copy_of("float32")
    whole = (path / MANIFEST).read_bytes()
    (path / MANIFEST).write_bytes(whole[:length])
    assert [problem.split(" (")[0] for problem in validate_store(path)] == [f"{path}/store.json: damaged"]


@pytest.mark.parametrize("text", ["", "[]", "3", "null", '"checksum"', '{"checksum": 1}', "{}", "[" * 100_000])
def test_other_json_is_no_manifest(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(StoreError, match=r"store\.json: damaged"):
        open_store(tmp_path)


def test_a_manifest_of_another_format_says_which(copy_of):
    from keras_genre.store import _read_vouched, _write_vouched

    path = copy_of("float32")
    _write_vouched(path / MANIFEST, {**_read_vouched(path / MANIFEST), "format": 2})
    with pytest.raises(StoreError, match="format 2; this version reads format 1"):
        open_store(path)


@pytest.mark.parametrize("name", ["float32", "uint16"])
def test_a_changed_byte_of_a_shard_is_found_and_never_read_as_other_numbers(copy_of, name):
    path = copy_of(name)
    store = open_store(path)
    right = [frames for _, frames in store.read()]
    file = path / store.shards[0].file
    whole = file.read_bytes()
    generator = random.Random(0)
    positions = sorted({*range(20), *range(len(whole) - 12, len(whole)), *generator.sample(range(len(whole)), 50)})
    harmless = set()
    for position in positions:
        file.write_bytes(flipped(whole, position, 1 << generator.randrange(8)))
        assert validate_store(path) == [f"{file}: damaged (SHA-256 differs from store.json)"]
        try:
            found = [frames for _, frames in store.read()]
        except StoreError as error:
            assert str(file) in str(error)
        else:
            harmless.add(position)
            assert all(np.array_equal(a, b) for a, b in zip(found, right, strict=True))
    # Much of gzip's header says nothing, and a compressor has several ways to write the same content.
    assert len(harmless) < len(positions) / 4


@pytest.mark.parametrize("name", ["float32", "uint16"])
def test_a_cut_shard_is_found_and_never_read_as_other_numbers(copy_of, name):
    path = copy_of(name)
    store = open_store(path)
    file = path / store.shards[0].file
    whole = file.read_bytes()
    right = [frames for _, frames in store.read()]
    # The first record of an uncompressed shard ends at a place of its own: nothing but the count betrays that cut.
    first_record = 8 + 4 + int.from_bytes(whole[:8], "little") + 4 if name == "float32" else 0
    for length in sorted({0, 1, first_record, len(whole) // 2, len(whole) - 9, len(whole) - 1}):
        file.write_bytes(whole[:length])
        assert validate_store(path) == [f"{file}: damaged (SHA-256 differs from store.json)"]
        try:
            found = [frames for _, frames in store.read()]
        except StoreError:
            continue
        # Only the end of gzip's own checksum can be missing without a loss.
        assert name == "uint16" and length >= len(whole) - 9
        assert all(np.array_equal(a, b) for a, b in zip(found, right, strict=True))


def test_a_missing_shard_is_named(copy_of):
    path = copy_of("three")
    (path / "shard-00001.tfrecord").unlink()
    assert validate_store(path) == [f"{path}/shard-00001.tfrecord: No such file or directory"]
    with pytest.raises(StoreError, match=r"shard-00001\.tfrecord: damaged or missing"):
        list(open_store(path).read())


def test_every_damaged_shard_is_named(copy_of):
    path = copy_of("three")
    for number in (0, 2):
        (path / f"shard-0000{number}.tfrecord").write_bytes(b"")
    assert [problem.split(": ")[0][-14:] for problem in validate_store(path)] == ["00000.tfrecord", "00002.tfrecord"]


def test_the_shard_of_another_store_is_not_read_as_this_one(copy_of, tmp_path):
    path = copy_of("float32")
    clips = some_clips(7)
    with StoreWriter(tmp_path / "longer", MINE, clips) as writer:
        ((number, members),) = writer.missing()
        writer.add(number, [np.ones((9, 3), np.float32) for _ in members])
        writer.finish()
    shutil.copy(tmp_path / "longer" / "shard-00000.tfrecord", path)
    with pytest.raises(StoreError, match="holds other clips, or other lengths of them"):
        list(open_store(path).read())
    write(tmp_path / "others", some_clips(9)[2:])
    shutil.copy(tmp_path / "others" / "shard-00000.tfrecord", path)
    with pytest.raises(StoreError, match="holds other clips, or other lengths of them"):
        list(open_store(path).read())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such folder"),
        (lambda path: path.mkdir(), "no store.json here; make a store with"),
        (lambda path: path.write_text(""), "no store.json here; make a store with"),
    ],
)
def test_what_is_no_store_is_refused_with_what_to_do(tmp_path, make, message):
    make(tmp_path / "store")
    with pytest.raises(StoreError, match=message):
        open_store(tmp_path / "store")


# Commands.


def test_info_prints_what_is_in_the_store(stores, capsys):
    assert main(["info", str(stores / "three")]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["clips"] == 130
    assert summary["groups"] == 65
    assert summary["genres"] == ["jazz", "rock"]
    assert summary["splits"] == {"train": {"jazz": 86, "rock": 44}}
    assert summary["frames"] == sum(1 + n % 5 for n in range(130))
    assert (summary["shortest_frames"], summary["longest_frames"]) == (1, 5)
    assert (summary["kind"], summary["dims"], summary["encoding"]) == ("mine", 3, "float32")


def test_info_prints_the_clips_as_csv(stores, capsys):
    assert main(["info", str(stores / "float32"), "--clips"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert sorted(row["track"] for row in rows) == [f"t00{n}" for n in range(7)]


def test_validate_names_what_is_damaged_and_what_is_whole(copy_of, capsys):
    whole, damaged = copy_of("float32"), copy_of("uint16")
    assert main(["validate", str(whole)]) == 0
    assert capsys.readouterr().out == f"{whole}: whole\n"
    (damaged / "shard-00000.tfrecord").write_bytes(b"x")
    assert main(["validate", str(damaged), str(whole), str(whole / "nothing")]) == 1
    out, err = capsys.readouterr()
    assert out == f"{whole}: whole\n"
    assert err.splitlines() == [
        f"{damaged}/shard-00000.tfrecord: damaged (SHA-256 differs from store.json)",
        f"{whole}/nothing: no such folder",
    ]


def test_the_command_says_what_is_wrong_without_a_traceback(tmp_path):
    command = [sys.executable, "-m", "keras_genre.store", "info", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {tmp_path}: no store.json here")
    assert len(done.stderr.splitlines()) == 1


def test_wrong_usage_is_status_2():
    with pytest.raises(SystemExit) as caught:
        main(["reinvent"])
    assert caught.value.code == 2


def test_a_store_that_may_not_be_written_is_an_error_that_names_it(tmp_path, capsys, stores):
    (tmp_path / "file").write_text("")
    npz = tmp_path / "a.npz"
    np.savez(npz, X=np.ones((2, 3), np.float32), Y=["a", "b"], IDS=["1", "2"])
    assert main(["import", str(npz), "--out", str(tmp_path / "file")]) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_leftovers_of_a_killed_writer_do_not_count(copy_of, stores):
    path = copy_of("three")
    leftover = path / f"{files.PARTIAL_PREFIX}shard-00001.x.tfrecord"
    leftover.write_bytes(b"half")
    os.utime(leftover)
    write(path, some_clips(130))
    assert content(path) == content(stores / "three")
