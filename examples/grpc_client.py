"""Ask TensorFlow Serving over gRPC for the genre of a WAV file.

`python examples/grpc_client.py song.wav --model NAME [--address localhost:8500]`; needs `tensorflow-serving-api`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

TIMEOUT_SECONDS = 60
MAX_MESSAGE_BYTES = 64 << 20


def encoded_request(model: str, content: bytes) -> predict_pb2.PredictRequest:
    """Return the message that asks for the genre of a 16-bit WAV or AU file, decoded in the model."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = "encoded"
    request.inputs["encoded"].CopyFrom(tf.make_tensor_proto([content]))
    return request


def waveform_request(model: str, waveform: np.ndarray) -> predict_pb2.PredictRequest:
    """Return the message that asks for the genre of samples in [-1, 1], mono, at the model's rate."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = "serving_default"
    request.inputs["waveform"].CopyFrom(tf.make_tensor_proto(waveform[np.newaxis], tf.float32))
    return request


def predict(address: str, request: predict_pb2.PredictRequest) -> tuple[np.ndarray, np.ndarray]:
    """Send a request; return the probabilities of the genres (genres,) and in each window (windows, genres).

    Raises
    ------
    grpc.RpcError
        If the server refuses the request or cannot be reached.
    """
    # A waveform of a few minutes is larger than the 4 MiB that gRPC takes by default.
    sizes = [(f"grpc.max_{way}_message_length", MAX_MESSAGE_BYTES) for way in ("send", "receive")]
    with grpc.insecure_channel(address, options=sizes) as channel:
        service = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        response = service.Predict(request, TIMEOUT_SECONDS)
    outputs = {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}
    return outputs["probabilities"][0], outputs["window_probabilities"][0]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the client."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="a 16-bit WAV or AU file")
    parser.add_argument("--model", required=True, help="the model's name")
    parser.add_argument("--address", default="localhost:8500", help="host and port of the server")
    options = parser.parse_args(argv)
    try:
        probabilities, windows = predict(options.address, encoded_request(options.model, options.file.read_bytes()))
    except grpc.RpcError as error:
        raise SystemExit(f"{error.code().name}: {error.details()}") from error
    for number in np.argsort(-probabilities):
        course = " ".join(f"{share:.2f}" for share in windows[:, number])
        print(f"{number}\t{probabilities[number]:.3f}\t{course}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
