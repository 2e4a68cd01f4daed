"""Warm-up requests for TensorFlow Serving: what it runs on a new version before it serves it.

They are a TFRecord of `tensorflow.serving.PredictionLog` messages. The package tensorflow-serving-api, which has that
type, pulls a whole TensorFlow of its own minor version, so the few fields that a request needs are declared here.
"""

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from keras_genre import files

_FIELD = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "keras_genre.warmup"

# message -> (field, number, type or message), as in tensorflow_serving/apis/{prediction_log,predict,model}.proto.
_MESSAGES: dict[str, list[tuple[str, int, str]]] = {
    "PredictionLog": [("predict_log", 6, "PredictLog")],
    "PredictLog": [("request", 1, "PredictRequest")],
    "PredictRequest": [("model_spec", 1, "ModelSpec"), ("inputs", 2, "Input")],
    "ModelSpec": [("name", 1, "string"), ("signature_name", 3, "string")],
    # An entry of map<string, TensorProto>, which is sent like any message of a key and a value; so is a message
    # like bytes, which makes the type of the tensor dispensable.
    "Input": [("key", 1, "string"), ("value", 2, "bytes")],
}


@functools.cache
def prediction_log_type() -> Any:
    """Return the message class that reads and writes the requests of a `tensorflow.serving.PredictionLog`.

    Its only input tensors are serialised `TensorProto` messages: `log.predict_log.request.inputs[0].value`.
    """
    file = descriptor_pb2.FileDescriptorProto(name="keras_genre/warmup.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            repeated = (name, field) == ("PredictRequest", "inputs")
            declared = message.field.add(
                name=field, number=number, label=_FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            )
            if kind in _MESSAGES:
                declared.type, declared.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                declared.type = _FIELD.TYPE_STRING if kind == "string" else _FIELD.TYPE_BYTES
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.PredictionLog"))


def warmup_record(model: str, signature: str, inputs: Mapping[str, Any]) -> bytes:
    """Return one request as a serialised PredictionLog.

    Parameters
    ----------
    model : str
        Name of the model.
    signature : str
    inputs : mapping of str to tensor
        What the signature takes.
    """
    log = prediction_log_type()()
    request = log.predict_log.request
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, tensor in inputs.items():
        request.inputs.add(key=name, value=tf.make_tensor_proto(tensor).SerializeToString())
    return log.SerializeToString()


def write_warmup(path: Path, records: Iterable[bytes]) -> None:
    """Write records, at most the 1 000 that TensorFlow Serving accepts, as a TFRecord file."""
    with files.atomic_path(path) as temporary, tf.io.TFRecordWriter(str(temporary)) as writer:
        for record in records:
            writer.write(record)
