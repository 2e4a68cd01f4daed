"""Warm-up requests that a SavedModel brings along."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from keras_genre.saved_models import WARMUP
from keras_genre.serving.protocol import DEFAULT_SIGNATURE
from keras_genre.warmup import prediction_log_type

MAX_REQUESTS = 1000


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
    path = folder / WARMUP
    if not path.is_file():
        return
    for record in tf.data.TFRecordDataset(str(path)).take(MAX_REQUESTS):
        log = prediction_log_type().FromString(record.numpy())
        if log.HasField("predict_log"):
            request = log.predict_log.request
            yield (
                request.model_spec.signature_name or DEFAULT_SIGNATURE,
                {
                    entry.key: tf.make_ndarray(tensor_pb2.TensorProto.FromString(entry.value))
                    for entry in request.inputs
                },
            )
