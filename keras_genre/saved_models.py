"""Exported models as their users see them: where they are and what they say of themselves.

```
NAME/1/                        a version; a server takes the one with the highest number
  saved_model.pb  variables/   the graph: core TensorFlow operations only
  assets/labels.txt            a genre a line, in the order of the outputs
  assets/params.json           `SavedModelParams`
  assets.extra/tf_serving_warmup_requests
  assets.extra/sha256.json     checksums of all other files
```
"""

import dataclasses
import fnmatch
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from keras_genre import files
from keras_genre.errors import ExportError, ParameterError, SavedModelError
from keras_genre.models.musicnn_weights import PENULTIMATE, TAGS
from keras_genre.params import FrontEndParams, ModelParams, from_json, resampled_samples

SHIPPED = Path(__file__).resolve().parent.parent / "saved_models" / "gtzan10"
"""The model that comes with the repository."""

GRAPH = "saved_model.pb"
LABELS, PARAMS = "labels.txt", "params.json"
ASSETS = "assets"
WARMUP = Path("assets.extra") / "tf_serving_warmup_requests"
CHECKSUMS = Path("assets.extra") / "sha256.json"
NETWORK = "network.tflite"
"""What a LiteRT export has in the place of a graph."""

SAVED_MODEL_FILES = (
    GRAPH,
    "fingerprint.pb",
    "variables/variables.*",
    f"{ASSETS}/{LABELS}",
    f"{ASSETS}/{PARAMS}",
    WARMUP.as_posix(),
    CHECKSUMS.as_posix(),
)
LITERT_FILES = (NETWORK, LABELS, PARAMS)
"""Patterns of all that an export may hold, by its format; the first is what makes it one."""

WAVEFORM, FEATURES, ENCODED, EMBEDDINGS = "serving_default", "features", "encoded", "embeddings"
"""Names of the signatures."""

INPUTS = {WAVEFORM: "waveform", FEATURES: "frames", ENCODED: "encoded", EMBEDDINGS: "waveform"}
"""Signature -> name of its input."""

PROBABILITIES, WINDOW_PROBABILITIES = "probabilities", "window_probabilities"
"""Names of the outputs of all signatures but `embeddings`."""

OUTPUTS = {
    **dict.fromkeys((WAVEFORM, FEATURES, ENCODED), (PROBABILITIES, WINDOW_PROBABILITIES)),
    EMBEDDINGS: (TAGS, PENULTIMATE),
}
"""Signature -> names of its outputs."""


@dataclasses.dataclass(frozen=True)
class MemberParams:
    """A network of an exported model, and how it gets its frames.

    Attributes
    ----------
    preset : str
        Name of the preset that it was trained by.
    features : str
        Feature kind.
    dims, window_frames : int > 0
        Values a frame, and frames a window.
    front_end : FrontEndParams or None
        How the graph makes frames of a waveform.
    network : ModelParams
    """

    preset: str
    features: str
    dims: int
    window_frames: int
    front_end: FrontEndParams | None
    network: ModelParams

    def frames_of(self, samples: int, sample_rate_hz: int) -> int:
        """Return how many frames a waveform of a rate gives, which is resampled where the front end has another."""
        assert self.front_end is not None
        return self.front_end.frames_of(resampled_samples(samples, sample_rate_hz, self.front_end.sample_rate_hz))

    def samples_of(self, frames: int, sample_rate_hz: int) -> int:
        """Return the least number of samples at a rate, one at least, that gives so many frames."""
        assert self.front_end is not None
        wanted, rate = self.front_end.samples_of(frames), self.front_end.sample_rate_hz
        least = max(1, (wanted - 1) * sample_rate_hz // rate)
        while resampled_samples(least, sample_rate_hz, rate) < wanted:
            least += 1
        return least


@dataclasses.dataclass(frozen=True)
class SavedModelParams:
    """What an exported model expects and gives: the content of `assets/params.json`.

    Attributes
    ----------
    preset : str
        Name of the preset that the network was trained by.
    genres : tuple of str
        The outputs in order; `labels.txt` holds the same.
    signatures : tuple of str
        Of `serving_default`, `features` and `encoded`; `features` alone if nothing is known of how the features were
        made from audio. `embeddings` too if a network makes them: `tags` (batch, frames, 50), activations of the tags
        of MSD-musicnn, and `penultimate` (batch, frames, 200), the values of its last hidden layer.
    features : str
        Feature kind.
    dims : int > 0
        Values a frame, of the `features` signature.
    window_frames : int > 0
        Length of a window; also the least number of frames that a clip must have.
    window_seconds, hop_seconds : float >= 0
        Durations that a window and a step from frame to frame stand for; 0 if unknown.
    sample_rate_hz : int or None
        Of the waveforms, the highest that a network needs; None without a signature for them.
    minimum_samples : int or None
        The shortest waveform that holds a window of every network.
    front_end : FrontEndParams or None
        How the graph makes frames of a waveform.
    network : ModelParams
    companions : tuple of MemberParams
        Further networks. What the model says of a waveform is the mean of what all say of it, in logits, and of
        `features` the mean of those that get the same windows as the first, whose windows are the model's.
    temperature : float > 0
        The mean of all networks is divided by it.
    versions : dict
        Of Python and the libraries, at the training and at the export: `{"training": {...}, "export": {...}}`.
    """

    preset: str
    genres: tuple[str, ...]
    signatures: tuple[str, ...]
    features: str
    dims: int
    window_frames: int
    window_seconds: float
    hop_seconds: float
    sample_rate_hz: int | None
    minimum_samples: int | None
    front_end: FrontEndParams | None
    network: ModelParams
    versions: dict[str, dict[str, str]]
    companions: tuple[MemberParams, ...] = ()
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ParameterError(f"temperature must be a positive number, not {self.temperature}")

    @property
    def members(self) -> tuple[MemberParams, ...]:
        """All networks."""
        first = MemberParams(self.preset, self.features, self.dims, self.window_frames, self.front_end, self.network)
        return first, *self.companions

    @property
    def groups(self) -> list[list[int]]:
        """The networks by their places in `members`, those that get the same windows together, the first's first."""
        alike: dict[tuple[object, ...], list[int]] = {}
        for place, each in enumerate(self.members):
            alike.setdefault((each.features, each.dims, each.window_frames, each.front_end), []).append(place)
        return list(alike.values())

    @property
    def features_divisor(self) -> float:
        """What the sum of the logits of those that `features` asks is divided by."""
        asked = len(self.groups[0])
        return asked * (self.temperature if asked == len(self.members) else 1.0)


def is_saved_model(path: Path | str) -> bool:
    """Tell whether a folder is a SavedModel, or holds numbered versions of one."""
    return (Path(path) / GRAPH).is_file() or bool(versions(path))


def versions(path: Path | str) -> list[int]:
    """Return the numbers of the versions in a model's folder, in ascending order."""
    folder = Path(path)
    if not folder.is_dir():
        return []
    return sorted(int(inner.name) for inner in folder.iterdir() if is_version(inner) and (inner / GRAPH).is_file())


def is_version(path: Path | str) -> bool:
    """Tell whether a folder's name is one that TensorFlow Serving takes for a version: a plain positive number."""
    name = Path(path).name
    return name.isascii() and name.isdigit() and name == str(int(name)) and int(name) > 0


def version_folder(path: Path | str) -> Path:
    """Return the folder of the SavedModel that a path names: itself, or the version with the highest number in it.

    Raises
    ------
    SavedModelError
        If there is none.
    """
    path = Path(path)
    if (path / GRAPH).is_file():
        return path
    found = versions(path)
    if not found:
        raise SavedModelError(
            f"{path}: no SavedModel here; make one with python -m keras_genre.export RUN --out {path}/1"
        )
    return path / str(found[-1])


def read_saved_model(path: Path | str) -> SavedModelParams:
    """Read what an exported model says of itself.

    Parameters
    ----------
    path : Path or str
        A version's folder, or the model's; of that the highest version is read.

    Raises
    ------
    SavedModelError
        If there is none, or it is damaged or was not exported by this package.
    """
    file = version_folder(path) / ASSETS / PARAMS
    try:
        return from_json(SavedModelParams, json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise SavedModelError(f"{path}: was not exported by keras_genre ({ASSETS}/{PARAMS} is missing)") from error
    except (OSError, ValueError, ParameterError) as error:
        raise SavedModelError(f"{file}: damaged, or of another version of keras_genre ({error})") from error


def write_checksums(folder: Path) -> None:
    """Record the SHA-256 of every file of a version: TensorFlow would compute with a damaged graph and say nothing."""
    sums = {
        path.relative_to(folder).as_posix(): files.sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / CHECKSUMS
    }
    files.write_json(folder / CHECKSUMS, sums)


def require_whole(folder: Path) -> None:
    """Refuse a version whose files are not those that were exported. One without checksums is taken as it is.

    Raises
    ------
    SavedModelError
    """
    try:
        sums = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        damaged = [name for name, sha256 in sums.items() if files.sha256_of(folder / name) != sha256]
    except FileNotFoundError as error:
        if error.filename == str(folder / CHECKSUMS):
            return
        raise SavedModelError(f"{error.filename}: is missing; export the model again") from error
    except (OSError, ValueError, AttributeError) as error:
        raise SavedModelError(f"{folder / CHECKSUMS}: damaged ({error}); export the model again") from error
    if damaged:
        raise SavedModelError(f"{folder / damaged[0]}: damaged (its SHA-256 is another); export the model again")


def require_waveforms(path: Path, params: SavedModelParams) -> None:
    """Refuse a model that takes features only.

    Raises
    ------
    SavedModelError
    """
    if WAVEFORM not in params.signatures:
        raise SavedModelError(
            f"{path}: takes features ({params.features}), not audio, as nothing is known of how they were computed; "
            "export a run on a store of python -m keras_genre.precompute"
        )


def reason_of(message: str) -> str:
    """Return why a model refused its input, without the nodes and traces that TensorFlow wraps around the reason."""
    lines = [re.sub(r"{{.*?}}", "", line).strip() for line in message.split("\n\t [[")[0].splitlines()]
    return next((line for line in reversed(lines) if line), "no reason given")


def require_free(out: Path, replace: bool, expected: Sequence[str] = SAVED_MODEL_FILES) -> None:
    """Refuse a destination that exists, unless it is to be replaced and holds an export and nothing else.

    Parameters
    ----------
    out : Path
    replace : bool
        Let it be an earlier export, or an empty folder.
    expected : sequence of str
        `SAVED_MODEL_FILES` or `LITERT_FILES`.

    Raises
    ------
    ExportError
    """
    if not out.exists():
        return
    if not replace:
        raise ExportError(
            f"{out}: exists already; choose another one, of a version the next number, or give --overwrite"
        )
    if not out.is_dir():
        raise ExportError(f"{out}: is a file, not an earlier export, and is not replaced; choose another one")
    for path in sorted(out.rglob("*")):
        inside = path.relative_to(out).as_posix()
        is_expected = any(
            any(folder.as_posix() == inside for folder in PurePosixPath(pattern).parents)
            if path.is_dir()
            else fnmatch.fnmatchcase(inside, pattern)
            for pattern in expected
        )
        if not is_expected:
            raise ExportError(
                f"{out}: is not replaced, as it holds {inside}, which no export wrote; choose another one"
            )
    if any(out.iterdir()) and not (out / expected[0]).is_file():
        raise ExportError(f"{out}: is not replaced, as it is no earlier export ({expected[0]} is missing)")
