"""A temperature makes probabilities what they say, and stands in the network itself."""

import json
import math
import shutil

import numpy as np
import pytest
from toys import GENRES, make_toy_store, toy_params

from keras_genre.calibration import PRIOR_WEIGHT, calibrate, fit_temperature
from keras_genre.clips import Clip
from keras_genre.errors import RunError
from keras_genre.metrics import cross_entropy, expected_calibration_error, reliability, softmax
from keras_genre.pipeline import label_rows
from keras_genre.runs import CALIBRATION, load_model, read_calibration
from keras_genre.scoring import score_clips
from keras_genre.training import make_plan, train


def honest_answers(count: int = 20000) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose probabilities are true, and labels drawn by them."""
    generator = np.random.default_rng(0)
    logits = 2 * generator.standard_normal((count, 4))
    thresholds = softmax(logits).cumsum(axis=1)
    return logits, (generator.uniform(size=(count, 1)) > thresholds).sum(axis=1).clip(max=3)


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_the_temperature_of_overconfident_logits_is_found(temperature):
    logits, labels = honest_answers()
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.05)


def test_no_other_temperature_has_a_lower_cross_entropy_with_the_weight_of_the_prior():
    logits, labels = honest_answers(200)

    def objective(temperature: float) -> float:
        prior = PRIOR_WEIGHT * (1 / temperature - 1 + math.log(temperature))
        return len(labels) * cross_entropy(logits / temperature, labels) + prior

    for scale in (0.3, 1, 4):
        logits, best = scale * logits, fit_temperature(scale * logits, labels)
        assert all(objective(best) < objective(best * factor) for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2))


@pytest.mark.parametrize("temperature", [0.815, 0.888, 1.5])
def test_on_hundreds_of_clips_the_prior_moves_a_temperature_by_less_than_one_percent(temperature):
    logits, labels = honest_answers(400)
    logits = logits / fit_by_clips_alone(logits, labels) * temperature
    assert fit_by_clips_alone(logits, labels) == pytest.approx(temperature, rel=1e-4)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.01)


def fit_by_clips_alone(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature of the lowest cross-entropy, to 5 digits, by trying."""
    low, high = 0.1, 10.0
    while high / low > 1 + 1e-6:
        temperatures = np.geomspace(low, high, 9)
        best = int(np.argmin([cross_entropy(logits / each, labels) for each in temperatures]))
        low, high = temperatures[max(best - 1, 0)], temperatures[min(best + 1, 8)]
    return float(low)


def test_forty_answers_that_are_all_right_do_not_make_a_network_certain():
    temperature = fit_temperature(np.tile([1.2, 0.4], (40, 1)), np.zeros(40, int))
    assert 0.2 < temperature < 0.5
    # As sure as somebody may be who was right 40 times out of 40 (rule of succession: 41 of 42), and no surer.
    assert 0.9 < softmax(np.array([1.2, 0.4]) / temperature)[0] < 41 / 42


def test_a_network_that_is_right_and_sure_of_it_keeps_its_temperature():
    assert fit_temperature(np.tile([12.0, 0.4], (40, 1)), np.zeros(40, int)) == pytest.approx(1, abs=0.01)


def test_answers_that_are_all_wrong_or_tell_nothing_give_a_finite_temperature():
    logits = np.eye(3)
    assert 1.1 < fit_temperature(logits, np.array([1, 2, 0])) < 2
    assert 10 < fit_temperature(np.tile(100 * logits, (100, 1)), np.tile([1, 2, 0], 100)) < 1e5
    assert fit_temperature(np.zeros((3, 3)), np.arange(3)) == pytest.approx(1)


def test_honest_probabilities_have_hardly_a_calibration_error_and_sharpened_ones_have():
    logits, labels = honest_answers()
    assert expected_calibration_error(softmax(logits), labels) < 0.01
    assert expected_calibration_error(softmax(3 * logits), labels) > 0.1


def test_the_calibration_error_is_that_of_a_case_counted_by_hand():
    probabilities = np.array([[0.95, 0.05], [0.91, 0.09], [0.35, 0.65], [0.62, 0.38]])
    labels = np.array([0, 1, 1, 1])
    parts = reliability(probabilities, labels)
    assert [part["clips"] for part in parts] == [2, 2]
    assert [part["accuracy"] for part in parts] == [0.5, 0.5]
    assert parts[0]["confidence"] == pytest.approx(0.635)
    expected = (2 * abs(0.635 - 0.5) + 2 * abs(0.93 - 0.5)) / 4
    assert expected_calibration_error(probabilities, labels) == pytest.approx(expected)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """A run on 36 validation clips, its store, its logits before, and what calibration said."""
    folder = tmp_path_factory.mktemp("calibration")
    splits = ("train",) * 4 + ("validation",) * 12
    clips = [
        Clip(track=f"{genre}.{number:02d}", genre=genre, group=f"{genre} {number}", split=split, sha256="")
        for genre in GENRES
        for number, split in enumerate(splits)
    ]
    store = make_toy_store(folder / "store", clips)
    train(make_plan(store, toy_params(epochs=3)), "toy", folder / "run")
    before = score_clips(load_model(folder / "run"), store, store.rows_of("validation"))
    return folder / "run", store, before, calibrate(folder / "run")


def test_the_network_of_a_calibrated_run_gives_the_divided_logits(calibrated):
    run, store, before, found = calibrated
    rows = store.rows_of("validation")
    after = score_clips(load_model(run), store, rows)
    np.testing.assert_allclose(after, before / found["temperature"], atol=1e-4)
    assert found["temperature"] == pytest.approx(fit_temperature(before, label_rows(store)[rows]))
    assert found["clips"] == 36


def test_calibrating_again_changes_nothing(calibrated):
    run, _, _, found = calibrated
    network = (run / "model.keras").read_bytes()
    assert calibrate(run) == pytest.approx(found)
    assert (run / "model.keras").read_bytes() == network
    assert read_calibration(run) == pytest.approx(found)


def test_an_interruption_after_the_note_is_made_good(calibrated, tmp_path):
    run, store, before, found = calibrated
    train(make_plan(store, toy_params(epochs=3)), "toy", tmp_path / "run")
    shutil.copy(run / CALIBRATION, tmp_path / "run" / CALIBRATION)
    for _ in range(2):
        assert calibrate(tmp_path / "run") == pytest.approx(found)
        after = score_clips(load_model(tmp_path / "run"), store, store.rows_of("validation"))
        np.testing.assert_allclose(after, before / found["temperature"], atol=1e-4)


def test_a_network_that_a_training_put_in_place_of_the_calibrated_one_is_calibrated_too(calibrated, tmp_path):
    run, store, _, found = calibrated
    train(make_plan(store, toy_params(epochs=1)), "toy", tmp_path / "run")
    before = score_clips(load_model(tmp_path / "run"), store, store.rows_of("validation"))
    shutil.copy(run / CALIBRATION, tmp_path / "run" / CALIBRATION)
    temperature = calibrate(tmp_path / "run")["temperature"]
    assert temperature != pytest.approx(found["temperature"])
    after = score_clips(load_model(tmp_path / "run"), store, store.rows_of("validation"))
    np.testing.assert_allclose(after, before / temperature, atol=1e-4)


def test_a_run_of_an_older_version_which_names_no_network_is_told_by_its_calibration_error(calibrated, tmp_path):
    run, _, _, found = calibrated
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / CALIBRATION).write_text(json.dumps(found))
    network = (run / "model.keras").read_bytes()
    assert calibrate(tmp_path / "run") == pytest.approx(found)
    assert (tmp_path / "run" / "model.keras").read_bytes() == network


def test_few_validation_clips_leave_the_network_as_it_is(toy_store, tmp_path):
    train(make_plan(toy_store, toy_params(epochs=1)), "toy", tmp_path / "run")
    network = (tmp_path / "run" / "model.keras").read_bytes()
    assert calibrate(tmp_path / "run") is None
    assert (tmp_path / "run" / "model.keras").read_bytes() == network
    assert read_calibration(tmp_path / "run") is None


def test_a_damaged_note_is_refused_by_its_name(tmp_path):
    (tmp_path / CALIBRATION).write_text('{"temperature": "warm"}')
    with pytest.raises(RunError, match=r"calibration\.json"):
        read_calibration(tmp_path)
