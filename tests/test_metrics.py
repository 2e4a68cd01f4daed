"""The figures of a report equal their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_genre.metrics import Scores, cross_entropy, mean_by_clip, softmax, wilson_interval


def test_the_wilson_interval_of_the_original_result():
    # 41 of 60: by hand from Wilson's formula with z = 1.96.
    assert wilson_interval(41, 60) == pytest.approx((0.5577, 0.7869), abs=1e-4)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_solves_wilsons_equation(case):
    hits, trials = case
    low, high = wilson_interval(hits, trials)
    assert 0 <= low <= hits / trials <= high <= 1
    for bound in (low, high):
        # (p - bound)^2 = z^2 bound (1 - bound) / n
        left = (hits / trials - bound) ** 2
        assert left == pytest.approx(1.959963984540054**2 * bound * (1 - bound) / trials, abs=1e-9)


def test_softmax_and_cross_entropy_survive_large_logits():
    logits = np.array([[1000.0, 0.0], [-1000.0, -1000.0]])
    np.testing.assert_allclose(softmax(logits), [[1, 0], [0.5, 0.5]])
    assert cross_entropy(logits, np.array([0, 1])) == pytest.approx(np.log(2) / 2)
    assert cross_entropy(logits, np.array([1, 1])) == pytest.approx((1000 + np.log(2)) / 2)


def test_windows_are_averaged_clip_by_clip_in_the_order_asked_for():
    values = np.array([[1.0], [3.0], [10.0], [5.0]])
    owners = np.array([7, 7, 2, 7])
    np.testing.assert_allclose(mean_by_clip(values, owners, [2, 7]), [[10.0], [3.0]])
    np.testing.assert_allclose(mean_by_clip(values, owners, [7, 2]), [[3.0], [10.0]])


def test_scores_of_a_known_confusion():
    expected = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 0, 1, 1, 0, 2])
    scores = Scores.of(["a", "b", "c"], expected, predicted)
    np.testing.assert_array_equal(scores.confusion, [[2, 1, 0], [1, 1, 0], [0, 0, 1]])
    assert (scores.correct, scores.clips) == (4, 6)
    assert scores.accuracy == pytest.approx(4 / 6)
    per_genre = scores.per_genre()
    assert per_genre["a"] == pytest.approx({"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "clips": 3})
    assert per_genre["b"] == pytest.approx({"precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2, "clips": 2})
    assert scores.macro_f1 == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)


def test_a_genre_that_is_never_predicted_has_zero_and_one_without_clips_does_not_count():
    scores = Scores.of(["a", "b", "absent"], np.array([0, 1]), np.array([0, 0]))
    assert scores.per_genre()["b"]["f1"] == 0
    assert scores.macro_f1 == pytest.approx((2 / 3 + 0) / 2)


def test_the_sentence_holds_accuracy_interval_and_number_of_clips():
    scores = Scores.of(["a", "b"], np.zeros(60, int), np.array([0] * 41 + [1] * 19))
    assert scores.sentence().startswith("accuracy 0.683 (95 % interval 0.558 to 0.787; 41 of 60 clips)")
