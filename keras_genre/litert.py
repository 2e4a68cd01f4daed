"""A run's network for LiteRT (TensorFlow Lite): frames of one window in, logits and probabilities out.

The front end stays outside: its estimate of the tuning and its loudest bin are of whole clips, so a window alone does
not have them.
"""

import dataclasses
import json
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_genre import files
from keras_genre.errors import ExportError
from keras_genre.exporting import cpu_twin, labels_text, load_for_cpu, saved_model_params
from keras_genre.metrics import softmax
from keras_genre.runs import read_run
from keras_genre.saved_models import (
    FEATURES,
    INPUTS,
    LABELS,
    LITERT_FILES,
    NETWORK,
    PARAMS,
    PROBABILITIES,
    require_free,
)
from keras_genre.scoring import ClipScorer
from keras_genre.verification import BFLOAT16_TOLERANCE, CPU, TOLERANCE, CleanProcess, plausible_frames

LOGITS = "logits"

PROBE = Path(__file__).with_name("litert_probe.py")
WINDOWS = 8


def export_litert(run: Path, out: Path, *, replace: bool = False) -> str:
    """Export a run's network to a folder with `network.tflite`, `labels.txt` and `params.json`, and verify it.

    The file has the signature `serving_default`: `frames` float32 (1, window_frames, dims) -> `logits` and
    `probabilities` float32 (1, genres). It uses LiteRT's own operations only, in float32.

    Parameters
    ----------
    run : Path
        The run folder.
    out : Path
        The folder to write.
    replace : bool
        Put it in the place of an earlier export that is there.

    Returns
    -------
    str
        What was found, as a line for people.

    Raises
    ------
    RunError
        If the run cannot be read.
    ExportError
        If `out` is there already, or is to be replaced and holds more than an export; if the network cannot be
        converted, or the file does not say what the run says.
    """
    require_free(out, replace, LITERT_FILES)
    info = read_run(run)
    model = load_for_cpu(run)
    params = saved_model_params(info)
    # LiteRT has no arithmetic in bfloat16; the weights are float32 anyway.
    network = cpu_twin(model, dataclasses.replace(params.network, mixed_bfloat16=False), fused=False)
    with files.atomic_folder(out, replace=replace) as folder, CleanProcess(PROBE) as process:
        (folder / NETWORK).write_bytes(converted(network))
        (folder / LABELS).write_text(labels_text(params), encoding="utf-8")
        (folder / PARAMS).write_text(files.json_text(dataclasses.asdict(params)), encoding="utf-8")
        tolerance = BFLOAT16_TOLERANCE if params.network.mixed_bfloat16 else TOLERANCE
        difference = verify_litert(folder / NETWORK, model, params.network.log_odds, tolerance, process)
    return f"{WINDOWS} windows answered by LiteRT; largest difference to the run {difference:.1e}"


def converted(network: keras.Model) -> bytes:
    """Return a network as the content of a LiteRT file.

    Parameters
    ----------
    network : keras.Model
        Input (batch, window_frames, dims), output logits (batch, genres); without random numbers in inference.

    Raises
    ------
    ExportError
        If it takes operations that LiteRT lacks.
    """
    _, window_frames, dims = network.input_shape
    root = tf.Module()
    root.weights = [weight.value for weight in network.weights]

    # LiteRT's own loops want all sizes to be known.
    @tf.function(input_signature=[tf.TensorSpec((1, window_frames, dims), tf.float32, INPUTS[FEATURES])])
    def forward(frames: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = network(frames, training=False)
        return {LOGITS: logits, PROBABILITIES: tf.nn.softmax(logits)}

    with tempfile.TemporaryDirectory() as saved_model:
        tf.saved_model.save(root, saved_model, forward)
        converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            return converter.convert()
        except Exception as error:  # The converter's own class of errors is not public.
            raise ExportError(f"LiteRT lacks an operation of this network: {str(error).splitlines()[0]}") from error


def verify_litert(file: Path, model: keras.Model, log_odds: bool, tolerance: float, process: CleanProcess) -> float:
    """Return the largest difference of a probability between a LiteRT file and the network it was made of.

    Raises
    ------
    ExportError
        If a clean process cannot use the file, or the difference is above `tolerance`.
    """
    _, length, dims = model.input_shape
    windows = plausible_frames(model, WINDOWS * length, log_odds=log_odds).reshape((WINDOWS, 1, length, dims))
    windows[0] = 0
    with tf.device(CPU):
        expected = softmax(ClipScorer(model).windows(windows[:, 0]).astype(np.float64))
    with tempfile.TemporaryDirectory() as scratch:
        asked, answered, facts = (Path(scratch) / name for name in ("in.npy", "out.npz", "out.json"))
        np.save(asked, windows)
        process.run(file.resolve(), asked, answered, facts)
        names = json.loads(facts.read_text())
        if names != {"inputs": [INPUTS[FEATURES]], "outputs": sorted((LOGITS, PROBABILITIES))}:
            raise ExportError(f"{file.name}: the signature is {names}")
        with np.load(answered) as stored:
            probabilities, logits = stored[PROBABILITIES][:, 0], stored[LOGITS][:, 0]
    if not np.isfinite(logits).all() or probabilities.shape != expected.shape:
        raise ExportError(f"{file.name}: the answers are not finite, or not of the shape {expected.shape}")
    difference = float(max(np.abs(probabilities - expected).max(), np.abs(softmax(logits) - expected).max()))
    if difference > tolerance:
        raise ExportError(
            f"{file.name}: a probability is {difference:.2g} from the run's; at most {tolerance:g} is allowed"
        )
    return difference
