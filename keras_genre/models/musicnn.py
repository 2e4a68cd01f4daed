"""MSD-musicnn as a Keras model: three seconds of log-mel spectra in, tag activations out.

The architecture of Pons and Serra (2019): filters over time and frequency that hear timbre, filters over time that
hear rhythm, their loudest answers over all frequencies; three residual convolutions over time; the largest and the
mean value of everything over the three seconds; one hidden layer. Only Keras is used.
"""

import keras
from keras import layers, ops

from keras_genre.models.musicnn_weights import (
    FRONT,
    MEL_BANDS,
    MIDDLE,
    NORM_EPSILON,
    PATCH_SPECTRA,
    PENULTIMATE,
    TAGS,
    Weights,
    read_weights,
    without_dead_filters,
)


def musicnn(weights: Weights | None = None) -> keras.Model:
    """Build the network with weights in it.

    Parameters
    ----------
    weights : mapping of str to np.ndarray, optional
        As `musicnn_weights` names them; the sizes of the layers are theirs. By default those of the package, without
        the dead filters.

    Returns
    -------
    keras.Model
        Input `spectra` float32 (batch, 187, 96), frames of the feature kind `musicnn_mel96`. Outputs `tags` (batch,
        50), in [0, 1], and `penultimate` (batch, 200), of which the tags are a logistic regression.
    """
    if weights is None:
        weights = without_dead_filters(read_weights())
    spectra = keras.Input((PATCH_SPECTRA, MEL_BANDS), name="spectra")
    image = _norm("input")(layers.Reshape((PATCH_SPECTRA, MEL_BANDS, 1), name="image")(spectra))
    front = layers.Concatenate(name="front")([_front(image, layer, weights) for layer in FRONT])
    channels, total = [front], None
    for layer in MIDDLE:
        convolved = _over_time(front if total is None else total, layer, weights)
        total = convolved if total is None else layers.Add(name=f"{layer}_sum")([convolved, total])
        channels.append(total)
    pooled = _norm("pooled")(_Pooling(name="pooling")(layers.Concatenate(name="channels")(channels)))
    hidden = layers.Dense(weights["hidden/bias"].size, activation="relu", name="hidden")(pooled)
    penultimate = _norm("hidden")(hidden)
    tags = layers.Dense(weights["tags/bias"].size, activation="sigmoid", name="tags")(penultimate)
    model = keras.Model(spectra, {TAGS: tags, PENULTIMATE: penultimate}, name="musicnn")
    for layer in model.layers:
        layer.set_weights([weights[f"{layer.name}/{weight.name}"].reshape(weight.shape) for weight in layer.weights])
    return model


def _norm(name: str) -> keras.layers.Layer:
    return layers.BatchNormalization(epsilon=NORM_EPSILON, name=f"{name}_norm")


def _front(image, name: str, weights: Weights):
    """Convolve spectra, filling up with silence in time but not in frequency, and keep the loudest frequency."""
    spectra, bands, _, filters = weights[f"{name}/kernel"].shape
    before = (spectra - 1) // 2
    padded = layers.ZeroPadding2D(((before, spectra - 1 - before), (0, 0)), name=f"{name}_pad")(image)
    found = layers.Conv2D(filters, (spectra, bands), activation="relu", name=name)(padded)
    loudest = layers.MaxPooling2D((1, found.shape[2]), name=f"{name}_loudest")(_norm(name)(found))
    return layers.Reshape((loudest.shape[1], filters), name=f"{name}_channels")(loudest)


def _over_time(x, name: str, weights: Weights):
    steps, _, _, filters = weights[f"{name}/kernel"].shape
    convolved = layers.Conv1D(filters, steps, padding="same", activation="relu", name=name)(x)
    return _norm(name)(convolved)


@keras.saving.register_keras_serializable(package="keras_genre")
class _Pooling(layers.Layer):
    """The largest value and the mean over time of each channel, side by side."""

    def call(self, x):
        pooled = ops.stack([ops.max(x, axis=1), ops.mean(x, axis=1)], axis=-1)
        return ops.reshape(pooled, (-1, 2 * x.shape[-1]))

    def compute_output_shape(self, input_shape):
        return input_shape[0], 2 * input_shape[-1]
