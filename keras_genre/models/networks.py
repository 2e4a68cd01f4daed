"""LSTM and Conv2D networks: windows of feature frames in, logits of the genres out.

Standardisation stands inside the network, so that a saved model takes features as they are. Only Keras is
used: the networks build and train on any of its backends.
"""

import keras
import numpy as np
from keras import layers

from keras_genre.errors import ParameterError
from keras_genre.params import ModelParams


def build_model(
    params: ModelParams,
    window_frames: int,
    dims: int,
    genres: int,
    mean: np.ndarray | None = None,
    variance: np.ndarray | None = None,
    *,
    use_cudnn: bool = False,
) -> keras.Model:
    """Build a network.

    Parameters
    ----------
    params : ModelParams
        Family and sizes.
    window_frames, dims, genres : int > 0
        Frames of a window, values of a frame, number of outputs.
    mean, variance : np.ndarray [shape=(dims,)], optional
        Of the training frames, for standardisation; 0 and 1 by default. A `conv2d` network has one scale for all
        columns, of their mean variance.
    use_cudnn : bool
        Make LSTM layers that a GPU can run in cuDNN's kernels. Otherwise the cells of all layers step together in one
        loop over the frames: the same function of the same weights, in the same order, with half the overhead on a
        CPU, and runnable on one after export.

    Returns
    -------
    keras.Model
        Input (batch, window_frames, dims) float32, output (batch, genres) float32: logits, no softmax.

    Raises
    ------
    ParameterError
        If a window is too small for the network's pooling.
    """
    if params.family == "conv2d" and variance is not None:
        # An image has one scale: with one for each column the faint ones are as loud as the rest, and blur it.
        variance = np.full(dims, np.mean(variance))
    inputs = keras.Input((window_frames, dims), name="frames")
    standardised = _standardisation(dims, mean, variance)(inputs)
    policy = keras.DTypePolicy("mixed_bfloat16" if params.mixed_bfloat16 else "float32")
    if params.family == "lstm":
        features = _lstm(standardised, params, policy, use_cudnn)
    else:
        features = _conv2d(standardised, params, policy)
    if params.dropout:
        features = layers.Dropout(params.dropout, name="dropout", dtype=policy)(features)
    # In bfloat16 the logits would carry 8 bits: too few to average over windows.
    logits = layers.Dense(genres, name="logits", dtype="float32")(features)
    return keras.Model(inputs, logits, name=params.family)


def _standardisation(dims: int, mean: np.ndarray | None, variance: np.ndarray | None) -> keras.layers.Layer:
    layer = layers.Normalization(axis=-1, name="standardisation", dtype="float32")
    layer.build((None, None, dims))
    layer.set_weights(
        [
            np.zeros(dims, np.float32) if mean is None else np.asarray(mean, np.float32),
            np.ones(dims, np.float32) if variance is None else np.asarray(variance, np.float32),
            np.array(0, layer.get_weights()[2].dtype),
        ]
    )
    layer.finalize_state()
    return layer


def _lstm(x, params: ModelParams, policy, use_cudnn: bool):
    options = {
        "dropout": params.lstm_inner_dropout,
        "recurrent_dropout": params.lstm_recurrent_dropout,
        "dtype": policy,
    }
    names = [f"lstm_{number}" for number in range(1, len(params.lstm_units) + 1)]
    if not (use_cudnn and params.cudnn_eligible):
        cells = [
            layers.LSTMCell(units, name=name, **options) for units, name in zip(params.lstm_units, names, strict=True)
        ]
        # A bare list of cells would be stacked in float32.
        return layers.RNN(layers.StackedRNNCells(cells, dtype=policy), name="lstm", dtype=policy)(x)
    for units, name in zip(params.lstm_units, names, strict=True):
        x = layers.LSTM(units, return_sequences=name != names[-1], name=name, **options)(x)
    return x


def _conv2d(x, params: ModelParams, policy):
    # kernel, pooling window; the stride of all pooling is 2.
    blocks = [(3, 3), (3, 3), (2, 2)]
    x = layers.Reshape((*x.shape[1:], 1), name="image", dtype=policy)(x)
    for number, (kernel, pool) in enumerate(blocks, 1):
        x = layers.ZeroPadding2D(1, name=f"pad_{number}", dtype=policy)(x)
        x = layers.Conv2D(params.conv_filters, kernel, activation="relu", name=f"conv_{number}", dtype=policy)(x)
        if min(x.shape[1:3]) < pool:
            raise ParameterError(
                "conv2d: the windows are too small for three poolings by 2; "
                "use longer windows (--window-frames) or features of more values a frame"
            )
        x = layers.MaxPooling2D(pool, strides=2, name=f"pool_{number}", dtype=policy)(x)
        # The original's settings: with Keras's own momentum of 0.99 a training of some hundred steps ends before the
        # averages have left their first values.
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"norm_{number}", dtype=policy)(x)
    x = layers.Flatten(name="flatten", dtype=policy)(x)
    return layers.Dense(params.dense_units, activation="relu", name="dense", dtype=policy)(x)
