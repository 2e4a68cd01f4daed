"""A search is planned from its flags and the data alone; what it is known by holds all that decides its result."""

import dataclasses

import pytest
from searches import words_of
from toys import make_toy_store, toy_clips

from keras_genre.errors import StoreError
from keras_genre.store import StoreHeader
from tuning.search import make_parser, plan_of


@pytest.fixture
def plan(tmp_path):
    """Return a function that plans a search of the toy store by more flags."""
    make_toy_store(tmp_path / "store")
    return lambda *more: plan_of(make_parser().parse_args(words_of(tmp_path, *more)))


def test_the_seed_of_the_split_makes_other_folds_and_so_another_search(plan):
    one, other = plan("--folds", "3"), plan("--folds", "3", "--split-seed", "5")
    assert one.folds != other.folds
    assert other.identity()["split_seed"] == 5


def test_a_seed_that_decides_nothing_is_no_part_of_a_search(plan):
    assert "split_seed" not in plan("--folds", "3").identity()
    assert plan("--split-seed", "5").identity() == plan().identity()


def test_what_the_folds_have_against_them_is_noted(plan, tmp_path):
    (tmp_path / "groups.csv").write_text("".join(["track,group\n", *(f"polka.{n:02d},one\n" for n in range(8))]))
    notes = plan("--folds", "3", "--groups", str(tmp_path / "groups.csv")).notes
    assert any(note.startswith("folds that validate: polka: ") for note in notes)
    assert not any("folds that validate" in note for note in plan("--folds", "3").notes)


@pytest.mark.parametrize(
    ("preset", "stores", "windows"),
    [
        ("transfer", ["taggram50"], None),
        ("lstm_optim", ["spectral33", "log_mel128"], (64, 128, 256)),
        ("short_chunk_cnn", ["log_mel128_levels", "log_mel128"], (64, 128, 256)),
    ],
)
def test_a_search_of_a_folder_of_stores_opens_those_that_suit_the_preset(preset, stores, windows):
    plan = plan_of(make_parser().parse_args(["--preset", preset, "--out", "unused"]))
    assert [store.header.kind for store in plan.stores] == stores
    # Windows of spectra need not fit what a network says of seconds.
    assert {domain.name: domain.values for domain in plan.space.domains}.get("window_frames") == windows
    assert plan.space.base.model.log_odds == (preset == "transfer")


def test_the_budget_of_a_trial_is_what_a_preset_s_one_cosine_falls_over():
    flags = ["--preset", "transfer", "--out", "unused", "--epochs", "20"]
    base = plan_of(make_parser().parse_args(flags)).space.base
    assert (base.epochs, base.schedule.cosine_cycle_epochs) == (20, 20)


def test_windows_fit_the_shortest_clip_also_of_those_that_test_the_winner(tmp_path):
    # The clips with the number 0 are the shortest, of 20 frames; the next ones have 27.
    clips = [dataclasses.replace(clip, split="test" if clip.track.endswith("0") else "train") for clip in toy_clips()]
    space = {"only": True, "window_frames": [16, 24], "batch_size": [8, 16]}
    for split, windows in (("test", 16), ("", (16, 24))):
        folder = tmp_path / f"split{split}"
        make_toy_store(folder / "store", [dataclasses.replace(c, split=c.split.replace("test", split)) for c in clips])
        plan = plan_of(make_parser().parse_args(words_of(folder, "--folds", "2", space=space)))
        found = {domain.name: domain.values for domain in plan.space.domains}.get("window_frames")
        assert (found or plan.space.base.window_frames) == windows


def test_windows_of_which_none_fits_are_refused_with_the_length_that_does(plan):
    with pytest.raises(StoreError, match=r"shortest clip has 20 frames.*--set window_frames=20"):
        plan("--set", "window_frames=128", "--set", "features=spectral33")


def test_a_lone_store_of_other_features_is_taken_as_it_is(tmp_path):
    make_toy_store(tmp_path / "store", header=StoreHeader("mine", 3, 0.1, None))
    plan = plan_of(make_parser().parse_args(words_of(tmp_path, "--set", "window_frames=128")))
    assert plan.space.base.window_frames == 128
