"""How the numbers of a feature store are kept: exactly, or quantised to take less room."""

import dataclasses

import numpy as np

ENCODINGS = ("float32", "float16", "uint16", "uint8")


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Frames as they are stored: `frames = values * scale + offset`, column by column.

    Attributes
    ----------
    values : np.ndarray [shape=(frames, dims)]
        Of the encoding's type.
    scale, offset : np.ndarray [shape=(dims,) if quantised, else (0,), float32]
    """

    values: np.ndarray
    scale: np.ndarray
    offset: np.ndarray


def encode(frames: np.ndarray, encoding: str) -> Encoded:
    """Encode a clip's frames.

    `float32` is exact and `float16` keeps 11 bits. `uint16` and `uint8` divide the range that each column has
    in this clip into 65 535 or 255 equal steps, so that no value moves by more than half a step. Frames that
    are whole numbers of that type already are kept as they are.

    Parameters
    ----------
    frames : np.ndarray [shape=(frames, dims), float32 or the encoding's type]
    encoding : str
        One of `ENCODINGS`.
    """
    none = np.zeros(0, np.float32)
    if encoding.startswith("float"):
        return Encoded(frames.astype(encoding), none, none)
    if frames.dtype == encoding:
        return Encoded(frames, np.ones(frames.shape[1], np.float32), np.zeros(frames.shape[1], np.float32))
    low, high = frames.min(axis=0), frames.max(axis=0)
    levels = np.iinfo(encoding).max
    # A column that is constant in this clip has no step; any scale gives it back.
    scale = np.where(high > low, (high - low) / levels, 1).astype(np.float32)
    values = np.clip(np.rint((frames - low) / scale), 0, levels).astype(encoding)
    return Encoded(values, scale, low.astype(np.float32))


def decode(encoded: Encoded) -> np.ndarray:
    """Return the frames, float32 (frames, dims), that `encode` was given, to the encoding's accuracy."""
    frames = encoded.values.astype(np.float32)
    return frames * encoded.scale + encoded.offset if encoded.scale.size else frames
