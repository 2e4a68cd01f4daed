"""The presets: every system of the original, and the networks that go beyond it, as parameters in one table."""

import dataclasses

from keras_genre.errors import ParameterError
from keras_genre.params import ModelParams, ScheduleParams, TrainParams

# The originals saw one window of a clip in an epoch, the first 3 s; here an epoch has ten, from anywhere in the clip.
# So a tenth of their epochs shows the networks as many windows: 400 become 40, 1001 become 100.
_WINDOWS_PER_CLIP = 10
_NO_SCHEDULE = ScheduleParams("none")

_LSTM_PYTORCH = TrainParams(
    windows_per_clip=_WINDOWS_PER_CLIP,
    batch_size=35,
    epochs=40,
    schedule=_NO_SCHEDULE,
    model=ModelParams(lstm_units=(128, 128), dropout=0.0),
)


def _lstm_optim(features: str, schedule: str) -> TrainParams:
    return TrainParams(
        features=features,
        windows_per_clip=_WINDOWS_PER_CLIP,
        batch_size=64,
        epochs=100,
        # Up to so many: by then a plateau schedule has lowered the rate twice without effect.
        early_stopping_epochs=30 if schedule == "plateau" else 0,
        schedule=ScheduleParams(schedule),
        model=ModelParams(lstm_units=(64, 64), dropout=0.3),
    )


PRESETS: dict[str, TrainParams] = {
    # The Keras original: two sizes of LSTM, dropout on inputs and state.
    "lstm_original": TrainParams(
        windows_per_clip=_WINDOWS_PER_CLIP,
        batch_size=35,
        epochs=40,
        schedule=_NO_SCHEDULE,
        model=ModelParams(lstm_units=(128, 32), dropout=0.0, lstm_inner_dropout=0.05, lstm_recurrent_dropout=0.35),
    ),
    # Its PyTorch flavour, and that one's GPU version: they differed in what they did to the state between batches.
    "lstm_original_pytorch": _LSTM_PYTORCH,
    "lstm_basic": _LSTM_PYTORCH,
    "lstm_optim": _lstm_optim("spectral33", "plateau"),
    "lstm_optim_cosine": _lstm_optim("spectral33", "cosine"),
    "lstm_optim_step": _lstm_optim("spectral33", "step"),
    "lstm_optim_mel": _lstm_optim("log_mel128", "plateau"),
    "lstm_optim_mel_cosine": _lstm_optim("log_mel128", "cosine"),
    "lstm_optim_mel_step": _lstm_optim("log_mel128", "step"),
    # Five segments of 6 s of each clip as images.
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

# Small, and held back by all that makes a network generalise from some hundred clips. A window is 7.4 s.
_FROM_SCRATCH = TrainParams(
    features="log_mel128_levels",
    window_frames=96,
    windows_per_clip=4,
    batch_size=32,
    epochs=60,
    schedule=ScheduleParams("cosine", cosine_cycle_epochs=60),
    weight_decay=0.01,
    label_smoothing=0.1,
    mixup_alpha=0.4,
    ema_momentum=0.99,
    mask_frames=16,
    mask_bands=16,
    shift_bands=4,
    equalizer=0.3,
    model=ModelParams(
        family="short_chunk_cnn",
        conv_filters=16,
        dense_units=128,
        pooling="attention",
        dropout=0.5,
        mean_subtraction=0.5,
    ),
)
PRESETS |= {
    "short_chunk_cnn": _FROM_SCRATCH,
    "crnn": dataclasses.replace(
        _FROM_SCRATCH,
        model=ModelParams(
            family="crnn", conv_filters=16, lstm_units=(64,), pooling="mean_max", dropout=0.5, mean_subtraction=0.5
        ),
    ),
    # On what a network that has heard 200 000 songs says of every three seconds; a window is ten of its answers, 12 s.
    "transfer": TrainParams(
        features="taggram50",
        window_frames=10,
        windows_per_clip=4,
        batch_size=64,
        epochs=40,
        schedule=ScheduleParams("cosine", cosine_cycle_epochs=40),
        weight_decay=0.01,
        label_smoothing=0.3,
        mixup_alpha=0.2,
        ema_momentum=0.99,
        model=ModelParams(
            lstm_units=(64,),
            lstm_bidirectional=True,
            pooling="mean_max",
            dropout=0.5,
            input_noise=1.0,
            log_odds=True,
        ),
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
