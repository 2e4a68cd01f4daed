"""Asks a SavedModel and writes down its answers; run by path, as a program of its own.

It stands for somebody who has TensorFlow and the SavedModel and nothing else: it imports nothing of this package,
makes sure that nobody else can, and needs no Keras.

Its arguments come from standard input: `[SAVED_MODEL, CLIPS.npz, REQUESTS.json, ANSWERS.npz, FACTS.json]`.
"""

import json
import resource
import sys

if __name__ == "__main__":
    for forbidden in ("keras_genre", "keras", "tf_keras", "tensorflow_io", "librosa"):
        # Python refuses to import what has None here.
        sys.modules[forbidden] = None  # type: ignore[assignment]

import numpy as np
import tensorflow as tf


def unknown_operations(saved_model: str) -> list[str]:
    """Return the operations of the graph that a plain TensorFlow on a CPU cannot run, by name."""
    from tensorflow.core.protobuf import saved_model_pb2

    with open(f"{saved_model}/saved_model.pb", "rb") as file:
        content = saved_model_pb2.SavedModel.FromString(file.read())
    found = set()
    for meta in content.meta_graphs:
        own = {function.signature.name for function in meta.graph_def.library.function}
        nodes = list(meta.graph_def.node)
        for function in meta.graph_def.library.function:
            nodes.extend(function.node_def)
        found |= {node.op for node in nodes} - own
    brought = set(dir(tf.raw_ops))
    # Of the graph's own format; raw_ops leaves them out.
    brought |= {"Placeholder", "NoOp", "Const"}
    return sorted(name for name in found if name not in brought or "PyFunc" in name or name.startswith("Cudnn"))


def ask(model, request: dict, clips) -> tuple[dict[str, np.ndarray], str]:
    """Send a request; return the outputs, or none and the error."""
    if request["signature"] == "encoded":
        tensor = tf.constant([clips[request["clips"][0]].tobytes()])
    else:
        tensor = tf.constant(np.stack([clips[name] for name in request["clips"]]))
    try:
        outputs = model.signatures[request["signature"]](**{request["input"]: tensor})
    except tf.errors.OpError as error:
        return {}, f"{type(error).__name__}: {error.message}"
    return {name: value.numpy() for name, value in outputs.items()}, ""


def main() -> None:
    """Answer the requests of the command line."""
    saved_model, clips_file, requests_file, answers_file, facts_file = json.load(sys.stdin)
    model = tf.saved_model.load(saved_model)
    with open(requests_file, encoding="utf-8") as file:
        requests = json.load(file)
    answers: dict[str, np.ndarray] = {}
    errors: dict[str, str] = {}
    with np.load(clips_file, allow_pickle=False) as stored:
        clips = {name: stored[name] for name in stored.files}
    for number, request in enumerate(requests):
        outputs, error = ask(model, request, clips)
        answers |= {f"{number}/{name}": value for name, value in outputs.items()}
        if error:
            errors[str(number)] = error
    np.savez(answers_file, **answers)
    facts = {
        "signatures": {
            name: {
                "inputs": sorted(function.structured_input_signature[1]),
                "outputs": sorted(function.structured_outputs),
            }
            for name, function in model.signatures.items()
        },
        "unknown_operations": unknown_operations(saved_model),
        "errors": errors,
        "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "tensorflow": tf.__version__,
    }
    with open(facts_file, "w", encoding="utf-8") as file:
        json.dump(facts, file)


if __name__ == "__main__":
    main()
