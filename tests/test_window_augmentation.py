"""What is done to windows in training keeps what it should, and depends on its seed alone."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from keras_genre.params import ScheduleParams, TrainParams
from keras_genre.pipeline import training_windows
from keras_genre.training import make_plan
from keras_genre.window_augmentation import (
    EQUALIZER_WAVES,
    LOW_PASS_STEP,
    STRIPES,
    Values,
    augment,
    equalize,
    low_pass,
    mask,
    mixup,
    shift_values,
    stretch_levels,
)

SEED = tf.constant([3, 4], tf.int64)


def a_batch(count: int = 64, frames: int = 20, values: int = 16) -> np.ndarray:
    return np.random.default_rng(0).uniform(1, 2, (count, frames, values)).astype(np.float32)


def test_shifted_windows_are_the_windows_some_bands_higher_or_lower():
    windows = a_batch()
    shifted = shift_values(windows, 3, SEED).numpy()
    found = set()
    for before, after in zip(windows, shifted, strict=True):
        fitting = [
            shift for shift in range(-3, 4) if np.array_equal(after, before[:, np.clip(np.arange(16) - shift, 0, 15)])
        ]
        assert len(fitting) == 1
        found.update(fitting)
    assert found == set(range(-3, 4))


def test_an_equalizer_adds_one_smooth_curve_to_all_frames_of_a_window_and_another_one_to_the_next():
    windows = a_batch(count=4000, frames=3, values=64)
    added = equalize(windows, 2.5, SEED).numpy() - windows
    np.testing.assert_allclose(added, np.broadcast_to(added[:, :1], added.shape), atol=1e-5)
    curves = added[:, 0]
    np.testing.assert_allclose(curves.std(axis=0), 2.5, rtol=0.06)
    np.testing.assert_allclose(curves.mean(axis=0), 0, atol=0.15)
    # No wave is steeper than the last of them, which has two periods over all values.
    slope = np.diff(curves, axis=1).std()
    assert 0 < slope < 2.5 * np.pi * EQUALIZER_WAVES / 64
    # Half of the power is in the first waves: curves of windows have nothing to do with each other.
    assert abs(np.corrcoef(curves[:-1].ravel(), curves[1:].ravel())[0, 1]) < 0.05


def test_stretched_levels_are_as_far_from_the_highest_as_one_factor_of_the_window_says():
    levels = 255 - a_batch(count=2000) * 40
    stretched = stretch_levels(levels, 0.25, (0.0, 255.0), SEED).numpy()
    factors = (255 - stretched) / (255 - levels)
    np.testing.assert_allclose(factors, np.broadcast_to(factors[:, :1, :1], factors.shape), rtol=1e-4)
    each = np.log(factors[:, 0, 0])
    # Uniform on the scale of factors, and as often a stretch as its opposite.
    np.testing.assert_allclose(
        np.quantile(each, [0, 0.25, 0.5, 0.75, 1]) / np.log(1.25), [-1, -0.5, 0, 0.5, 1], atol=0.06
    )


def test_no_level_is_stretched_below_the_lowest():
    levels = np.tile(np.linspace(-80, 0, 16, dtype=np.float32), (64, 20, 1))
    stretched = stretch_levels(levels, 0.5, (-80.0, 0.0), SEED).numpy()
    assert stretched.min() == -80 and (stretched == -80).sum() > (levels == -80).sum()
    np.testing.assert_allclose(stretched[..., -1], 0, atol=1e-5)


def test_beyond_where_a_low_pass_begins_each_band_is_damped_more_than_the_one_before():
    levels = np.full((4000, 3, 16), 150, np.float32)
    damped = low_pass(levels, 4, (0.0, 255.0), SEED).numpy()
    np.testing.assert_array_equal(damped, np.broadcast_to(damped[:, :1], damped.shape))
    lost = (levels - damped)[:, 0] / (LOW_PASS_STEP * 255)
    assert (lost[:, :12] == 0).all() and damped.min() == 0
    # It begins anywhere from band 12 to what would be band 20.
    assert np.mean(lost[:, 15] == 0) == pytest.approx(5 / 8, abs=0.03)
    assert np.mean(lost[:, 15] > 1) == pytest.approx(2 / 8, abs=0.03)
    steps = np.diff(lost[:, 12:], axis=1)[(lost[:, 12:15] > 0) & (damped[:, 0, 13:] > 0)]
    assert steps.size and np.allclose(steps, 1, atol=1e-3)


def test_stretching_undoes_what_another_encoding_does_to_levels_scaled_by_the_quietest():
    from keras_genre.features.reference import log_mel128_levels
    from keras_genre.params import FrontEndParams

    params = FrontEndParams("log_mel128_levels")
    generator = np.random.default_rng(0)
    # A noise whose quietest bin is some 60 dB below the loudest, and the same with one bin of silence.
    magnitude = generator.rayleigh(size=(1025, 400)).astype(np.float32) * np.geomspace(1, 0.01, 1025)[:, np.newaxis]
    with_silence = magnitude.copy()
    with_silence[:, 13] = 0
    plain, other = (log_mel128_levels(each, params)[:, 10:] for each in (magnitude, with_silence))
    factor = ((255 - other) / (255 - plain)).mean()
    assert factor < 0.9
    np.testing.assert_allclose(other, 255 - factor * (255 - plain), atol=0.5)


@pytest.mark.parametrize(("axis", "size"), [(1, 20), (2, 16)])
def test_masked_stripes_hold_the_filling_and_nothing_else_is_touched(axis, size):
    windows, fill = a_batch(), -np.arange(16, dtype=np.float32)
    masked = mask(windows, 5, axis, fill, SEED).numpy()
    changed = masked != windows
    np.testing.assert_array_equal(masked[changed], np.broadcast_to(fill, windows.shape)[changed])
    stripes = changed.all(axis=3 - axis)
    np.testing.assert_array_equal(changed.any(axis=3 - axis), stripes)
    counts = stripes.sum(axis=1)
    assert counts.min() < 5 < counts.max() <= STRIPES * 5
    # Every place is masked in some window, the outermost ones too.
    assert stripes.any(axis=0).all() and stripes.shape[1] == size


def test_a_mask_is_never_wider_than_what_there_is():
    masked = mask(a_batch(values=3), 50, 2, np.zeros(3, np.float32), SEED)
    assert masked.shape == (64, 20, 3)


def test_a_mixture_has_the_same_shares_of_windows_and_targets():
    labels = np.arange(64) % 4
    targets = np.eye(4, dtype=np.float32)[labels]
    # Windows that are their own targets.
    windows = np.repeat(targets[:, np.newaxis], 20, axis=1)
    mixed, mixed_targets = mixup(windows, targets, 0.4, SEED)
    np.testing.assert_allclose(mixed.numpy(), np.repeat(mixed_targets.numpy()[:, np.newaxis], 20, axis=1), atol=1e-6)
    np.testing.assert_allclose(mixed_targets.numpy().sum(axis=1), 1, atol=1e-6)
    assert (mixed_targets.numpy().max(axis=1) < 0.95).sum() > 10


def test_shares_of_a_mixture_follow_the_beta_distribution():
    targets = np.zeros((20000, 2), np.float32)
    targets[:, 0] = np.arange(20000) % 2
    targets[:, 1] = 1 - targets[:, 0]
    _, mixed = mixup(np.zeros((20000, 1, 1), np.float32), targets, 0.4, SEED)
    # Half of the pairs are of one kind. Of the others the variance about 1/2 is that of Beta(0.4, 0.4): 1 / (4 * 1.8).
    between = mixed.numpy()[(mixed.numpy() % 1 != 0).any(axis=1), 0]
    assert between.var() == pytest.approx(1 / (4 * 1.8), rel=0.1)


def test_nothing_happens_unless_it_is_asked_for():
    windows, labels = a_batch(), np.arange(64) % 3
    same, targets = augment(windows, labels, 3, Values(np.zeros(16, np.float32)), TrainParams(), (0, 0))
    np.testing.assert_array_equal(same, windows)
    np.testing.assert_array_equal(targets, labels)


ALL = TrainParams(
    features="log_mel128",
    window_frames=16,
    windows_per_clip=3,
    batch_size=8,
    epochs=2,
    mixup_alpha=0.4,
    label_smoothing=0.1,
    mask_frames=4,
    mask_bands=4,
    shift_bands=2,
    equalizer=0.5,
    level_stretch=0.2,
    low_pass_bands=4,
)


def test_the_pipeline_gives_shares_of_all_genres_and_repeats_itself(toy_store):
    rows = toy_store.rows_of("train")
    first, second, other = (
        list(training_windows(toy_store, rows, 33, dataclasses.replace(ALL, seed=seed)).as_numpy_iterator())
        for seed in (1, 1, 2)
    )
    for (a, targets), (b, others) in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(targets, others)
        assert targets.shape == (len(a), len(toy_store.genres))
    assert not np.array_equal(first[0][0], other[0][0])


PLAIN = TrainParams(window_frames=16, windows_per_clip=3, batch_size=1000, epochs=1, schedule=ScheduleParams("none"))


def test_an_equalizer_is_as_strong_as_the_features_are_wide(toy_store):
    params = dataclasses.replace(PLAIN, equalizer=0.5)
    rows = toy_store.rows_of("train")
    plain, narrow, wide = (
        next(training_windows(toy_store, rows, 33, each, statistics=(np.zeros(33), np.full(33, v))).as_numpy_iterator())
        for each, v in ((PLAIN, 1.0), (params, 1.0), (params, 9.0))
    )
    np.testing.assert_allclose(wide[0] - plain[0], 3 * (narrow[0] - plain[0]), rtol=1e-3, atol=1e-4)
    assert 0.2 < (narrow[0] - plain[0]).std() < 0.8


def test_only_features_that_are_levels_of_bands_are_stretched_and_damped(toy_store):
    stretched = dataclasses.replace(PLAIN, level_stretch=0.2)
    damped = dataclasses.replace(PLAIN, low_pass_bands=4)
    for asked in (stretched, damped):
        plan = make_plan(toy_store, asked)
        assert plan.params == PLAIN
        assert plan.notes == ["spectral33 are no levels of bands: level_stretch and low_pass_bands are off"]
    rows = toy_store.rows_of("train")

    def first_windows(params, **changes):
        params = dataclasses.replace(params, **changes)
        return next(training_windows(toy_store, rows, 33, params).as_numpy_iterator())[0]

    for asked in (stretched, damped):
        np.testing.assert_array_equal(first_windows(asked), first_windows(PLAIN))
        assert not np.array_equal(first_windows(asked, features="log_mel128"), first_windows(PLAIN))


def test_a_later_epoch_is_altered_in_the_same_way_whether_or_not_the_earlier_ones_were_run(toy_store):
    rows = toy_store.rows_of("train")
    whole = list(training_windows(toy_store, rows, 33, ALL).as_numpy_iterator())
    later = list(training_windows(toy_store, rows, 33, ALL, first_epoch=1).as_numpy_iterator())
    for (a, _), (b, _) in zip(whole[len(whole) // 2 :], later, strict=True):
        np.testing.assert_array_equal(a, b)
