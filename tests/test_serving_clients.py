"""The examples of clients get the answers that the model gives; the deployment files say what is there."""

import concurrent.futures
import importlib.util
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from served import GENRES, RATE, serving, write_toy_classifier, write_warmup_request

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "toy"
    write_toy_classifier(folder / "1")
    return folder


@pytest.fixture(scope="module")
def waveform():
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, RATE)
    return (np.round(noise * 32767) / 32768).astype(np.float32)


@pytest.fixture(scope="module")
def wav(waveform):
    file = io.BytesIO()
    soundfile.write(file, waveform, RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


@pytest.fixture(scope="module")
def expected(model, waveform):
    from keras_genre.serving.models import Servable

    outputs = Servable(model / "1", 1).run("serving_default", {"waveform": waveform[np.newaxis]})
    return outputs["probabilities"][0], outputs["window_probabilities"][0]


def example(name):
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_client_over_rest_gets_what_the_model_gives(model, waveform, wav, expected, tmp_path):
    pytest.importorskip("requests", reason="needs requests")
    pytest.importorskip("fastapi", reason="needs the extra 'serve'")
    client = example("rest_client")
    (tmp_path / "song.wav").write_bytes(wav)
    with serving(model) as server:
        for request in (client.encoded_request(wav), client.waveform_request(waveform.tolist())):
            for found, wanted in zip(client.predict(server.url, "toy", request), expected, strict=True):
                np.testing.assert_allclose(found, wanted, atol=1e-5)
        with pytest.raises(SystemExit, match="404: Servable not found"):
            client.predict(server.url, "other", client.encoded_request(wav))
        command = [sys.executable, REPOSITORY / "examples" / "rest_client.py", tmp_path / "song.wav", "--model", "toy"]
        command += ["--url", server.url, "--labels", model / "1" / "assets" / "labels.txt"]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[0].startswith(f"{GENRES[expected[0].argmax()]}\t{expected[0].max():.3f}\t")
    assert len(result.stdout.splitlines()) == 3


def test_the_client_over_grpc_speaks_tensorflow_servings_messages(model, waveform, wav, expected):
    """The server is gRPC's own, with TensorFlow Serving's service definition, and calls the SavedModel."""
    grpc = pytest.importorskip("grpc", reason="needs grpcio")
    pytest.importorskip("tensorflow_serving.apis", reason="needs tensorflow-serving-api")
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    from keras_genre.serving.models import Servable

    client = example("grpc_client")
    servable = Servable(model / "1", 1)
    seen = []

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            seen.append(request)
            inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            response = predict_pb2.PredictResponse()
            for name, array in servable.run(request.model_spec.signature_name, inputs).items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(array))
            return response

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        requests = [client.encoded_request("toy", wav), client.waveform_request("toy", waveform)]
        for request in requests:
            for found, wanted in zip(client.predict(f"127.0.0.1:{port}", request), expected, strict=True):
                np.testing.assert_allclose(found, wanted, atol=1e-5)
    finally:
        server.stop(None)
    for request in seen:
        assert request.model_spec.name == "toy"
        assert set(request.inputs) <= set(servable.signatures[request.model_spec.signature_name].inputs)


def test_warm_up_requests_are_tensorflow_servings_messages(tmp_path):
    pytest.importorskip("tensorflow_serving.apis", reason="needs tensorflow-serving-api")
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    from keras_genre.saved_models import WARMUP
    from keras_genre.serving.warmup import warmup_requests

    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_warmup_request(tmp_path, {"waveform": array})
    [record] = tf.data.TFRecordDataset(str(tmp_path / WARMUP))
    log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
    np.testing.assert_array_equal(tf.make_ndarray(log.predict_log.request.inputs["waveform"]), array)
    with tf.io.TFRecordWriter(str(tmp_path / WARMUP)) as writer:
        writer.write(log.SerializeToString())
        writer.write(prediction_log_pb2.PredictionLog(regress_log={}).SerializeToString())
    [(name, inputs)] = warmup_requests(tmp_path)
    assert name == "serving_default"
    np.testing.assert_array_equal(inputs["waveform"], array)


@pytest.mark.parametrize("name", ["compose.yaml", "kserve.yaml"])
def test_deployment_files_are_yaml_that_says_it_was_not_run(name):
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    text = (REPOSITORY / "deploy" / name).read_text()
    assert "has not been run" in text
    document = yaml.safe_load(text)
    if name == "compose.yaml":
        service = document["services"]["serving"]
        assert service["image"].startswith("tensorflow/serving:")
        assert (REPOSITORY / "deploy" / service["volumes"][0]["source"]).resolve() == REPOSITORY / "saved_models"
    else:
        assert document["kind"] == "InferenceService"
        assert document["spec"]["predictor"]["model"]["modelFormat"] == {"name": "tensorflow"}
