"""The command searches, resumes, refuses what is not its search, reports, and ends in a trained network."""

import argparse
import json
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from searches import SPACE, clips_without_test, results_of, start, state_of, words_of
from toys import make_toy_store, toy_clips

from keras_genre.datasets.options import add_split_options, apply_split_options
from keras_genre.datasets.splits import fold_split
from keras_genre.models.presets import preset
from keras_genre.params import TrainParams, from_json
from keras_genre.runs import load_model, read_history, read_run
from keras_genre.schedules import cosine_rate
from keras_genre.train import make_parser, params_from
from tuning.project import differences
from tuning.search import main
from tuning.winner import division_flags


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A folder with a store and a finished search of three trials on two folds."""
    folder = tmp_path_factory.mktemp("searched")
    make_toy_store(folder / "store")
    assert main(words_of(folder, "--trials", "3", "--folds", "2")) == 0
    return folder


def result_of(folder, trial: str):
    return json.loads((folder / "search" / "trials" / trial / "result.json").read_text())


def test_a_trial_is_scored_on_whole_clips_of_every_fold(searched):
    result = result_of(searched, "0")
    assert result["clips"] == len(clips_without_test()) == 18
    hits = [a == b for run in result["runs"] for a, b in zip(run["expected"], run["predicted"], strict=True)]
    assert result["accuracy"] == pytest.approx(np.mean(hits))
    (trial,) = (trial for trial in state_of(searched / "search")["trials"] if trial["trial_id"] == "0")
    assert trial["score"] == pytest.approx(result["accuracy"], abs=1e-6)


def test_no_test_clip_is_in_any_file_of_a_search(searched):
    names = [clip.track.encode() for clip in toy_clips() if clip.split == "test"]
    for path in (searched / "search").rglob("*"):
        if path.is_file():
            assert not any(name in path.read_bytes() for name in names), path
    run = read_run(searched / "search" / "trials" / "0" / "fold0-seed0")
    assert set(run.splits.values()) == {"train", "validation"}


def test_the_folds_are_grouped_by_artist_and_each_clip_validates_once(searched):
    seen = []
    divided = {clip.track: clip.split for clip in fold_split(clips_without_test(), 2, 0)}
    for fold in range(2):
        run = read_run(searched / "search" / "trials" / "1" / f"fold{fold}-seed0")
        seen += [track for track, split in run.splits.items() if split == "validation"]
        if fold == 0:
            assert run.splits == divided
    assert sorted(seen) == sorted(clip.track for clip in clips_without_test())


def test_every_trial_says_how_it_was_computed_and_what_it_took(searched):
    facts = result_of(searched, "2")["facts"]
    assert set(facts) == {
        "parameters",
        "mixed_bfloat16",
        "cudnn_eligible",
        "cudnn",
        "steps_per_execution",
        "peak_memory_mib",
    }
    assert facts["parameters"] > 0 and facts["peak_memory_mib"] > 50


def test_networks_of_finished_trials_are_cleared_away(searched):
    assert not list((searched / "search").rglob("*.keras"))
    assert not list((searched / "search").rglob("checkpoint.npz"))


def test_the_same_command_on_a_finished_search_runs_nothing_again_and_says_so(searched, capsys):
    before = (searched / "search" / "tuner" / "oracle.json").read_text()
    started = result_of(searched, "1")
    assert main(words_of(searched, "--trials", "3", "--folds", "2")) == 0
    assert "nothing was left to run: 3 trials have ended; --trials N" in capsys.readouterr().err
    assert result_of(searched, "1") == started
    assert results_of(searched / "search") == {
        json.dumps(trial["hyperparameters"]["values"], sort_keys=True): (trial["status"], trial["score"])
        for trial in json.loads(before)["trials"]
    }


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--folds", "3"], "folds: 2 -> 3"),
        (["--folds", "2", "--set", "batch_size=16"], "params.batch_size: 32 -> 16"),
        (["--folds", "2", "--objective", "macro_f1"], "objective: accuracy -> macro_f1"),
        (["--folds", "2", "--tuner", "bayesian"], "tuner: random -> bayesian"),
        (["--folds", "2", "--split-seed", "3"], "split_seed: not there -> 3"),
        (["--folds", "2", "--split-seed", "3", "--fractions", "0.5", "0.3", "0.2"], "data."),
    ],
)
def test_another_search_in_the_folder_is_refused_with_the_difference(searched, more, words, capsys):
    assert main(words_of(searched, "--trials", "3", *more)) == 1
    assert words in capsys.readouterr().err


def test_a_changed_space_is_refused_with_the_difference(searched, capsys):
    other = SPACE | {"model.dropout": [0.1, 0.2]}
    assert main(words_of(searched, "--trials", "3", "--folds", "2", space=other)) == 1
    assert "space.model.dropout: 0.0 ... 0.5 -> 0.1 | 0.2" in capsys.readouterr().err


def test_changed_features_are_refused_with_the_difference(searched, tmp_path, capsys):
    clips = toy_clips()[:-1]
    make_toy_store(tmp_path / "store", clips)
    words = words_of(searched, "--trials", "3", "--folds", "2")
    words[words.index("--data") + 1] = str(tmp_path / "store")
    assert main(words) == 1
    assert "data.features.spectral33" in capsys.readouterr().err


def test_the_best_are_printed_as_flags_that_train_them(searched, capsys):
    assert main(words_of(searched, "--trials", "3", "--folds", "2", "--top", "2")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    best = max(("0", "1", "2"), key=lambda trial: result_of(searched, trial)["accuracy"])
    words = shlex.split(lines[0])
    options = make_parser().parse_args(words)
    assert params_from(options, preset(options.preset)) == from_json(TrainParams, result_of(searched, best)["params"])
    assert str(options.data) == str(searched / "store")


def test_what_is_printed_trains_on_the_division_of_the_search(tmp_path, capsys):
    make_toy_store(tmp_path / "store")
    (tmp_path / "groups.csv").write_text("".join(["track,group\n", *(f"polka.{n:02d},{n // 2}\n" for n in range(8))]))
    words = words_of(tmp_path, "--trials", "1", "--fractions", "0.5", "0.25", "0.25", "--split-seed", "5")
    words += ["--groups", str(tmp_path / "groups.csv"), "--epochs", "1"]
    assert main(words) == 0
    printed = capsys.readouterr().out.splitlines()[-1].removeprefix("python -m keras_genre.train ")
    assert main([*words, "--top", "1"]) == 0
    assert capsys.readouterr().out.splitlines() == [printed]
    clips, _ = apply_split_options(toy_clips(), make_parser().parse_args(shlex.split(printed)))
    searched = read_run(tmp_path / "search" / "trials" / "0" / "fold0-seed0").splits
    assert searched == {clip.track: clip.split for clip in clips if clip.split != "test"}
    assert searched != {clip.track: clip.split for clip in toy_clips() if clip.split != "test"}


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--groups g.csv --split-list s.csv",
        "--split-list folds.csv --fold 0 --split-seed 3 --allow-shared-groups",
        "--fractions 0.5 0.3 0.2",
    ],
)
def test_the_flags_of_a_division_are_those_that_were_given(words):
    parser = argparse.ArgumentParser()
    add_split_options(parser)
    flags = division_flags(parser.parse_args(shlex.split(words)))
    assert " ".join(flags) == words


def test_every_flag_of_a_division_is_handed_on():
    parser = argparse.ArgumentParser(add_help=False)
    add_split_options(parser)
    words = "--groups g.csv --split-list s.csv --fold 0 --fractions 0.5 0.3 0.2 --split-seed 3 --allow-shared-groups"
    assert {f"--{name.replace('_', '-')}" for name in vars(parser.parse_args([]))} - {"--folds"} == {
        word for word in division_flags(parser.parse_args(shlex.split(words))) if word.startswith("--")
    }


def test_the_report_shows_every_trial_and_a_picture(searched):
    page = (searched / "search" / "report.html").read_text()
    for trial in ("0", "1", "2"):
        assert f"{result_of(searched, trial)['accuracy']:.4f}" in page
    assert "learning_rate" in page and "data:image/png;base64," in page
    assert (searched / "search" / "report.png").read_bytes().startswith(b"\x89PNG")


def test_tensorboard_is_given_values_and_results_of_every_trial(searched):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    for trial in ("0", "2"):
        events = EventAccumulator(str(searched / "search" / "tensorboard" / trial))
        events.Reload()
        content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        data = plugin_data_pb2.HParamsPluginData.FromString(content)
        assert metadata.PLUGIN_NAME == "hparams"
        values = {name: value.number_value for name, value in data.session_start_info.hparams.items()}
        assert values == pytest.approx(result_of(searched, trial)["values"])
        assert "accuracy" in events.Tags()["tensors"]


def test_the_dry_run_prints_the_space_and_writes_nothing(tmp_path, capsys):
    make_toy_store(tmp_path / "store")
    assert main(words_of(tmp_path, "--dry-run", "--folds", "3", "--seeds", "2")) == 0
    out = capsys.readouterr().out
    assert "learning_rate  0.001 ... 0.02 (logarithmic)" in out
    assert "6 trainings a trial" in out
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize("name", ["holiday.jpg", "oracle.json", "trial_0000"])
def test_a_folder_with_other_things_is_left_alone(tmp_path, name, capsys):
    make_toy_store(tmp_path / "store")
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / name).write_text("{}")
    assert main(words_of(tmp_path)) == 1
    assert str(tmp_path / "search") in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "search").iterdir()] == [name]


def test_files_of_another_kerastuner_are_refused(searched, tmp_path, capsys):
    make_toy_store(tmp_path / "store")
    (tmp_path / "search").mkdir()
    values = json.loads((searched / "search" / "search.json").read_text())
    values["versions"] = {"keras-tuner": "1.0.0"}
    (tmp_path / "search" / "search.json").write_text(json.dumps(values))
    assert main(words_of(tmp_path, "--folds", "2")) == 1
    assert "keras-tuner: 1.0.0 ->" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--workers", "2", "--chief", "127.0.0.1:1"], "exclude each other"),
        (["--chief", "here"], "HOST:PORT"),
        (["--seeds", "0"], "--seeds"),
        (["--preset", "none"], "lstm_optim"),
        (["--set", "model.dropout=2"], "dropout"),
    ],
)
def test_wrong_usage_has_status_2_and_a_sentence(tmp_path, more, words, capsys):
    make_toy_store(tmp_path / "store")
    assert main(words_of(tmp_path, *more)) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "search").exists()


def test_values_that_cannot_be_trained_fail_their_trial_with_the_reason(tmp_path, capsys):
    make_toy_store(tmp_path / "store")
    space = {"only": True, "learning_rate": [1e-3, 1e38]}
    assert main(words_of(tmp_path, "--trials", "3", space=space)) == 0
    assert "2 trials have ended, not 3: random search finds no more to try" in capsys.readouterr().err
    trials = {t["hyperparameters"]["values"]["learning_rate"]: t for t in state_of(tmp_path / "search")["trials"]}
    assert trials["0.001"]["status"] == "COMPLETED"
    assert trials["1e+38"]["status"] == "FAILED"
    assert "the loss is" in trials["1e+38"]["message"]
    assert "the loss is" in (tmp_path / "search" / "report.html").read_text()


def test_hyperband_trains_the_best_further_with_the_rates_of_the_whole_budget(tmp_path):
    make_toy_store(tmp_path / "store")
    flags = ["--tuner", "hyperband", "--epochs", "2", "--factor", "2", "--trials", "3"]
    flags += ["--set", "schedule.name=cosine", "--set", "schedule.cosine_cycle_epochs=2"]
    assert main(words_of(tmp_path, *flags)) == 0
    results = {t["trial_id"]: result_of(tmp_path, t["trial_id"]) for t in state_of(tmp_path / "search")["trials"]}
    continued = [result for result in results.values() if result["continues"]]
    assert continued
    for result in continued:
        earlier = results[result["continues"]]
        assert result["values"] == earlier["values"]
        histories = [
            read_history(tmp_path / "search" / "trials" / each["trial"] / "fold0-seed0") for each in (earlier, result)
        ]
        # Training went on, it did not begin again.
        assert histories[1][: len(histories[0])] == histories[0]
        assert len(histories[1]) == result["epochs"] > earlier["epochs"]
        base = result["params"]["learning_rate"]
        rates = [cosine_rate(epoch, base, 0.01 * base, 2) for epoch in range(result["epochs"])]
        assert [row["learning_rate"] for row in histories[1]] == pytest.approx(rates, rel=1e-5)


def test_a_killed_search_goes_on_to_the_same_trials(tmp_path):
    words = ["--trials", "2", "--epochs", "12"]
    for name in ("whole", "killed"):
        make_toy_store(tmp_path / name / "store")
    # In processes alike: the order of sums, and with it the last digits, is one of threads.
    assert start(words_of(tmp_path / "whole", *words), tmp_path / "log").wait() == 0

    process = start(words_of(tmp_path / "killed", *words), tmp_path / "log")
    history = tmp_path / "killed" / "search" / "trials" / "1" / "fold0-seed0" / "history.csv"
    # In the middle of the second trial.
    while not history.is_file() or len(history.read_text().splitlines()) < 3:
        assert process.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    epochs_before = len(history.read_text().splitlines()) - 1
    checkpoint = history.parent / "checkpoint.npz"
    written = checkpoint.stat().st_mtime_ns if checkpoint.is_file() else None
    assert state_of(tmp_path / "killed" / "search")["end_order"] == ["0"]
    first = (tmp_path / "killed" / "search" / "trials" / "0" / "result.json").stat().st_mtime_ns

    assert start(words_of(tmp_path / "killed", *words), tmp_path / "log").wait() == 0
    assert (tmp_path / "killed" / "search" / "trials" / "0" / "result.json").stat().st_mtime_ns == first
    assert results_of(tmp_path / "killed" / "search") == results_of(tmp_path / "whole" / "search")
    assert state_of(tmp_path / "killed" / "search")["end_order"] == ["0", "1"]
    # The interrupted trial went on from its last epoch: those before it kept the times that they had taken.
    assert written is not None and 2 <= epochs_before < 12
    rows, again = (read_history(history.parent), read_history(tmp_path / "whole/search/trials/1/fold0-seed0"))
    assert [row["loss"] for row in rows] == [row["loss"] for row in again]


def test_the_winner_is_trained_on_all_but_the_test_clips_and_tested_once(tmp_path, capsys):
    make_toy_store(tmp_path / "store")
    words = words_of(tmp_path, "--trials", "1", "--retrain-best", "--retrain-seeds", "2", "--no-export")
    assert main(words) == 0
    best = tmp_path / "search" / "best"
    summary = json.loads((best / "best.json").read_text())
    assert [run["clips"] for run in summary["runs"]] == [6, 6]
    assert summary["test_accuracy"] == pytest.approx(np.mean([run["accuracy"] for run in summary["runs"]]))
    assert f"test accuracy {summary['test_accuracy']:.3f}" in capsys.readouterr().out
    for seed in range(2):
        run = read_run(best / f"seed{seed}")
        expected = {clip.track: "test" if clip.split == "test" else "train" for clip in toy_clips()}
        assert run.splits == expected
        assert run.params.seed == seed
        load_model(best / f"seed{seed}")
    # Nothing is tested a second time.
    reports = {path: path.stat().st_mtime_ns for path in best.glob("*/report.json")}
    assert main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in best.glob("*/report.json")} == reports


def test_help_and_a_dry_run_import_neither_tensorflow_nor_kerastuner(tmp_path):
    make_toy_store(tmp_path / "store")
    for words in (["--help"], words_of(tmp_path, "--dry-run")):
        code = (
            f"import runpy, sys; sys.argv = ['x', *{words!r}]\n"
            "try: runpy.run_module('tuning.search', run_name='__main__')\n"
            "except SystemExit as end: assert not end.code\n"
            "heavy = {'tensorflow', 'keras', 'keras_tuner', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
            "assert not heavy, heavy"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert "learning_rate" in result.stdout or "--retrain-best" in result.stdout


def test_differences_name_what_is_new_gone_and_changed():
    old, new = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 5}, "e": 4}
    assert differences(old, new) == ["a.c: 2 -> 5", "d: 3 -> not there", "e: not there -> 4"]
