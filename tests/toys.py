"""Small made-up stores and recipes that train in a second."""

import dataclasses
from pathlib import Path

import numpy as np

from keras_genre.clips import Clip
from keras_genre.models.presets import PRESETS
from keras_genre.params import FrontEndParams, ModelParams, ScheduleParams, TrainParams
from keras_genre.store import Store, StoreHeader, StoreWriter

GENRES = ("bebop", "polka", "zydeco")
SPLITS = ("train", "train", "train", "train", "validation", "validation", "test", "test")

# Presets that differ in the recipe alone share a network.
NETWORKS = list(
    {(params.features, params.window_frames, params.model): name for name, params in PRESETS.items()}.values()
)

TOY_PARAMS = TrainParams(
    window_frames=16,
    windows_per_clip=3,
    batch_size=8,
    epochs=4,
    learning_rate=1e-2,
    model=ModelParams(lstm_units=(8, 8), dropout=0.2, lstm_recurrent_dropout=0.1),
    schedule=ScheduleParams("plateau", plateau_patience_epochs=1),
)


def toy_clips() -> list[Clip]:
    """Eight clips of each of three genres, each of an artist of its own."""
    return [
        Clip(track=f"{genre}.{number:02d}", genre=genre, group=f"{genre} {number}", split=split, sha256="")
        for genre in GENRES
        for number, split in enumerate(SPLITS)
    ]


def toy_frames(clip: Clip, dims: int = 33) -> np.ndarray:
    """Frames that say where they come from: their number, that of their clip, then their genre in noise."""
    number = int(clip.track[-2:])
    generator = np.random.default_rng([number, GENRES.index(clip.genre)])
    length = 20 + 7 * number
    frames = generator.standard_normal((length, dims)).astype(np.float32) + 2 * GENRES.index(clip.genre)
    frames[:, 0] = np.arange(length)
    frames[:, 1] = number + 100 * GENRES.index(clip.genre)
    return frames


def make_toy_store(path: Path, clips: list[Clip] | None = None, header: StoreHeader | None = None) -> Store:
    """Write a store of `toy_frames`."""
    header = header or StoreHeader.of(FrontEndParams())
    with StoreWriter(path, header, toy_clips() if clips is None else clips) as writer:
        for number, members in writer.missing():
            writer.add(number, [toy_frames(clip, header.dims) for clip in members])
        return writer.finish()


def toy_params(**changes) -> TrainParams:
    """`TOY_PARAMS` with some changed."""
    return dataclasses.replace(TOY_PARAMS, **changes)


def make_untrained_run(
    path: Path, params: TrainParams, header: StoreHeader | None = None, use_cudnn: bool = False
) -> Path:
    """Write a run folder with random weights of a size that lets every frame count, over frames of music-like size."""
    import keras

    from keras_genre.models.networks import build_model
    from keras_genre.runs import MODEL, RunInfo, write_run
    from keras_genre.training import versions

    header = header or StoreHeader.of(FrontEndParams.of(params.features))
    columns = header.columns_of(params.features)
    keras.utils.set_random_seed(params.seed)
    mean, deviation = (np.array(values, np.float32) for values in zip(*_FRAME_SIZES[params.features], strict=True))
    sizes = params.window_frames, columns, len(GENRES), mean, deviation**2
    model = build_model(params.model, *sizes, use_cudnn=use_cudnn)
    logits = model.get_layer("logits")
    logits.set_weights([8 * logits.kernel.numpy(), np.linspace(-0.2, 0.2, len(GENRES))])
    path.mkdir(parents=True)
    model.save(path / MODEL)
    write_run(path, RunInfo("toy", params, header, columns, GENRES, "nowhere", {}, (), versions()))
    return path


_MFCC_SIZES = [(-150.0, 100.0), (100.0, 30.0), *[(0.0, 20.0)] * 11]
_FRAME_SIZES = {
    "spectral33": [*_MFCC_SIZES, (2000.0, 700.0), *[(0.4, 0.3)] * 12, *[(20.0, 5.0)] * 7],
    "mfcc13": _MFCC_SIZES,
    "log_mel128": [(-45.0, 15.0)] * 128,
    "log_mel128_levels": [(128.0, 50.0)] * 128,
    "taggram50": [(0.05, 0.1)] * 50,
    "musicnn250": [*[(0.05, 0.1)] * 50, *[(0.0, 1.0)] * 200],
}
"""Mean and deviation of each value of a frame, roughly, for a toy network to standardise with."""
