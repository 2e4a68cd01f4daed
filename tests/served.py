"""SavedModels made of a few operations, with the contract of the real ones; and servers over them."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

GENRES = ("bebop", "polka", "zydeco")
RATE = 8000
HOP = 80
WINDOW_FRAMES = 50


def write_toy_classifier(folder: Path, shift: float = 0.0, warmup: bool = False, contract: bool = True) -> None:
    """Write a model of windows of half a second, whose probabilities follow loudness.

    `shift` is added to the first genre's logit, so that versions can be told apart.
    """
    import tensorflow as tf

    class Toy(tf.Module):
        def __init__(self):
            super().__init__()
            self.shift = tf.Variable([shift, 0.0, 0.0], dtype=tf.float32)

        def _outputs(self, frames):
            """frames (batch, frames, 1) -> outputs; a window every WINDOW_FRAMES, the last one at the end."""
            count = tf.shape(frames)[1]
            starts = tf.range(0, count - WINDOW_FRAMES + 1, WINDOW_FRAMES)
            rest = tf.math.floormod(count - WINDOW_FRAMES, WINDOW_FRAMES)
            starts = tf.cond(rest > 0, lambda: tf.concat([starts, [count - WINDOW_FRAMES]], 0), lambda: starts)
            windows = tf.gather(frames[..., 0], starts[:, None] + tf.range(WINDOW_FRAMES), axis=1)
            loudness = tf.reduce_mean(windows, axis=2)
            logits = tf.stack([loudness, 1 - loudness, 0 * loudness], axis=-1) * 3 + self.shift
            return {
                "probabilities": tf.nn.softmax(tf.reduce_mean(logits, axis=1)),
                "window_probabilities": tf.nn.softmax(logits),
            }

        def _frames(self, waveform):
            padded = tf.pad(tf.abs(waveform), [[0, 0], [0, HOP - 1]])
            count = 1 + tf.shape(waveform)[1] // HOP
            padded = tf.pad(padded, [[0, 0], [0, HOP]])[:, : count * HOP]
            return tf.reduce_max(tf.reshape(padded, [tf.shape(waveform)[0], count, HOP]), axis=2)[..., None]

        @tf.function(input_signature=[tf.TensorSpec((None, None), tf.float32, "waveform")])
        def waveforms(self, waveform):
            return self._outputs(self._frames(waveform))

        @tf.function(input_signature=[tf.TensorSpec((None, None, 1), tf.float32, "frames")])
        def features(self, frames):
            return self._outputs(frames)

        @tf.function(input_signature=[tf.TensorSpec((1,), tf.string, "encoded")])
        def encoded(self, encoded):
            samples, _ = tf.audio.decode_wav(encoded[0], desired_channels=1)
            return self._outputs(self._frames(samples[None, :, 0]))

    module = Toy()
    tf.saved_model.save(
        module,
        str(folder),
        {"serving_default": module.waveforms, "features": module.features, "encoded": module.encoded},
    )
    if contract:
        (folder / "assets").mkdir(exist_ok=True)
        (folder / "assets" / "labels.txt").write_text("\n".join(GENRES) + "\n")
        params = {
            "sample_rate_hz": RATE,
            "hop_seconds": HOP / RATE,
            "window_frames": WINDOW_FRAMES,
            "window_seconds": WINDOW_FRAMES * HOP / RATE,
            "minimum_samples": (WINDOW_FRAMES - 1) * HOP,
        }
        (folder / "assets" / "params.json").write_text(json.dumps(params))
    if warmup:
        write_warmup_request(folder, {"waveform": np.zeros((1, RATE), np.float32)})


def write_half_plus_two(folder: Path) -> None:
    """Write the smallest model: x -> y = x / 2 + 2, for numbers of any count; and functions of other shapes."""
    import tensorflow as tf

    class Half(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, "x")])
        def half(self, x):
            return {"y": x / 2 + 2}

        @tf.function(input_signature=[tf.TensorSpec((), tf.float32, "x")])
        def scalar(self, x):
            return {"y": x / 2 + 2}

        @tf.function(
            input_signature=[tf.TensorSpec((None,), tf.int64, "count"), tf.TensorSpec((None,), tf.string, "word")]
        )
        def repeat(self, count, word):
            tf.debugging.assert_less(count, tf.constant(100, tf.int64), "too many repetitions")
            return {"twice": 2 * count, "word_bytes": word, "text": tf.strings.join([word, word])}

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, "x")])
        def total(self, x):
            return {"sum": tf.reduce_sum(x, keepdims=True)}

    module = Half()
    signatures = {
        "serving_default": module.half,
        "scalar": module.scalar,
        "repeat": module.repeat,
        "total": module.total,
    }
    tf.saved_model.save(module, str(folder), signatures)


def write_warmup_request(folder: Path, inputs: dict[str, np.ndarray]) -> None:
    """Write a record of tensorflow_serving.apis.PredictionLog, byte by byte as protocol buffers define it."""
    import tensorflow as tf

    def field(number: int, content: bytes) -> bytes:
        return varint(number << 3 | 2) + varint(len(content)) + content

    def varint(value: int) -> bytes:
        parts = []
        while value > 127:
            parts.append(value & 127 | 128)
            value >>= 7
        return bytes([*parts, value])

    request = field(1, field(1, b"toy") + field(3, b"serving_default"))
    for name, array in inputs.items():
        request += field(2, field(1, name.encode()) + field(2, tf.make_tensor_proto(array).SerializeToString()))
    log = field(6, field(1, request))
    (folder / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(folder / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log)


class RunningServer:
    """`python -m keras_genre.serve` as a process, on a free port of 127.0.0.1.

    Attributes
    ----------
    port : int
    process : subprocess.Popen
    log : list of str
        Lines of its standard error so far.
    """

    def __init__(self, model: Path, *flags: str):
        command = [sys.executable, "-m", "keras_genre.serve", "--model", str(model), "--port", "0", *flags]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
        )
        self.log: list[str] = []
        self.port = 0
        for line in self.process.stderr:
            self.log.append(line.rstrip())
            if match := re.search(r" on http://.*:(\d+)$", line.strip()):
                self.port = int(match[1])
                break
        assert self.port, f"the server did not start: {self.log}"
        # Unread, a full pipe would stop the server.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            self.log.append(line.rstrip())

    def stop(self) -> int:
        """Ask it to stop; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=60)
        self._reader.join(timeout=10)
        return status

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def serving(model: Path, *flags: str) -> Iterator[RunningServer]:
    """Run a server for the length of a block."""
    server = RunningServer(model, *flags)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
