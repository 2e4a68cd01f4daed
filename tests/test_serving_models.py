"""Versions come and go with their folders; what works is never given up for what does not."""

import json
import shutil

import numpy as np
import pytest
from served import GENRES, HOP, RATE, WINDOW_FRAMES, write_half_plus_two, write_toy_classifier

from keras_genre.metrics import softmax
from keras_genre.pipeline import window_starts
from keras_genre.serving.contract import AudioContract, read_contract
from keras_genre.serving.models import ModelVersions, Servable
from keras_genre.serving.protocol import RequestError
from keras_genre.serving.warmup import warmup_requests


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A version folder of the toy classifier."""
    folder = tmp_path_factory.mktemp("toy") / "1"
    write_toy_classifier(folder, warmup=True)
    return folder


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A version folder of half_plus_two, which classifies nothing."""
    folder = tmp_path_factory.mktemp("half") / "1"
    write_half_plus_two(folder)
    return folder


class Loaded:
    """What a folder with a readable model gives."""

    contract = ""

    def __init__(self, folder, version):
        self.version = version
        if (folder / "saved_model.pb").read_text() != "good":
            raise ValueError("damaged\nin a hundred lines")

    def warm_up(self):
        pass


def make_version(base, number, content="good"):
    folder = base / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "saved_model.pb").write_text(content)


def states(versions):
    return {number: state.state for number, state in versions.states.items()}


def test_the_newest_is_served_and_its_predecessor_dropped_when_it_is_there(tmp_path):
    told = []
    make_version(tmp_path, 1)
    versions = ModelVersions(tmp_path, "m", load=Loaded, on_change=told.append)
    with pytest.raises(RequestError) as caught:
        versions.get()
    assert caught.value.status == 404
    versions.poll()
    first = versions.get()
    assert first.version == 1
    make_version(tmp_path, 10)
    assert versions.get() is first
    versions.poll()
    assert versions.get().version == 10
    assert states(versions) == {10: "AVAILABLE", 1: "END"}
    with pytest.raises(RequestError, match="Specific"):
        versions.get(1)
    assert told == [
        "version 1 is available (no audio: )",
        "version 10 is available (no audio: )",
        "version 1 is dropped",
    ]


def test_the_predecessor_answers_until_its_successor_is_warm(tmp_path):
    seen = []

    class Watching(Loaded):
        def warm_up(self):
            seen.append((versions.available, states(versions)))

    make_version(tmp_path, 1)
    versions = ModelVersions(tmp_path, "m", load=Watching)
    versions.poll()
    make_version(tmp_path, 2)
    versions.poll()
    assert seen == [([], {1: "LOADING"}), ([1], {2: "LOADING", 1: "AVAILABLE"})]


def test_a_version_that_fails_is_reported_and_the_old_one_goes_on(tmp_path):
    make_version(tmp_path, 1)
    versions = ModelVersions(tmp_path, "m", load=Loaded)
    versions.poll()
    make_version(tmp_path, 2, "bad")
    versions.poll()
    assert versions.available == [1]
    assert versions.states[2].state == "END"
    assert versions.states[2].error_code != "OK"
    assert versions.states[2].error_message == "ValueError: damaged"


def test_a_version_that_failed_is_tried_again_only_when_its_files_change(tmp_path):
    tried = []

    class Counting(Loaded):
        def __init__(self, folder, version):
            tried.append(version)
            super().__init__(folder, version)

    make_version(tmp_path, 1)
    make_version(tmp_path, 2, "half of it")
    versions = ModelVersions(tmp_path, "m", load=Counting)
    for _ in range(3):
        versions.poll()
    assert tried == [2, 1]
    make_version(tmp_path, 2)
    versions.poll()
    assert tried == [2, 1, 2]
    assert versions.available == [2]


def test_removed_versions_are_dropped_but_never_the_last(tmp_path):
    for number in (1, 2, 3):
        make_version(tmp_path, number)
    versions = ModelVersions(tmp_path, "m", keep=2, load=Loaded)
    versions.poll()
    assert versions.available == [3, 2]
    shutil.rmtree(tmp_path / "3")
    versions.poll()
    assert versions.available == [2, 1]
    for number in (1, 2):
        shutil.rmtree(tmp_path / str(number))
    versions.poll()
    assert versions.available == [2, 1]
    shutil.rmtree(tmp_path)
    versions.poll()
    assert versions.get().version == 2


def test_only_numbered_folders_with_a_model_are_versions(tmp_path):
    make_version(tmp_path, "00000007")
    for name in ("latest", "1.5", "-3", "٣", str(2**63), ".partial-8"):
        make_version(tmp_path, name)
    (tmp_path / "9").mkdir()
    (tmp_path / "11").write_text("a file")
    versions = ModelVersions(tmp_path, "m", keep=10, load=Loaded)
    versions.poll()
    assert versions.available == [7]


def test_the_list_of_states_does_not_grow_for_ever(tmp_path):
    versions = ModelVersions(tmp_path, "m", load=Loaded)
    for number in range(120):
        make_version(tmp_path, number)
        versions.poll()
    assert len(versions.states) <= 51
    assert versions.available == [119]


def test_signatures_are_read_as_they_were_written(toy, half):
    classifier, numbers = Servable(toy, 1), Servable(half, 1)
    assert classifier.signatures["serving_default"].inputs["waveform"].dtype == "DT_FLOAT"
    assert classifier.signatures["serving_default"].inputs["waveform"].shape == (None, None)
    assert classifier.signatures["features"].inputs["frames"].shape == (None, None, 1)
    assert classifier.signatures["encoded"].inputs["encoded"].shape == (1,)
    assert numbers.signatures["scalar"].inputs["x"].shape == ()
    assert set(numbers.signatures) == {"serving_default", "scalar", "repeat", "total"}
    described = numbers.metadata["repeat"]["inputs"]["count"]
    assert described["dtype"] == "DT_INT64"
    assert described["tensor_shape"] == {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
    json.dumps(numbers.metadata)


def test_a_model_is_called_and_its_refusals_are_the_callers(half):
    servable = Servable(half, 1)
    np.testing.assert_array_equal(servable.run("serving_default", {"x": np.float32([1, 2])})["y"], [2.5, 3])
    found = servable.run("repeat", {"count": np.array([3]), "word": np.array([b"ab"], object)})
    assert found["twice"].tolist() == [6]
    assert found["text"].tolist() == [b"abab"]
    with pytest.raises(RequestError, match="too many repetitions") as caught:
        servable.run("repeat", {"count": np.array([100]), "word": np.array([b"ab"], object)})
    assert caught.value.status == 400
    assert "\n" not in str(caught.value)


def test_warm_up_requests_are_read_and_run(toy, half, tmp_path):
    [(name, inputs)] = warmup_requests(toy)
    assert name == "serving_default"
    np.testing.assert_array_equal(inputs["waveform"], np.zeros((1, RATE), np.float32))
    Servable(toy, 1).warm_up()
    assert list(warmup_requests(half)) == []
    Servable(half, 1).warm_up()

    shutil.copytree(toy, tmp_path / "2")
    record = next((tmp_path / "2" / "assets.extra").iterdir())
    record.write_bytes(record.read_bytes()[:-10])
    versions = ModelVersions(tmp_path, "m")
    versions.poll()
    assert versions.states[2].state == "END"
    assert "DataLoss" in versions.states[2].error_message


def test_a_damaged_model_is_a_version_that_fails(toy, tmp_path):
    for number, damage in enumerate(("saved_model.pb", "variables/variables.index"), start=1):
        shutil.copytree(toy, tmp_path / str(number))
        path = tmp_path / str(number) / damage
        path.write_bytes(path.read_bytes()[:50])
    versions = ModelVersions(tmp_path, "m")
    versions.poll()
    assert states(versions) == {1: "END", 2: "END"}
    assert all(state.error_message for state in versions.states.values())


def test_what_a_model_says_of_itself_makes_it_classify_audio(toy, half):
    contract = Servable(toy, 1).contract
    assert contract == AudioContract(
        GENRES, RATE, (WINDOW_FRAMES - 1) * HOP, WINDOW_FRAMES, HOP, WINDOW_FRAMES * HOP / RATE
    )
    assert "waveform" in Servable(half, 1).contract


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("labels.txt", None, "labels.txt"),
        ("labels.txt", "one\ntwo\n", "2 lines for 3 outputs"),
        ("params.json", None, "params.json"),
        ("params.json", "{", "params.json"),
        ("params.json", "[]", "sample_rate_hz must be a positive number"),
        ("params.json", '{"sample_rate_hz": "fast"}', "sample_rate_hz must be a positive number"),
        ("params.json", '{"sample_rate_hz": 8000, "hop_seconds": NaN}', "hop_seconds must be a positive number"),
    ],
)
def test_without_the_parts_of_the_contract_there_is_no_audio_but_a_reason(toy, tmp_path, file, content, words):
    signatures = Servable(toy, 1).signatures
    shutil.copytree(toy / "assets", tmp_path / "assets")
    (tmp_path / "assets" / file).unlink()
    if content is not None:
        (tmp_path / "assets" / file).write_text(content)
    reason = read_contract(tmp_path, signatures)
    assert isinstance(reason, str)
    assert words in reason


@pytest.mark.parametrize("samples", [3920, 4000, 4001, 7920, 8000, 11111, 80000])
def test_windows_have_the_times_of_the_frames_that_they_are_cut_from(toy, samples):
    servable = Servable(toy, 1)
    outputs = servable.run("serving_default", {"waveform": np.full((1, samples), 0.3, np.float32)})
    starts = window_starts(1 + samples // HOP, WINDOW_FRAMES)
    answer = servable.contract.answer("a", samples, outputs["probabilities"][0], outputs["window_probabilities"][0])
    seconds = [(window["start_seconds"], window["end_seconds"]) for window in answer["windows"]]
    assert seconds == [
        (round(start * HOP / RATE, 3), round(min((start + WINDOW_FRAMES) * HOP, samples) / RATE, 3)) for start in starts
    ]


def test_an_answer_names_genres_by_their_probability(toy):
    contract = Servable(toy, 1).contract
    share = softmax(np.array([0.0, 2.0, 1.0]))
    answer = contract.answer("a.wav", 7920, share, np.stack([share, share[::-1]]))
    assert list(answer["probabilities"]) == ["polka", "zydeco", "bebop"]
    assert answer["genre"] == "polka"
    assert answer["probability"] == pytest.approx(share[1])
    assert answer["windows"][1]["probabilities"] == pytest.approx(dict(zip(GENRES, share[::-1], strict=True)))
