"""The front end as a Keras layer, for models that take waveforms."""

from typing import Any

import keras
import tensorflow as tf

from keras_genre import params
from keras_genre.features import graph
from keras_genre.models.musicnn import musicnn
from keras_genre.params import TAGGER_KINDS, FrontEndParams


@keras.saving.register_keras_serializable(package="keras_genre")
class FrontEnd(keras.layers.Layer):
    """Turns waveforms into feature frames inside a model; nothing in it learns, and no gradients are to be asked for.

    Its input is float32 [shape=(batch, samples)], mono, in [-1, 1], at `front_end.sample_rate_hz`, of any length
    that all clips of the batch share; its output is float32 [shape=(batch, front_end.frames_of(samples), dims)], as
    `features.graph.waveforms_to_frames` returns it. It computes in float32 and float64 whatever the global dtype
    policy, and needs the TensorFlow backend of Keras. Only for the kinds that a network computes it has weights.

    Parameters
    ----------
    front_end : FrontEndParams
        Kind, sample rate, FFT length, hop.
    **options
        As for every Keras layer: `name`.
    """

    def __init__(self, front_end: FrontEndParams, **options: Any):
        super().__init__(**{"trainable": False, **options, "dtype": "float32"})
        self.front_end = front_end
        self._tagger = musicnn() if front_end.kind in TAGGER_KINDS else None
        if self._tagger is not None:
            self._tagger.trainable = False

    def call(self, waveforms: tf.Tensor) -> tf.Tensor:
        return graph.waveforms_to_frames(waveforms, self.front_end, self._tagger)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, samples = input_shape
        return batch, None if samples is None else self.front_end.frames_of(samples), self.front_end.dims

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "front_end": params.to_json(self.front_end)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FrontEnd":
        return cls(**{**config, "front_end": params.from_json(FrontEndParams, config["front_end"])})
