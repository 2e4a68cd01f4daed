"""The kinds that MSD-musicnn computes from its log-mel spectra, patch by patch."""

import keras
import tensorflow as tf

from keras_genre.features.graph.mel import musicnn_mel96
from keras_genre.models.musicnn_weights import PENULTIMATE, TAGS
from keras_genre.params import FrontEndParams

# So many patches keep two cores busy, and a long clip takes no more memory than a short one.
_BLOCK_PATCHES = 8


def tagged(mel: tf.Tensor, params: FrontEndParams, tagger: keras.Model) -> tf.Tensor:
    """Return the tag activations, and of the kind `musicnn250` the last hidden layer's values, of every patch.

    Parameters
    ----------
    mel : tf.Tensor [shape=(96, spectra), float32]
        What `mel.musicnn_mel_power` returns.
    params : FrontEndParams
    tagger : keras.Model
        What `keras_genre.models.musicnn.musicnn` builds.

    Returns
    -------
    tf.Tensor [shape=(dims, frames), float32]
        No frames for fewer spectra than a patch.
    """
    spectra = tf.transpose(musicnn_mel96(mel))
    frames = tf.maximum(0, 1 + (tf.shape(spectra)[0] - params.spectra) // params.hop_spectra)
    blocks = -(-frames // _BLOCK_PATCHES)
    offsets = tf.range(params.spectra)

    def block_values(block: tf.Tensor) -> tf.Tensor:
        # The last block is filled up with its last patch.
        patches = tf.minimum(block * _BLOCK_PATCHES + tf.range(_BLOCK_PATCHES), frames - 1)
        outputs = tagger(tf.gather(spectra, params.hop_spectra * patches[:, tf.newaxis] + offsets), training=False)
        return tf.concat([outputs[TAGS], outputs[PENULTIMATE]], axis=1)[:, : params.dims]

    shape = tf.TensorSpec([_BLOCK_PATCHES, params.dims], tf.float32)
    values = tf.map_fn(block_values, tf.range(blocks), fn_output_signature=shape)
    return tf.transpose(tf.reshape(values, [-1, params.dims])[:frames])
