"""Every schedule equals its closed form in every epoch, and a resumed one goes on as if never interrupted."""

import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_genre.params import ScheduleParams
from keras_genre.schedules import (
    CosineRestarts,
    Plateau,
    Schedule,
    StepDecay,
    cosine_rate,
    make_schedule,
    plateau_rates,
    step_rate,
)

EPOCHS = 200
BASE = 1e-3
TRACES = {
    "rising": [epoch / EPOCHS for epoch in range(EPOCHS)],
    "flat": [0.5] * EPOCHS,
    "falling": [1 - epoch / EPOCHS for epoch in range(EPOCHS)],
    "noisy": np.random.default_rng(7).uniform(0.3, 0.9, EPOCHS).tolist(),
    "rising by less than the threshold": [0.5 * (1 + 9e-5) ** (epoch % 2) for epoch in range(EPOCHS)],
}


class Optimizer:
    learning_rate = 0.0


class Model:
    def __init__(self):
        self.optimizer = Optimizer()


def rates_of(schedule: Schedule, trace: list[float], first_epoch: int = 0) -> list[float]:
    """The rates that a training of the optimizer has, epoch by epoch, and that its logs report."""
    schedule.set_model(Model())
    rates = []
    for epoch, accuracy in enumerate(trace[first_epoch:], first_epoch):
        schedule.on_epoch_begin(epoch)
        rates.append(schedule.model.optimizer.learning_rate)
        logs = {"val_accuracy": accuracy}
        schedule.on_epoch_end(epoch, logs)
        assert logs["learning_rate"] == rates[-1]
    return rates


def test_step_decay_is_the_base_times_the_factor_for_every_full_step():
    expected = [BASE * 0.1 ** math.floor(epoch / 10) for epoch in range(EPOCHS)]
    assert rates_of(StepDecay(BASE), TRACES["flat"]) == pytest.approx(expected, rel=1e-12)
    assert [step_rate(epoch, 8.0, 2, 0.5) for epoch in range(6)] == [8, 8, 4, 4, 2, 2]


def test_cosine_without_longer_cycles_repeats_one_half_cosine():
    expected = [1e-5 + (BASE - 1e-5) * (1 + math.cos(math.pi * (epoch % 20) / 20)) / 2 for epoch in range(EPOCHS)]
    assert rates_of(CosineRestarts(BASE, 1e-5, 20, 1), TRACES["flat"]) == pytest.approx(expected, rel=1e-12)


def test_cosine_cycles_start_at_the_base_and_each_lasts_longer_by_the_factor():
    rates = [cosine_rate(epoch, BASE, 0.0, 10, 2) for epoch in range(71)]
    assert [epoch for epoch, rate in enumerate(rates) if rate == BASE] == [0, 10, 30, 70]
    assert rates[5] == pytest.approx(BASE / 2)
    assert rates[20] == pytest.approx(BASE / 2)
    assert rates[50] == pytest.approx(BASE / 2)


@given(
    epoch=st.integers(0, 2000),
    cycle=st.integers(1, 50),
    factor=st.integers(1, 4),
    minimum=st.floats(0, 1e-3, allow_subnormal=False),
)
def test_cosine_stays_between_minimum_and_base(epoch, cycle, factor, minimum):
    assert minimum - 1e-15 <= cosine_rate(epoch, BASE, minimum, cycle, factor) <= BASE + 1e-15


def reduce_by_hand(trace: list[float], factor: float, patience: int) -> list[float]:
    """The rate falls after an epoch if those since the last better one, or the last fall, exceed the patience."""
    rates, rate, last_event, best = [], BASE, 0, -math.inf
    for epoch, accuracy in enumerate(trace, 1):
        rates.append(rate)
        if best == -math.inf or accuracy > best + best * 1e-4:
            best, last_event = accuracy, epoch
        if epoch - last_event == patience + 1:
            last_event = epoch
            rate = rate * factor if rate - rate * factor > 1e-8 else rate
    return rates


@pytest.mark.parametrize("name", TRACES)
@pytest.mark.parametrize(("factor", "patience"), [(0.1, 10), (0.5, 3), (0.5, 0)])
def test_plateau_falls_when_patience_is_exceeded_and_only_then(name, factor, patience):
    expected = reduce_by_hand(TRACES[name], factor, patience)
    assert rates_of(Plateau(BASE, factor, patience), TRACES[name]) == pytest.approx(expected, rel=1e-12)
    assert plateau_rates(TRACES[name], BASE, factor, patience) == pytest.approx(expected, rel=1e-12)


def test_plateau_on_a_flat_trace_falls_after_patience_plus_one_bad_epochs():
    rates = plateau_rates([0.5] * 25, BASE, 0.1, 10)
    assert rates[:12] == [BASE] * 12
    assert rates[12:23] == pytest.approx([BASE / 10] * 11)
    assert rates[23:] == pytest.approx([BASE / 100] * 2)


@pytest.mark.parametrize("name", ["plateau", "cosine", "step", "none"])
@pytest.mark.parametrize("interrupted_after", [0, 1, 9, 10, 11, 12, 55])
def test_a_resumed_schedule_goes_on_as_if_never_interrupted(name, interrupted_after):
    params = ScheduleParams(name)
    trace = TRACES["noisy"]
    whole = rates_of(make_schedule(params, BASE), trace)

    first = make_schedule(params, BASE)
    before = rates_of(first, trace[:interrupted_after])
    kept = json.loads(json.dumps(first.state))
    second = make_schedule(params, BASE)
    second.state = kept
    assert before + rates_of(second, trace, interrupted_after) == whole


CLASSES = {"step": StepDecay, "cosine": CosineRestarts, "plateau": Plateau}
PYTORCH = json.loads((Path(__file__).parent / "fixtures" / "pytorch_schedules.json").read_text())


@pytest.mark.parametrize("number", range(len(PYTORCH["cases"])))
def test_the_rates_of_200_epochs_are_those_of_pytorch(number):
    # The fixture is written by `python -m benchmarks.pytorch_schedules`.
    case = PYTORCH["cases"][number]
    schedule = CLASSES[case["schedule"]](PYTORCH["base"], **case["parameters"])
    ours = rates_of(schedule, case.get("accuracies", TRACES["flat"]))
    assert len(ours) == EPOCHS
    np.testing.assert_allclose(ours, case["rates"], rtol=0, atol=1e-9)
    if case["schedule"] != "plateau" or len(set(case["accuracies"])) == 1:
        assert len(set(case["rates"])) > 1


def test_plateau_says_what_it_misses():
    with pytest.raises(ValueError, match="val_accuracy"):
        Plateau(BASE).on_epoch_end(0, {"loss": 1.0})


def test_the_optimizer_of_a_real_training_has_the_scheduled_rate():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(BASE), "mse")
    seen = []
    spy = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(float(model.optimizer.learning_rate))
    )
    model.fit(np.ones((4, 1)), np.ones((4, 1)), epochs=25, verbose=0, callbacks=[StepDecay(BASE), spy])
    assert seen == pytest.approx([step_rate(epoch, BASE, 10, 0.1) for epoch in range(25)], rel=1e-6)
