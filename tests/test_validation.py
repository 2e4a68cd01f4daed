"""Validation decodes every file, and tells what was published so from what is wrong with a copy."""

import hashlib
import json

import pytest
from copies import fma_file, link_gtzan, write_audio, write_fma_table

from keras_genre.__main__ import main as keras_genre
from keras_genre.datasets import catalogue
from keras_genre.datasets.gtzan import TRACKS
from keras_genre.datasets.validation import CORRUPT, EXTRA, MISSING, Finding, validate
from keras_genre.errors import DatasetError


@pytest.fixture
def gtzan(tmp_path):
    """All of GTZAN as it was published, if all its clips were the same."""
    file = write_audio(tmp_path / "clip.au", 30.0, rate=1000)
    root = link_gtzan(tmp_path / "genres", TRACKS, file)
    (root / "jazz" / "jazz.00054.au").unlink()
    (root / "jazz" / "jazz.00054.au").write_bytes(b"\x05" * 5000)
    (root / "jazz" / "jazz.mf").write_text("a list of another program")
    (root / "input.mf").write_text("a list of another program")
    (root / ".DS_Store").write_bytes(b"desktop")
    (root / "rock" / "._rock.00000.au").write_bytes(b"desktop")
    return root


def test_gtzan_as_published_has_known_faults_only(gtzan, capsys):
    assert keras_genre(["datasets", "validate", "gtzan", str(gtzan.parent)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("corrupt (known): jazz/jazz.00054.au: is of no known audio format")
    assert lines[1:] == [f"GTZAN in {gtzan}: 999 of 1000 tracks are whole"]


def test_gtzan_without_its_corrupt_clip_lacks_nothing_else(gtzan):
    (gtzan / "jazz" / "jazz.00054.au").unlink()
    found = validate("gtzan", gtzan)
    assert found.findings == [Finding(MISSING, "jazz.00054", known=True)]
    assert found.is_as_published
    assert (found.expected, found.whole) == (1000, 999)


def test_what_is_missing_corrupt_or_extra_is_named_with_why(gtzan, capsys):
    for track in ("blues.00000", "rock.00099", "pop.00007", "metal.00001", "reggae.00003"):
        (gtzan / track.partition(".")[0] / f"{track}.au").unlink()
    whole = (gtzan / "blues" / "blues.00001.au").read_bytes()
    (gtzan / "pop" / "pop.00007.au").write_bytes(whole[: len(whole) // 2])
    (gtzan / "metal" / "metal.00001.au").touch()
    write_audio(gtzan / "reggae" / "reggae.00003.au", 1.6)
    write_audio(gtzan / "rock" / "my song.wav", 1.0)
    write_audio(gtzan / "jazz" / "jazz.00100.au", 1.0)
    write_audio(gtzan / "jazz" / "jazz.00001.wav", 1.0)
    (gtzan / "notes.txt").write_text("mine")
    assert keras_genre(["datasets", "validate", "gtzan", str(gtzan), "--json", "--jobs", "2"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["data_set"], report["folder"], report["as_published"]) == ("gtzan", str(gtzan), False)
    assert (report["expected"], report["whole"]) == (1000, 994)
    findings = [(row["kind"], row["file"], row["known"]) for row in report["findings"]]
    assert findings == [
        (MISSING, "blues.00000", False),
        (MISSING, "rock.00099", False),
        (CORRUPT, "jazz/jazz.00054.au", True),
        (CORRUPT, "metal/metal.00001.au", False),
        (CORRUPT, "pop/pop.00007.au", False),
        (CORRUPT, "reggae/reggae.00003.au", False),
        (EXTRA, "jazz/jazz.00001.wav", False),
        (EXTRA, "jazz/jazz.00100.au", False),
        (EXTRA, "notes.txt", False),
        (EXTRA, "rock/my song.wav", False),
    ]
    reasons = {row["file"]: row["reason"] for row in report["findings"]}
    assert "has no bytes" in reasons["metal/metal.00001.au"]
    assert "copy or download it again" in reasons["pop/pop.00007.au"]
    assert "lasts 1.6 s" in reasons["reggae/reggae.00003.au"]


def test_damage_that_only_decoding_shows_is_found(tmp_path):
    """A FLAC file that was cut has a header as if it were whole."""
    root = tmp_path / "genres"
    whole = write_audio(root / "rock" / "rock.00000.flac", 30.0).read_bytes()
    cut = whole[: len(whole) // 2]
    (root / "rock" / "rock.00001.flac").write_bytes(cut)
    found = validate("gtzan", root)
    assert [finding.file for finding in found.findings if finding.kind == CORRUPT] == ["rock/rock.00001.flac"]
    assert found.whole == 1


ROWS = [
    (2, "Hip-Hop", 1, "training", "small"),
    (10, "Pop", 6, "validation", "small"),
    (140, "Folk", 54, "test", "small"),
    (98565, "Folk", 55, "test", "small"),
    (99134, "Folk", 55, "test", "small"),
    (3, "Hip-Hop", 1, "training", "medium"),
]


@pytest.fixture
def fma(tmp_path):
    """What FMA-small is like: most is whole, one clip is short, one is empty."""
    write_fma_table(tmp_path / "fma_metadata" / "tracks.csv", ROWS)
    root = tmp_path / "fma_small"
    for number, seconds in ((2, 30.0), (10, 29.9), (140, 30.1), (98565, 1.6)):
        write_audio(root / fma_file(number), seconds, seed=number)
    (root / "099").mkdir()
    (root / fma_file(99134)).write_bytes(b"ID3" + bytes(500))
    (root / "README.txt").write_text("about it")
    paths = sorted(path for path in root.rglob("*.mp3"))
    sums = [f"{hashlib.sha1(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n" for path in paths]
    (root / "checksums").write_text("".join(sums))
    return root


def test_fma_as_published_has_known_faults_only(fma, capsys):
    assert keras_genre(["datasets", "validate", "fma_small", str(fma.parent)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("corrupt (known): 098/098565.mp3: lasts 1.6")
    assert lines[1].startswith("corrupt (known): 099/099134.mp3: ")
    assert lines[2:] == [f"FMA-small in {fma}: 3 of 5 tracks are whole"]


def test_a_flipped_byte_that_decoding_does_not_mind_shows_in_the_checksum(fma):
    content = bytearray((fma / fma_file(140)).read_bytes())
    content[len(content) // 2] ^= 1
    (fma / fma_file(140)).write_bytes(content)
    (finding,) = (f for f in validate("fma_small", fma).findings if not f.known)
    assert (finding.kind, finding.file) == (CORRUPT, "000/000140.mp3")
    (fma / "checksums").unlink()
    write_audio(fma / fma_file(140), 30.0, seed=999)
    assert validate("fma_small", fma).is_as_published


def test_what_fma_lacks_or_has_too_much_of_is_named(fma):
    (fma / fma_file(10)).unlink()
    write_audio(fma / fma_file(3), 30.0)
    findings = [finding for finding in validate("fma_small", fma).findings if not finding.known]
    assert findings == [Finding(MISSING, "000010"), Finding(EXTRA, "000/000003.mp3")]


def test_progress_is_shown(gtzan, capsys):
    validate("gtzan", gtzan)
    assert "1000/1000 files, " in capsys.readouterr().err


def test_what_is_not_there_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(catalogue, "DATA", tmp_path / "data")
    with pytest.raises(DatasetError, match=r"no such folder; .*datasets download gtzan"):
        validate("gtzan", tmp_path / "gone")
    with pytest.raises(DatasetError, match="no GTZAN here"):
        validate("gtzan", tmp_path)
    assert keras_genre(["datasets", "validate", "fma_small"]) == 1
    assert "python -m keras_genre.datasets download fma_small" in capsys.readouterr().err
    assert keras_genre(["datasets", "validate", "gtzan", str(tmp_path), "--jobs", "0"]) == 2
