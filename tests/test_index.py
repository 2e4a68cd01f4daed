"""An index has every readable clip once, under a name of its own, and names whatever it cannot use."""

import contextlib
import hashlib
import os

import numpy as np
import pytest
import soundfile

from keras_genre.clips import Clip
from keras_genre.datasets.index import add_groups, index, index_csv, index_folder
from keras_genre.errors import DatasetError


def write_wav(path, seconds=0.5, level=0.1):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(round(8000 * seconds), level, np.float32), 8000, format="WAV")
    return path


def tracks(found):
    return [clip.track for clip in found.clips]


def test_a_folder_of_genre_folders_gives_all_that_is_known(tmp_path):
    path = write_wav(tmp_path / "rock" / "b.wav", 0.5)
    write_wav(tmp_path / "jazz" / "c.wav", 0.25)
    write_wav(tmp_path / "rock" / "album" / "disc 1" / "a.WAV")
    found = index_folder(tmp_path)
    assert found.root == tmp_path
    assert [(clip.track, clip.genre, clip.file, clip.seconds) for clip in found.clips] == [
        ("a", "rock", "rock/album/disc 1/a.WAV", 0.5),
        ("b", "rock", "rock/b.wav", 0.5),
        ("c", "jazz", "jazz/c.wav", 0.25),
    ]
    assert found.clips[1].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.failures == []
    assert found.strays == []


def test_tracks_that_share_a_stem_are_named_by_their_path(tmp_path):
    for file in ("rock/1.wav", "jazz/1.wav", "jazz/2.wav", "rock/x.wav", "rock/x.WAV", "rock/00000.live.wav"):
        write_wav(tmp_path / file)
    assert tracks(index_folder(tmp_path)) == [
        "00000.live",
        "2",
        "jazz/1",
        "rock/1",
        "rock/x.WAV",
        "rock/x.wav",
    ]


def test_track_names_do_not_depend_on_what_can_be_read(tmp_path):
    write_wav(tmp_path / "rock/1.wav")
    (tmp_path / "jazz").mkdir()
    (tmp_path / "jazz/1.wav").write_bytes(b"no music")
    found = index_folder(tmp_path)
    assert tracks(found) == ["rock/1"]
    assert [failure.file for failure in found.failures] == ["jazz/1.wav"]


def test_names_may_be_of_any_script(tmp_path):
    write_wav(tmp_path / "música popular" / "Дисциплина, №1.wav")
    write_wav(tmp_path / "演歌" / "東京 'quoted' \"twice\".wav")
    found = index_folder(tmp_path)
    assert [clip.genre for clip in found.clips] == ["música popular", "演歌"]
    assert found.failures == []


def test_a_name_that_is_no_text_is_a_failure(tmp_path):
    write_wav(tmp_path / "rock" / "a.wav")
    try:
        os.link(tmp_path / "rock" / "a.wav", os.fsencode(tmp_path) + b"/rock/\xff.wav")
    except OSError:
        pytest.skip("this file system has names in UTF-8 only")
    found = index_folder(tmp_path)
    assert tracks(found) == ["a"]
    (failure,) = found.failures
    assert failure.file == "rock/?.wav"
    assert "UTF-8" in failure.reason


def test_what_is_no_clip_is_passed_over_by_name(tmp_path):
    write_wav(tmp_path / "rock" / "a.wav")
    write_wav(tmp_path / "outside.wav")
    write_wav(tmp_path / "rock" / "._a.wav")
    write_wav(tmp_path / ".cache" / "b.wav")
    write_wav(tmp_path / "rock" / ".cache" / "b.wav")
    (tmp_path / "rock" / "cover.jpg").write_bytes(b"jpeg")
    (tmp_path / "jazz").mkdir()
    found = index_folder(tmp_path)
    assert tracks(found) == ["a"]
    assert found.failures == []
    assert found.strays == [
        ".cache/",
        "jazz/",
        "outside.wav",
        "rock/._a.wav",
        "rock/.cache/",
        "rock/cover.jpg",
    ]


def test_files_that_cannot_be_read_are_named_with_the_reason(tmp_path):
    good = write_wav(tmp_path / "rock" / "good.wav")
    folder = good.parent
    (folder / "empty.wav").touch()
    (folder / "text.mp3").write_bytes(b"this is no music at all\n" * 40)
    (folder / "gone.wav").symlink_to(folder / "nowhere.wav")
    (folder / "itself.wav").symlink_to(folder / "itself.wav")
    with contextlib.suppress(OSError, AttributeError):
        os.mkfifo(folder / "pipe.wav")
    found = index_folder(tmp_path)
    assert tracks(found) == ["good"]
    names = [failure.file for failure in found.failures]
    assert names == sorted(names)
    assert {"rock/empty.wav", "rock/gone.wav", "rock/itself.wav", "rock/text.mp3"} <= set(names)
    assert not any(failure.reason.startswith(str(tmp_path)) for failure in found.failures)


def test_a_folder_of_failures_has_no_clips_and_is_no_error(tmp_path):
    (tmp_path / "rock").mkdir()
    (tmp_path / "rock" / "a.wav").touch()
    found = index_folder(tmp_path)
    assert found.clips == []
    assert [failure.file for failure in found.failures] == ["rock/a.wav"]


def test_links_are_followed_but_not_in_circles(tmp_path):
    root = tmp_path / "music"
    elsewhere = write_wav(tmp_path / "elsewhere" / "a.wav")
    write_wav(root / "rock" / "b.wav")
    (root / "rock" / "c.wav").symlink_to(elsewhere)
    (root / "jazz").symlink_to(elsewhere.parent)
    (root / "rock" / "up").symlink_to(root)
    (root / "rock" / "here").symlink_to(root / "rock")
    found = index_folder(root)
    assert [clip.file for clip in found.clips] == ["jazz/a.wav", "rock/b.wav", "rock/c.wav"]
    assert found.strays == ["rock/here/", "rock/up/"]


def test_folders_that_are_no_data_set_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        index(tmp_path / "none")
    with pytest.raises(DatasetError, match="is a file"):
        index(write_wav(tmp_path / "a.wav"))
    with pytest.raises(DatasetError, match="no genre folders: put"):
        index(tmp_path)
    (tmp_path / "rock").mkdir()
    with pytest.raises(DatasetError, match=r"no audio .*\.wav"):
        index(tmp_path)


def test_many_files_show_progress(tmp_path, capsys):
    content = write_wav(tmp_path / "rock" / "0.wav", 0.01).read_bytes()
    for number in range(1, 320):
        (tmp_path / "rock" / f"{number}.wav").write_bytes(content)
    assert len(index(tmp_path).clips) == 320
    assert "320/320 files" in capsys.readouterr().err


def test_a_list_gives_all_it_says(tmp_path):
    inside = write_wav(tmp_path / "list" / "x" / "a.wav")
    outside = write_wav(tmp_path / "b.wav")
    checksum = hashlib.sha256(inside.read_bytes()).hexdigest()
    path = tmp_path / "list" / "tracks.csv"
    path.write_text(
        "\ufefftrack, genre,file,artist,split,sha256,remark\r\n"
        f"two,rock,{outside},Ärzte,test,,\r\n"
        "three,rock,../b.wav,,,,\r\n"
        f'one,jazz,x/a.wav,"Smith, J.",train,{checksum.upper()},"a, b"\r\n',
        encoding="utf-8",
    )
    found = index(path)
    assert found.root == path.parent
    assert found.failures == []
    assert [(c.track, c.genre, c.file, c.group, c.split) for c in found.clips] == [
        ("one", "jazz", "x/a.wav", "Smith, J.", "train"),
        ("three", "rock", "../b.wav", "", ""),
        ("two", "rock", str(outside), "Ärzte", "test"),
    ]
    assert found.clips[0].sha256 == checksum
    assert all(clip.seconds == 0.5 and (found.root / clip.file).is_file() for clip in found.clips)


def test_a_list_with_missing_and_changed_files_names_them(tmp_path):
    write_wav(tmp_path / "a.wav")
    write_wav(tmp_path / "b.wav")
    path = tmp_path / "tracks.csv"
    path.write_text(f"track,genre,file,sha256\na,rock,a.wav,\nb,rock,b.wav,{'0' * 64}\nc,rock,c.wav,\n")
    found = index_csv(path)
    assert tracks(found) == ["a"]
    assert [failure.file for failure in found.failures] == ["b.wav", "c.wav"]
    assert "SHA-256" in found.failures[0].reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column track, genre, file"),
        ("track,genre\na,rock\n", "no column file"),
        ("track,genre,file\n", "lists no tracks"),
        ("track,genre,file\na,,a.wav\n", "line 2: no genre for track 'a'"),
        ("track,genre,file\na,rock\n", "line 2: no file for track 'a'"),
        ("track,genre,file\n,rock,a.wav\n", "line 2: no track"),
        ("track,genre,file\na,rock,a.wav\na,jazz,b.wav\n", "line 3: track 'a' stands in line 2 too"),
        (
            "track,genre,file,split\na,rock,a.wav,dev\n",
            "line 2: split 'dev' is none of train, validation, test",
        ),
    ],
)
def test_lists_that_cannot_be_used_are_refused(tmp_path, text, message):
    path = tmp_path / "tracks.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=message):
        index(path)


def test_lists_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "tracks.csv"
    with pytest.raises(DatasetError, match="no such file"):
        index(path)
    path.write_bytes(b"track,genre,file\n\xff\xfe,rock,a.wav\n")
    with pytest.raises(DatasetError, match="UTF-8"):
        index(path)


@pytest.mark.parametrize("column", ["group", "artist_group", "artist"])
def test_groups_come_from_a_list(tmp_path, column):
    path = tmp_path / "groups.csv"
    path.write_text(f"track,{column}\nb,7\na,\nelse,9\n")
    clips = [Clip("a", "rock", group="old"), Clip("b", "rock", group="old"), Clip("c", "rock")]
    assert [clip.group for clip in add_groups(clips, path)] == ["old", "7", ""]


def test_groups_that_fit_nothing_are_refused(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text("track,group\nb,7\n")
    with pytest.raises(DatasetError, match="names none of the 1 tracks"):
        add_groups([Clip("a", "rock")], path)
    path.write_text("track,singer\na,7\n")
    with pytest.raises(DatasetError, match="no column group, artist_group or artist"):
        add_groups([Clip("a", "rock")], path)


def test_real_music_is_as_its_list_says(shared_data):
    found = index(shared_data / "gtzan_mini" / "index.csv")
    assert found.failures == []
    assert len(found.clips) == 61
    assert len({clip.genre for clip in found.clips}) == 10
    assert all(clip.group and clip.sha256 and 29 < clip.seconds < 31 for clip in found.clips)
