"""Parameters survive JSON, and values that cannot work are refused by name."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_genre.errors import ParameterError
from keras_genre.params import (
    FEATURE_DIMS,
    LARGEST_SEED,
    FrontEndParams,
    ModelParams,
    ScheduleParams,
    TrainParams,
    differences,
    from_json,
    to_json,
    with_epochs,
    with_values,
)
from keras_genre.store import StoreHeader

SHARES = st.floats(0, 1, exclude_max=True)
POSITIVE = st.integers(1, 10**6)
TRAINS = st.builds(
    TrainParams,
    features=st.sampled_from([*FEATURE_DIMS, "taggrams"]),
    window_frames=POSITIVE,
    windows_per_clip=POSITIVE,
    batch_size=POSITIVE,
    epochs=POSITIVE,
    learning_rate=st.floats(1e-9, 10),
    early_stopping_epochs=st.integers(0, 100),
    seed=st.integers(0, LARGEST_SEED),
    model=st.builds(
        ModelParams,
        family=st.sampled_from(["lstm", "conv2d"]),
        lstm_units=st.lists(POSITIVE, min_size=1, max_size=4).map(tuple),
        dropout=SHARES,
        lstm_inner_dropout=SHARES,
        lstm_recurrent_dropout=SHARES,
        mixed_bfloat16=st.booleans(),
    ),
    schedule=st.builds(
        ScheduleParams,
        name=st.sampled_from(["plateau", "cosine", "step", "none"]),
        plateau_factor=st.floats(0.01, 0.99),
        cosine_minimum_ratio=st.floats(0, 1),
    ),
)


def through_json(params):
    return from_json(type(params), json.loads(json.dumps(to_json(params))))


@given(TRAINS)
def test_nested_parameters_come_back_from_json_as_they_were(params):
    again = through_json(params)
    assert again == params
    assert hash(again) == hash(params)
    assert differences(params, again) == []


@pytest.mark.parametrize("front_end", [None, FrontEndParams(), FrontEndParams("log_mel128", 16000, 1024, 160)])
def test_what_may_be_absent_comes_back_absent_or_present(front_end):
    header = StoreHeader("mine", 5, 0.1, front_end, "uint8")
    assert through_json(header) == header


@pytest.mark.parametrize("path", ["epochs", "ema_momentum", "model.pooling", "schedule.name"])
def test_a_parameter_that_an_older_artefact_lacks_has_its_default(path):
    assert from_json(TrainParams, changed(path, KeyError)) == TrainParams()


def test_a_parameter_without_a_default_may_not_be_missing():
    values = {"dims": 5, "hop_seconds": 0.1, "front_end": None}
    with pytest.raises(ParameterError, match=r"^StoreHeader: unknown \[\], missing \['kind'\]$"):
        from_json(StoreHeader, values)


def changed(path, value):
    values = to_json(TrainParams())
    *folders, name = path.split(".")
    inner = values
    for folder in folders:
        inner = inner[folder]
    if value is KeyError:
        del inner[name]
    else:
        inner[name] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("epoch", 3, "TrainParams: unknown ['epoch'], missing []"),
        ("model.units", 3, "ModelParams: unknown ['units'], missing []"),
        ("epochs", "3", "TrainParams.epochs: '3' is not of type int"),
        ("epochs", 3.0, "TrainParams.epochs: 3.0 is not of type int"),
        ("epochs", True, "TrainParams.epochs: True is not of type int"),
        ("epochs", None, "TrainParams.epochs: None is not of type int"),
        ("features", 33, "TrainParams.features: 33 is not of type str"),
        ("learning_rate", "fast", "TrainParams.learning_rate: 'fast' is not of type float"),
        ("learning_rate", False, "TrainParams.learning_rate: False is not of type float"),
        ("model.mixed_bfloat16", 1, "ModelParams.mixed_bfloat16: 1 is not of type bool"),
        ("model.lstm_units", [64, "64"], "ModelParams.lstm_units: '64' is not of type int"),
        ("epochs", 0, "epochs must be at least 1, not 0"),
    ],
)
def test_unknown_missing_and_wrong_values_are_refused_by_name(path, value, message):
    with pytest.raises(ParameterError) as caught:
        from_json(TrainParams, changed(path, value))
    assert str(caught.value) == message


@pytest.mark.parametrize("value", [None, 3, "abc", [], [1]])
def test_what_is_no_object_is_refused(value):
    with pytest.raises(ParameterError, match=r"^ModelParams: unknown"):
        from_json(TrainParams, changed("model", value))


@pytest.mark.parametrize("value", [64, "64", {"0": 64}])
def test_what_is_no_list_is_refused_where_a_list_belongs(value):
    with pytest.raises(ParameterError, match=r"^ModelParams\.lstm_units: .* is not of type tuple"):
        from_json(TrainParams, changed("model.lstm_units", value))


def test_a_whole_number_serves_where_a_fraction_may_stand():
    assert from_json(TrainParams, changed("learning_rate", 1)).learning_rate == 1


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (FrontEndParams, {"kind": "mfcc"}),
        (FrontEndParams, {"sample_rate_hz": 0}),
        (FrontEndParams, {"fft_samples": -1}),
        (FrontEndParams, {"hop_samples": 0}),
        (ModelParams, {"family": "gru"}),
        (ModelParams, {"lstm_units": ()}),
        (ModelParams, {"lstm_units": (64, 0)}),
        (ModelParams, {"dropout": 1.0}),
        (ModelParams, {"lstm_inner_dropout": -0.1}),
        (ModelParams, {"lstm_recurrent_dropout": float("nan")}),
        (ScheduleParams, {"name": "linear"}),
        (ScheduleParams, {"plateau_factor": 1.0}),
        (ScheduleParams, {"step_factor": 0.0}),
        (ScheduleParams, {"cosine_cycle_epochs": 0}),
        (ScheduleParams, {"cosine_minimum_ratio": 1.5}),
        (ScheduleParams, {"plateau_patience_epochs": -1}),
        (TrainParams, {"window_frames": 0}),
        (TrainParams, {"batch_size": 0}),
        (TrainParams, {"learning_rate": 0.0}),
        (TrainParams, {"learning_rate": float("nan")}),
        (TrainParams, {"seed": -1}),
        (TrainParams, {"seed": LARGEST_SEED + 1}),
        (TrainParams, {"early_stopping_epochs": -1}),
    ],
)
def test_values_that_cannot_work_are_refused(kind, values):
    with pytest.raises(ParameterError):
        kind(**values)


def test_differences_name_the_field_and_both_values():
    new = TrainParams(epochs=5, model=ModelParams(lstm_units=(32,)), schedule=ScheduleParams("cosine"))
    assert differences(TrainParams(), new) == [
        "epochs: 60 -> 5",
        "model.lstm_units: (64, 64) -> (32,)",
        "schedule.name: plateau -> cosine",
    ]


@given(st.integers(1, 10**7), st.sampled_from([160, 512, 1000]))
def test_frames_and_samples_count_each_other(samples, hop):
    params = FrontEndParams(hop_samples=hop)
    frames = params.frames_of(samples)
    assert params.samples_of(frames) <= samples < params.samples_of(frames + 1)


def test_frames_stand_for_their_hops():
    params = FrontEndParams("log_mel128", 16000, 1024, 160)
    assert params.dims == 128
    assert params.hop_seconds == 0.01
    assert params.window_seconds(250) == pytest.approx(2.5)


def test_every_parameter_of_a_training_can_be_set_by_its_name():
    def leaves(values, above=""):
        for name, value in values.items():
            if isinstance(value, dict):
                yield from leaves(value, f"{above}{name}.")
            else:
                yield above + name, value

    for name, value in leaves(to_json(TrainParams())):
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert with_values(TrainParams(), [f"{name}={text}"]) == TrainParams()


def test_set_values_stand_in_place_of_the_old_and_leave_the_rest():
    words = ["model.lstm_units=32, 16", "schedule.name=cosine", "augmentation=false", "learning_rate=1e-4", "epochs=3"]
    assert with_values(TrainParams(), words) == TrainParams(
        model=ModelParams(lstm_units=(32, 16)),
        schedule=ScheduleParams("cosine"),
        augmentation=False,
        learning_rate=1e-4,
        epochs=3,
    )


@pytest.mark.parametrize(
    ("assignment", "reason"),
    [
        ("epochs", "NAME=VALUE"),
        ("epoch=3", "known here: features"),
        ("model.units=3", "known here: family"),
        ("model=lstm", "model.family"),
        ("epochs.number=3", "name a single parameter"),
        ("epochs=three", "not of type"),
        ("epochs=1.5", "not of type"),
        ("augmentation=1", "not of type"),
        ("model.lstm_units=64,x", "not of type"),
        ("model.lstm_units=", "at least one layer"),
        ("epochs=0", "at least 1"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_with_the_reason(assignment, reason):
    with pytest.raises(ParameterError, match=reason):
        with_values(TrainParams(), [assignment])


def test_a_cosine_over_all_epochs_is_over_all_epochs_of_a_longer_training():
    params = TrainParams(epochs=60, schedule=ScheduleParams("cosine", cosine_cycle_epochs=60))
    longer = with_epochs(params, 100)
    assert (longer.epochs, longer.schedule.cosine_cycle_epochs) == (100, 100)
    assert with_epochs(longer, 60) == params


@pytest.mark.parametrize(
    "schedule", [ScheduleParams("cosine", cosine_cycle_epochs=20), ScheduleParams("step", cosine_cycle_epochs=60)]
)
def test_any_other_schedule_goes_on_as_it_is_in_a_longer_training(schedule):
    assert with_epochs(TrainParams(epochs=60, schedule=schedule), 100) == TrainParams(epochs=100, schedule=schedule)


def test_no_epoch_is_refused_as_such():
    params = TrainParams(epochs=60, schedule=ScheduleParams("cosine", cosine_cycle_epochs=60))
    with pytest.raises(ParameterError, match=r"^epochs must be at least 1"):
        with_epochs(params, 0)
