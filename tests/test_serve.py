"""A real server: one answer to every request, the right one or a reason; whatever comes, it goes on."""

import base64
import concurrent.futures
import contextlib
import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import soundfile
from served import GENRES, HOP, RATE, WINDOW_FRAMES, serving, write_half_plus_two, write_toy_classifier

from keras_genre import audio
from keras_genre.features.reference import waveform_to_frames
from keras_genre.params import FrontEndParams
from keras_genre.pipeline import window_starts

pytest.importorskip("fastapi", reason="needs the extra 'serve'")
pytest.importorskip("prometheus_client", reason="needs the extra 'serve'")
pytest.importorskip("uvicorn", reason="needs the extra 'serve'")

LIMITS = ("--max-upload-mb", "2", "--max-seconds", "20", "--body-seconds", "2", "--poll-seconds", "0.2")


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """Version folders to copy from: two good ones that differ, by number."""
    folder = tmp_path_factory.mktemp("versions")
    write_toy_classifier(folder / "1", warmup=True)
    write_toy_classifier(folder / "2", shift=5.0)
    return folder


@pytest.fixture(scope="module")
def server(versions, tmp_path_factory):
    """A server of the toy classifier, version 1, shared by tests that leave its model alone."""
    model = tmp_path_factory.mktemp("models") / "toy"
    shutil.copytree(versions / "1", model / "1")
    with serving(model, *LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A server of half_plus_two."""
    model = tmp_path_factory.mktemp("models") / "half"
    write_half_plus_two(model / "123")
    with serving(model, *LIMITS) as running:
        yield running


def ask(server, method, path, body=None, headers=None, timeout=30):
    """Return (status, JSON or text, headers) of a request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        content = response.read()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, json.loads(content) if is_json else content.decode(), response.headers
    finally:
        connection.close()


def predict(server, document, path="/v1/models/toy:predict"):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return ask(server, "POST", path, body)[:2]


def form(content: bytes, name: str = "a.wav", field: str = "file") -> tuple[bytes, dict[str, str]]:
    head = f'--X\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n--X--\r\n", {"Content-Type": "multipart/form-data; boundary=X"}


def wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def toy_outputs(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the toy classifier, version 1, computes, in NumPy: probabilities of the whole and of the windows."""
    padded = np.pad(np.abs(waveform), (0, 2 * HOP))
    frames = np.array([padded[i * HOP : (i + 1) * HOP].max() for i in range(1 + waveform.size // HOP)])
    starts = window_starts(len(frames), WINDOW_FRAMES)
    loudness = np.array([frames[start : start + WINDOW_FRAMES].mean() for start in starts])
    logits = 3 * np.stack([loudness, 1 - loudness, 0 * loudness], axis=1)

    def shares(values):
        return np.exp(values) / np.exp(values).sum(axis=-1, keepdims=True)

    return shares(logits.mean(axis=0)), shares(logits)


@pytest.fixture(scope="module")
def waveform():
    """1.3 s that get louder."""
    noise = np.random.default_rng(0).uniform(-1, 1, round(1.3 * RATE))
    return (noise * np.linspace(0.1, 0.9, noise.size)).astype(np.float32)


def test_status_says_which_versions_there_are(server):
    available = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("/v1/models/toy", "/v1/models/toy/versions/1", "/v1/Models/toy", "/v1/models/t%6Fy"):
        assert ask(server, "GET", path)[:2] == (200, {"model_version_status": [available]})
    for path in ("/v1/models/other", "/v1/models/toy/versions/2"):
        status, answer, _ = ask(server, "GET", path)
        assert status == 404
        assert "Could not find" in answer["error"]


def test_metadata_describe_the_signatures(server):
    status, answer, headers = ask(server, "GET", "/v1/models/toy/metadata")
    assert status == 200
    assert headers.get_content_type() == "application/json"
    assert answer["model_spec"] == {"name": "toy", "signature_name": "", "version": "1"}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    tensor = signatures["serving_default"]["inputs"]["waveform"]
    assert tensor["dtype"] == "DT_FLOAT"
    assert [dim["size"] for dim in tensor["tensor_shape"]["dim"]] == ["-1", "-1"]
    assert signatures["serving_default"]["method_name"] == "tensorflow/serving/predict"
    assert set(signatures["encoded"]["outputs"]) == {"probabilities", "window_probabilities"}
    assert ask(server, "GET", "/v1/models/toy/versions/1/metadata")[1] == answer
    assert ask(server, "GET", "/v1/models/toy/versions/2/metadata")[0] == 404


def test_the_examples_of_tensorflow_servings_documentation_have_the_answers_given_there(half):
    path = "/v1/models/half:predict"
    assert predict(half, b'{"instances": [1.0,2.0,5.0]}', path) == (200, {"predictions": [2.5, 3.0, 4.5]})
    assert predict(half, {"inputs": [1.0, 2.0]}, path) == (200, {"outputs": [2.5, 3.0]})
    assert predict(half, {"inputs": 3.0, "signature_name": "scalar"}, path) == (200, {"outputs": 3.5})
    assert predict(half, {"instances": [1.0]}, "/v1/models/half/versions/123:predict")[0] == 200
    status, answer = predict(half, {"instances": [1.0]}, "/v1/models/nosuch:predict")
    assert (status, answer) == (404, {"error": "Servable not found for request: Latest(nosuch)"})
    status, answer = predict(half, {"instances": [1.0]}, "/v1/models/half/versions/99:predict")
    assert (status, answer) == (404, {"error": "Servable not found for request: Specific(half, 99)"})


def test_several_inputs_and_outputs_have_names(half):
    path = "/v1/models/half:predict"
    words = [{"count": 3, "word": {"b64": "/w=="}}, {"count": -1, "word": {"b64": "YQ=="}}]
    status, answer = predict(half, {"signature_name": "repeat", "instances": words}, path)
    assert status == 200
    assert answer["predictions"] == [
        {"text": "\ufffd\ufffd", "twice": 6, "word_bytes": {"b64": "/w=="}},
        {"text": "aa", "twice": -2, "word_bytes": {"b64": "YQ=="}},
    ]
    columns = {"count": [3, -1], "word": ["b", "a"]}
    status, answer = predict(half, {"signature_name": "repeat", "inputs": columns}, path)
    assert answer["outputs"]["twice"] == [6, -2]
    status, answer = predict(half, {"signature_name": "repeat", "inputs": columns | {"count": [100, 0]}}, path)
    assert (status, "too many repetitions" in answer["error"]) == (400, True)


def test_a_model_without_audio_takes_what_is_not_finite_and_refuses_audio(half):
    status, answer = predict(half, b'{"instances": [NaN, Infinity, -Infinity]}', "/v1/models/half:predict")
    assert status == 200
    np.testing.assert_array_equal(answer["predictions"], [np.nan, np.inf, -np.inf])
    status, answer, _ = ask(half, "POST", "/v1/audio", wav(np.zeros(RATE)))
    assert status == 404
    assert "does not classify audio" in answer["error"]


def test_rows_that_depend_on_each_other_are_not_mixed_up(half):
    documents = [{"signature_name": "total", "inputs": [float(i), 1.0]} for i in range(20)]
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda document: predict(half, document, "/v1/models/half:predict"), documents))
    assert answers == [(200, {"outputs": [i + 1.0]}) for i in range(20)]


def test_waveforms_frames_and_files_of_the_same_sound_give_the_same(server, waveform):
    samples = np.round(waveform * 32767) / 32768
    whole, windows = toy_outputs(samples.astype(np.float32))
    padded = np.pad(np.abs(samples), (0, 2 * HOP))
    frames = [[float(padded[i * HOP : (i + 1) * HOP].max())] for i in range(1 + samples.size // HOP)]
    encoded = {"b64": base64.b64encode(wav(samples)).decode()}
    documents = [
        {"instances": [samples.tolist()]},
        {"signature_name": "features", "instances": [frames]},
        {"signature_name": "encoded", "instances": [encoded]},
    ]
    for document in documents:
        status, answer = predict(server, document)
        assert status == 200
        [row] = answer["predictions"]
        np.testing.assert_allclose(row["probabilities"], whole, atol=1e-5)
        np.testing.assert_allclose(row["window_probabilities"], windows, atol=1e-5)
    status, answer, _ = ask(server, "POST", "/v1/audio?file=loud.wav", wav(samples))
    assert status == 200
    assert answer["file"] == "loud.wav"
    assert answer["probabilities"] == pytest.approx(dict(zip(GENRES, whole, strict=True)), abs=1e-5)
    assert list(answer["probabilities"].values()) == sorted(answer["probabilities"].values(), reverse=True)
    assert answer["genre"] == GENRES[whole.argmax()]
    assert answer["probability"] == max(answer["probabilities"].values())
    assert [window["start_seconds"] for window in answer["windows"]] == [0, 0.5, 0.81]
    assert [window["end_seconds"] for window in answer["windows"]] == [0.5, 1, 1.3]
    for window, row in zip(answer["windows"], windows, strict=True):
        assert list(window["probabilities"]) == list(GENRES)
        np.testing.assert_allclose(list(window["probabilities"].values()), row, atol=1e-5)


@pytest.mark.parametrize(
    ("file_format", "subtype"),
    [("WAV", "PCM_24"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None), ("AU", "PCM_16")],
)
def test_audio_of_any_format_and_rate_is_taken_as_the_library_reads_it(server, encode, file_format, subtype):
    content = encode(file_format, subtype, sample_rate_hz=48000)
    whole, _ = toy_outputs(audio.load(content, RATE))
    for body, headers in ((content, {}), form(content, name="läßt.mp3")):
        status, answer, _ = ask(server, "POST", "/v1/audio", body, headers)
        assert status == 200
        assert answer["probabilities"] == pytest.approx(dict(zip(GENRES, whole, strict=True)), abs=1e-5)
        assert answer["file"] == ("läßt.mp3" if headers else "upload")


def test_an_exported_model_says_through_the_server_what_predict_says(exported, encode, tmp_path):
    """One clip: the command on the run, the upload, and the three signatures over the REST API."""
    content = encode("AU", "PCM_16", sample_rate_hz=22050, channels=1, seconds=3.3)
    (tmp_path / "clip.au").write_bytes(content)
    command = [sys.executable, "-m", "keras_genre.predict", "clip.au", "--json", "--model", exported.run]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    [expected] = json.loads(result.stdout)
    waveform = audio.load(content, 22050)
    frames = waveform_to_frames(waveform, FrontEndParams())
    with serving(exported.name) as server:
        _, uploaded, _ = ask(server, "POST", "/v1/audio?file=clip.au", content)
        documents = [
            {"instances": [waveform.tolist()]},
            {"signature_name": "features", "instances": [frames.tolist()]},
            {"signature_name": "encoded", "instances": [{"b64": base64.b64encode(content).decode()}]},
        ]
        answers = [predict(server, document)[1]["predictions"][0] for document in documents]
    assert list(uploaded) == list(expected)
    assert (uploaded["file"], uploaded["genre"]) == (expected["file"], expected["genre"])
    assert uploaded["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
    assert len(uploaded["windows"]) == len(expected["windows"])
    for ours, theirs in zip(uploaded["windows"], expected["windows"], strict=True):
        assert ours["start_seconds"] == theirs["start_seconds"]
        assert ours["end_seconds"] == theirs["end_seconds"]
        assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-5)
    for answer in answers:
        found = dict(zip(GENRES, answer["probabilities"], strict=True))
        assert found == pytest.approx(expected["probabilities"], abs=1e-5)


def bad_bodies():
    good = [0.0] * RATE
    return [
        ("empty", b"", 400, "document is empty"),
        ("no JSON", b"instances=1", 400, "JSON Parse error"),
        ("deep", b"[" * 1_000_000, 400, "nested too deeply"),
        ("digits", b'{"instances": [[' + b"9" * 5000 + b"]]}", 400, "digits"),
        ("huge", b'{"instances": [[1e999]]}', 400, "Number too big"),
        ("list", b"[1]", 400, "Is not object"),
        ("no input", {}, 400, "Missing 'inputs' or 'instances'"),
        ("both", {"instances": [good], "inputs": [good]}, 400, "only one of"),
        ("signature", {"signature_name": "x", "instances": [good]}, 400, "not found in signature def"),
        ("rank", {"instances": good}, 400, "has shape"),
        ("ragged", {"instances": [good, good[:-1]]}, 400, "unexpected size"),
        ("type", {"instances": [["a"] * RATE]}, 400, "not of expected type"),
        ("bool", {"instances": [[True] * RATE]}, 400, "not of expected type"),
        ("null", {"instances": [None]}, 400, "has shape"),
        ("empty waveform", {"instances": [[]]}, 400, "is empty"),
        ("short", {"instances": [good[:3919]]}, 400, "at least 3920 (0.49 s at 8000 Hz) are needed"),
        ("NaN", b'{"instances": [[' + b"NaN," * RATE + b"0]]}", 400, "NaN or infinite"),
        ("infinite", b'{"instances": [[' + b"-Infinity," * RATE + b"0]]}", 400, "NaN or infinite"),
        ("long", {"instances": [[0] * (20 * RATE + 1)]}, 413, "longer than the limit of 20 s"),
        ("long frames", features_of(2002), 413, "frames: is longer than the limit of 20 s"),
        ("long frames of two clips", features_of(1002, 1002), 413, "frames: is longer than the limit of 20 s"),
        ("long file", encoded_of(20 * RATE + 1), 413, "encoded: is longer than the limit of 20 s"),
        ("frames", {"signature_name": "features", "instances": [[[0.0, 1.0]]]}, 400, "has shape"),
        ("NaN frames", b'{"signature_name": "features", "instances": [[[NaN]]]}', 400, "NaN or infinite"),
        ("few frames", {"signature_name": "features", "instances": [[[0.0]]]}, 400, "the model refuses this"),
        ("garbage", {"signature_name": "encoded", "inputs": ["RIFF of nothing"]}, 400, "the model refuses this"),
        ("two files", {"signature_name": "encoded", "inputs": ["a", "b"]}, 400, "has shape [2]"),
        ("base64", {"signature_name": "encoded", "inputs": [{"b64": "?"}]}, 400, "base64"),
    ]


def features_of(*counts: int) -> dict:
    return {"signature_name": "features", "instances": [[[0.0]] * count for count in counts]}


def encoded_of(samples: int) -> dict:
    content = base64.b64encode(wav(np.zeros(samples))).decode()
    return {"signature_name": "encoded", "instances": [{"b64": content}]}


def test_audio_of_just_the_limit_is_taken_by_every_signature(server):
    for document in ({"instances": [[0] * (20 * RATE)]}, features_of(2001), features_of(1001, 1001)):
        assert predict(server, document)[0] == 200
    assert predict(server, encoded_of(20 * RATE))[0] == 200


@pytest.mark.parametrize("name", [name for name, *_ in bad_bodies()])
def test_a_bad_call_is_refused_with_the_reason(server, name):
    [(body, status, words)] = [rest for other, *rest in bad_bodies() if other == name]
    found, answer = predict(server, body)
    assert found == status
    assert set(answer) == {"error"}
    assert words in answer["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/v1/models/toy:predict", 400, "Malformed request: GET"),
        ("DELETE", "/v1/models/toy", 400, "Malformed request: DELETE"),
        ("PUT", "/v1/models/toy:predict", 400, "Malformed request: PUT"),
        ("POST", "/v1/models/toy", 400, "Malformed request: POST"),
        ("POST", "/v1/models/toy:explain", 400, "Malformed request"),
        ("POST", "/v1/models/toy/versions/one:predict", 400, "Malformed request"),
        ("POST", "/v1/models/toy/versions/18446744073709551615:predict", 400, "Failed to convert version"),
        ("GET", "/v1/models/toy/versions/" + "9" * 5000, 400, "Failed to convert version"),
        ("GET", "/v1/models", 400, "Missing model name"),
        ("GET", "/v1/foo", 400, "Malformed request"),
        ("POST", "/v1/models/../../etc/passwd:predict", 400, "Malformed request"),
        ("POST", "/v1/models/%2e%2e:predict", 404, "Servable not found"),
        ("GET", "/v1/audio", 405, "POST"),
        ("GET", "/nosuch", 404, "Not Found"),
        ("GET", "/page.css/../../models.py", 404, "Not Found"),
        ("POST", "/healthz", 405, "Method Not Allowed"),
        ("GET", "/docs", 404, "Not Found"),
    ],
)
def test_a_wrong_address_or_method_is_refused_with_the_reason(server, method, path, status, words):
    found, answer, headers = ask(server, method, path)
    assert found == status
    assert words in answer["error"]
    assert headers.get_content_type() == "application/json"
    if status == 405:
        assert headers["Allow"]


def test_bad_audio_is_refused_with_the_reason(server, encode):
    flac = encode("FLAC", "PCM_16")
    long = wav(np.zeros(21 * RATE))
    no_file = b'--X\r\nContent-Disposition: form-data; name="file"\r\n\r\n/etc/passwd\r\n--X--\r\n'
    multipart = {"Content-Type": "multipart/form-data; boundary=X"}
    cases = [
        (b"", {}, 400, "no bytes"),
        (b"a letter to my aunt" * 100, {}, 415, "audio"),
        (np.random.default_rng(0).bytes(100_000), {}, 415, "audio"),
        (flac[: len(flac) // 2], {}, 400, "upload"),
        (wav(np.zeros(100)), {}, 400, "at least 3920"),
        (long, {}, 413, "limit of 20 s"),
        (*form(b"garbage", name="../../etc/passwd"), 415, "../../etc/passwd: "),
        (*form(b"", name="empty.wav"), 400, "empty.wav: has no bytes"),
        (no_file, multipart, 400, "no file"),
        (b"--X\r\nnot a form", multipart, 400, "form"),
        (b"--X", {"Content-Type": "multipart/form-data"}, 400, "boundary"),
        (form(b"a")[0] + b"x" * 10, {"Content-Type": "multipart/form-data; boundary=Y"}, 400, "form"),
    ]
    for body, headers, status, words in cases:
        found, answer, _ = ask(server, "POST", "/v1/audio", body, headers)
        assert (found, set(answer)) == (status, {"error"}), words
        assert words in answer["error"]


def test_an_upload_is_refused_by_its_announced_size_before_it_is_sent(server):
    for headers in ({}, {"Expect": "100-continue"}):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            lines = ["POST /v1/audio HTTP/1.1", "Host: x", f"Content-Length: {1 << 30}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"larger than the limit of 2097152 bytes" in answer


@pytest.mark.parametrize("path", ["/v1/audio", "/v1/models/toy:predict"])
def test_an_upload_of_unknown_size_is_refused_once_it_is_too_large(server, path):
    sent = 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
        with contextlib.suppress(OSError):
            while sent < 1 << 30:
                connection.sendall(chunk)
                sent += 65536
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert sent < 100 << 20


def test_a_slow_body_gets_408_while_others_are_answered(server, waveform):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(b"POST /v1/models/toy:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        assert predict(server, {"instances": [waveform.tolist()]})[0] == 200
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'{"error": "the request did not arrive within 2 s (1 bytes did)"}' in answer


def test_cut_connections_and_broken_http_leave_no_trace(server, waveform):
    cuts = [
        b"POST /v1/audio HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf",
        b"POST /v1/models/toy:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
        b"GET /healthz HTT",
    ]
    for request in cuts:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(request)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(b"\x16\x03\x01 not HTTP\r\n\r\n")
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'{"error": ' in answer
    assert predict(server, {"instances": [waveform.tolist()]})[0] == 200
    end = time.monotonic() + 20
    while "keras_genre_body_bytes 0.0" not in (text := ask(server, "GET", "/metrics")[1]):
        assert time.monotonic() < end, text
    assert "keras_genre_requests_at_work 0.0" in text
    assert "Traceback" not in "\n".join(server.log)


def test_a_file_that_kills_its_decoder_costs_that_request_only(server, encode):
    """The decoders are killed as a crash of theirs would end them."""
    content = encode("WAV", "PCM_16")
    children = subprocess.run(
        ["ps", "--ppid", str(server.process.pid), "-o", "pid=,args=", "-ww"], capture_output=True, text=True
    )
    decoders = [line.split()[0] for line in children.stdout.splitlines() if "spawn_main" in line]
    assert len(decoders) == 2
    for pid in decoders:
        os.kill(int(pid), signal.SIGKILL)
    for _ in range(4):
        assert ask(server, "POST", "/v1/audio", content)[0] in (200, 400)
    assert ask(server, "POST", "/v1/audio", content)[0] == 200


def test_health_and_metrics_tell_how_the_server_is(server):
    assert ask(server, "GET", "/healthz")[:2] == (200, {"status": "ok", "versions": [1]})
    predict(server, {"instances": [[0.0] * RATE]})
    status, text, headers = ask(server, "GET", "/metrics")
    assert status == 200
    assert headers.get_content_type() == "text/plain"
    from prometheus_client.parser import text_string_to_metric_families

    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["keras_genre_requests_total", ("endpoint", "rest"), ("status", "200")] >= 1
    assert samples["keras_genre_batch_rows_count",] >= 1
    assert samples["keras_genre_newest_version",] == 1
    assert samples["process_resident_memory_bytes",] > 0


def test_the_page_and_its_parts_come_from_here_alone(server):
    status, text, headers = ask(server, "GET", "/")
    assert status == 200
    assert headers.get_content_type() == "text/html"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    for path, media_type in (("/page.css", "text/css"), ("/page.js", "text/javascript")):
        status, part, headers = ask(server, "GET", path)
        assert (status, headers.get_content_type()) == (200, media_type)
        text += part
    assert "//" not in text.replace("http://www.w3.org/2000/svg", "").replace("// ", "")


def test_requests_at_once_are_all_answered_and_some_together(server, waveform):
    before = ask(server, "GET", "/metrics")[1]
    whole, _ = toy_outputs(waveform)
    body = json.dumps({"instances": [waveform.tolist()]}).encode()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: predict(server, body), range(64)))
    for status, answer in answers:
        assert status == 200
        np.testing.assert_allclose(answer["predictions"][0]["probabilities"], whole, atol=1e-5)

    def batches(text):
        return float(next(line for line in text.splitlines() if line.startswith("keras_genre_batch_rows_c")).split()[1])

    assert batches(ask(server, "GET", "/metrics")[1]) - batches(before) < 64


def test_a_full_queue_answers_503_and_an_answer_that_takes_too_long_is_504(versions, tmp_path):
    """One request is taken and waits for others of its shape, which are turned away, until its time is up."""
    shutil.copytree(versions / "1", tmp_path / "toy" / "1")
    with serving(
        tmp_path / "toy", "--max-requests", "1", "--batch-wait-ms", "60000", "--answer-seconds", "1"
    ) as server:
        body = json.dumps({"instances": [[0.1] * RATE]}).encode()
        for _ in range(2):
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(lambda _: ask(server, "POST", "/v1/models/toy:predict", body), range(8)))
            statuses = [status for status, *_ in answers]
            assert set(statuses) == {503, 504}
            for status, answer, headers in answers:
                if status == 503:
                    assert "overloaded" in answer["error"]
                    assert int(headers["Retry-After"]) >= 1
                else:
                    assert answer == {"error": "no answer in time"}


def test_versions_are_swapped_without_a_dropped_request(versions, tmp_path):
    model = tmp_path / "toy"
    shutil.copytree(versions / "1", model / "1")
    with serving(model, *LIMITS) as server:
        body = json.dumps({"instances": [[0.1] * RATE]}).encode()
        statuses, seen, done = [], [], threading.Event()

        def keep_asking():
            while not done.is_set():
                status, answer = predict(server, body)
                statuses.append(status)
                seen.append("2" if status == 200 and answer["predictions"][0]["probabilities"][0] > 0.5 else "1")

        def wait_for_state(**wanted):
            end = time.monotonic() + 60
            while True:
                answer = ask(server, "GET", "/v1/models/toy")[1]
                found = {f"v{entry['version']}": entry["state"] for entry in answer["model_version_status"]}
                if found == wanted:
                    return answer
                assert time.monotonic() < end, found
                time.sleep(0.05)

        threads = [threading.Thread(target=keep_asking) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            shutil.copytree(versions / "2", model / ".copying")
            (model / ".copying").rename(model / "2")
            wait_for_state(v2="AVAILABLE", v1="END")
            (model / "3").mkdir()
            (model / "3" / "saved_model.pb").write_bytes(b"damaged")
            answer = wait_for_state(v3="END", v2="AVAILABLE", v1="END")
            broken = answer["model_version_status"][0]
            assert broken["version"] == "3"
            assert broken["status"]["error_code"] != "OK"
            assert broken["status"]["error_message"]
            shutil.rmtree(model / "3")
            shutil.rmtree(model / "2")
            wait_for_state(v3="END", v2="END", v1="AVAILABLE")
            assert predict(server, body, "/v1/models/toy/versions/2:predict")[0] == 404
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert set(statuses) == {200}
        assert set(seen) == {"1", "2"}


def test_sigterm_lets_requests_in_flight_finish_and_refuses_new_ones(versions, tmp_path):
    shutil.copytree(versions / "1", tmp_path / "toy" / "1")
    body = json.dumps({"instances": [[0.1] * RATE]}).encode()
    with serving(tmp_path / "toy", "--batch-wait-ms", "1500") as server:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(predict, server, body)
            sending = socket.create_connection(("127.0.0.1", server.port), timeout=20)
            head = f"POST /v1/models/toy:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            sending.sendall(head.encode() + body[:1000])
            while "keras_genre_requests_at_work 1.0" not in (text := ask(server, "GET", "/metrics")[1]):
                assert not waiting.done(), text
            server.process.send_signal(signal.SIGTERM)
            end = time.monotonic() + 20
            with contextlib.suppress(ConnectionRefusedError):
                while time.monotonic() < end:
                    socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
                    time.sleep(0.02)
            assert time.monotonic() < end, "new connections are still accepted"
            assert not waiting.done()
            sending.sendall(body[1000:])
            assert waiting.result()[0] == 200
            assert sending.makefile("rb").read().startswith(b"HTTP/1.1 200 ")
            sending.close()
        assert server.process.wait(timeout=30) == 0
        server._reader.join(timeout=10)
        assert server.log[-1] == "stopped"
        assert "Traceback" not in "\n".join(server.log)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: None, "no such folder"),
        (lambda folder: (folder / "1").mkdir(parents=True), "holds no version"),
    ],
)
def test_a_model_that_is_not_there_is_named(tmp_path, make, words):
    make(tmp_path / "m")
    result = run_serve("--model", tmp_path / "m", "--port", "0")
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {tmp_path / 'm'}: ")
    assert words in result.stderr


def test_a_model_that_cannot_be_loaded_is_named_with_the_reason(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"damaged")
    result = run_serve("--model", tmp_path, "--port", "0")
    assert result.returncode == 1
    assert "no version can be loaded; version 1: DecodeError" in result.stderr


def test_a_port_that_is_taken_is_named(versions):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run_serve("--model", versions, "--port", str(port))
    assert result.returncode == 2
    assert f"--port {port}" in result.stderr
    assert "Address already in use" in result.stderr


@pytest.mark.parametrize(
    "flags", [("--threads", "0"), ("--max-seconds", "-1"), ("--port", "99999"), ("--versions", "0")]
)
def test_settings_that_cannot_work_are_refused(versions, flags):
    result = run_serve("--model", versions, "--port", "0", *flags)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")


def run_serve(*arguments):
    command = [sys.executable, "-m", "keras_genre.serve", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)
