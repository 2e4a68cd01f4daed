"""The embedded stores are whole, small, honestly divided, and the features of the clips that they name."""

import collections
from pathlib import Path

import numpy as np
import pytest

from keras_genre import audio
from keras_genre.datasets.splits import check_split
from keras_genre.features.reference import waveform_to_frames
from keras_genre.params import FrontEndParams
from keras_genre.store import open_store, validate_store
from keras_genre.train import EMBEDDED_DATA

ONE_ARTIST = {"blues", "classical", "jazz", "pop", "reggae", "rock"}


STORES = {"spectral33": 65535, "log_mel128": 255, "log_mel128_levels": 255, "taggram50": 65535}
"""The embedded stores, and in how many steps their columns' ranges are divided."""


@pytest.mark.parametrize("kind", STORES)
def test_the_store_is_whole_and_holds_61_clips_of_10_genres(kind):
    assert validate_store(EMBEDDED_DATA / kind) == []
    store = open_store(EMBEDDED_DATA, kind)
    assert store.header.front_end == FrontEndParams.of(kind)
    assert (len(store.clips), len(store.genres), store.failures) == (61, 10, [])


def test_together_they_take_at_most_18_mb_and_no_file_10():
    sizes = [path.stat().st_size for path in EMBEDDED_DATA.rglob("*") if path.is_file()]
    assert sum(sizes) <= 18e6
    assert max(sizes) <= 10e6


@pytest.mark.parametrize("kind", ["mfcc13", *STORES])
def test_every_kind_of_a_preset_is_to_be_had_from_the_folder(kind):
    assert open_store(EMBEDDED_DATA, kind).header.columns_of(kind)


def test_every_genre_is_on_every_side_and_artists_are_apart_wherever_a_genre_has_more_than_one():
    stores = [open_store(EMBEDDED_DATA, kind) for kind in STORES]
    for store in stores:
        assert {c.track: c.split for c in store.clips} == {c.track: c.split for c in stores[0].clips}
    groups, sides = collections.defaultdict(set), collections.defaultdict(set)
    for clip in stores[0].clips:
        groups[clip.genre].add(clip.group)
        sides[clip.group].add(clip.split)
        assert clip.split in ("train", "validation", "test")
    assert {genre for genre, members in groups.items() if len(members) == 1} == ONE_ARTIST
    for genre in set(groups) - ONE_ARTIST:
        assert all(len(sides[group]) == 1 for group in groups[genre])
    counts = collections.Counter((clip.genre, clip.split) for clip in stores[0].clips)
    assert len(counts) == 30
    (note,) = check_split(stores[0].clips)
    assert all(genre in note for genre in ONE_ARTIST)


@pytest.mark.parametrize(("kind", "levels"), STORES.items())
def test_the_numbers_are_the_features_of_the_music_within_half_a_step(kind, levels, shared_data):
    store = open_store(EMBEDDED_DATA, kind)
    for clip, frames in store.read([0, 30, 60]):
        front_end = FrontEndParams.of(kind)
        waveform = audio.load(shared_data / "gtzan_mini" / clip.file, front_end.sample_rate_hz)
        expected = waveform_to_frames(waveform, front_end)
        half_steps = (expected.max(axis=0) - expected.min(axis=0)) / levels / 2
        assert (np.abs(frames - expected) <= half_steps * 1.01 + 1e-4).all()


def test_the_readme_beside_the_data_names_the_command_that_builds_them():
    text = (EMBEDDED_DATA.parent / "README.md").read_text()
    assert "python -m keras_genre.precompute" in text
    assert Path(EMBEDDED_DATA).name in text
