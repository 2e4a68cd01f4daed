"""An oracle's state survives a kill at any moment and the loss of workers; its proposals do not depend on either."""

import json

import pytest

from keras_genre.errors import SearchError
from keras_genre.models.presets import preset
from tuning.oracles import FAILURES_IN_A_ROW, LOSSES_OF_A_TRIAL, make_oracle
from tuning.plan import hyperband_trials
from tuning.records import TrialRecord, best_first
from tuning.space import Conditions, make_space

RANGES = {
    "only": True,
    "learning_rate": {"low": 3e-4, "high": 1e-2, "log": True},
    "model.dropout": {"low": 0.0, "high": 0.6},
    "schedule.name": ["cosine", "step"],
    "schedule.cosine_cycle_epochs": {"shares_of_epochs": [0.5, 1.0], "when": "schedule.name=cosine"},
}
SPACE = make_space(preset("lstm_optim"), Conditions(("spectral33",), 10_000, False), RANGES)


def an_oracle(folder, tuner="random", trials=12, epochs=9):
    oracle = make_oracle(tuner, "val_accuracy", SPACE.hyperparameters(), trials=trials, epochs=epochs, factor=3, seed=0)
    oracle.take_up(folder, "tuner")
    return oracle


def quality(values) -> float:
    """A made-up result that depends on the values alone."""
    return float(f"{0.5 + 0.4 * values['model.dropout'] - abs(values['learning_rate'] - 3e-3) * 10:.6f}")


def finish(oracle, trial):
    oracle.update_trial(trial.trial_id, {"val_accuracy": quality(trial.hyperparameters.values)}, step=0)
    trial.status = "COMPLETED"
    oracle.end_trial(trial)


def run(oracle, most=10_000):
    """Run trials until there are no more."""
    for _ in range(most):
        trial = oracle.create_trial("tuner0")
        if trial.status != "RUNNING":
            break
        finish(oracle, trial)


def outcome(oracle):
    return [
        (trial_id, oracle.trials[trial_id].hyperparameters.values, oracle.trials[trial_id].score)
        for trial_id in oracle.start_order
    ]


@pytest.mark.parametrize(("tuner", "trials"), [("random", 12), ("hyperband", 12), ("bayesian", 7)])
def test_a_search_killed_after_any_write_is_the_search_that_was_not(tuner, trials, tmp_path):
    # What a kill leaves is what the file held after some write of it: each of these is gone on with.
    states = []
    whole = an_oracle(tmp_path / "whole", tuner, trials)
    write = whole.save

    def save():
        write()
        states.append(whole.file.read_bytes())

    whole.save = save
    run(whole)
    assert len(whole.end_order) == trials
    # A Gaussian process is slow to propose.
    for number, state in enumerate(states if tuner != "bayesian" else states[-4:]):
        folder = tmp_path / f"killed{number}"
        (folder / "tuner").mkdir(parents=True)
        (folder / "tuner" / "oracle.json").write_bytes(state)
        again = an_oracle(folder, tuner, trials)
        run(again)
        assert outcome(again) == outcome(whole)
        assert again.end_order == whole.end_order


def test_the_trial_that_was_running_is_run_again_first(tmp_path):
    oracle = an_oracle(tmp_path)
    run(oracle, 2)
    interrupted = oracle.create_trial("tuner0")
    again = an_oracle(tmp_path).create_trial("tuner0")
    assert again.trial_id == interrupted.trial_id == "02"
    assert again.hyperparameters.values == interrupted.hyperparameters.values


def test_a_hyperband_search_of_some_trials_goes_on_to_the_end_of_its_iteration(tmp_path):
    run(an_oracle(tmp_path, "hyperband", 3))
    oracle = an_oracle(tmp_path, "hyperband", None)
    run(oracle, 100)
    assert len(oracle.end_order) == hyperband_trials(9, 3) < 100
    whole = an_oracle(tmp_path / "whole", "hyperband", None)
    run(whole)
    assert [values["model.dropout"] for _, values, _ in outcome(oracle)] == [
        values["model.dropout"] for _, values, _ in outcome(whole)
    ]


def test_a_hyperband_search_that_is_through_goes_on_with_more_trials_and_never_past_its_iteration_without(tmp_path):
    iteration = hyperband_trials(9, 3)
    run(an_oracle(tmp_path, "hyperband", None))
    oracle = an_oracle(tmp_path, "hyperband", iteration + 8)
    run(oracle)
    assert len(oracle.end_order) == iteration + 8
    # It is in its second iteration.
    for trials in (None, iteration):
        again = an_oracle(tmp_path, "hyperband", trials)
        assert again.create_trial("tuner0").status == "STOPPED"
        assert len(again.end_order) == iteration + 8


def test_more_trials_than_before_go_on_from_there(tmp_path):
    run(an_oracle(tmp_path, trials=10))
    oracle = an_oracle(tmp_path, trials=13)
    run(oracle)
    assert len(oracle.end_order) == 13
    run(an_oracle(tmp_path / "whole", trials=13))
    whole = an_oracle(tmp_path / "whole", trials=13)
    assert [values for _, values, _ in outcome(oracle)] == [values for _, values, _ in outcome(whole)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"start_order"', '"order"'),
        lambda text: text.replace('"trials"', '"experiments"'),
        lambda text: "[]",
        lambda text: json.dumps({"ongoing_trials": {}, "hyperparameters": {}}),
    ],
)
def test_damaged_and_older_files_are_an_error_that_names_them(damage, tmp_path):
    oracle = an_oracle(tmp_path)
    run(oracle, 2)
    oracle.file.write_text(damage(oracle.file.read_text()))
    with pytest.raises(SearchError, match=r"oracle\.json"):
        an_oracle(tmp_path)


def test_a_lost_worker_costs_its_trial_which_the_next_one_gets(tmp_path):
    oracle = an_oracle(tmp_path, trials=4)
    one, two = oracle.create_trial("one"), oracle.create_trial("two")
    assert oracle.take_back("one").trial_id == one.trial_id
    assert oracle.create_trial("three").trial_id == one.trial_id
    finish(oracle, two)
    assert oracle.end_order == [two.trial_id]
    assert oracle.take_back("nobody") is None


def test_a_worker_that_was_thought_lost_may_still_report_and_nothing_counts_twice(tmp_path):
    oracle = an_oracle(tmp_path, trials=4)
    trial = oracle.create_trial("slow")
    oracle.take_back("slow")
    finish(oracle, trial)
    finish(oracle, trial)
    assert oracle.end_order == [trial.trial_id]
    assert oracle.create_trial("slow").trial_id != trial.trial_id


def test_a_trial_that_takes_its_workers_along_fails_in_the_end(tmp_path):
    oracle = an_oracle(tmp_path)
    for _ in range(LOSSES_OF_A_TRIAL):
        trial = oracle.create_trial("worker")
        assert trial.trial_id == "00"
        oracle.take_back("worker")
    assert (trial.status, oracle.end_order) == ("FAILED", ["00"])
    assert oracle.create_trial("worker").trial_id == "01"


def test_the_last_worker_waits_while_another_has_a_trial(tmp_path):
    oracle = an_oracle(tmp_path, trials=1)
    trial = oracle.create_trial("one")
    assert oracle.create_trial("two").status == "IDLE"
    finish(oracle, trial)
    assert oracle.create_trial("two").status == "STOPPED"
    assert not oracle.has_work()


def test_failure_after_failure_ends_the_search_with_the_last_reason(tmp_path):
    oracle = an_oracle(tmp_path)
    for number in range(FAILURES_IN_A_ROW):
        oracle.check_failures()
        trial = oracle.create_trial("tuner0")
        trial.status, trial.message = "FAILED", f"the loss is nan ({number})"
        oracle.end_trial(trial)
    with pytest.raises(SearchError, match=rf"the loss is nan \({FAILURES_IN_A_ROW - 1}\)"):
        oracle.check_failures()


def test_a_search_that_was_given_up_may_be_gone_on_with_until_as_many_fail_again(tmp_path):
    fail(an_oracle(tmp_path), FAILURES_IN_A_ROW)
    again = an_oracle(tmp_path)
    for _ in range(FAILURES_IN_A_ROW):
        again.check_failures()
        fail(again, 1)
    with pytest.raises(SearchError, match="trial 09 of: no luck"):
        again.check_failures()
    # A process that takes over in between forgets none.
    once_more = an_oracle(tmp_path)
    fail(once_more, 1)
    once_more = an_oracle(tmp_path, trials=20)
    fail(once_more, FAILURES_IN_A_ROW - 1)
    with pytest.raises(SearchError, match=f"the last {FAILURES_IN_A_ROW} trials failed"):
        once_more.check_failures()


def fail(oracle, number: int) -> None:
    """Let so many trials fail."""
    for _ in range(number):
        trial = oracle.create_trial("tuner0")
        trial.status, trial.message = "FAILED", "no luck"
        oracle.end_trial(trial)


def test_of_equal_trials_the_one_that_began_first_is_the_best_whichever_ended_first(tmp_path):
    oracle = an_oracle(tmp_path)
    for trial in reversed([oracle.create_trial(f"worker{number}") for number in range(3)]):
        oracle.update_trial(trial.trial_id, {"val_accuracy": 0.5})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert oracle.end_order == ["02", "01", "00"]
    assert oracle.best().trial_id == "00"
    ranked = best_first([TrialRecord(each, {}, oracle.trials[each].score, "", {}) for each in oracle.end_order])
    assert ranked[0].trial == oracle.best().trial_id


def test_seed_0_is_a_seed(tmp_path):
    assert outcome_of_one(tmp_path / "one") == outcome_of_one(tmp_path / "two")


def outcome_of_one(folder):
    oracle = an_oracle(folder)
    run(oracle, 1)
    return outcome(oracle)


def test_hyperband_goes_on_with_the_best_and_keeps_the_schedule_of_the_whole_budget(tmp_path):
    oracle = an_oracle(tmp_path, "hyperband", None)
    run(oracle)
    trials = {trial.trial_id: trial for trial in oracle.trials.values()}
    continued = [trial for trial in trials.values() if "tuner/trial_id" in trial.hyperparameters.values]
    assert continued
    for trial in continued:
        values = trial.hyperparameters.values
        earlier = trials[values["tuner/trial_id"]].hyperparameters.values
        assert values["tuner/initial_epoch"] == earlier["tuner/epochs"] < values["tuner/epochs"] <= 9
        # The parameters, and with them the schedule, are those of all nine epochs in every round.
        params = SPACE.params(values)
        assert params == SPACE.params(earlier)
        assert params.epochs == SPACE.base.epochs
