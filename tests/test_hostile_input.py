"""Damaged input of every kind gives a result or an error of our own; `benchmarks.hostile_input` feeds more of it."""

import pytest

pytest.importorskip("starlette", reason="needs the extra 'serve'")
from benchmarks.hostile_input import TARGETS, input_of
from keras_genre.errors import KerasGenreError

SEED = 1
SLOW = {"network file": 3, "network config": 12}


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "server"])
def test_damaged_input_gives_a_result_or_an_error_of_our_own(name, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    feed = TARGETS[name].feed(scratch)
    refused = 0
    inputs = SLOW.get(name, 40)
    for number in range(inputs):
        try:
            feed(input_of(name, SEED, number))
        except KerasGenreError as error:
            assert str(error)
            refused += 1
    # Otherwise nothing would have been tested.
    assert refused > 0 or name in ("call", "audio in a graph")
