"""The weights of MSD-musicnn: how they are named, kept and made smaller. NumPy alone, for processes without Keras.

The network is that of Pons and Serra, "musicnn: Pre-trained convolutional neural networks for music audio tagging"
(2019), trained on the Million Song Dataset with the 50 most frequent tags of Last.fm. NOTICE has its licence.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keras_genre import files
from keras_genre.errors import WeightsError

EMBEDDED = Path(__file__).with_name("msd_musicnn.npz")
"""The weights as they come with this package."""

PATCH_SPECTRA, MEL_BANDS = 187, 96
"""What the network sees at a time: 3 s of log-mel spectra."""

TAG_NAMES = (
    *("rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s", "alternative rock"),
    *("jazz", "beautiful", "metal", "chillout", "male vocalists", "classic rock", "soul", "indie rock", "mellow"),
    *("electronica", "80s", "folk", "90s", "chill", "instrumental", "punk", "oldies", "blues", "hard rock", "ambient"),
    *("acoustic", "experimental", "female vocalist", "guitar", "hip-hop", "70s", "party", "country"),
    *("easy listening", "sexy", "catchy", "funk", "electro", "heavy metal", "progressive rock", "60s", "rnb"),
    *("indie pop", "sad", "house", "happy"),
)
"""What the tag activations are of, in order."""

PENULTIMATE_VALUES = 200
"""Values of the last hidden layer."""

TAGS, PENULTIMATE = "tags", "penultimate"
"""Names of the outputs."""

FRONT = ("timbre_38", "timbre_67", "rhythm_128", "rhythm_64", "rhythm_32")
"""Convolutions over the spectra, in the order in which their outputs are put together."""

MIDDLE = ("middle_1", "middle_2", "middle_3")
"""Convolutions over time behind them, each but the first added to the one before."""

NORM_EPSILON = 1e-3
"""Added to the variances of all batch normalisations."""

_DEAD = 1e-6
_CONVOLUTIONS = (*FRONT, *MIDDLE)
_NORMS = ("input", *_CONVOLUTIONS, "pooled", "hidden")

Weights = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Norm:
    """A batch normalisation at inference: `scale * x + offset`, float32 (channels,) each."""

    scale: np.ndarray
    offset: np.ndarray

    @classmethod
    def of(cls, weights: Weights, layer: str) -> "Norm":
        """Take it from the weights of a layer `LAYER_norm`."""
        gamma, beta, mean, variance = (
            weights[f"{layer}_norm/{name}"] for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        scale = gamma / np.sqrt(variance + np.float32(NORM_EPSILON))
        return cls(scale, beta - mean * scale)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x * self.scale + self.offset


def shapes() -> dict[str, tuple[int, ...]]:
    """Return the names of all weights with their shapes: 64 arrays, 792 079 values."""
    kernels: dict[str, tuple[int, ...]] = {
        "timbre_38": (7, 38, 1, 204),
        "timbre_67": (7, 67, 1, 204),
        "rhythm_128": (128, 1, 1, 51),
        "rhythm_64": (64, 1, 1, 51),
        "rhythm_32": (32, 1, 1, 51),
        "middle_1": (7, 561, 1, 64),
        "middle_2": (7, 64, 1, 64),
        "middle_3": (7, 64, 1, 64),
        "hidden": (2 * (561 + 3 * 64), PENULTIMATE_VALUES),
        "tags": (PENULTIMATE_VALUES, len(TAG_NAMES)),
    }
    channels = {"input": 1, "pooled": kernels["hidden"][0]} | {name: shape[-1] for name, shape in kernels.items()}
    found = {f"{name}/kernel": shape for name, shape in kernels.items()}
    found |= {f"{name}/bias": (shape[-1],) for name, shape in kernels.items()}
    for name in _NORMS:
        found |= {
            f"{name}_norm/{value}": (channels[name],) for value in ("gamma", "beta", "moving_mean", "moving_variance")
        }
    return found


def variable_names() -> dict[str, str]:
    """Return the name of every weight in the published checkpoint, by its name here.

    What each variable is follows from the shapes and from the checkpoint itself: the order of the convolutions from
    which of their filters are dead and which moving variances behind the pooling are 0, the order in the pooling from
    where its moving means are the offsets of the normalisations before it.
    """
    published = {"tags": "dense_1", "hidden": "dense"}
    published |= {name: _numbered("conv2d", number) for number, name in enumerate(_CONVOLUTIONS)}
    published |= {f"{name}_norm": _numbered("batch_normalization", number) for number, name in enumerate(_NORMS)}
    found = {}
    for name in shapes():
        layer, value = name.split("/")
        found[name] = f"{published[layer]}/{value}"
    return found


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


def write_weights(path: Path, weights: Weights) -> None:
    """Write weights, exactly, as an `.npz` archive."""
    with files.atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **weights)


def read_weights(path: Path = EMBEDDED) -> dict[str, np.ndarray]:
    """Read weights that `write_weights` wrote.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, or holds other weights.
    """
    try:
        # Never pickled objects: they could run code.
        with np.load(path, allow_pickle=False) as stored:
            weights = {name: stored[name] for name in stored.files}
    except Exception as error:
        # zipfile, zlib and NumPy have a dozen kinds of errors for damaged files.
        raise WeightsError(
            f"{path}: missing or damaged ({error}); make it again with python -m keras_genre.musicnn"
        ) from error
    return checked(weights, str(path))


def checked(weights: dict[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """Return weights, if all are there, float32, of their shapes, and finite.

    Raises
    ------
    WeightsError
        Naming `source`.
    """
    expected = shapes()
    if {name: array.shape for name, array in weights.items()} != expected:
        raise WeightsError(f"{source}: are not the weights of MSD-musicnn")
    if not all(array.dtype == np.float32 and np.isfinite(array).all() for array in weights.values()):
        raise WeightsError(f"{source}: has weights that are not float32, or NaN or infinite")
    return weights


def without_dead_filters(weights: Weights) -> dict[str, np.ndarray]:
    """Leave out the convolutions over the spectra that training has switched off: all but 64 of 561.

    The weight decay has taken their kernels to 0, so each gives one number whatever the music. Where that is pooled it
    becomes part of a bias; where it is convolved once more it is left out, being below 1e-5. What remains is the same
    function to 1e-5, in a tenth of the time.
    """
    slim = dict(weights)
    alive, constants = [], []
    for layer in FRONT:
        is_alive = np.abs(weights[f"{layer}/kernel"]).max(axis=(0, 1, 2)) > _DEAD
        constants.append(Norm.of(weights, layer)(np.maximum(weights[f"{layer}/bias"], 0.0)))
        alive.append(is_alive)
        slim[f"{layer}/kernel"] = weights[f"{layer}/kernel"][..., is_alive]
        for name in ("/bias", "_norm/gamma", "_norm/beta", "_norm/moving_mean", "_norm/moving_variance"):
            slim[f"{layer}{name}"] = weights[f"{layer}{name}"][is_alive]
    is_alive = np.concatenate(alive)
    slim["middle_1/kernel"] = weights["middle_1/kernel"][:, is_alive]
    # Two pooled values of each channel, the largest and the mean; of those behind the first ones all stay.
    pooled = np.repeat(np.concatenate([is_alive, np.ones(3 * 64, bool)]), 2)
    constant = np.zeros(pooled.size, np.float32)
    constant[: 2 * is_alive.size] = np.repeat(np.concatenate(constants), 2)
    dead_part = Norm.of(weights, "pooled")(constant)[~pooled] @ weights["hidden/kernel"][~pooled]
    slim["hidden/bias"] = weights["hidden/bias"] + dead_part
    slim["hidden/kernel"] = weights["hidden/kernel"][pooled]
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        slim[f"pooled_norm/{name}"] = weights[f"pooled_norm/{name}"][pooled]
    return slim
