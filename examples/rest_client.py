"""Ask a server over REST for the genre of a WAV file: TensorFlow Serving, or `python -m keras_genre.serve`.

`python examples/rest_client.py song.wav --model NAME [--url http://localhost:8501]`; needs only `requests`.
"""

import argparse
import base64
import sys
from collections.abc import Sequence
from pathlib import Path

import requests

TIMEOUT_SECONDS = 60


def encoded_request(content: bytes) -> dict:
    """Return the body that asks for the genre of a 16-bit WAV or AU file: its bytes in base64, decoded in the model."""
    return {"signature_name": "encoded", "inputs": [{"b64": base64.b64encode(content).decode()}]}


def waveform_request(waveform: Sequence[float]) -> dict:
    """Return the body that asks for the genre of samples in [-1, 1], mono, at the model's rate."""
    return {"instances": [list(waveform)]}


def predict(url: str, model: str, request: dict) -> tuple[list[float], list[list[float]]]:
    """Send a request; return the probabilities of the genres in the whole, and in each window.

    Raises
    ------
    SystemExit
        With the server's reason, if it refuses the request.
    """
    response = requests.post(f"{url}/v1/models/{model}:predict", json=request, timeout=TIMEOUT_SECONDS)
    if not response.ok:
        raise SystemExit(f"{response.status_code}: {response.json().get('error')}")
    answer = response.json()
    # Asked by column, the answer is one object of batches; asked by row, a list of an object each.
    outputs = answer["outputs"] if "outputs" in answer else answer["predictions"][0]
    probabilities, windows = outputs["probabilities"], outputs["window_probabilities"]
    return (probabilities[0], windows[0]) if "outputs" in answer else (probabilities, windows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the client."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="a 16-bit WAV or AU file")
    parser.add_argument("--model", required=True, help="the model's name")
    parser.add_argument("--url", default="http://localhost:8501", help="of the server")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="assets/labels.txt of the model")
    options = parser.parse_args(argv)
    probabilities, windows = predict(options.url, options.model, encoded_request(options.file.read_bytes()))
    genres = options.labels.read_text().split("\n") if options.labels else list(map(str, range(len(probabilities))))
    for number in sorted(range(len(probabilities)), key=lambda number: -probabilities[number]):
        course = " ".join(f"{window[number]:.2f}" for window in windows)
        print(f"{genres[number]}\t{probabilities[number]:.3f}\t{course}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
