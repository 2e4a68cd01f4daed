"""A space is a table of parameters; what a trial takes of it can be said in flags."""

import dataclasses
import json
import math

import pytest

from keras_genre.errors import ParameterError
from keras_genre.models.presets import PRESETS, preset
from keras_genre.params import FEATURE_DIMS, TrainParams, with_values
from keras_genre.train import make_parser, params_from
from tuning.plan import hyperband_trials
from tuning.space import TABLES, Conditions, kinds_to_try, make_space, read_table, text_of
from tuning.winner import flags_of

EVERYTHING = Conditions(tuple(FEATURE_DIMS), 10_000, True)


def sampled(space, number: int):
    """Values as KerasTuner draws them."""
    import keras_tuner

    oracle = keras_tuner.oracles.RandomSearchOracle(
        objective=keras_tuner.Objective("x", "max"), hyperparameters=space.hyperparameters(), seed=1
    )
    return [oracle.populate_space(str(trial))["values"] for trial in range(number)]


@pytest.mark.parametrize("name", ["lstm_optim", "conv2d", "short_chunk_cnn", "crnn"])
def test_every_draw_of_a_default_space_is_the_training_that_its_flags_name(name):
    space = make_space(preset(name), EVERYTHING)
    for values in sampled(space, 30):
        params = space.params(values)
        options = make_parser().parse_args(flags_of(name, params))
        assert params_from(options, preset(options.preset)) == params
        # Inside the values and bounds of the table.
        for domain in space.domains:
            if domain.name in values and not domain.values:
                assert domain.low <= space.chosen(values)[domain.name] <= domain.high


def test_the_default_spaces_cover_what_a_search_should_vary():
    everywhere = {"features", "window_frames", "augmentation", "batch_size", "optimizer", "learning_rate"}
    everywhere |= {"weight_decay", "schedule.name", "label_smoothing", "model.dropout"}
    assert set(TABLES) == {params.model.family for params in PRESETS.values()}
    for table in TABLES.values():
        assert everywhere <= set(table)
    assert {"model.lstm_units", "model.lstm_bidirectional", "model.pooling"} <= set(TABLES["lstm"])


def test_a_dependent_parameter_is_drawn_only_where_its_condition_holds():
    space = make_space(preset("lstm_optim"), EVERYTHING)
    for values in sampled(space, 30):
        assert ("schedule.step_epochs" in values) == (values["schedule.name"] == "step")
        assert ("schedule.cosine_cycle_epochs" in values) == (values["schedule.name"] == "cosine")


def test_a_condition_on_what_does_not_vary_is_decided_at_once():
    changes = {"schedule.name": None}
    names = {domain.name for domain in make_space(preset("lstm_optim_cosine"), EVERYTHING, changes).domains}
    assert "schedule.cosine_cycle_epochs" in names
    assert "schedule.step_epochs" not in names


def test_shares_of_epochs_are_of_the_whole_budget():
    base = dataclasses.replace(preset("lstm_optim"), epochs=40)
    domains = {domain.name: domain for domain in make_space(base, EVERYTHING).domains}
    assert domains["schedule.cosine_cycle_epochs"].values == (10, 20, 40)


def test_what_the_data_do_not_hold_does_not_vary():
    space = make_space(preset("lstm_optim"), Conditions(("taggram50",), 28, False))
    assert not {"features", "window_frames", "augmentation"} & {domain.name for domain in space.domains}
    space = make_space(preset("lstm_optim"), Conditions(("spectral33", "mfcc13"), 130, True))
    domains = {domain.name: domain.values for domain in space.domains}
    assert domains["features"] == ("spectral33", "mfcc13")
    assert domains["window_frames"] == (64, 128)
    assert domains["augmentation"] == (True, False)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("lstm_optim", ("spectral33", "mfcc13", "log_mel128")),
        ("lstm_optim_mel", ("spectral33", "mfcc13", "log_mel128")),
        ("conv2d", ("spectral33", "mfcc13", "log_mel128")),
        ("short_chunk_cnn", ("log_mel128", "log_mel128_levels")),
        ("crnn", ("log_mel128", "log_mel128_levels")),
        ("own", ("musicnn_mel96", "log_mel128", "log_mel128_levels")),
        ("transfer", None),
    ],
)
def test_a_preset_is_tried_on_its_own_features_and_on_those_that_suit_its_network(name, kinds):
    own = dataclasses.replace(preset("short_chunk_cnn"), features="musicnn_mel96")
    base = own if name == "own" else preset(name)
    space = make_space(base, EVERYTHING)
    assert {domain.name: domain.values for domain in space.domains}.get("features") == kinds
    assert kinds_to_try(base) == (kinds or (base.features,))
    assert space.base.features == base.features


def test_features_that_are_no_probabilities_are_refused_where_the_network_takes_these():
    changes = {"features": ["taggram50", "spectral33"]}
    with pytest.raises(ParameterError, match=r"features=spectral33: are no probabilities.*model\.log_odds"):
        make_space(preset("transfer"), EVERYTHING, changes)
    without = with_values(preset("transfer"), ["model.log_odds=false"])
    assert kinds_to_try(without, changes) == ("taggram50", "spectral33")
    assert kinds_to_try(without) == ("taggram50",)


def test_of_windows_the_only_one_that_fits_is_taken_where_the_presets_own_does_not():
    short = Conditions(("spectral33",), 100, False)
    space = make_space(preset("lstm_optim"), short)
    assert space.base.window_frames == 64
    assert "window_frames" not in {domain.name for domain in space.domains}
    fits = dataclasses.replace(preset("lstm_optim"), window_frames=100)
    assert make_space(fits, short).base.window_frames == 100
    # What is asked for in so many words is taken.
    assert make_space(fits, short, {"window_frames": [32, 128]}).base.window_frames == 32
    with_copies = dataclasses.replace(short, copies=True)
    assert not make_space(fits, with_copies, {"augmentation": [False]}).base.augmentation
    assert make_space(fits, with_copies, {"features": ["mfcc13"]}).base.features == "spectral33"
    assert make_space(preset("lstm_optim_mel"), short, {"features": ["spectral33"]}).base.features == "spectral33"


def test_a_file_replaces_and_removes_ranges(tmp_path):
    file = tmp_path / "space.json"
    file.write_text(json.dumps({"batch_size": [8, 9], "optimizer": None}))
    domains = {d.name: d for d in make_space(preset("lstm_optim"), EVERYTHING, read_table(file)).domains}
    assert domains["batch_size"].values == (8, 9)
    assert "optimizer" not in domains
    assert "model.dropout" in domains
    only = make_space(preset("lstm_optim"), EVERYTHING, {"only": True, "batch_size": [8, 9]})
    assert [domain.name for domain in only.domains] == ["batch_size"]


def when(condition: str) -> dict[str, object]:
    """A table with a parameter that counts only where something is."""
    return {"schedule.step_factor": {"values": [0.1, 0.5], "when": condition}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.lstm_unit": [1, 2]}, "no parameter 'model.lstm_unit'"),
        ({"batch_size": [8, "many"]}, "batch_size=many"),
        ({"batch_size": []}, "no values"),
        ({"learning_rate": {"low": 0, "high": 1, "log": True}}, "positive"),
        ({"learning_rate": {"low": 2, "high": 1}}, '"low" <= "high"'),
        ({"model.dropout": {"low": 0.0, "high": 1.5}}, r"dropout=1\.5"),
        ({"model.dropout": {"from": 0.0, "to": 1.5}}, "must be a list"),
        ({"model": [1]}, "no parameter 'model'"),
        ({"only": True}, "nothing varies"),
        (when("schedule.name=steps"), 'schedule.step_factor: "when" is schedule.name=steps, .* plateau, cosine, step'),
        (when("schedule.nam=step"), "no parameter 'schedule.nam'"),
        (when("learning_rate=0.001"), "learning_rate is a number of a range"),
        (when("schedule.name=steps") | {"schedule.name": None}, "unknown schedule 'steps'"),
        (when("batch_size=many") | {"batch_size": None}, "batch_size=many"),
    ],
)
def test_a_space_that_cannot_work_is_refused_by_the_name_of_the_parameter(changes, words):
    with pytest.raises(ParameterError, match=words):
        make_space(preset("lstm_optim"), EVERYTHING, changes)


def test_a_file_that_is_no_table_is_refused(tmp_path):
    for text in ("[1, 2]", "{", ""):
        (tmp_path / "space.json").write_text(text)
        with pytest.raises(ParameterError, match=r"space\.json"):
            read_table(tmp_path / "space.json")


def test_texts_are_those_of_flags():
    values = {"model.lstm_units": (64, 32), "augmentation": False, "learning_rate": 3e-4, "optimizer": "sgd"}
    params = with_values(TrainParams(), [f"{name}={text_of(value)}" for name, value in values.items()])
    assert (params.model.lstm_units, params.augmentation) == ((64, 32), False)
    assert (params.learning_rate, params.optimizer) == (3e-4, "sgd")


@pytest.mark.parametrize(("epochs", "factor"), [(9, 3), (27, 3), (10, 3), (16, 2), (1, 3)])
def test_the_trials_of_hyperband_are_counted_as_kerastuner_makes_them(epochs, factor):
    import keras_tuner

    oracle = keras_tuner.oracles.HyperbandOracle(
        objective=keras_tuner.Objective("x", "max"), max_epochs=epochs, factor=factor
    )
    oracle.hyperparameters.Float("y", 0, 1)
    trials = 0
    oracle._save_trial = oracle.save = lambda *_: None
    while (trial := oracle.create_trial("tuner")).status == "RUNNING":
        oracle.update_trial(trial.trial_id, {"x": trial.hyperparameters.values["y"]})
        trial.status = "COMPLETED"
        oracle.verbose = 0
        oracle.end_trial(trial)
        trials += 1
    assert trials == hyperband_trials(epochs, factor)
    assert math.isfinite(trials)
