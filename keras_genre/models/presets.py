"""The presets: every system of the original as parameters, in one table."""

import dataclasses

from keras_genre.errors import ParameterError
from keras_genre.params import ModelParams, ScheduleParams, TrainParams

_NO_SCHEDULE = ScheduleParams("none")

_LSTM_OPTIM = TrainParams(batch_size=64, model=ModelParams(lstm_units=(64, 64), dropout=0.3))

PRESETS: dict[str, TrainParams] = {
    # The Keras original: two sizes of LSTM, dropout on inputs and state.
    "lstm_original": TrainParams(
        batch_size=35,
        schedule=_NO_SCHEDULE,
        model=ModelParams(lstm_units=(128, 32), dropout=0.0, lstm_inner_dropout=0.05, lstm_recurrent_dropout=0.35),
    ),
    # The PyTorch original, on a GPU where there is one.
    "lstm_basic": TrainParams(
        batch_size=35, schedule=_NO_SCHEDULE, model=ModelParams(lstm_units=(128, 128), dropout=0.0)
    ),
    "lstm_optim": _LSTM_OPTIM,
    "lstm_optim_mel": dataclasses.replace(_LSTM_OPTIM, features="log_mel128"),
    # Segments of 6 s as images.
    "conv2d": TrainParams(
        features="mfcc13",
        window_frames=259,
        windows_per_clip=5,
        batch_size=8,
        epochs=50,
        schedule=_NO_SCHEDULE,
        model=ModelParams(family="conv2d", dropout=0.3, conv_filters=32, dense_units=64),
    ),
}

DEFAULT_PRESET = "lstm_optim"


def preset(name: str) -> TrainParams:
    """Return a preset by name.

    Raises
    ------
    ParameterError
        If there is none of that name.
    """
    if name not in PRESETS:
        raise ParameterError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]
