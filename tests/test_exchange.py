"""Features come in from other programs' files and go out to them without a number being changed."""

import io
import json
import pickle
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest

from keras_genre.clips import Clip
from keras_genre.datasets.options import apply_split_options
from keras_genre.datasets.splits import fold_split, grouped_folds, grouped_split
from keras_genre.errors import SplitError
from keras_genre.store import StoreHeader, StoreWriter, main, open_store, validate_store
from keras_genre.train import make_parser as train_parser

ROOT = Path(__file__).resolve().parents[1]
TRACKS = ["blues.00000", "blues.00001", "jazz.00000", "jazz.00001", "rock.00000", "rock.00001"]
GENRES = [track.split(".")[0] for track in TRACKS]
LABELS = np.array([0, 0, 1, 1, 2, 2])
SPLITS = ["train", "validation", "train", "test", "train", "validation"]
GROUPS = ["a", "b", "c", "d", "e", "f"]


@pytest.fixture
def ran(tmp_path, capsys):
    """A function that imports files with flags and returns exit status, store (None without one) and messages."""

    def run(*arguments):
        out = tmp_path / "out"
        status = main(["import", *map(str, arguments), "--out", str(out)])
        said = capsys.readouterr()
        assert said.out == ""
        return status, open_store(out) if status == 0 else None, said.err

    return run


def sequences(dtype=np.float32, frames=4, dims=5):
    generator = np.random.default_rng(0)
    if np.dtype(dtype).kind == "u":
        return generator.integers(0, np.iinfo(dtype).max, (6, frames, dims), dtype=dtype, endpoint=True)
    return (generator.standard_normal((6, frames, dims)) * 40).astype(dtype)


def save(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def save_tracks(path, values=None, **changes):
    arrays = {"X": sequences() if values is None else values, "Y": LABELS, "IDS": TRACKS}
    return save(path, **{name: array for name, array in (arrays | changes).items() if array is not None})


def by_track(store):
    return {clip.track: frames for clip, frames in store.read()}


def genres_by_track(store):
    return {clip.track: clip.genre for clip in store.clips}


def seed_folder(path, values=None, splits=("train", "validation", "test")):
    path.mkdir()
    for number, split in enumerate(splits):
        values = sequences(frames=128, dims=33) if values is None else values
        np.save(path / f"data_{split}_input.npy", values[2 * number : 2 * number + 2])
        np.save(path / f"data_{split}_target.npy", np.eye(8, dtype=np.float32)[[number, 7 - number]])
    return path


# Into a store.


def test_tracks_of_equal_length_come_as_a_cube(tmp_path, ran):
    status, store, _ = ran(save_tracks(tmp_path / "a.npz", SPLIT=SPLITS, GROUP=GROUPS), "--hop-seconds", "0.5")
    assert status == 0
    assert (store.header.kind, store.header.dims, store.header.encoding) == ("imported5", 5, "float32")
    clips = {clip.track: clip for clip in store.clips}
    assert genres_by_track(store) == dict(zip(TRACKS, GENRES, strict=True))
    assert [clips[track].split for track in TRACKS] == SPLITS
    assert [clips[track].group for track in TRACKS] == GROUPS
    assert [clips[track].seconds for track in TRACKS] == [2.0] * 6
    assert len({clip.sha256 for clip in store.clips}) == 6
    for track, frames in zip(TRACKS, sequences(), strict=True):
        np.testing.assert_array_equal(by_track(store)[track], frames, strict=True)
    assert validate_store(store.path) == []


def test_rows_are_gathered_by_track_in_their_order(tmp_path, ran):
    lengths = [3, 1, 2, 5, 4, 1]
    ids = [f"{genre}/{track}.au" for track, genre, n in zip(TRACKS, GENRES, lengths, strict=True) for _ in range(n)]
    rows = np.random.default_rng(0).standard_normal((16, 5)).astype(np.float32)
    # Rows of different tracks may be mixed with each other.
    order = sorted(range(16), key=lambda row: row % 3)
    labels = np.repeat(LABELS, lengths)
    path = save(tmp_path / "a.npz", X=rows[order], Y=labels[order], IDS=np.array(ids)[order])
    status, store, _ = ran(path)
    assert status == 0
    assert dict(zip((clip.track for clip in store.clips), store.frames, strict=True)) == dict(
        zip(TRACKS, lengths, strict=True)
    )
    for track, genre, frames in zip(TRACKS, GENRES, by_track(store), strict=False):
        name = f"{genre}/{track}.au"
        expected = rows[[row for row in order if ids[row] == name]]
        np.testing.assert_array_equal(by_track(store)[track], expected)
        assert frames in TRACKS


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint8, np.uint16])
def test_the_types_that_a_store_can_hold_are_kept_as_they_are(tmp_path, ran, dtype):
    _, store, _ = ran(save_tracks(tmp_path / "a.npz", sequences(dtype)))
    assert store.header.encoding == np.dtype(dtype).name
    for track, frames in zip(TRACKS, sequences(dtype), strict=True):
        np.testing.assert_array_equal(by_track(store)[track], frames.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float64, np.int16, np.int64])
def test_other_types_become_float32(tmp_path, ran, dtype):
    values = (sequences() * 10).astype(dtype)
    _, store, _ = ran(save_tracks(tmp_path / "a.npz", values))
    assert store.header.encoding == "float32"
    np.testing.assert_array_equal(by_track(store)["jazz.00001"], values[3].astype(np.float32))


def test_another_encoding_and_the_first_columns_can_be_asked_for(tmp_path, ran):
    _, store, _ = ran(
        save_tracks(tmp_path / "a.npz", sequences(dims=20)),
        "--features",
        "mfcc13",
        "--columns",
        13,
        "--encoding",
        "uint16",
    )
    assert store.header == StoreHeader.of(store.header.front_end, "uint16")
    assert (store.header.kind, store.header.dims) == ("mfcc13", 13)
    np.testing.assert_allclose(by_track(store)["rock.00000"], sequences(dims=20)[4, :, :13], atol=200 / 65535)


@pytest.mark.parametrize("ids", [TRACKS, [f"{g}/{t}.au" for g, t in zip(GENRES, TRACKS, strict=True)]])
def test_names_of_labels_are_taken_from_the_tracks(tmp_path, ran, ids):
    _, store, _ = ran(save_tracks(tmp_path / "a.npz", IDS=ids))
    assert genres_by_track(store) == dict(zip(TRACKS, GENRES, strict=True))


@pytest.mark.parametrize(
    ("labels", "flags"),
    [
        (np.array(GENRES), []),
        (np.eye(3)[LABELS], []),
        (np.eye(3, dtype=np.uint8)[LABELS], []),
        (LABELS, ["--genres", "blues, jazz,rock"]),
        (LABELS.astype(np.uint8), ["--genres", "blues,jazz,rock,unheard of"]),
    ],
)
def test_labels_may_be_words_one_hot_or_numbers(tmp_path, ran, labels, flags):
    status, store, _ = ran(save_tracks(tmp_path / "a.npz", Y=labels), *flags)
    assert status == 0
    assert genres_by_track(store) == dict(zip(TRACKS, GENRES, strict=True))


def test_names_that_are_bytes_are_read_as_utf8(tmp_path, ran):
    ids = np.array([track.replace("rock", "röck").encode() for track in TRACKS])
    _, store, _ = ran(save_tracks(tmp_path / "a.npz", IDS=ids))
    assert store.genres == ["blues", "jazz", "röck"]


@pytest.mark.parametrize(
    "changes",
    [
        {"IDS": ["1", "2", "3", "4", "5", "6"]},
        {"IDS": [*TRACKS[:5], "jazz.00009"]},
        {"IDS": [f"x.{n}" for n in range(6)]},
    ],
)
def test_numbers_that_nothing_names_need_the_flag(tmp_path, ran, changes):
    path = save_tracks(tmp_path / "a.npz", **changes)
    status, _, said = ran(path)
    assert status == 2
    assert said == "error: the labels are numbers; name them in order with --genres A,B,...\n"
    assert ran(path, "--genres", "A,B,C")[0] == 0


@pytest.mark.parametrize("genres", ["blues,jazz", "blues,blues,jazz"])
def test_too_few_names_are_refused(tmp_path, ran, genres):
    status, _, said = ran(save_tracks(tmp_path / "a.npz"), "--genres", genres)
    assert status == 2
    assert "too few for the labels 0 to 2" in said


def test_what_is_needed_to_tell_tracks_apart_stays_in_their_names(tmp_path, ran):
    folders = [f"{g}/{t[-5:]}.wav" for g, t in zip(GENRES, TRACKS, strict=True)]
    _, store, _ = ran(save_tracks(tmp_path / "a.npz", Y=GENRES, IDS=folders))
    assert sorted(clip.track for clip in store.clips) == sorted(name.removesuffix(".wav") for name in folders)


def test_tracks_that_differ_in_their_suffix_only_stay_two(tmp_path, ran):
    ids = ["a/x.wav", "a/x.wav", "a/x.mp3", "b/y.wav"]
    path = save(tmp_path / "a.npz", X=np.arange(8, dtype=np.float32).reshape(4, 2), Y=["g", "g", "g", "h"], IDS=ids)
    _, store, _ = ran(path)
    assert {track: len(frames) for track, frames in by_track(store).items()} == {"x.wav": 2, "x.mp3": 1, "y.wav": 1}


def test_without_a_split_one_is_made_and_groups_are_kept_whole(tmp_path, ran):
    values = np.ones((40, 2, 3), np.float32) * np.arange(40)[:, None, None]
    groups = [f"artist {n // 4}" for n in range(40)]
    path = save(tmp_path / "a.npz", X=values, Y=["g", "h"] * 20, IDS=[f"t{n}" for n in range(40)], GROUP=groups)
    _, store, _ = ran(path)
    sides = {}
    for clip in store.clips:
        sides.setdefault(clip.group, set()).add(clip.split)
    assert all(len(each) == 1 for each in sides.values())
    assert set().union(*sides.values()) == {"train", "validation", "test"}


def test_a_split_list_and_groups_can_be_given(tmp_path, ran):
    (tmp_path / "split.csv").write_text("track,split\n" + "".join(f"{t},test\n" for t in TRACKS[:2]))
    (tmp_path / "groups.csv").write_text("track,group\n" + "".join(f"{t},{t}\n" for t in TRACKS))
    _, store, _ = ran(
        save_tracks(tmp_path / "a.npz", SPLIT=SPLITS, GROUP=GROUPS),
        *("--split-list", tmp_path / "split.csv", "--groups", tmp_path / "groups.csv"),
    )
    assert {clip.track: clip.split for clip in store.clips} == dict.fromkeys(TRACKS, "") | dict.fromkeys(
        TRACKS[:2], "test"
    )
    assert all(clip.group == clip.track for clip in store.clips)


def test_an_artist_on_two_sides_is_refused(tmp_path, ran):
    status, _, said = ran(save_tracks(tmp_path / "a.npz", SPLIT=SPLITS, GROUP=["a", "b", "c", "a", "e", "f"]))
    assert status == 1
    assert "1 artist group stands on two sides of the split" in said


def test_importing_again_changes_nothing_and_other_numbers_only_their_shard(tmp_path, ran):
    ran(save_tracks(tmp_path / "a.npz"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert ran(tmp_path / "a.npz")[0] == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    values = sequences()
    values[3] += 1
    _, store, _ = ran(save_tracks(tmp_path / "a.npz", values))
    np.testing.assert_array_equal(by_track(store)["jazz.00001"], values[3])


# The original's files.


def test_the_originals_numpy_pairs_are_read(tmp_path, ran):
    folder = seed_folder(tmp_path / "seed")
    genres = "classical,country,disco,hiphop,jazz,metal,pop,reggae"
    status, store, _ = ran(folder, "--genres", genres, "--features", "spectral33")
    assert status == 0
    assert store.header.kind == "spectral33"
    names = genres.split(",")
    expected = {}
    for number, split in enumerate(("train", "validation", "test")):
        expected |= {f"{split}_00000": names[number], f"{split}_00001": names[7 - number]}
    assert genres_by_track(store) == expected
    assert all(clip.split == clip.track.split("_")[0] for clip in store.clips)
    np.testing.assert_array_equal(by_track(store)["validation_00001"], sequences(frames=128, dims=33)[3])


def test_pairs_of_different_types_lose_nothing(tmp_path, ran):
    folder = seed_folder(tmp_path / "seed")
    wide = sequences(frames=128, dims=33)
    np.save(folder / "data_train_input.npy", wide[:2].astype(np.float16))
    _, store, _ = ran(folder, "--genres", "a,b,c,d,e,f,g,h")
    assert store.header.encoding == "float32"
    np.testing.assert_array_equal(by_track(store)["test_00000"], wide[4])


def seed_json(path, labels=(0, 1), mapping=("jazz", "rock"), seed=0, frames=259, **more):
    mfcc = np.random.default_rng(seed).standard_normal((len(labels), frames, 13)).astype(np.float32)
    values = {"mapping": list(mapping), "mfcc": mfcc.tolist(), "labels": list(labels), **more}
    path.write_text(json.dumps(values))
    return mfcc


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data_train.json", "train"),
        ("val_data.json", "validation"),
        ("mfcc-validation.json", "validation"),
        ("test_extra.json", "test"),
        ("contrast_test.json", "test"),
        ("TEST.JSON", "test"),
    ],
)
def test_the_originals_json_is_read_and_its_split_taken_from_its_name(tmp_path, ran, name, split):
    mfcc = seed_json(tmp_path / name)
    status, store, said = ran(tmp_path / name, "--features", "mfcc13")
    assert status == 0
    assert "each counts as a clip of its own" in said
    assert genres_by_track(store) == {f"{split}_segment_00000": "jazz", f"{split}_segment_00001": "rock"}
    assert {clip.split for clip in store.clips} == {split}
    np.testing.assert_array_equal(by_track(store)[f"{split}_segment_00001"], mfcc[1])


def test_json_files_of_several_splits_make_one_store(tmp_path, ran):
    files = [tmp_path / f"data_{split}.json" for split in ("train", "val", "test")]
    for seed, file in enumerate(files):
        seed_json(file, mapping=("genres/jazz", "genres/rock"), seed=seed)
    _, store, _ = ran(*files)
    assert len(store.clips) == 6
    assert store.genres == ["jazz", "rock"]
    assert [len(store.rows_of(split)) for split in ("train", "validation", "test")] == [2, 2, 2]


SEGMENT_LABELS = [0] * 50 + [1] * 50
"""Of 20 clips of 5 segments, one after the other."""


@pytest.mark.parametrize("flags", [[], ["--fractions", "0.5", "0.25", "0.25"]])
def test_segments_of_unknown_clips_are_not_divided_at_random(tmp_path, ran, flags):
    seed_json(tmp_path / "all.json", SEGMENT_LABELS, frames=3)
    said = refused(ran, 1, tmp_path / "all.json", *flags)
    assert "100 segments (clip_segment_00000, ...) do not say which clip they are of" in said
    for way_out in ("a file each for training, validation and test", 'add "clips" to the JSON file', "--groups"):
        assert way_out in said
    assert not (tmp_path / "out").exists()


def test_nor_are_those_of_a_store_that_has_a_split(tmp_path, ran):
    seed_json(tmp_path / "train.json", SEGMENT_LABELS, frames=3)
    _, store, _ = ran(tmp_path / "train.json")
    for divide in (grouped_split, lambda clips: grouped_folds(clips, 3), lambda clips: fold_split(clips, 3, 0)):
        with pytest.raises(SplitError, match="do not say which clip they are of"):
            divide(store.clips)


@pytest.mark.parametrize("clips", [[n // 5 for n in range(100)], [f"genre/a{n // 5}.au" for n in range(100)]])
def test_segments_whose_clips_the_file_names_are_put_together_and_divided_by_clip(tmp_path, ran, clips):
    mfcc = seed_json(tmp_path / "all.json", SEGMENT_LABELS, frames=3, clips=clips)
    _, store, said = ran(tmp_path / "all.json")
    assert "each counts as a clip" not in said
    assert len(store.clips) == 20
    assert set(store.frames) == {15}
    assert shares_of(store) == {"train": 0.6, "validation": 0.2, "test": 0.2}
    tracks = [f"clip_{n:05d}" if isinstance(clips[0], int) else f"a{n}" for n in range(20)]
    for n, track in enumerate(tracks):
        np.testing.assert_array_equal(by_track(store)[track], mfcc[5 * n : 5 * n + 5].reshape(15, 13))
        assert genres_by_track(store)[track] == ("jazz", "rock")[n // 10]


def test_so_many_segments_in_a_row_are_a_clip_if_the_flag_says_so(tmp_path, ran):
    mfcc = seed_json(tmp_path / "all.json", SEGMENT_LABELS, frames=3)
    status, store, said = ran(tmp_path / "all.json", "--segments-per-clip", "5")
    assert status == 0
    assert "each counts as a clip" not in said
    assert (len(store.clips), set(store.frames)) == (20, {15})
    np.testing.assert_array_equal(by_track(store)["clip_00003"], mfcc[15:20].reshape(15, 13))
    for number, why in (("7", "100 segments are not 7 of every clip"), ("20", "differ in label"), ("0", "at least 1")):
        status, _, said = ran(tmp_path / "all.json", "--segments-per-clip", number)
        assert status != 0
        assert why in said


def test_groups_say_which_segments_belong_together(tmp_path, ran):
    seed_json(tmp_path / "all.json", SEGMENT_LABELS, frames=3)
    rows = [f"clip_segment_{n:05d},{n // 5}\n" for n in range(100)]
    (tmp_path / "groups.csv").write_text("track,group\n" + "".join(rows))
    status, store, said = ran(tmp_path / "all.json", "--groups", tmp_path / "groups.csv")
    assert status == 0
    assert groups_on_two_sides(store) == set()
    assert {clip.split for clip in store.clips} == {"train", "validation", "test"}
    assert "100 of 100 clips are segments of clips: figures count segments" in said


def test_reports_on_segments_of_unknown_clips_say_so(tmp_path, ran):
    for name in ("train", "test"):
        seed_json(tmp_path / f"{name}.json", SEGMENT_LABELS, frames=3, seed=len(name))
    _, store, _ = ran(tmp_path / "train.json", tmp_path / "test.json")
    # What a training asks, and writes into run.json and the report.
    _, notes = apply_split_options(store.clips, train_parser().parse_args([]))
    (note,) = [note for note in notes if "segments" in note]
    assert note == (
        "200 of 200 clips are segments of clips: figures count segments, and their intervals are too narrow. "
        "Whether those of one clip are on one side only is not known."
    )


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ("a", "clips must name the clip of each segment"),
        (["a", "a"], "clips must name the clip of each segment"),
        (["a", "a", "b", None], "clips must name the clip of each segment"),
        (["a", "a", "b", True], "clips must name the clip of each segment"),
        (["a", "a", "b", ""], "clips has an empty name"),
        (["a", "a", "a", "b"], "the segments of a differ in label or in values a frame"),
    ],
)
def test_clips_that_cannot_be_are_refused(tmp_path, ran, clips, message):
    seed_json(tmp_path / "train.json", [0, 0, 1, 1], frames=3, clips=clips)
    assert f"{tmp_path}/train.json: {message}" in refused(ran, 1, tmp_path / "train.json")


def test_a_clip_in_two_files_is_refused(tmp_path, ran):
    for name in ("train", "test"):
        seed_json(tmp_path / f"{name}.json", frames=3, clips=["a", name])
    assert "two tracks have one name" in refused(ran, 1, tmp_path / "train.json", tmp_path / "test.json")


# Out of a store and in again.


def exchange_store(path):
    clips = [
        Clip(track, genre, group=group, split=split)
        for track, genre, group, split in zip(TRACKS, GENRES, GROUPS, SPLITS, strict=True)
    ]
    frames = {
        clip.track: np.random.default_rng(n).standard_normal((20 + n, 13)).astype(np.float32)
        for n, clip in enumerate(clips)
    }
    with StoreWriter(path, StoreHeader("mine", 13, 0.0, None), clips) as writer:
        for number, members in writer.missing():
            writer.add(number, [frames[clip.track] for clip in members])
        return writer.finish()


@pytest.fixture
def exported(tmp_path, capsys):
    """A function that exports a store with flags and returns exit status and messages."""
    store = exchange_store(tmp_path / "store")

    def run(name, *flags):
        status = main(["export", str(store.path), "--out", str(tmp_path / name), *map(str, flags)])
        said = capsys.readouterr()
        assert said.out == ""
        return status, said.err

    run.store = store
    return run


def test_npz_gives_the_same_clips_again(tmp_path, exported, ran):
    assert exported("a.npz") == (0, f"wrote {tmp_path}/a.npz\n")
    _, store, _ = ran(tmp_path / "a.npz")
    before, after = by_track(exported.store), by_track(store)
    assert list(before) == list(after)
    for track, frames in before.items():
        np.testing.assert_array_equal(after[track], frames, strict=True)
    facts = [[(c.track, c.genre, c.group, c.split) for c in each.clips] for each in (exported.store, store)]
    assert facts[0] == facts[1]


def test_npz_of_one_split_keeps_the_numbers_of_the_genres(tmp_path, exported):
    assert exported("a.npz", "--split", "validation")[0] == 0
    with np.load(tmp_path / "a.npz") as arrays:
        assert set(arrays["IDS"]) == {"blues.00001", "rock.00001"}
        assert set(arrays["Y"]) == {0, 2}
        assert list(arrays["GENRES"]) == ["blues", "jazz", "rock"]


def test_numpy_pairs_give_the_first_window_of_each_clip_again(tmp_path, exported, ran):
    status, said = exported("pairs", "--window-frames", 20)
    assert status == 0
    assert len(said.splitlines()) == 6
    targets = np.load(tmp_path / "pairs" / "data_train_target.npy")
    assert targets.shape == (3, 3)
    _, store, _ = ran(tmp_path / "pairs", "--genres", "blues,jazz,rock")
    for split in ("train", "validation", "test"):
        rows = exported.store.rows_of(split)
        before = [(clip.genre, frames[:20]) for clip, frames in exported.store.read(rows)]
        after = {clip.track: (clip.genre, frames) for clip, frames in store.read(store.rows_of(split))}
        for (genre, frames), (_, (other_genre, other)) in zip(before, sorted(after.items()), strict=True):
            assert genre == other_genre
            np.testing.assert_array_equal(frames, other)


def test_json_gives_the_clips_of_one_split_again_but_for_what_fills_no_segment(tmp_path, exported, ran):
    assert exported("train.json", "--split", "train", "--window-frames", 7)[0] == 0
    values = json.loads((tmp_path / "train.json").read_text())
    rows = exported.store.rows_of("train")
    before = {clip.track: (clip.genre, frames) for clip, frames in exported.store.read(rows)}
    assert [len(segment) for segment in values["mfcc"]] == [7] * len(values["labels"])
    assert values["clips"] == [track for track, (_, frames) in before.items() for _ in range(len(frames) // 7)]
    _, store, _ = ran(tmp_path / "train.json")
    assert {clip.split for clip in store.clips} == {"train"}
    assert genres_by_track(store) == {track: genre for track, (genre, _) in before.items()}
    for track, (_, frames) in before.items():
        np.testing.assert_array_equal(by_track(store)[track], frames[: len(frames) // 7 * 7])


def test_json_of_several_splits_would_mix_them_and_is_refused(tmp_path, exported):
    status, said = exported("all.json", "--window-frames", 10)
    assert (status, said) == (2, "error: a JSON file holds one split: name it with --split\n")
    assert not (tmp_path / "all.json").exists()


@pytest.mark.parametrize("name", ["a.json", "pairs"])
def test_clips_that_are_too_short_are_named(tmp_path, exported, name):
    status, said = exported(name, "--split", "validation", "--window-frames", 22)
    assert status == 1
    assert "1 clips have fewer than 22 frames (blues.00001); use a smaller --window-frames" in said
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("frames", [0, -3])
def test_windows_without_frames_are_wrong_usage(exported, frames):
    assert exported("pairs", "--window-frames", frames) == (
        2,
        f"error: --window-frames must be at least 1, not {frames}\n",
    )


def test_a_split_without_clips_is_an_error(tmp_path, capsys):
    with StoreWriter(tmp_path / "store", StoreHeader("mine", 2, 0.0, None), [Clip("a", "b")]) as writer:
        writer.add(0, [np.zeros((300, 2), np.float32)])
        writer.finish()
    for flags in (["--out", str(tmp_path / "a.npz"), "--split", "test"], ["--out", str(tmp_path / "pairs")]):
        assert main(["export", str(tmp_path / "store"), *flags]) == 1
        assert "no clip is in" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "store"), "--out", str(tmp_path / "a.json")]) == 0


# Files that cannot be used.


def refused(ran, status, *arguments):
    found, _, said = ran(*arguments)
    assert found == status
    # Notes may come before.
    *_, error = said.splitlines()
    assert error.startswith("error: ")
    return error


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["X", "Y", "IDS", "GROUP"])
def test_pickled_objects_are_refused_without_being_loaded(tmp_path, ran, name):
    bomb = np.array([Bomb(tmp_path / "exploded")] * 6, object)
    path = save_tracks(tmp_path / "a.npz", **{"GROUP": np.array(GROUPS), name: bomb})
    assert str(path) in refused(ran, 1, path)
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(bomb))
    assert "pickle.npz" in refused(ran, 1, tmp_path / "pickle.npz")
    assert not (tmp_path / "exploded").exists()
    np.load(path, allow_pickle=True)[name]
    assert (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": None}, "has no array X; expected X, Y, IDS [SPLIT] [GROUP]"),
        ({"Y": None, "IDS": None}, "has no array Y, IDS;"),
        ({"X": np.zeros(6, np.float32)}, "X must be numbers"),
        ({"X": np.array(3.0)}, "X must be numbers"),
        ({"X": np.zeros((6, 2, 3, 4), np.float32)}, "X must be numbers"),
        ({"X": np.full((6, 3), "a")}, "X must be numbers"),
        ({"X": np.zeros((6, 3), complex)}, "X must be numbers"),
        ({"X": np.zeros((6, 0, 3), np.float32)}, "has no frames"),
        ({"X": np.zeros((6, 2, 0), np.float32)}, "frames of no values"),
        ({"X": np.full((6, 2, 3), np.nan, np.float32)}, "blues.00000 has no frames, or NaN or infinity in them"),
        ({"X": np.full((6, 2, 3), 1e300)}, "NaN or infinity"),
        ({"X": np.zeros((0, 2, 3)), "Y": np.zeros(0, int), "IDS": np.zeros(0, str)}, "holds no features"),
        ({"Y": LABELS[:5]}, "Y has 5 entries for 6 of X"),
        ({"Y": LABELS.astype(float)}, "labels must be whole numbers, words or one-hot, not float64"),
        ({"Y": np.array(3)}, "labels must be whole numbers"),
        ({"Y": np.ones((6, 3))}, "labels of two dimensions must be one-hot"),
        ({"Y": np.full((6, 2), "1")}, "labels must be whole numbers"),
        ({"IDS": TRACKS[:3]}, "IDS has 3 entries for 6 of X"),
        ({"IDS": ["a"] * 6}, "two tracks have one name"),
        ({"IDS": np.array("a")}, "IDS must be words"),
        ({"IDS": np.array([b"\xff"] * 6)}, "IDS is not in UTF-8"),
        ({"SPLIT": SPLITS[:2]}, "SPLIT has 2 entries for 6 of X"),
        ({"SPLIT": ["train"] * 5 + ["dev"]}, "SPLIT has dev; known: train, validation, test"),
        ({"GROUP": np.array(1)}, "GROUP must be words"),
        ({"GENRES": ["blues", "jazz"]}, "has labels that are not 0 to 1, the places of its genres"),
        ({"Y": LABELS - 1, "GENRES": ["blues", "jazz", "rock"]}, "has labels that are not 0 to 2"),
    ],
)
def test_an_archive_of_another_form_is_refused_with_what_is_wrong(tmp_path, ran, changes, message):
    path = save_tracks(tmp_path / "a.npz", **changes)
    said = refused(ran, 1, path)
    assert str(path) in said
    assert message in said


@pytest.mark.parametrize("column", ["Y", "SPLIT", "GROUP"])
def test_rows_of_one_track_that_contradict_each_other_are_refused(tmp_path, ran, column):
    arrays = {"Y": np.array([0, 0, 1]), "SPLIT": ["train"] * 3, "GROUP": ["a", "a", "b"]}
    arrays[column] = np.array([*arrays[column][:1], arrays[column][1] * 2 or 1, *arrays[column][2:]])
    if column == "SPLIT":
        arrays[column] = ["train", "test", "train"]
    path = save(tmp_path / "a.npz", X=np.ones((3, 2), np.float32), IDS=["x.1", "x.1", "y.1"], **arrays)
    assert "the rows of x.1 differ in label, split or group" in refused(ran, 1, path)


def test_files_that_are_no_archives_are_refused(tmp_path, ran):
    single = io.BytesIO()
    np.save(single, sequences())
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        for name in ("X", "Y", "IDS"):
            archive.writestr(name, "words")
    for content in (b"", b"words", single.getvalue(), zipped.getvalue(), b"PK\x03\x04"):
        (tmp_path / "a.npz").write_bytes(content)
        assert str(tmp_path / "a.npz") in refused(ran, 1, tmp_path / "a.npz")


def test_a_damaged_or_cut_archive_is_refused_or_complete(tmp_path, ran):
    path = save_tracks(tmp_path / "a.npz", SPLIT=SPLITS)
    whole = path.read_bytes()
    generator = random.Random(0)
    outcomes = []
    for number in range(120):
        position = generator.randrange(len(whole))
        cut = number % 6 == 0
        damaged = bytearray(whole[:position] if cut else whole)
        if not cut:
            damaged[position] ^= 1 << generator.randrange(8)
        path.write_bytes(bytes(damaged))
        status, store, said = ran(path, "--overwrite")
        outcomes.append(status)
        assert status == 0 or str(path) in said or "--genres" in said
        if status == 0 and not cut:
            assert all(np.isfinite(frames).all() for frames in by_track(store).values())
    assert outcomes.count(1) > 60


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data_test_target.npy", None, "data_test_target.npy: cannot be read as NumPy data"),
        ("data_test_input.npy", None, "data_test_input.npy: cannot be read as NumPy data"),
        ("data_train_input.npy", b"\x93NUMPY\x01\x00", "data_train_input.npy: cannot be read as NumPy data"),
        ("data_train_target.npy", np.eye(8)[:1], "expected numbers (tracks, time, dims), as many as targets"),
        ("data_train_target.npy", np.array(1), "expected numbers (tracks, time, dims), as many as targets"),
        ("data_train_target.npy", np.ones((2, 8)), "data_train_target.npy: labels of two dimensions must be one-hot"),
        ("data_train_input.npy", np.zeros((2, 33), np.float32), "data_train_input.npy: expected numbers"),
        ("data_train_input.npy", np.zeros((2, 4, 7), np.float32), "all must have the same number"),
    ],
)
def test_pairs_of_another_form_are_refused_by_file(tmp_path, ran, name, content, message):
    path = seed_folder(tmp_path / "seed") / name
    path.unlink()
    if isinstance(content, np.ndarray):
        np.save(path, content)
    elif content is not None:
        path.write_bytes(content)
    said = refused(ran, 1, path.parent, "--genres", "a,b,c,d,e,f,g,h")
    assert str(path.parent) in said
    assert message in said


def test_an_archive_under_the_name_of_an_array_is_refused(tmp_path, ran):
    folder = seed_folder(tmp_path / "seed")
    (folder / "data_train_input.npy").write_bytes(save_tracks(tmp_path / "a.npz").read_bytes())
    assert "is an archive, not an array" in refused(ran, 1, folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        '{"mapping": ["a"], "mfcc": [[[1]]]}',
        '{"mapping": 3, "mfcc": [[[1]]], "labels": [0]}',
        '{"mapping": [3], "mfcc": [[[1]]], "labels": [0]}',
        '{"mapping": [], "mfcc": [[[1]]], "labels": [0]}',
        '{"mapping": ["a"], "mfcc": [[[1]]], "labels": [0.5]}',
        '{"mapping": ["a"], "mfcc": [[[1]]], "labels": ["a"]}',
        '{"mapping": ["a"], "mfcc": [[[1]]], "labels": [1]}',
        '{"mapping": ["a"], "mfcc": [[[1]]], "labels": [-1]}',
        '{"mapping": ["a"], "mfcc": [[[1]]], "labels": [0, 0]}',
        '{"mapping": ["a"], "mfcc": [[1]], "labels": [0]}',
        '{"mapping": ["a"], "mfcc": [[[1, 2], [3]]], "labels": [0]}',
        '{"mapping": ["a"], "mfcc": [[["x"]]], "labels": [0]}',
        '{"mapping": ["a"], "mfcc": [[[NaN]]], "labels": [0]}',
        '{"mapping": ["a"], "mfcc": [[[1e99]]], "labels": [0]}',
        '{"mapping": ["a"], "mfcc": [[[1' + "0" * 400 + ']]], "labels": [0]}',
        '{"mapping": ["a"], "mfcc": [[[1]], [[1, 2]]], "labels": [0, 0]}',
        '{"mapping": ["a"], "mfcc": [], "labels": []}',
        "[" * 100_000,
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_json_of_another_form_is_refused_by_file(tmp_path, ran, text):
    (tmp_path / "train.json").write_text(text)
    assert f"{tmp_path}/train.json: " in refused(ran, 1, tmp_path / "train.json")


def test_json_that_is_not_text_or_of_other_genres_is_refused(tmp_path, ran):
    seed_json(tmp_path / "train.json")
    (tmp_path / "test.json").write_bytes(b"\xff\xfe{}")
    assert "test.json: is not a file of mapping" in refused(ran, 1, tmp_path / "train.json", tmp_path / "test.json")
    seed_json(tmp_path / "test.json", mapping=("rock", "jazz"))
    assert "test.json: mapping differs" in refused(ran, 1, tmp_path / "train.json", tmp_path / "test.json")


def test_sources_that_do_not_go_together_are_refused(tmp_path, ran):
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "empty").mkdir()
    assert "import takes one .npz file" in refused(ran, 1, tmp_path / "a.txt")
    assert "import takes one .npz file" in refused(ran, 1, tmp_path / "a.npz", tmp_path / "b.npz")
    assert "No such file" in refused(ran, 1, tmp_path / "missing.npz")
    assert "No such file" in refused(ran, 1, tmp_path / "missing.json")
    assert "no data_train_input.npy and its like in here" in refused(ran, 1, tmp_path / "empty")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--columns", "0"], "--columns 0: the frames have 5 values"),
        (["--columns", "6"], "--columns 6: the frames have 5 values"),
        (["--features", "mfcc13"], "--features mfcc13 has 13 values a frame, not 5"),
        (["--hop-seconds", "-1"], "hop_seconds finite and not negative"),
        (["--hop-seconds", "nan"], "hop_seconds finite and not negative"),
        (["--encoding", "float16"], "values beyond 65504, which float16 cannot keep; choose another encoding"),
    ],
)
def test_flags_that_do_not_fit_are_wrong_usage(tmp_path, ran, flags, message):
    assert message in refused(ran, 2, save_tracks(tmp_path / "a.npz", sequences() * 10_000), *flags)


def test_the_hop_of_a_known_kind_cannot_be_changed(tmp_path, ran):
    path = save_tracks(tmp_path / "a.npz", sequences(dims=13))
    assert "--hop-seconds is for own kinds" in refused(ran, 2, path, "--features", "mfcc13", "--hop-seconds", "1")


# Real features.


def shares_of(store):
    return {split: len(store.rows_of(split)) / len(store.clips) for split in ("train", "validation", "test")}


def groups_on_two_sides(store):
    sides = {}
    for clip in store.clips:
        if clip.group:
            sides.setdefault(clip.group, set()).add(clip.split)
    return {group for group, splits in sides.items() if len(splits) > 1}


GTZAN = ["blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"]


def test_the_real_taggrams_are_whole_and_separated_by_artist(shared_data, ran):
    path = shared_data / "gtzan_taggrams" / "train.npz"
    status, store, _ = ran(path, "--groups", ROOT / "data" / "splits" / "gtzan_artist_folds.csv")
    assert status == 0
    assert len(store.clips) == 443
    assert store.genres == GTZAN
    assert sum(store.frames) == 12415
    assert set(store.frames) == {28, 29}
    assert all(clip.track.startswith(f"{clip.genre}.") for clip in store.clips)
    assert sum(not clip.group for clip in store.clips) == 32
    assert shares_of(store) == pytest.approx({"train": 0.6, "validation": 0.2, "test": 0.2}, abs=0.05)
    # The artist of all clips of a genre is not separable.
    alone = {
        clip.group
        for clip in store.clips
        if len({other.group for other in store.clips if other.genre == clip.genre}) == 1
    }
    assert groups_on_two_sides(store) <= alone
    with np.load(path) as arrays:
        (row,) = (row for row, clip in enumerate(store.clips) if clip.track == "jazz.00012")
        ((_, frames),) = store.read([row])
        np.testing.assert_array_equal(frames, arrays["X"][arrays["IDS"] == "jazz/jazz.00012.au"])


def test_the_real_log_mel_images_are_whole_and_keep_their_split(shared_data, ran):
    path = shared_data / "gtzan_logmel" / "train_validation.npz"
    status, store, _ = ran(path)
    assert status == 0
    assert len(store.clips) == 639
    assert store.genres == GTZAN
    assert set(store.frames) == {387}
    assert (store.header.dims, store.header.encoding) == (128, "uint8")
    assert [len(store.rows_of(split)) for split in ("train", "validation", "test")] == [442, 197, 0]
    with np.load(path) as arrays:
        rows = range(0, 639, 150)
        numbers = {str(name): number for number, name in enumerate(arrays["IDS"])}
        values = arrays["X"]
        for clip, frames in store.read(rows):
            np.testing.assert_array_equal(frames, values[numbers[clip.track]])


def test_the_real_mfcc_of_fma_are_whole_and_separated_by_artist(shared_data, ran):
    path = shared_data / "fma_small_mfcc" / "train.npz"
    genres = ["Electronic", "Experimental", "Folk", "Hip-Hop", "Instrumental", "International", "Pop", "Rock"]
    status, store, _ = ran(path, "--features", "mfcc13", "--columns", 13, "--genres", ",".join(genres))
    assert status == 0
    assert len(store.clips) == 7115
    assert store.genres == genres
    assert (store.header.kind, store.header.encoding) == ("mfcc13", "float16")
    assert set(store.frames) == {130}
    assert groups_on_two_sides(store) == set()
    assert shares_of(store) == pytest.approx({"train": 0.6, "validation": 0.2, "test": 0.2}, abs=0.02)
    for clip, frames in store.read([0, 3000]):
        with np.load(path) as arrays:
            (number,) = np.flatnonzero([Path(name).stem == clip.track for name in arrays["IDS"]])
            np.testing.assert_array_equal(frames, arrays["X"][number, :, :13])
            assert clip.genre == genres[arrays["Y"][number]]
