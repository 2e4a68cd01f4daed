"""Good files get labels, bad ones a line with the cause each; nothing else happens, whatever is thrown at it."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from toys import make_toy_store, toy_params

from keras_genre import audio
from keras_genre.errors import AudioError, RunError, SavedModelError
from keras_genre.extract import DECODED_BYTES, Extracted, Job, decode, extract, most_at_a_time
from keras_genre.features.reference import waveform_to_frames
from keras_genre.label_table import row_of, rows_of
from keras_genre.metrics import softmax
from keras_genre.params import FrontEndParams
from keras_genre.pipeline import window_starts
from keras_genre.predict import json_list, main, require_audio_model, result_lines
from keras_genre.prediction import open_predictor
from keras_genre.runs import load_model
from keras_genre.store import StoreHeader
from keras_genre.training import make_plan, train


@pytest.fixture(scope="module")
def run(toy_store, tmp_path_factory):
    """A network whose windows are 16 frames, a third of a second."""
    out = tmp_path_factory.mktemp("runs") / "predicting"
    train(make_plan(toy_store, toy_params(epochs=1)), "toy", out)
    return out


def predict(run, *arguments, **options):
    command = [sys.executable, "-m", "keras_genre.predict", "--model", run, *arguments]
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, encode, tone):
    """More than twenty bad files, each with a word that its error must contain."""
    folder = tmp_path_factory.mktemp("hostile")
    samples = tone(1.0, 22050)

    def write(name: str, content: bytes) -> str:
        (folder / name).write_bytes(content)
        return name

    def sound(name: str, data: np.ndarray, rate: int = 22050, **options) -> str:
        soundfile.write(folder / name, data, rate, **options)
        return name

    ogg, wav, flac, mp3, au = (
        encode("OGG", "VORBIS"),
        encode("WAV", "PCM_16"),
        encode("FLAC", "PCM_16"),
        encode("MP3"),
        encode("AU", "PCM_16"),
    )
    with_nan, with_inf = samples.copy(), samples.copy()
    with_nan[500], with_inf[500] = np.nan, np.inf
    bad = {
        write("empty.wav", b""): "no bytes",
        write("empty.mp3", b""): "no bytes",
        write("text.mp3", b"This is a letter to my aunt.\n" * 40): "audio",
        write("zeros.wav", bytes(4000)): "audio",
        write("random.ogg", np.random.default_rng(0).bytes(5000)): "audio",
        write("page.flac", b"<!doctype html><title>404</title>" * 20): "audio",
        write("archive.au", b"PK\x03\x04" + bytes(500)): "audio",
        write("truncated.ogg", ogg[: len(ogg) // 2]): "truncated.ogg",
        write("truncated.wav", wav[: len(wav) // 2]): "truncated.wav",
        write("truncated.flac", flac[: len(flac) // 2]): "truncated.flac",
        write("truncated.au", au[: len(au) // 2]): "truncated.au",
        write("truncated.mp3", mp3[: len(mp3) // 2]): "truncated.mp3",
        write("header only.wav", wav[:44]): "header only.wav",
        write("magic only.flac", b"fLaC"): "magic only.flac",
        sound("no samples.wav", np.zeros((0, 1), np.float32)): "no samples",
        sound("nan.wav", with_nan, subtype="FLOAT"): "NaN",
        sound("inf.wav", with_inf, subtype="FLOAT"): "infinite",
        sound("10 ms.wav", samples[:220]): "at least",
        "missing.mp3": "no such file",
        "folder": "folder",
        "device": "device",
        "dangling.wav": "no such file",
    }
    (folder / "folder").mkdir()
    (folder / "device").symlink_to(os.devnull)
    (folder / "dangling.wav").symlink_to("nowhere.wav")
    with soundfile.SoundFile(folder / "3 h of silence.flac", "w", 8000, 1, "PCM_16") as file:
        for _ in range(180):
            file.write(np.zeros(8000 * 60, np.int16))
    bad["3 h of silence.flac"] = "limit of 3600 s"
    return folder, bad


def test_each_hostile_file_gets_its_own_line_and_the_good_among_them_get_labels(run, hostile, encode):
    folder, bad = hostile
    good = ["good.wav", "gut läßt grüßen.flac", "good.ogg", "silence.wav"]
    contents = [encode("WAV", "PCM_24"), encode("FLAC", "PCM_16"), encode("OGG", "VORBIS")]
    for name, content in zip(good[:3], contents, strict=True):
        (folder / name).write_bytes(content)
    soundfile.write(folder / "silence.wav", np.zeros(22050), 22050)
    names = [name for pair in zip(good, list(bad)[: len(good)], strict=True) for name in pair]
    names += [name for name in bad if name not in names]

    result = predict(run, *names, "--csv", "out.csv", cwd=folder)

    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    labelled = [line.split("\t")[0] for line in result.stdout.splitlines()]
    assert labelled == good
    failed = [line.removeprefix("failed: ") for line in result.stderr.splitlines() if line.startswith("failed: ")]
    assert len(failed) == len(bad) >= 20
    by_name = {row["file"]: row for row in csv.DictReader((folder / "out.csv").open())}
    assert list(by_name) == names
    for name, why in bad.items():
        lines = [line for line in failed if line.startswith(f"{name}: ")]
        assert len(lines) == 1, name
        assert why in lines[0]
        assert by_name[name]["error"] == lines[0]
        assert by_name[name]["genre"] == ""
    assert "silence.wav: all samples are zero" in result.stderr
    assert f"{len(bad)} of {len(names)} files failed" in result.stderr


@pytest.mark.parametrize(("unsure", "ending"), [(True, "\tnot sure"), (False, "polka 0.45")])
def test_an_unsure_answer_is_called_so(unsure, ending):
    shares = {"polka": 0.45, "zydeco": 0.4, "bebop": 0.15}
    result = {"file": "a.wav", "genre": "polka", "probability": 0.45, "probabilities": shares, "windows": []}
    (line,) = result_lines(result | {"unsure": unsure}, top=1, timeline=False)
    assert line.endswith(ending)
    assert next(csv.reader([row_of(result | {"unsure": unsure}, list(shares)).decode()]))[3] == str(int(unsure))


def test_json_is_the_mean_of_the_windows_logits_over_the_whole_file(run, encode, tmp_path):
    (tmp_path / "a.wav").write_bytes(encode("WAV", "FLOAT", seconds=1.3))
    (tmp_path / "b.mp3").write_bytes(b"no audio at all" * 100)
    result = predict(run, "a.wav", "b.mp3", "--json", cwd=tmp_path)
    assert result.returncode == 1
    first, second = json.loads(result.stdout)
    assert set(second) == {"file", "error"}
    assert first["unsure"] == (first["probability"] < 0.5)

    frames = waveform_to_frames(audio.load(tmp_path / "a.wav", 22050), FrontEndParams())
    starts = window_starts(len(frames), 16)
    logits = load_model(run).predict(np.stack([frames[s : s + 16] for s in starts]), verbose=0)
    assert [window["start_seconds"] for window in first["windows"]] == pytest.approx(
        [start * 512 / 22050 for start in starts], abs=1e-3
    )
    assert first["windows"][-1]["end_seconds"] == pytest.approx(1.3, abs=512 / 22050)
    expected = dict(zip(["bebop", "polka", "zydeco"], softmax(logits.mean(axis=0)), strict=True))
    assert first["probabilities"] == pytest.approx(expected, abs=1e-5)
    assert first["genre"] == max(expected, key=expected.get)
    assert first["probability"] == max(first["probabilities"].values())
    for window, row in zip(first["windows"], softmax(logits), strict=True):
        assert list(window["probabilities"].values()) == pytest.approx(row.tolist(), abs=1e-5)


@pytest.fixture(scope="module")
def album(tmp_path_factory, encode):
    """Files whose timelines together are longer than the shortest pipe, and one that is none."""
    folder = tmp_path_factory.mktemp("album")
    for number in range(12):
        content = encode("WAV", "PCM_16", 8000, 1, seconds=12.0)
        (folder / f'{number:02d}, "take\n{number}".wav').write_bytes(content)
    (folder / "04.mp3").write_bytes(b"no audio at all" * 100)
    return folder


def label(run, album, table, *flags):
    return main([str(album), "--model", str(run), "--jobs", "1", "--csv", str(table), *flags])


@pytest.fixture(scope="module")
def whole_table(run, album, tmp_path_factory):
    table = tmp_path_factory.mktemp("tables") / "in" / "whole.csv"
    assert label(run, album, table) == 1
    return table.read_bytes()


def rows_in(content):
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_what_was_labelled_before_an_interruption_is_there_and_resume_goes_on(
    run, album, whole_table, tmp_path, number, capsys
):
    table = tmp_path / "labels.csv"
    command = [sys.executable, "-m", "keras_genre.predict", "--model", run, album, "--csv", table, "--timeline"]
    # Nobody reads what it prints, so it cannot come to the end before it gets the signal.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pipesize=4096) as process:
        while process.poll() is None and (not table.exists() or table.read_bytes().count(b"\n") < 4):
            time.sleep(0.1)
        process.send_signal(number)
        process.communicate()
    assert process.returncode == {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130}[number]
    left = table.read_bytes()
    assert 2 <= len(rows_in(left)) < len(rows_in(whole_table))
    assert whole_table.startswith(left)

    # What an unlucky moment or a full disk may leave of a row.
    table.write_bytes(whole_table[: len(left) + 9])
    assert label(run, album, table) == 2
    assert "--resume" in capsys.readouterr().err
    assert table.read_bytes() == whole_table[: len(left) + 9]
    label(run, album, table, "--resume")
    assert table.read_bytes() == whole_table
    assert f"{len(rows_in(left)) - 1} of 13 files are in {table} already" in capsys.readouterr().err
    assert label(run, album, table, "--resume") == 0
    assert table.read_bytes() == whole_table
    assert capsys.readouterr().out == ""


def test_files_that_failed_are_labelled_again_by_wish_and_others_keep_their_rows(run, tmp_path, encode, capsys):
    table, files = tmp_path / "labels.csv", [tmp_path / f'{name}, "live"\n.wav' for name in "abc"]
    files[0].write_bytes(encode("WAV", "PCM_16"))
    elsewhere = tmp_path / "elsewhere.wav"
    assert main([*map(str, [*files, elsewhere]), "--model", str(run), "--csv", str(table)]) == 1
    first, *failed = rows_in(table.read_bytes())[1:]
    assert [bool(row[4]) for row in failed] == [True] * 3

    def label_again(flag):
        capsys.readouterr()
        status = main([*map(str, files), "--model", str(run), "--csv", str(table), flag])
        return status, capsys.readouterr().err.splitlines()[0], rows_in(table.read_bytes())[1:]

    files[1].write_bytes(encode("WAV", "PCM_16"))
    assert label_again("--resume") == (0, f"3 of 3 files are in {table} already", [first, *failed])
    status, said, rows = label_again("--retry-failed")
    assert (status, said) == (1, f"1 of 3 files are in {table} already")
    # The one that was not named is as it was; then the two that were tried.
    assert rows == [first, failed[2], [str(files[1]), *first[1:]], failed[1]]
    files[2].write_bytes(encode("WAV", "PCM_16"))
    assert label_again("--retry-failed")[0] == 0
    assert label_again("--retry-failed")[:2] == (0, f"3 of 3 files are in {table} already")


@pytest.mark.parametrize("flags", [[], ["--resume"], ["--retry-failed"]])
@pytest.mark.parametrize("content", ["my notes", "my notes\n", "file,genre\na.wav,polka\n"])
def test_a_file_that_is_no_table_of_the_model_is_left_alone(run, album, tmp_path, flags, content, capsys):
    (tmp_path / "notes").write_text(content)
    assert label(run, album, tmp_path / "notes", *flags) == 2
    assert f"error: --csv {tmp_path / 'notes'}: is" in capsys.readouterr().err
    assert (tmp_path / "notes").read_text() == content


@pytest.mark.parametrize("content", [None, "", "file,genre,probability,unsure,error,bebop,polka,zydeco\n"])
def test_a_table_without_a_row_is_begun_anew_and_any_other_by_wish(run, tmp_path, encode, content, capsys):
    (tmp_path / "a.wav").write_bytes(encode("WAV", "PCM_16"))
    table = tmp_path / "labels.csv"
    if content is not None:
        table.write_text(content)
    assert label(run, tmp_path, table) == 0
    rows = rows_in(table.read_bytes())
    assert [row[0] for row in rows] == ["file", str(tmp_path / "a.wav")]
    assert label(run, tmp_path, table, "--overwrite") == 0
    assert rows_in(table.read_bytes()) == rows
    (tmp_path / "folder").mkdir()
    capsys.readouterr()
    assert label(run, tmp_path, tmp_path / "folder") == 1
    captured = capsys.readouterr()
    assert f"error: {tmp_path / 'folder'}: Is a directory" in captured.err
    assert captured.out == ""


def test_a_name_that_is_not_utf_8_is_a_name(run, tmp_path, encode):
    file = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")
    Path(file).write_bytes(encode("WAV", "PCM_16"))
    assert predict(run, file, "--csv", "t.csv", cwd=tmp_path, errors="surrogateescape").stdout.startswith(f"{file}\t")
    assert rows_of(tmp_path / "t.csv", ["bebop", "polka", "zydeco"]) == {file: ""}
    result = predict(run, file, "--json", cwd=tmp_path)
    assert [each["file"] for each in json.loads(result.stdout)] == [file]


def test_a_name_with_the_line_ends_of_windows_stays_in_its_row(run, tmp_path, encode, capsys):
    (tmp_path / "a.wav").write_bytes(encode("WAV", "PCM_16"))
    table, wrong = tmp_path / "t.csv", f"{tmp_path / 'a.wav'}\r"
    arguments = [str(tmp_path / "a.wav"), wrong, "--model", str(run), "--csv", str(table)]
    assert main(arguments) == 1
    assert [row[0] for row in rows_in(table.read_bytes())] == ["file", *arguments[:2]]
    assert main([*arguments, "--resume"]) == 0
    assert "2 of 2 files are in" in capsys.readouterr().err
    assert main([*arguments, "--retry-failed"]) == 1
    assert "1 of 2 files are in" in capsys.readouterr().err


def test_a_table_with_a_row_of_other_columns_is_left_alone(run, album, tmp_path, whole_table, capsys):
    header, _, rows = whole_table.partition(b"\n")
    content = header + b"\n\n" + rows
    (tmp_path / "t.csv").write_bytes(content)
    for flag in ("--resume", "--retry-failed"):
        assert label(run, album, tmp_path / "t.csv", flag) == 2
        assert "t.csv: row 2 has not as many values as the first" in capsys.readouterr().err
        assert (tmp_path / "t.csv").read_bytes() == content


def test_a_saved_model_that_refuses_a_waveform_is_quoted_without_the_graph(exported):
    predictor = open_predictor(exported.version)
    short = Extracted(waveform=np.zeros(predictor.minimum_samples - 1, np.float32), seconds=1.0)
    with pytest.raises(AudioError) as refusal:
        predictor.predict("a.wav", short)
    assert str(predictor.minimum_samples) in str(refusal.value)
    assert "{{" not in str(refusal.value)


def test_a_list_that_is_cut_short_is_json_of_what_there_was(capsys):
    with pytest.raises(KeyboardInterrupt), json_list() as show:
        show({"file": "a\nb\u2028.wav", "windows": [1, 2]})
        show({"file": "c", "windows": []})
        raise KeyboardInterrupt
    results = [{"file": "a\nb\u2028.wav", "windows": [1, 2]}, {"file": "c", "windows": []}]
    assert capsys.readouterr().out == json.dumps(results, indent=2, ensure_ascii=False) + "\n"
    with json_list():
        pass
    assert capsys.readouterr().out == "[]\n"


def test_decoded_files_that_wait_take_no_more_memory_than_is_set_aside():
    def jobs(max_seconds):
        return [Job(Path("a.wav"), "a.wav", 22050, 1.0, max_seconds)] * 100

    for max_seconds in (3600.0, 1800.0, 600.0, 30.0):
        most = most_at_a_time(jobs(max_seconds), 16, decode)
        assert most * max_seconds * 22050 * 4 <= DECODED_BYTES
    assert most_at_a_time(jobs(30.0), 16, decode) == most_at_a_time(jobs(3600.0), 16, extract) == 64
    assert most_at_a_time(jobs(1e6), 16, decode) == 1


def test_a_file_that_takes_more_memory_than_there_is_fails_alone(run, exported, tmp_path):
    # A waveform of more bytes than there are addresses, as one sample that stands for all.
    endless = Extracted(waveform=np.broadcast_to(np.float32(0.1), 1 << 50), seconds=1.0)
    with pytest.raises(AudioError, match=r"a\.wav: too long for the memory of this machine; lower --max-seconds"):
        open_predictor(run).predict("a.wav", endless)

    class Greedy(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, None), tf.float32, "waveform")])
        def call(self, waveform):
            return {"probabilities": tf.reduce_sum(tf.random.uniform([tf.size(waveform, tf.int64) * 2**34]))}

    shutil.copytree(exported.version, tmp_path / "1")
    (tmp_path / "1" / "assets.extra" / "sha256.json").unlink()
    greedy = Greedy()
    tf.saved_model.save(greedy, str(tmp_path / "greedy"), greedy.call)
    shutil.copy(tmp_path / "greedy" / "saved_model.pb", tmp_path / "1")
    with pytest.raises(AudioError, match=r"a\.wav: too long for the memory of this machine; lower --max-seconds"):
        open_predictor(tmp_path / "1").predict("a.wav", Extracted(waveform=np.zeros(30000, np.float32), seconds=1.0))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--max-seconds", "0.2"], "--max-seconds 0.2: is below the window of {model}, which takes files of 0.348 s"),
        (["--max-seconds", "0"], "--max-seconds must be a positive number"),
        (["--max-seconds", "nan"], "--max-seconds must be a positive number"),
        (["--resume"], "--resume, --retry-failed and --overwrite go with --csv"),
        (["--retry-failed"], "--resume, --retry-failed and --overwrite go with --csv"),
    ],
)
def test_flags_that_cannot_work_are_named(run, flags, words, capsys):
    assert main(["a.wav", "--model", str(run), *flags]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {words.format(model=run)}")


def test_folders_are_searched_and_what_is_no_audio_in_them_passed_over(run, encode, tmp_path):
    (tmp_path / "album" / "disc 1").mkdir(parents=True)
    for name in ("album/2.wav", "album/disc 1/1.flac"):
        (tmp_path / name).write_bytes(encode("FLAC" if name.endswith("flac") else "WAV", "PCM_16"))
    (tmp_path / "album" / "cover.jpg").write_bytes(b"beach")
    (tmp_path / "album" / "._2.wav").write_bytes(b"leftover of another system")
    result = predict(run, "album", "--top", "3", "--timeline", cwd=tmp_path)
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    files = [line for line in lines if not line.startswith(" ")]
    assert [line.split("\t")[0] for line in files] == ["album/2.wav", "album/disc 1/1.flac"]
    assert all(len(line.split("\t")) == 4 for line in lines)
    assert len(lines) == 2 + 2 * len(window_starts(1 + 22050 // 512, 16))


def test_a_run_on_imported_features_is_refused_with_the_reason(tmp_path):
    store = make_toy_store(tmp_path / "store", header=StoreHeader("tags", 33, 0.0, None))
    train(make_plan(store, toy_params(epochs=1)), "toy", tmp_path / "run")
    result = predict(tmp_path / "run", "song.mp3")
    assert result.returncode == 1
    assert "cannot be computed from audio" in result.stderr
    assert result.stdout == ""


def test_a_saved_model_says_of_files_of_any_format_what_its_run_says(exported, encode, tmp_path, capsys, monkeypatch):
    (tmp_path / "a.wav").write_bytes(encode("WAV", "PCM_24", seconds=3.3))
    (tmp_path / "b.mp3").write_bytes(encode("MP3", sample_rate_hz=22050, channels=1, seconds=2.0))
    (tmp_path / "c.ogg").write_bytes(b"no audio at all" * 100)
    (tmp_path / "d.flac").write_bytes(encode("FLAC", "PCM_16", seconds=0.5))
    monkeypatch.chdir(tmp_path)
    found = {}
    for name in ("run", "name", "version"):
        model = str(getattr(exported, name))
        assert main(["a.wav", "b.mp3", "c.ogg", "d.flac", "--json", "--model", model]) == 1
        found[name] = json.loads(capsys.readouterr().out)
    assert found["name"] == found["version"]
    for ours, theirs in zip(found["run"], found["version"], strict=True):
        assert list(ours) == list(theirs)
        if "error" in ours:
            assert ours == theirs
            continue
        assert theirs["probabilities"] == pytest.approx(ours["probabilities"], abs=1e-5)
        assert (theirs["genre"], theirs["file"]) == (ours["genre"], ours["file"])
        for one, other in zip(ours["windows"], theirs["windows"], strict=True):
            assert one["start_seconds"] == other["start_seconds"]
            assert one["end_seconds"] == other["end_seconds"]
            assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
    assert [("error" in result) for result in found["run"]] == [False, False, True, True]


def test_what_is_no_model_is_refused_before_tensorflow_is_started(exported, tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(SavedModelError, match="was not exported by keras_genre"):
        require_audio_model(tmp_path)
    with pytest.raises(RunError, match="no run here"):
        require_audio_model(tmp_path / "1" / "deeper")
    require_audio_model(exported.name)
    require_audio_model(exported.run)


def test_a_damaged_saved_model_is_named(exported, tmp_path):
    shutil.copytree(exported.version, tmp_path / "1")
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(SavedModelError, match=r"saved_model\.pb: damaged"):
        open_predictor(tmp_path)
