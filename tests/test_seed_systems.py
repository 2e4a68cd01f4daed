"""The comparison of systems counts clips rightly, divides them honestly, and goes on where it was killed."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import ablation, seed_systems
from benchmarks.accuracies import paired_difference
from benchmarks.systems import DATA_SETS, Task, divided, fingerprint, needs_validation, params_of, systems_of, unusual
from keras_genre.models.presets import PRESETS, preset
from keras_genre.params import TrainParams, from_json, to_json
from keras_genre.store import open_store

EMBEDDED = DATA_SETS["embedded"]
REPOSITORY = Path(__file__).resolve().parents[1]


def row(system: str, seed: int, fold: int, hits: str, **more) -> dict:
    """A result in which `1` is a clip found and `0` one missed."""
    values = {"parameters": 10, "epochs": 3, "seconds": 1.0, "date": "2026-01-01"}
    return (
        values | {"system": system, "seed": seed, "fold": fold, "expected": "1" * len(hits), "predicted": hits} | more
    )


def test_every_preset_is_compared_on_the_embedded_data_and_those_of_the_original_have_their_twins():
    systems = systems_of(EMBEDDED)
    assert {f"preset:{name}" for name in PRESETS} <= set(systems)
    assert {f"pytorch:{name}" for name in PRESETS} - set(systems) == {f"pytorch:{name}" for name in EMBEDDED.beyond}


def test_a_preset_beyond_the_original_keeps_its_recipe_and_trains_on_all_clips_outside_the_fold():
    assert params_of(EMBEDDED, "transfer", 3) == dataclasses.replace(preset("transfer"), seed=3)
    assert not needs_validation(EMBEDDED, "preset:transfer")
    assert needs_validation(EMBEDDED, "preset:lstm_basic")
    sides = divided(open_store(EMBEDDED.stores, "taggram50"), EMBEDDED, 0, validates=False)
    assert {clip.split for clip in sides} == {"train", "test"}


@pytest.mark.parametrize("kind", ["spectral33", "log_mel128"])
def test_every_embedded_clip_is_tested_once_and_never_trained_on_in_its_fold(kind):
    store = open_store(EMBEDDED.stores, kind)
    sides = [divided(store, EMBEDDED, fold) for fold in range(EMBEDDED.folds)]
    tested = [clip.track for fold in sides for clip in fold if clip.split == "test"]
    assert sorted(tested) == sorted(clip.track for clip in store.clips)
    assert all({clip.split for clip in fold} == {"train", "validation", "test"} for fold in sides)


def test_both_kinds_of_features_have_the_same_folds():
    sides = [
        {clip.track: clip.split for clip in divided(open_store(EMBEDDED.stores, kind), EMBEDDED, 1)}
        for kind in ("spectral33", "log_mel128")
    ]
    assert sides[0] == sides[1]


def test_the_accuracy_is_over_all_folds_and_its_interval_that_of_the_clips():
    rows = [
        row("preset:a", seed, fold, hits)
        for seed, fold, hits in [(0, 0, "110"), (0, 1, "1"), (1, 0, "010"), (1, 1, "1")]
    ]
    figures = seed_systems.summarise(EMBEDDED, rows, "command")["systems"]["preset:a"]
    assert figures["accuracy"] == (3 / 4 + 2 / 4) / 2
    assert (figures["clips"], figures["seeds"]) == (4, 2)
    assert figures["seed_deviation"] == pytest.approx(np.std([3 / 4, 2 / 4], ddof=1))
    assert 0 < figures["accuracy_95_low"] < figures["accuracy"] < figures["accuracy_95_high"] < 1


def test_a_seed_without_all_its_folds_does_not_count():
    rows = [row("preset:a", 0, 0, "11"), row("preset:a", 0, 1, "11"), row("preset:a", 1, 0, "00")]
    assert seed_systems.summarise(EMBEDDED, rows, "command")["systems"]["preset:a"]["accuracy"] == 1


def test_the_difference_to_the_twin_is_paired():
    ours, theirs = np.array([1.0, 1.0, 0.0, 0.5]), np.array([0.0, 1.0, 0.0, 0.5])
    found = paired_difference(ours, theirs)
    assert found["difference"] == 0.25
    # With two more clips: 2, 0 and 0 clips for us, 1 for them, of 6.
    assert (found["low"] + found["high"]) / 2 == pytest.approx(1 / 6)
    assert found["high"] - found["low"] == pytest.approx(2 * 1.959964 * np.sqrt((3 / 6 - 1 / 36) / 6), rel=1e-6)


def test_where_no_clip_differs_the_interval_still_has_a_width_that_more_clips_take_away():
    few, many = (paired_difference(np.ones(clips), np.ones(clips)) for clips in (10, 1000))
    assert few["difference"] == many["difference"] == 0
    assert few["low"] == -few["high"]
    assert few["high"] > 10 * many["high"] > 0


def test_the_table_keeps_what_other_systems_gave(tmp_path):
    for system in ("chance", "svm:svm_mfcc"):
        assert seed_systems.main(["--systems", system, "--results", str(tmp_path), "--jobs", "1"]) == 0
    table = (tmp_path / "embedded.md").read_text()
    assert "| chance |" in table
    assert "| svm:svm_mfcc |" in table


def test_the_command_that_a_table_names_has_the_flags_that_were_given():
    parser = seed_systems.make_parser()
    options = parser.parse_args(["--seeds", "2", "--jobs", "7"])
    assert seed_systems.shown_flags(parser, options, ("seeds", "systems")) == " --seeds 2"
    options = parser.parse_args(["--systems", "chance", "svm:a"])
    assert seed_systems.shown_flags(parser, options, ("seeds", "systems")) == " --systems chance svm:a"
    parser = ablation.make_parser()
    options = parser.parse_args(["transfer", "--variants", "no mixup", "attention", "--set", "epochs=5"])
    shown = seed_systems.shown_flags(parser, options, ("variants", "set"))
    assert shown == " --variants 'no mixup' attention --set epochs=5"


def test_a_variant_that_is_what_the_preset_has_is_not_held_against_it():
    data_set = DATA_SETS["gtzan_logmel"]
    variants = {"mean and maximum": "model.pooling=mean_max", "attention": "model.pooling=attention"}
    base = "preset:short_chunk_cnn model.pooling=mean_max"
    found = ablation.systems_of(data_set, base, variants)
    assert found == {base: "the preset", f"{base} model.pooling=attention": "attention"}


def test_a_variant_with_half_of_its_folds_has_no_place_in_the_ablation():
    data_set = DATA_SETS["gtzan_taggrams"]
    base = [row("preset:transfer", seed, fold, "1100") for seed in (0, 1) for fold in range(3)]
    other = [row("preset:transfer x=1", 1, fold, "1110") for fold in range(3)]
    half = [row("preset:transfer x=2", 0, 0, "0000")]
    systems = {"preset:transfer": "the preset", "preset:transfer x=1": "one", "preset:transfer x=2": "two"}
    found = ablation.summarise(systems, [*base, *other, *half], "command", data_set)["variants"]
    assert list(found) == ["the preset", "one"]
    # Of the seed that both have, though it is not the first.
    assert found["one"]["over_preset"]["difference"] == pytest.approx(0.25)
    assert "| one | 0.750 |" in ablation.table(ablation.summarise(systems, [*base, *other], "command", data_set))


def test_a_result_is_told_by_what_its_parameters_have_of_their_own():
    changed = dataclasses.replace(preset("short_chunk_cnn"), seed=3)
    told = unusual(changed)
    assert told["seed"] == 3 and told["model"]["family"] == "short_chunk_cnn"
    assert "optimizer" not in told and "lstm_units" not in told["model"]
    assert from_json(TrainParams, merged(to_json(TrainParams()), told)) == changed
    assert unusual(TrainParams()) == {}


def merged(values: dict, changes: dict) -> dict:
    return {
        name: merged(value, changes.get(name, {})) if isinstance(value, dict) else changes.get(name, value)
        for name, value in values.items()
    }


def test_a_changed_preset_needs_a_new_run_and_an_equal_one_does_not(monkeypatch):
    task = Task("embedded", str(EMBEDDED.stores), "preset:lstm_basic", 0, 0)
    before = fingerprint(task)
    assert fingerprint(dataclasses.replace(task, system="preset:lstm_original_pytorch")) == before
    assert fingerprint(dataclasses.replace(task, seed=1)) != before
    assert fingerprint(dataclasses.replace(task, fold=1)) != before
    assert fingerprint(dataclasses.replace(task, system="pytorch:lstm_basic")) != before
    monkeypatch.setitem(PRESETS, "lstm_basic", dataclasses.replace(PRESETS["lstm_basic"], batch_size=36))
    assert fingerprint(task) != before


def test_parameters_on_a_data_set_are_the_presets_but_for_what_its_table_says():
    for data_set in DATA_SETS.values():
        for name in data_set.presets:
            params, own = params_of(data_set, name, 3), PRESETS[name]
            changed = {
                **data_set.changes.get(own.model.family, {}),
                "early_stopping_epochs": data_set.early_stopping_epochs,
            }
            assert params == dataclasses.replace(own, **changed, seed=3)


def test_a_line_that_was_cut_is_taken_out_and_run_again(tmp_path):
    lines = tmp_path / "embedded.jsonl"
    task = Task("embedded", str(EMBEDDED.stores), "chance", 0, 0)
    whole = json.dumps(row("chance", 0, 0, "1", fingerprint=fingerprint(task)))
    lines.write_text(f"{whole}\n{whole[:20]}")
    # Who only reads leaves the file alone: its owner may be writing that line.
    assert len(seed_systems.finished(lines, [task])) == 1
    assert lines.read_text() == f"{whole}\n{whole[:20]}"
    seed_systems.run_missing([task], lines, jobs=1)
    assert lines.read_text() == f"{whole}\n"


def command(results: Path) -> list[str]:
    systems = ["chance", "svm:svm_mfcc", "svm:svm_spectral33"]
    words = ["--results", str(results), "--systems", *systems, "--jobs", "2"]
    return [sys.executable, "-m", "benchmarks.seed_systems", *words]


def figures_of(results: Path) -> dict:
    systems = json.loads((results / "embedded.json").read_text())["systems"]
    return {name: {key: value for key, value in row.items() if key != "seconds"} for name, row in systems.items()}


def test_a_killed_comparison_goes_on_and_ends_with_the_same_figures(tmp_path):
    pytest.importorskip("sklearn", reason="needs scikit-learn (the extra benchmarks)")
    subprocess.run(command(tmp_path / "whole"), cwd=REPOSITORY, check=True, capture_output=True)
    killed = tmp_path / "killed"
    process = subprocess.Popen(command(killed), cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lines = killed / "embedded.jsonl"
    deadline = time.monotonic() + 120
    while not (lines.is_file() and lines.read_text().count("\n")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < lines.read_text().count("\n") < 9
    subprocess.run(command(killed), cwd=REPOSITORY, check=True, capture_output=True)
    assert figures_of(killed) == figures_of(tmp_path / "whole")
    assert "| svm:svm_mfcc |" in (killed / "embedded.md").read_text()


def test_a_data_set_that_is_not_here_asks_for_its_source(tmp_path, capsys):
    status = seed_systems.main(
        ["--data-set", "gtzan_taggrams", "--results", str(tmp_path), "--stores", str(tmp_path / "stores")]
    )
    assert status == 2
    assert "--source" in capsys.readouterr().err


def test_an_unknown_system_is_refused_with_the_known_ones(tmp_path, capsys):
    assert seed_systems.main(["--systems", "preset:nothing", "--results", str(tmp_path)]) == 2
    assert "preset:lstm_optim" in capsys.readouterr().err
