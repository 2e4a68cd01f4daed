"""The graph that is exported: a waveform, feature frames or the bytes of a file in, genres out.

It repeats the arithmetic of `keras_genre.prediction`: frames of the whole clip, windows one after the other and the
last one ending with the clip, logits of each window, their mean, softmax. Of several networks the clip's logits are
averaged, and so are those of a window of the first with what the others say of it, or of those of their own windows
that overlap with it, or are nearest to it where none does.
"""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from keras_genre.features.layers import FrontEnd
from keras_genre.models.musicnn_weights import PENULTIMATE, TAGS
from keras_genre.params import FEATURE_COLUMNS
from keras_genre.pipeline import window_starts_in_graph
from keras_genre.resample_graph import resample_batch
from keras_genre.saved_models import (
    EMBEDDINGS,
    ENCODED,
    FEATURES,
    INPUTS,
    PROBABILITIES,
    WAVEFORM,
    WINDOW_PROBABILITIES,
    MemberParams,
    SavedModelParams,
)

CHUNK_WINDOWS = 64
"""Windows that go through the network at a time, which bounds the memory that a long clip takes."""

Outputs = dict[str, tf.Tensor]

_WAVEFORM_SPEC = tf.TensorSpec((None, None), tf.float32, INPUTS[WAVEFORM])


class Member:
    """A network that an exported model holds, with the front end that makes its frames.

    Parameters
    ----------
    network : keras.Model
        Input (batch, window_frames, dims), output logits (batch, genres); runs on a CPU.
    params : MemberParams
    front_end : FrontEnd, optional
        Its first columns are the features of `params`, for `embeddings` the rest are what they are made of. Members
        that share it share what it computes.
    sample_rate_hz : int > 0, optional
        Of the waveforms, which are resampled if the front end takes another; needed with a front end.
    """

    def __init__(
        self,
        network: keras.Model,
        params: MemberParams,
        front_end: FrontEnd | None = None,
        sample_rate_hz: int | None = None,
    ):
        self.params = params
        self.front_end = front_end
        self.layers = [network] if front_end is None else [network, front_end]
        self._network = network
        if front_end is not None:
            assert sample_rate_hz is not None
            given_hz, taken_hz = sample_rate_hz, front_end.front_end.sample_rate_hz
            # One function in the exported graph, whatever the number of signatures that call it.
            self._frames = tf.function(
                lambda waveforms: front_end(resample_batch(waveforms, given_hz, taken_hz)), [_WAVEFORM_SPEC]
            )

    def frames_of(self, waveforms: tf.Tensor) -> tf.Tensor:
        """Return the frames (batch, frames, columns of the front end) of waveforms (batch, samples)."""
        return self._frames(waveforms)

    def window_logits(self, frames: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return logits float64 (batch, windows, genres) of frames (batch, frames, dims), and the windows' starts."""
        batch, count = tf.unstack(tf.shape(frames)[:2])
        starts = window_starts_in_graph(count, self.params.window_frames)
        # Rows of all clips' frames laid one after the other.
        starts_of_all = tf.reshape(tf.range(batch)[:, tf.newaxis] * count + starts, (-1,))
        logits = self._logits(tf.reshape(frames, (-1, self.params.dims)), starts_of_all)
        return tf.reshape(tf.cast(logits, tf.float64), (batch, tf.size(starts), logits.shape[-1])), starts

    def seconds_of(self, starts: tf.Tensor) -> tf.Tensor:
        """Return from when to when windows are, float64 (windows, 2)."""
        front_end = self.params.front_end
        assert front_end is not None
        begin = tf.cast(starts, tf.float64) * front_end.hop_seconds
        return tf.stack([begin, begin + front_end.window_seconds(self.params.window_frames)], axis=1)

    def _logits(self, frames: tf.Tensor, starts: tf.Tensor) -> tf.Tensor:
        """Return the logits (windows, genres) of the windows of `frames` (frames, dims) at `starts` (windows,)."""
        offsets = tf.range(self.params.window_frames)
        windows = tf.size(starts)
        chunks = tf.TensorArray(
            tf.float32,
            size=(windows + CHUNK_WINDOWS - 1) // CHUNK_WINDOWS,
            infer_shape=False,
            element_shape=(None, self._network.output_shape[-1]),
        )

        def score(chunk: tf.Tensor, chunks: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            first = starts[chunk * CHUNK_WINDOWS : (chunk + 1) * CHUNK_WINDOWS]
            logits = self._network(tf.gather(frames, first[:, tf.newaxis] + offsets), training=False)
            return chunk + 1, chunks.write(chunk, logits)

        _, chunks = tf.while_loop(
            lambda chunk, _: chunk * CHUNK_WINDOWS < windows, score, (0, chunks), parallel_iterations=1
        )
        return chunks.concat()


class ServingGraph:
    """The signatures of an exported model, each a `tf.function` to named outputs.

    Parameters
    ----------
    members : sequence of Member
        At least one, as `params` lists them; with front ends if `params` has more signatures than `features`.
    params : SavedModelParams
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
        members: Sequence[Member],
        params: SavedModelParams,
        decode: Callable[[tf.Tensor], tf.Tensor] | None = None,
    ):
        self._members = tuple(members)
        self._groups = [_Group([members[place] for place in places]) for places in params.groups]
        self._decode = decode
        self._params = params
        self._classify = tf.function(self._classify_frames, input_signature=[self._frames_spec()])
        if WAVEFORM in params.signatures:
            self._classify_audio = tf.function(self._classify_waveform, input_signature=[_WAVEFORM_SPEC])

    def root(self) -> tf.Module:
        """Return the object to save: the variables of the signatures, and no Keras object, which would need Keras."""
        root = tf.Module("keras_genre")
        root.weights = [weight.value for member in self._members for layer in member.layers for weight in layer.weights]
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
        window = "a window of each network takes" if params.companions else f"{params.window_frames} frames take"
        waveform = _finite(_with_samples(waveform, params.minimum_samples, window))
        frames: dict[FrontEnd | None, tf.Tensor] = {}
        for group in self._groups:
            if group.first.front_end not in frames:
                frames[group.first.front_end] = group.first.frames_of(waveform)
        (windows, spans), *others = (group.window_logits(frames[group.first.front_end]) for group in self._groups)
        clip = tf.reduce_mean(windows, axis=1)
        for logits, their_spans in others:
            clip += tf.reduce_mean(logits, axis=1)
            windows += tf.matmul(_shares(spans, their_spans), logits)
        divisor = len(self._members) * params.temperature
        return _probabilities(clip / divisor, windows / divisor)

    def _embed_waveform(self, waveform: tf.Tensor) -> Outputs:
        first, rate = self._members[0], self._params.sample_rate_hz
        assert rate is not None
        waveform = _finite(_with_samples(waveform, first.params.samples_of(1, rate), "1 frame takes"))
        frames = first.frames_of(waveform)
        tags = FEATURE_COLUMNS["musicnn250", "taggram50"]
        return {TAGS: frames[..., :tags], PENULTIMATE: frames[..., tags:]}

    def _classify_frames(self, frames: tf.Tensor) -> Outputs:
        length = self._params.window_frames
        batch, count = tf.unstack(tf.shape(frames)[:2])
        frames = _checked(frames, batch >= 1, "no clip in the batch", batch)
        frames = _checked(
            frames, count >= length, f"a clip must have at least {length} frames, a window; frames given:", count
        )
        frames = tf.debugging.check_numerics(frames, "the frames have values that are not finite")
        logits, _ = self._groups[0].window_logits(frames)
        logits /= self._params.features_divisor
        return _probabilities(tf.reduce_mean(logits, axis=1), logits)


class _Group:
    """Networks that get the same windows."""

    def __init__(self, members: Sequence[Member]):
        self.first = members[0]
        self._members = tuple(members)

    def window_logits(self, frames: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Return the sum of their logits, and from when to when the windows are where that is known.

        Parameters
        ----------
        frames : tf.Tensor [shape=(batch, frames, columns)]
            The first columns are theirs.

        Returns
        -------
        logits : tf.Tensor [shape=(batch, windows, genres), float64]
        spans : tf.Tensor [shape=(windows, 2), float64] or None
            In seconds.
        """
        params = self.first.params
        answers = [member.window_logits(frames[..., : params.dims]) for member in self._members]
        spans = None if params.front_end is None else self.first.seconds_of(answers[0][1])
        return tf.add_n([logits for logits, _ in answers]), spans


def _probabilities(clip: tf.Tensor, windows: tf.Tensor) -> Outputs:
    return {
        PROBABILITIES: tf.cast(tf.nn.softmax(clip), tf.float32),
        WINDOW_PROBABILITIES: tf.cast(tf.nn.softmax(windows), tf.float32),
    }


def _shares(spans: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Return how much of every span (windows, 2) each of the others (others, 2) covers, as shares of 1 a row.

    A span that none covers goes to the nearest of them.
    """
    begin = tf.maximum(spans[:, tf.newaxis, 0], others[:, 0])
    end = tf.minimum(spans[:, tf.newaxis, 1], others[:, 1])
    overlap = tf.maximum(end - begin, 0.0)
    covered = tf.reduce_sum(overlap, axis=1, keepdims=True)
    nearest = tf.one_hot(tf.argmin(begin - end, axis=1), tf.shape(others)[0], dtype=overlap.dtype)
    return tf.where(covered > 0, tf.math.divide_no_nan(overlap, covered), nearest)


def _finite(waveform: tf.Tensor) -> tf.Tensor:
    batch = tf.shape(waveform)[0]
    waveform = _checked(waveform, batch >= 1, "no waveform in the batch", batch)
    return tf.debugging.check_numerics(waveform, "the waveform has samples that are not finite")


def _with_samples(waveform: tf.Tensor, minimum_samples: int | None, what_takes_them: str) -> tf.Tensor:
    samples = tf.shape(waveform)[1]
    return _checked(
        waveform,
        samples >= minimum_samples,
        f"a waveform must have at least {minimum_samples} samples, as many as {what_takes_them}; samples given:",
        samples,
    )


def _checked(tensor: tf.Tensor, condition: tf.Tensor, message: str, found: tf.Tensor) -> tf.Tensor:
    """Return `tensor`, once `condition` was found to hold."""
    with tf.control_dependencies([tf.debugging.Assert(condition, [message, found])]):
        return tf.identity(tensor)
