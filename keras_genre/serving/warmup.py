"""Warm-up requests that a SavedModel brings along, in TensorFlow Serving's form.

They are records of `PredictionLog`. Its messages are declared here as far as they are needed, so that reading them
does not take the package tensorflow-serving-api; fields that are not declared are passed over.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_genre.serving.protocol import DEFAULT_SIGNATURE

WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MAX_REQUESTS = 1000

# https://github.com/tensorflow/serving, tensorflow_serving/apis: model.proto, predict.proto, prediction_log.proto
_PACKAGE = "keras_genre.warmup"
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "ModelSpec": {"name": (1, "string"), "signature_name": (3, "string")},
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, "map")},
    "PredictLog": {"request": (1, "PredictRequest")},
    "PredictionLog": {"predict_log": (6, "PredictLog")},
}


def warmup_requests(folder: Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield the warm-up requests of a SavedModel: the signature's name and the inputs.

    Parameters
    ----------
    folder : Path
        The SavedModel. Without warm-up requests in it nothing is yielded, and logs of other kinds than
        predictions are passed over.

    Raises
    ------
    tf.errors.OpError, google.protobuf.message.DecodeError
        If the file is damaged.
    """
    import tensorflow as tf

    path = folder / WARMUP_FILE
    if not path.is_file():
        return
    message = _prediction_log()
    for record in tf.data.TFRecordDataset(str(path)).take(MAX_REQUESTS):
        log = message.FromString(record.numpy())
        if log.HasField("predict_log"):
            request = log.predict_log.request
            yield (
                request.model_spec.signature_name or DEFAULT_SIGNATURE,
                {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()},
            )


@functools.cache
def _prediction_log() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from tensorflow.core.framework import tensor_pb2

    field_type = descriptor_pb2.FieldDescriptorProto
    tensor = tensor_pb2.TensorProto.DESCRIPTOR
    file = descriptor_pb2.FileDescriptorProto(
        name="keras_genre/warmup.proto", package=_PACKAGE, syntax="proto3", dependency=[tensor.file.name]
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            field = message.field.add(name=field_name, number=number, label=field_type.LABEL_OPTIONAL)
            if kind == "string":
                field.type = field_type.TYPE_STRING
                continue
            field.type = field_type.TYPE_MESSAGE
            field.type_name = f".{_PACKAGE}.{kind}"
            if kind == "map":
                # On the wire a map is a repeated message of key and value.
                entry = message.nested_type.add(name="InputsEntry")
                entry.options.map_entry = True
                entry.field.add(name="key", number=1, label=field_type.LABEL_OPTIONAL, type=field_type.TYPE_STRING)
                entry.field.add(
                    name="value",
                    number=2,
                    label=field_type.LABEL_OPTIONAL,
                    type=field_type.TYPE_MESSAGE,
                    type_name=f".{tensor.full_name}",
                )
                field.label = field_type.LABEL_REPEATED
                field.type_name = f".{_PACKAGE}.{name}.InputsEntry"
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.PredictionLog"))
