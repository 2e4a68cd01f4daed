"""The model that comes with the repository is small, knows its genres, and hears a song, not its file."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import requests
import soundfile
import tensorflow as tf
from served import serving

from benchmarks.encodings import write_copies
from keras_genre import audio
from keras_genre.datasets.lists import FAULT_FILTERED
from keras_genre.saved_models import PROBABILITIES, SHIPPED, WINDOW_PROBABILITIES, read_saved_model, version_folder
from keras_genre.store import open_store
from keras_genre.train import EMBEDDED_DATA

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
RATE = 22050


@pytest.fixture(scope="module")
def model():
    return tf.saved_model.load(str(version_folder(SHIPPED)))


def probabilities(model, y: np.ndarray) -> np.ndarray:
    return model.signatures["serving_default"](waveform=tf.constant(y[np.newaxis]))[PROBABILITIES].numpy()[0]


def test_it_is_under_20_mb_and_says_what_it_is():
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < 20e6
    params = read_saved_model(SHIPPED)
    assert params.genres == GENRES
    assert set(params.signatures) == {"serving_default", "features", "encoded", "embeddings"}
    assert (params.features, params.dims, params.sample_rate_hz) == ("taggram50", 50, RATE)
    assert [member.features for member in params.members] == [
        "taggram50",
        "taggram50",
        "log_mel128_levels",
        "log_mel128_levels",
    ]


def test_the_one_from_scratch_is_there_too_and_takes_audio():
    folder = SHIPPED.parent / "gtzan10_scratch"
    params = read_saved_model(folder)
    assert (params.genres, params.features, params.sample_rate_hz) == (GENRES, "log_mel128_levels", 22050)
    signatures = tf.saved_model.load(str(version_folder(folder))).signatures
    noise = np.random.default_rng(0).standard_normal((1, 22050 * 10)).astype(np.float32) * 0.1
    assert signatures["serving_default"](waveform=tf.constant(noise))[WINDOW_PROBABILITIES].shape == (1, 2, 10)


def test_the_server_gives_its_windows_the_times_that_predict_gives_them(tmp_path):
    folder = SHIPPED.parent / "gtzan10_scratch"
    noise = np.random.default_rng(0).standard_normal(22050 * 17).astype(np.float32) * 0.1
    soundfile.write(tmp_path / "noise.wav", noise, 22050)
    command = [sys.executable, "-m", "keras_genre.predict", "noise.wav", "--json", "--model", str(folder)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    (expected,) = json.loads(answer)
    with serving(folder) as server:
        content = (tmp_path / "noise.wav").read_bytes()
        found = requests.post(f"{server.url}/v1/audio?file=noise.wav", data=content, timeout=60).json()
    assert len(found["windows"]) == len(expected["windows"]) == 3
    for ours, theirs in zip(found["windows"], expected["windows"], strict=True):
        assert (ours["start_seconds"], ours["end_seconds"]) == (theirs["start_seconds"], theirs["end_seconds"])
        assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-5)


def test_its_card_names_its_data_and_how_to_build_it():
    card = (SHIPPED / "README.md").read_text(encoding="utf-8")
    for words in ("443 training tracks", "fault-filtered", "benchmarks.shipped_models", "ISC", "Where it fails"):
        assert words in card


def test_its_features_are_tag_activations_as_a_store_has_them(model):
    store = open_store(EMBEDDED_DATA, "taggram50")
    training = {row["track"] for row in FAULT_FILTERED.rows() if row["split"] == "train"}
    rows = [row for row, clip in enumerate(store.clips) if clip.track not in training]
    hits = 0
    for clip, frames in store.read(rows):
        outputs = model.signatures["features"](frames=tf.constant(frames[np.newaxis]))
        assert outputs[WINDOW_PROBABILITIES].shape[2] == 10
        hits += GENRES[int(np.argmax(outputs[PROBABILITIES][0]))] == clip.genre
    # A model that has lost its weights would find some 3 of 34.
    assert hits >= 20


@pytest.mark.parametrize("track", ["metal.00000", "jazz.00004", "country.00000"])
def test_one_song_has_one_label_in_every_file_and_at_every_level(track, model, shared_data, tmp_path):
    song = shared_data / "gtzan_mini" / f"{track}.flac"
    copies = write_copies(song, tmp_path)
    assert {file.suffix for file in copies.values()} == {".mp3", ".ogg", ".flac"}
    found = [probabilities(model, audio.load(file, RATE)) for file in (song, *copies.values())]
    assert len({int(each.argmax()) for each in found}) == 1
    assert np.abs(np.array(found) - found[0]).max() < 0.05


def test_predict_uses_it_unless_told_otherwise(shared_data):
    track = shared_data / "gtzan_mini" / "metal.00000.flac"
    command = [sys.executable, "-m", "keras_genre.predict", str(track), "--json"]
    (answer,) = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert answer["genre"] == "metal"
    assert not answer["unsure"]
    assert tuple(sorted(answer["probabilities"])) == GENRES


def test_no_validation_or_test_track_is_among_what_it_was_trained_on(shared_data):
    with np.load(shared_data / "gtzan_taggrams" / "train.npz") as data:
        tracks = {name.split("/")[-1].removesuffix(".au") for name in data["IDS"].tolist()}
    assert tracks == {row["track"] for row in FAULT_FILTERED.rows() if row["split"] == "train"}
    with (shared_data / "gtzan_mini" / "index.csv").open(newline="") as lines:
        outside = {row["track"] for row in csv.DictReader(lines)} - tracks
    assert len(outside) == 34
