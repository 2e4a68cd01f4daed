"""Windows of clips in memory, as any Keras backend takes them: what `keras_genre.pipeline` is to TensorFlow."""

import dataclasses
import math

import keras
import numpy as np

from keras_genre.errors import ParameterError
from keras_genre.params import TrainParams

ALTERATIONS = ("mask_frames", "mask_bands", "shift_bands", "equalizer", "level_stretch", "low_pass_bands")
"""Parameters of what `keras_genre.pipeline` does to windows and `TrainingWindows` does not."""


@dataclasses.dataclass(frozen=True)
class Clips:
    """Whole clips.

    Attributes
    ----------
    frames : list of np.ndarray [shape=(frames, values), float32]
    labels : np.ndarray [shape=(clips,), int64]
    """

    frames: list[np.ndarray]
    labels: np.ndarray


class TrainingWindows(keras.utils.PyDataset):
    """Windows from random places of all clips, other ones in every epoch, mixed with each other.

    What an epoch holds depends on the seed and its number alone.

    Parameters
    ----------
    clips : Clips
    genres : int > 0
    params : TrainParams
    first_epoch : int >= 0

    Raises
    ------
    ParameterError
        If the parameters ask for what only the TensorFlow pipeline does to windows, or a clip has no whole window.
    """

    def __init__(self, clips: Clips, genres: int, params: TrainParams, first_epoch: int = 0):
        super().__init__()
        if asked := [name for name in ALTERATIONS if getattr(params, name)]:
            raise ParameterError(f"{', '.join(asked)}: needs TensorFlow as Keras's backend")
        if min(map(len, clips.frames)) < params.window_frames:
            raise ParameterError(f"window_frames {params.window_frames}: longer than the shortest clip")
        self._clips = clips
        self._genres = genres
        self._params = params
        self._begin(first_epoch)

    def _begin(self, epoch: int) -> None:
        self._epoch = epoch
        self._generator = np.random.default_rng([self._params.seed, epoch])
        clips = np.repeat(np.arange(len(self._clips.frames)), self._params.windows_per_clip)
        rooms = np.array([len(frames) - self._params.window_frames + 1 for frames in self._clips.frames])
        order = self._generator.permutation(len(clips))
        self._places = [(clip, self._generator.integers(rooms[clip])) for clip in clips[order]]

    def __len__(self) -> int:
        return math.ceil(len(self._places) / self._params.batch_size)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        size = self._params.batch_size
        places = self._places[number * size : (number + 1) * size]
        windows = np.stack(
            [self._clips.frames[clip][start : start + self._params.window_frames] for clip, start in places]
        )
        labels = self._clips.labels[[clip for clip, _ in places]]
        if not self._params.soft_targets:
            return windows, labels
        targets = np.eye(self._genres, dtype=np.float32)[labels]
        return self._mixed(windows, targets, number) if self._params.mixup_alpha else (windows, targets)

    def _mixed(self, windows: np.ndarray, targets: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        alpha = self._params.mixup_alpha
        generator = np.random.default_rng([self._params.seed, self._epoch, number])
        share = generator.beta(alpha, alpha, len(windows)).astype(np.float32)
        other = generator.permutation(len(windows))
        in_windows, in_targets = share[:, np.newaxis, np.newaxis], share[:, np.newaxis]
        return (
            in_windows * windows + (1 - in_windows) * windows[other],
            in_targets * targets + (1 - in_targets) * targets[other],
        )

    def on_epoch_end(self) -> None:
        """Go to the next epoch."""
        self._begin(self._epoch + 1)


def all_windows(clips: Clips, window_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Return all windows of clips, one after the other, the last one ending with the clip.

    Returns
    -------
    windows : np.ndarray [shape=(windows, window_frames, values), float32]
    owners : np.ndarray [shape=(windows,), int64]
        The clip that each is of.
    """
    windows, owners = [], []
    for clip, frames in enumerate(clips.frames):
        last = len(frames) - window_frames
        for start in sorted({*range(0, last + 1, window_frames), last}):
            windows.append(frames[start : start + window_frames])
            owners.append(clip)
    return np.stack(windows), np.array(owners, np.int64)


def statistics(clips: Clips) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of each value over all frames, float32 (values,)."""
    frames = np.concatenate(clips.frames).astype(np.float64)
    return frames.mean(axis=0).astype(np.float32), frames.var(axis=0).astype(np.float32)
