"""The graph that is exported: a waveform, feature frames or the bytes of a file in, genres out.

It repeats the arithmetic of `keras_genre.prediction`: frames of the whole clip, windows one after the other and the
last one ending with the clip, logits of each window, their mean, softmax.
"""

from collections.abc import Callable

import keras
import tensorflow as tf

from keras_genre.features.layers import FrontEnd
from keras_genre.models.musicnn_weights import PENULTIMATE, TAGS
from keras_genre.params import FEATURE_COLUMNS
from keras_genre.pipeline import window_starts_in_graph
from keras_genre.saved_models import (
    EMBEDDINGS,
    ENCODED,
    FEATURES,
    INPUTS,
    PROBABILITIES,
    WAVEFORM,
    WINDOW_PROBABILITIES,
    SavedModelParams,
)

CHUNK_WINDOWS = 64
"""Windows that go through the network at a time, which bounds the memory that a long clip takes."""

Outputs = dict[str, tf.Tensor]


class ServingGraph:
    """The signatures of an exported model, each a `tf.function` to named outputs.

    Parameters
    ----------
    network : keras.Model
        Input (batch, window_frames, dims), output logits (batch, genres); runs on a CPU.
    params : SavedModelParams
    front_end : FrontEnd, optional
        Its first columns are the features of `params`, for `embeddings` the rest are what they are made of; needed if
        `params` has more signatures than `features`.
    decode : callable, optional
        Bytes of a file -> waveform float32 (samples,) at the model's rate; the same.

    Raises
    ------
    tf.errors.InvalidArgumentError
        By the signatures when they are called, for clips without a whole window, batches without a clip, samples that
        are not finite, and bytes that `decode` refuses: never an answer that means nothing.
    """

    def __init__(
        self,
        network: keras.Model,
        params: SavedModelParams,
        front_end: FrontEnd | None = None,
        decode: Callable[[tf.Tensor], tf.Tensor] | None = None,
    ):
        self._network = network
        self._front_end = front_end
        self._decode = decode
        self._params = params
        self._classify = tf.function(self._classify_frames, input_signature=[self._frames_spec()])
        if front_end is not None:
            self._frames = tf.function(self._frames_of, input_signature=[_WAVEFORM_SPEC])
            self._classify_audio = tf.function(self._classify_waveform, input_signature=[_WAVEFORM_SPEC])

    def root(self) -> tf.Module:
        """Return the object to save: the variables of the signatures, and no Keras object, which would need Keras."""
        root = tf.Module("keras_genre")
        layers = [self._network] if self._front_end is None else [self._network, self._front_end]
        root.weights = [weight.value for layer in layers for weight in layer.weights]
        return root

    def signatures(self) -> dict[str, tf.types.experimental.PolymorphicFunction]:
        """Return the signatures that `params` names, by name."""
        functions = {
            WAVEFORM: (lambda waveform: self._classify_audio(waveform), _WAVEFORM_SPEC),
            FEATURES: (lambda frames: self._classify(frames), self._frames_spec()),
            ENCODED: (self._classify_encoded, tf.TensorSpec(None, tf.string, INPUTS[ENCODED])),
            EMBEDDINGS: (self._embed_waveform, _WAVEFORM_SPEC),
        }
        return {name: tf.function(functions[name][0], [functions[name][1]]) for name in self._params.signatures}

    def _frames_spec(self) -> tf.TensorSpec:
        return tf.TensorSpec((None, None, self._params.dims), tf.float32, INPUTS[FEATURES])

    def _classify_encoded(self, encoded: tf.Tensor) -> Outputs:
        # A request by rows makes a vector of the one string, a request by columns a scalar.
        encoded = _checked(encoded, tf.size(encoded) == 1, "one file at a time; files given:", tf.size(encoded))
        assert self._decode is not None
        return self._classify_audio(self._decode(tf.reshape(encoded, ()))[tf.newaxis])

    def _classify_waveform(self, waveform: tf.Tensor) -> Outputs:
        params = self._params
        waveform = _with_samples(waveform, params.minimum_samples, params.window_frames)
        return self._classify(self._frames(waveform)[..., : params.dims])

    def _embed_waveform(self, waveform: tf.Tensor) -> Outputs:
        assert self._params.front_end is not None
        frames = self._frames(_with_samples(waveform, self._params.front_end.samples_of(1), 1))
        tags = FEATURE_COLUMNS["musicnn250", "taggram50"]
        return {TAGS: frames[..., :tags], PENULTIMATE: frames[..., tags:]}

    def _frames_of(self, waveform: tf.Tensor) -> tf.Tensor:
        batch = tf.shape(waveform)[0]
        waveform = _checked(waveform, batch >= 1, "no waveform in the batch", batch)
        waveform = tf.debugging.check_numerics(waveform, "the waveform has samples that are not finite")
        assert self._front_end is not None
        return self._front_end(waveform)

    def _classify_frames(self, frames: tf.Tensor) -> Outputs:
        length, dims = self._params.window_frames, self._params.dims
        batch, count = tf.unstack(tf.shape(frames)[:2])
        frames = _checked(frames, batch >= 1, "no clip in the batch", batch)
        frames = _checked(
            frames, count >= length, f"a clip must have at least {length} frames, a window; frames given:", count
        )
        frames = tf.debugging.check_numerics(frames, "the frames have values that are not finite")
        starts = window_starts_in_graph(count, length)
        # Rows of all clips' frames laid one after the other.
        starts_of_all = tf.reshape(tf.range(batch)[:, tf.newaxis] * count + starts, (-1,))
        logits = self._logits(tf.reshape(frames, (-1, dims)), starts_of_all)
        logits = tf.reshape(tf.cast(logits, tf.float64), (batch, tf.size(starts), len(self._params.genres)))
        return {
            PROBABILITIES: tf.cast(tf.nn.softmax(tf.reduce_mean(logits, axis=1)), tf.float32),
            WINDOW_PROBABILITIES: tf.cast(tf.nn.softmax(logits), tf.float32),
        }

    def _logits(self, frames: tf.Tensor, starts: tf.Tensor) -> tf.Tensor:
        """Return the logits (windows, genres) of the windows of `frames` (frames, dims) at `starts` (windows,)."""
        offsets = tf.range(self._params.window_frames)
        windows = tf.size(starts)
        chunks = tf.TensorArray(
            tf.float32,
            size=(windows + CHUNK_WINDOWS - 1) // CHUNK_WINDOWS,
            infer_shape=False,
            element_shape=(None, len(self._params.genres)),
        )

        def score(chunk: tf.Tensor, chunks: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            first = starts[chunk * CHUNK_WINDOWS : (chunk + 1) * CHUNK_WINDOWS]
            logits = self._network(tf.gather(frames, first[:, tf.newaxis] + offsets), training=False)
            return chunk + 1, chunks.write(chunk, logits)

        _, chunks = tf.while_loop(
            lambda chunk, _: chunk * CHUNK_WINDOWS < windows, score, (0, chunks), parallel_iterations=1
        )
        return chunks.concat()


_WAVEFORM_SPEC = tf.TensorSpec((None, None), tf.float32, INPUTS[WAVEFORM])


def _with_samples(waveform: tf.Tensor, minimum_samples: int | None, frames: int) -> tf.Tensor:
    samples = tf.shape(waveform)[1]
    return _checked(
        waveform,
        samples >= minimum_samples,
        f"a waveform must have at least {minimum_samples} samples, as many as {frames} frames take; samples given:",
        samples,
    )


def _checked(tensor: tf.Tensor, condition: tf.Tensor, message: str, found: tf.Tensor) -> tf.Tensor:
    """Return `tensor`, once `condition` was found to hold."""
    with tf.control_dependencies([tf.debugging.Assert(condition, [message, found])]):
        return tf.identity(tensor)
