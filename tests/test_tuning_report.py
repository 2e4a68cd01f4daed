"""The report of a search shows what matters, and no trial is missing from it."""

import random

import numpy as np
import pytest

from keras_genre.models.presets import preset
from tuning.records import TrialRecord, best_first
from tuning.report import columns_of, figure_of, importance_of, table, write_report
from tuning.space import Conditions, make_space, text_of
from tuning.winner import without_validation

SPACE = make_space(preset("lstm_optim"), Conditions(("spectral33", "mfcc13"), 1000, False))


def made_up(number: int, seed: int = 0) -> list[TrialRecord]:
    """Trials whose result depends on the learning rate, a little on the pooling, and on nothing else."""
    generator = random.Random(seed)
    trials = []
    for trial in range(number):
        values = {}
        for domain in SPACE.domains:
            if domain.parent and text_of(values[domain.parent]) != domain.parent_value:
                continue
            share = generator.random()
            between = domain.low * (domain.high / domain.low) ** share if domain.log else domain.high * share
            values[domain.name] = generator.choice(domain.values) if domain.values else domain.value_of(between)
        objective = 0.6 - 0.3 * abs(np.log10(values["learning_rate"]) + 2.7) + 0.05 * (values["model.pooling"] == "max")
        trials.append(TrialRecord(f"{trial:02d}", values, objective, "", {"epochs": 60}))
    return trials


def test_what_decides_the_result_is_the_most_important():
    importance = importance_of(made_up(60), SPACE)
    assert next(iter(importance.shares)) == "learning_rate"
    assert importance.shares["learning_rate"] > 5 * importance.shares["batch_size"]
    assert 0.5 < importance.explained < 1


def test_of_a_few_trials_nothing_is_said():
    assert importance_of(made_up(5), SPACE) is None


def test_an_axis_has_its_values_in_order_and_its_range_by_its_scale():
    trials = made_up(30)
    columns = {column.name: column for column in columns_of(trials, SPACE)}
    assert [text for _, text in columns["batch_size"].ticks] == ["16", "32", "64"]
    rates = np.array([trial.values["learning_rate"] for trial in trials])
    expected = np.log(rates / 3e-4) / np.log(1e-2 / 3e-4)
    np.testing.assert_allclose(columns["learning_rate"].places, expected, rtol=1e-6)
    dropouts = np.array([trial.values["model.dropout"] for trial in trials])
    np.testing.assert_allclose(columns["model.dropout"].places, dropouts / 0.6, rtol=1e-6)
    steps = columns["schedule.step_epochs"].places
    assert [np.isnan(place) for place in steps] == [trial.values["schedule.name"] != "step" for trial in trials]


def test_a_parameter_that_every_trial_has_alike_is_not_drawn():
    trials = [TrialRecord(t.trial, t.values | {"batch_size": 16}, t.objective, "", {}) for t in made_up(10)]
    assert "batch_size" not in {column.name for column in columns_of(trials, SPACE)}


def test_the_figure_has_three_parts_and_the_page_every_trial(tmp_path):
    trials = made_up(10)
    failed = TrialRecord("10", trials[0].values, float("nan"), "the loss is <nan>", {})
    figure = figure_of(trials, SPACE, "accuracy")
    titles = " ".join(axes.get_title() for axes in figure.axes)
    assert all(word in titles for word in ("parallel coordinates", "importance", "over the trials"))
    write_report(tmp_path, "A search", SPACE, "accuracy", {"data": "a & b"}, [*trials, failed])
    page = (tmp_path / "report.html").read_text()
    assert page.count("<tr") == 1 + 11
    assert "the loss is &lt;nan&gt;" in page and "a &amp; b" in page
    best = max(trials, key=lambda trial: trial.objective)
    assert f'<tr class="best"><td>{best.trial}</td><td>{best.objective:.4f}</td>' in page
    assert table([failed, *trials], "accuracy").index(best.trial) < len(page)


def test_of_equal_trials_the_one_that_began_first_is_the_best_whichever_ended_first():
    # A search that was begun with fewer trials has numbers of several lengths.
    ended = [TrialRecord(name, {}, 0.5, "", {}) for name in ("010", "9", "2")]
    failed = TrialRecord("1", {}, float("nan"), "why", {})
    assert [trial.trial for trial in best_first([failed, *ended])] == ["2", "9", "010"]
    page = table([*ended, failed], "accuracy")
    assert '<tr class="best"><td>2</td>' in page


@pytest.mark.parametrize(("fall", "schedule"), [(4, "step"), (None, "none")])
def test_a_plateau_schedule_becomes_the_steps_that_it_made(tmp_path, fall, schedule):
    runs = []
    for fold, best_epoch in enumerate((8, 10, 11)):
        folder = tmp_path / f"fold{fold}-seed0"
        folder.mkdir()
        rates = [1e-3 if fall is None or epoch < fall + fold else 1e-4 for epoch in range(12)]
        rows = [f"{epoch + 1},{rate},1.0,0.5" for epoch, rate in enumerate(rates)]
        (folder / "history.csv").write_text("\n".join(["epoch,learning_rate,loss,accuracy", *rows]) + "\n")
        runs.append({"fold": fold, "seed": 0, "best_epoch": best_epoch})
    params = without_validation(preset("lstm_optim"), tmp_path, {"runs": runs})
    assert (params.epochs, params.early_stopping_epochs, params.schedule.name) == (10, 0, schedule)
    if fall:
        assert (params.schedule.step_epochs, params.schedule.step_factor) == (5, 0.1)
    cosine = without_validation(preset("lstm_optim_cosine"), tmp_path, {"runs": runs})
    assert cosine.schedule == preset("lstm_optim_cosine").schedule
