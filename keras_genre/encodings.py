"""How the numbers of a feature store are kept: exactly, or quantised to take less room."""

import dataclasses

import numpy as np

from keras_genre.errors import ParameterError

ENCODINGS = ("float32", "float16", "uint16", "uint8")

LARGEST = {
    "float32": float(np.finfo(np.float32).max),
    "float16": float(np.finfo(np.float16).max),
    # Low and high of a column may have opposite signs: their distance must be a float32 too.
    "uint16": float(np.finfo(np.float32).max) / 4,
    "uint8": float(np.finfo(np.float32).max) / 4,
}
"""Magnitude up to which each encoding keeps values."""


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

    Raises
    ------
    ParameterError
        If there is NaN, infinity, or a value that is too large for the encoding.
    """
    if not np.abs(frames).max() <= LARGEST[encoding]:
        raise ParameterError(
            f"has NaN, infinity or values beyond {LARGEST[encoding]:.6g}, which {encoding} cannot keep"
        )
    none = np.zeros(0, np.float32)
    if encoding.startswith("float"):
        return Encoded(frames.astype(encoding), none, none)
    if frames.dtype == encoding:
        return Encoded(frames, np.ones(frames.shape[1], np.float32), np.zeros(frames.shape[1], np.float32))
    # In float32 the quotients of 65 535 levels would be off by a part of a step.
    exact = frames.astype(np.float64)
    low, high = exact.min(axis=0), exact.max(axis=0)
    levels = np.iinfo(encoding).max
    scale = ((high - low) / levels).astype(np.float32)
    # A column that is constant in this clip, or all but so, has no step; any scale gives it back.
    scale[scale == 0] = 1
    values = np.clip(np.rint((exact - low) / scale), 0, levels).astype(encoding)
    return Encoded(values, scale, low.astype(np.float32))


def decode(encoded: Encoded) -> np.ndarray:
    """Return the frames, float32 (frames, dims), that `encode` was given, to the encoding's accuracy."""
    frames = encoded.values.astype(np.float32)
    return frames * encoded.scale + encoded.offset if encoded.scale.size else frames
