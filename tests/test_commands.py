"""Commands answer --help without TensorFlow, and wrong usage with status 2 and a sentence."""

import os
import subprocess
import sys
import warnings

import pytest

from keras_genre import cli
from keras_genre.__main__ import COMMANDS
from keras_genre.__main__ import main as keras_genre
from keras_genre.errors import ParameterError, StoreError
from keras_genre.models.presets import PRESETS
from keras_genre.train import make_parser, params_from


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_neither_tensorflow_nor_librosa(command):
    code = (
        f"import runpy, sys; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module('keras_genre.{command}', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'tensorflow', 'keras', 'librosa', 'matplotlib', 'numba', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert f"keras_genre.{command}" in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_flag_has_status_2(command, capsys):
    with pytest.raises(SystemExit) as end:
        keras_genre([command, "--no-such-flag"])
    assert end.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_a_command_leaves_its_caller_as_it_was(monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    before = dict(os.environ), warnings.showwarning, list(warnings.filters)
    within = []

    @cli.command
    def main(argv):
        within.append((os.environ["TF_CPP_MIN_LOG_LEVEL"], warnings.showwarning))
        warnings.simplefilter("error")
        raise StoreError("no")

    assert main([]) == cli.SOME_FAILED
    assert within == [("3", cli._show_warning)]
    assert (dict(os.environ), warnings.showwarning, list(warnings.filters)) == before


def test_a_level_of_the_log_that_was_chosen_stays(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "1")
    seen = []
    assert cli.command(lambda argv: seen.append(os.environ["TF_CPP_MIN_LOG_LEVEL"]) or cli.DONE)([]) == cli.DONE
    assert [*seen, os.environ["TF_CPP_MIN_LOG_LEVEL"]] == ["1", "1"]


@pytest.mark.parametrize(
    ("flags", "cycle"),
    [
        ([], 60),
        (["--epochs", "100"], 100),
        (["--epochs", "100", "--set", "schedule.cosine_cycle_epochs=50"], 50),
        (["--epochs", "100", "--resume"], 60),
    ],
)
def test_epochs_stretch_the_one_cosine_of_a_preset_but_not_of_a_run_that_goes_on(flags, cycle):
    params = params_from(make_parser().parse_args(flags), PRESETS["short_chunk_cnn"])
    assert params.schedule.cosine_cycle_epochs == cycle
    assert params.epochs == (100 if flags else 60)


def test_the_console_script_lists_its_commands_and_refuses_others(capsys):
    assert keras_genre(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in COMMANDS)
    assert keras_genre(["dance"]) == 2
    assert "unknown command 'dance'" in capsys.readouterr().err
    assert keras_genre([]) == 2


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["train", "--preset", "lstm"], 2, "lstm_optim"),
        (["train", "--epochs", "0"], 2, "epochs must be at least 1"),
        (["train", "--seed", "4294967296"], 2, "seed must be from 0 to 4294967295, not 4294967296"),
        (["train", "--dropout", "1.5"], 2, "dropout must be in [0, 1)"),
        (["train", "--set", "model.mean_subtraction=1.5"], 2, "mean_subtraction must be in [0, 1]"),
        (["train", "--set", "equalizer=-1"], 2, "equalizer must not be negative"),
        (["train", "--set", "level_stretch=-1"], 2, "level_stretch must not be negative"),
        (["train", "--set", "low_pass_bands=-1"], 2, "low_pass_bands must not be negative"),
        (["train", "--resume"], 2, "--out"),
        (["train", "--data", "/no/such/store"], 1, "/no/such/store: no such folder"),
        (["train", "--features", "log_mel64"], 1, "none of log_mel64"),
        (["train", "--folds", "5", "--fractions", "0.6", "0.2", "0.2"], 2, "exclude each other"),
        (["evaluate", "/no/such/run"], 1, "/no/such/run"),
        (["predict", "song.mp3", "--model", "/no/such/run"], 1, "/no/such/run"),
        (["predict", "song.mp3", "--top", "0"], 2, "--top"),
        (["export", "/no/such/run", "--out", "/tmp/never/1"], 1, "/no/such/run"),
        (["export", "/no/such/run", "--out", "/tmp/never/latest"], 2, "/tmp/never/latest/1"),
        (["export", "/no/such/run", "--out", "/tmp/never", "--format", "litert"], 1, "/no/such/run"),
        (["precompute", "/no/such/folder", "--out", "/tmp/never"], 1, "/no/such/folder"),
        (["precompute", ".", "--out", "/tmp/never", "--jobs", "0"], 2, "--jobs"),
        (["store", "info", "/no/such/store"], 1, "/no/such/store"),
    ],
)
def test_what_cannot_work_is_said_in_a_line(arguments, status, words, capsys):
    assert keras_genre(arguments) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert captured.err.startswith("error: ")


def test_errors_have_the_status_of_their_kind(capsys):
    @cli.command
    def failing(argv):
        raise argv[0]

    cases = [
        (StoreError("broken"), 1, "error: broken"),
        (ParameterError("odd"), 2, "error: odd"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (PermissionError(13, "Permission denied", "/etc/shadow"), 1, "error: /etc/shadow: Permission denied"),
    ]
    for error, status, words in cases:
        assert failing([error]) == status
        assert words in capsys.readouterr().err


def test_flags_replace_just_what_they_name_in_the_preset():
    parser = make_parser()
    for base in PRESETS.values():
        assert params_from(parser.parse_args([]), base) == base
    options = parser.parse_args(["--epochs", "7", "--schedule", "cosine", "--recurrent-dropout", "0", "--seed", "3"])
    changed = params_from(options, PRESETS["lstm_original"])
    assert (changed.epochs, changed.schedule.name, changed.seed) == (7, "cosine", 3)
    assert changed.model.cudnn_eligible
    assert changed.model.lstm_units == PRESETS["lstm_original"].model.lstm_units
