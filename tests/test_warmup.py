"""Warm-up requests are what TensorFlow Serving reads, and the model that they come with answers them."""

import numpy as np
import pytest
import tensorflow as tf

from keras_genre.saved_models import INPUTS
from keras_genre.warmup import prediction_log_type, warmup_record


@pytest.fixture(scope="module")
def records(exported):
    file = exported.version / "assets.extra" / "tf_serving_warmup_requests"
    return [record.numpy() for record in tf.data.TFRecordDataset(str(file))]


def requests_in(records):
    for record in records:
        request = prediction_log_type().FromString(record).predict_log.request
        yield request, {entry.key: tf.make_ndarray(tensor_of(entry.value)) for entry in request.inputs}


def tensor_of(content):
    return type(tf.make_tensor_proto(0)).FromString(content)


def test_every_signature_has_a_request_that_the_model_answers(exported, records):
    loaded = tf.saved_model.load(str(exported.version))
    asked = []
    for request, inputs in requests_in(records):
        assert request.model_spec.name == "toy"
        signature = request.model_spec.signature_name
        assert list(inputs) == [INPUTS[signature]]
        outputs = loaded.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
        np.testing.assert_allclose(outputs["probabilities"].numpy().sum(), 1, atol=1e-6)
        asked.append(signature)
    assert asked == ["serving_default", "features", "encoded"]


def test_a_request_is_read_by_the_types_of_tensorflow_serving(records):
    prediction_log_pb2 = pytest.importorskip(
        "tensorflow_serving.apis.prediction_log_pb2", reason="needs tensorflow-serving-api"
    )
    read = [prediction_log_pb2.PredictionLog.FromString(record).predict_log.request for record in records]
    for (ours, inputs), theirs in zip(requests_in(records), read, strict=True):
        assert theirs.model_spec.name == ours.model_spec.name
        assert theirs.model_spec.signature_name == ours.model_spec.signature_name
        assert set(theirs.inputs) == set(inputs)
        for name, value in inputs.items():
            np.testing.assert_array_equal(tf.make_ndarray(theirs.inputs[name]), value)
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.name = "toy"
    log.predict_log.request.model_spec.signature_name = "features"
    log.predict_log.request.inputs["frames"].CopyFrom(tf.make_tensor_proto([[1.5, 2.5]]))
    record = warmup_record("toy", "features", {"frames": tf.constant([[1.5, 2.5]])})
    assert prediction_log_pb2.PredictionLog.FromString(record) == log


def test_the_bytes_are_those_of_the_published_field_numbers():
    record = warmup_record("m", "s", {"x": tf.constant(True)})
    tensor = tf.make_tensor_proto(True).SerializeToString()

    def field(number, content):
        # Length-delimited; all lengths here fit into a byte.
        return bytes([number << 3 | 2, len(content)]) + content

    request = field(1, field(1, b"m") + field(3, b"s")) + field(2, field(1, b"x") + field(2, tensor))
    assert record == field(6, field(1, request))
