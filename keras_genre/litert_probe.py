"""Asks a LiteRT file and writes down its answers; run by path, as a program of its own.

Its arguments come from standard input: `[NETWORK.tflite, WINDOWS.npy, ANSWERS.npz, FACTS.json]`.
"""

import json
import sys

if __name__ == "__main__":
    for forbidden in ("keras_genre", "keras", "tf_keras"):
        # Python refuses to import what has None here.
        sys.modules[forbidden] = None  # type: ignore[assignment]

import numpy as np

try:
    # TensorFlow's own interpreter goes into this package.
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    from tensorflow.lite.python.interpreter import Interpreter


def main() -> None:
    """Answer the windows of the command line, one by one."""
    network, windows, answers, facts = json.load(sys.stdin)
    forward = Interpreter(model_path=network).get_signature_runner("serving_default")
    outputs = [forward(frames=window) for window in np.load(windows)]
    np.savez(answers, **{name: np.stack([output[name] for output in outputs]) for name in outputs[0]})
    with open(facts, "w", encoding="utf-8") as file:
        json.dump(
            {"inputs": sorted(forward.get_input_details()), "outputs": sorted(forward.get_output_details())}, file
        )


if __name__ == "__main__":
    main()
