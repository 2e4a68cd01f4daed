"""The networks: windows of feature frames in, logits of the genres out.

Standardisation stands inside the network, so that a saved model takes features as they are. Only Keras is
used: the networks build and train on any of its backends.
"""

import keras
import numpy as np
from keras import layers, ops

from keras_genre.errors import ParameterError
from keras_genre.params import ModelParams

SMALLEST_PROBABILITY = 1e-4
"""Log-odds are those of probabilities at least so far from 0 and 1."""

SMALLEST_RELATIVE_DEVIATION = 1e-6
"""A column that deviates less from its mean is constant: so little is rounding."""


def log_odds(probabilities):
    """Return the log-odds of probabilities, of any shape; a tensor of Keras's backend."""
    clipped = ops.clip(probabilities, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return ops.log(clipped) - ops.log(1 - clipped)


def build_model(
    params: ModelParams,
    window_frames: int,
    dims: int,
    genres: int,
    mean: np.ndarray | None = None,
    variance: np.ndarray | None = None,
    *,
    use_cudnn: bool = False,
    rnn: type[layers.RNN] = layers.RNN,
) -> keras.Model:
    """Build a network.

    Parameters
    ----------
    params : ModelParams
        Family and sizes.
    window_frames, dims, genres : int > 0
        Frames of a window, values of a frame, number of outputs.
    mean, variance : np.ndarray [shape=(dims,)], optional
        Of the training frames, or with `params.log_odds` of their log-odds, for standardisation; 0 and 1 by default.
        A `conv2d` network has one scale for all columns, of their mean variance; in others a column that is constant
        has the median of the rest.
    use_cudnn : bool
        Make LSTM layers that a GPU can run in cuDNN's kernels. Otherwise the cells of all layers step together in one
        loop over the frames: the same function of the same weights, in the same order, with half the overhead on a
        CPU, and runnable on one after export.
    rnn : subclass of keras.layers.RNN
        What makes the cells of all layers step together.

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
    if mean is not None and variance is not None:
        variance = _usable_variance(mean, variance)
    x = log_odds(inputs) if params.log_odds else inputs
    x = _standardisation(dims, mean, variance)(x)
    if params.mean_subtraction:
        x = x - params.mean_subtraction * ops.mean(x, axis=1, keepdims=True)
    if params.input_noise:
        x = layers.GaussianNoise(params.input_noise, name="noise", dtype="float32")(x)
    policy = keras.DTypePolicy("mixed_bfloat16" if params.mixed_bfloat16 else "float32")
    if params.family == "lstm":
        features = _lstm(x, params, policy, use_cudnn, rnn)
    elif params.family == "conv2d":
        features = _conv2d(x, params, policy)
    elif params.family == "short_chunk_cnn":
        features = _short_chunk_cnn(x, params, policy)
    else:
        features = _crnn(x, params, policy, use_cudnn, rnn)
    if params.dropout:
        features = layers.Dropout(params.dropout, name="dropout", dtype=policy)(features)
    # In bfloat16 the logits would carry 8 bits: too few to average over windows.
    logits = layers.Dense(genres, name="logits", dtype="float32")(features)
    return keras.Model(inputs, logits, name=params.family)


def _usable_variance(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return variances by which columns can be divided: one that is constant in training gets the others' median.

    Where training has nothing, as above half the rate of its recordings, a new clip may have something, and a division
    by next to nothing would make it louder than all else.
    """
    constant = variance <= (SMALLEST_RELATIVE_DEVIATION * np.abs(mean)) ** 2
    if not constant.any():
        return variance
    return np.where(constant, 1.0 if constant.all() else np.median(variance[~constant]), variance)


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


def _lstm(x, params: ModelParams, policy, use_cudnn: bool, rnn: type[layers.RNN]):
    options = {
        "dropout": params.lstm_inner_dropout,
        "recurrent_dropout": params.lstm_recurrent_dropout,
        "dtype": policy,
    }
    names = [f"lstm_{number}" for number in range(1, len(params.lstm_units) + 1)]
    fused = use_cudnn and params.cudnn_eligible
    keeps_last = params.pooling == "last"
    if not (fused or params.lstm_bidirectional):
        cells = [
            layers.LSTMCell(units, name=name, **options) for units, name in zip(params.lstm_units, names, strict=True)
        ]
        # A bare list of cells would be stacked in float32.
        stack = layers.StackedRNNCells(cells, dtype=policy)
        x = rnn(stack, return_sequences=not keeps_last, name="lstm", dtype=policy)(x)
        return _pooled(x, params.pooling, policy)
    for units, name in zip(params.lstm_units, names, strict=True):
        sequences = name != names[-1] or not keeps_last
        if fused:
            layer = layers.LSTM(units, return_sequences=sequences, name=name, **options)
        else:
            # `LSTM` would choose cuDNN's kernels by itself where it finds a GPU, and does not run on a CPU then.
            layer = layers.RNN(layers.LSTMCell(units, **options), return_sequences=sequences, name=name, dtype=policy)
        x = layers.Bidirectional(layer, name=name, dtype=policy)(x) if params.lstm_bidirectional else layer(x)
    return _pooled(x, params.pooling, policy)


def _pooled(x, pooling: str, policy):
    """Take of the steps (batch, steps, values) what `pooling` says: (batch, values), twice as many for `mean_max`."""
    if pooling == "last":
        return x if len(x.shape) == 2 else layers.Cropping1D((x.shape[1] - 1, 0), dtype=policy)(x)
    if pooling == "attention":
        scores = layers.Dense(64, activation="tanh", name="attention_hidden", dtype=policy)(x)
        scores = layers.Dense(1, use_bias=False, name="attention_score", dtype="float32")(scores)
        weights = layers.Softmax(axis=1, name="attention", dtype="float32")(scores)
        return layers.Flatten(name="pooling")(layers.Dot(axes=1, name="attended", dtype=policy)([weights, x]))
    parts = []
    if "mean" in pooling:
        parts.append(layers.GlobalAveragePooling1D(name="mean_over_time", dtype=policy)(x))
    if "max" in pooling:
        parts.append(layers.GlobalMaxPooling1D(name="max_over_time", dtype=policy)(x))
    return parts[0] if len(parts) == 1 else layers.Concatenate(name="pooling", dtype=policy)(parts)


def _conv2d(x, params: ModelParams, policy):
    """The original's network over images of MFCC."""
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
        x = _normalised(x, f"norm_{number}", policy)
    x = layers.Flatten(name="flatten", dtype=policy)(x)
    return layers.Dense(params.dense_units, activation="relu", name="dense", dtype=policy)(x)


def _short_chunk_cnn(x, params: ModelParams, policy):
    """A residual network over short excerpts, after Won et al. (2020), with the width that some hundred clips bear."""
    # filters as multiples of the first layer's; pooling over time and bands.
    x = _residual_blocks(
        x, params.conv_filters, ((1, (2, 2)), (1, (2, 2)), (2, (2, 2)), (4, (2, 2)), (4, None)), policy
    )
    x = ops.mean(x, axis=2)
    x = _pooled(x, params.pooling, policy)
    x = layers.Dense(params.dense_units, use_bias=False, name="dense", dtype=policy)(x)
    x = _normalised(x, "dense_norm", policy)
    return layers.ReLU(name="dense_relu", dtype=policy)(x)


def _crnn(x, params: ModelParams, policy, use_cudnn: bool, rnn: type[layers.RNN]):
    """Convolutions that sum up the bands, LSTM layers that follow the time, after Choi et al. (2017)."""
    x = _residual_blocks(x, params.conv_filters, ((1, (2, 2)), (1, (2, 2)), (2, (1, 2)), (4, (1, 2))), policy)
    x = layers.Reshape((x.shape[1], x.shape[2] * x.shape[3]), name="steps", dtype=policy)(x)
    return _lstm(x, params, policy, use_cudnn, rnn)


def _residual_blocks(x, filters: int, table, policy):
    """Turn frames (batch, frames, bands) into (batch, fewer frames, fewer bands, filters): a convolution, then blocks.

    A row of `table` is a block: its filters as a multiple of `filters`, and the pooling after it or None.
    """
    x = layers.Reshape((*x.shape[1:], 1), name="image", dtype=policy)(x)
    for number, (multiple, pool) in enumerate(table):
        width, name = filters * multiple, f"block_{number}"
        if number == 0:
            x = _convolution(x, width, 3, f"{name}_conv", policy)
        else:
            shortcut = x if x.shape[-1] == width else _convolution(x, width, 1, f"{name}_shortcut", policy)
            x = layers.ReLU(name=f"{name}_relu_1", dtype=policy)(_convolution(x, width, 3, f"{name}_conv_1", policy))
            x = _convolution(x, width, 3, f"{name}_conv_2", policy)
            x = layers.Add(name=f"{name}_sum", dtype=policy)([x, shortcut])
        x = layers.ReLU(name=f"{name}_relu", dtype=policy)(x)
        if pool:
            if x.shape[1] < pool[0] or x.shape[2] < pool[1]:
                raise ParameterError(
                    "the windows are too small for the network's poolings; use longer windows (--window-frames) or "
                    "features of more values a frame"
                )
            x = layers.MaxPooling2D(pool, name=f"{name}_pool", dtype=policy)(x)
    return x


def _convolution(x, filters: int, kernel: int, name: str, policy):
    """A convolution that keeps the image's size, and its batch normalisation, which makes a bias needless."""
    x = layers.Conv2D(filters, kernel, padding="same", use_bias=False, name=name, dtype=policy)(x)
    return _normalised(x, f"{name}_norm", policy)


def _normalised(x, name: str, policy):
    # PyTorch's settings, which the original had: with Keras's own momentum of 0.99 a training of some hundred steps
    # ends before the averages have left their first values.
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name, dtype=policy)(x)
