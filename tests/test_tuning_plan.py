"""A search is planned from its flags and the data alone; what it is known by holds all that decides its result."""

import pytest
from searches import words_of
from toys import make_toy_store

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
