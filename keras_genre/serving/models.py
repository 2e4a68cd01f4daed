"""The versions of a model: found in its folder, loaded, warmed up, swapped, dropped."""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2

from keras_genre.saved_models import reason_of, require_whole
from keras_genre.serving.contract import WAVEFORM, AudioContract, read_contract
from keras_genre.serving.protocol import DEFAULT_SIGNATURE, RequestError, Signature, TensorSpec
from keras_genre.serving.warmup import warmup_requests

MAX_VERSION = 2**63 - 1
SERVE_TAG = "serve"
INIT_SIGNATURE = "__saved_model_init_op"
KEPT_STATES = 50
MAX_REASON_CHARACTERS = 500

# https://www.tensorflow.org/api_docs/python/tf/errors: what a client can cause, as HTTP states it.
_STATUS_OF_CODE = {3: 400, 4: 504, 5: 404, 8: 429, 9: 400, 11: 400, 12: 501, 14: 503}


class Servable:
    """A version of a model that is loaded and can be called, from any thread.

    Parameters
    ----------
    folder : Path
        The SavedModel.
    version : int

    Raises
    ------
    Exception
        Whatever is wrong with the folder; TensorFlow has no one type for it.

    Attributes
    ----------
    signatures : dict of str to Signature
    contract : AudioContract or str
        How the model classifies audio, or why it does not.
    metadata : dict
        The signatures as TensorFlow Serving states them.
    """

    def __init__(self, folder: Path, version: int):
        self.folder = folder
        self.version = version
        require_whole(folder)
        definitions = _signature_definitions(folder)
        self.metadata = {name: _as_json(definition) for name, definition in definitions.items()}
        self.signatures = {
            name: _signature(name, definition) for name, definition in definitions.items() if name != INIT_SIGNATURE
        }
        self.contract = read_contract(folder, self.signatures)
        # The functions do not keep the object alive that holds their variables.
        self._loaded = tf.saved_model.load(str(folder), tags=[SERVE_TAG])
        self._functions = dict(self._loaded.signatures)
        self._dtypes = {
            name: {key: tf.as_dtype(tensor.dtype) for key, tensor in definition.inputs.items()}
            for name, definition in definitions.items()
        }

    def warm_up(self) -> None:
        """Run the requests that the model brings along for this; lacking those, the shortest silence."""
        count = 0
        for name, inputs in warmup_requests(self.folder):
            self.run(name, inputs)
            count += 1
        if count == 0 and isinstance(self.contract, AudioContract):
            self.run(DEFAULT_SIGNATURE, {WAVEFORM: np.zeros((1, self.contract.minimum_samples), np.float32)})

    def run(self, name: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Call a signature.

        Parameters
        ----------
        name : str
        inputs : mapping of str to np.ndarray
            Each of the type and a shape of its `TensorSpec`.

        Raises
        ------
        RequestError
            With TensorFlow's reason, if the model refuses the values.
        """
        try:
            tensors = {key: tf.constant(array, self._dtypes[name][key]) for key, array in inputs.items()}
            return {key: tensor.numpy() for key, tensor in self._functions[name](**tensors).items()}
        except tf.errors.OpError as error:
            status = _STATUS_OF_CODE.get(error.error_code, 500)
            raise RequestError(
                status, f"the model refuses this: {reason_of(error.message)[:MAX_REASON_CHARACTERS]}"
            ) from error


def _signature_definitions(folder: Path) -> dict[str, Any]:
    saved_model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    for graph in saved_model.meta_graphs:
        if set(graph.meta_info_def.tags) == {SERVE_TAG}:
            return dict(graph.signature_def)
    raise ValueError(f"holds no graph with the tag {SERVE_TAG!r}")


def _signature(name: str, definition: Any) -> Signature:
    def spec(tensor: Any) -> TensorSpec:
        shape = None
        if not tensor.tensor_shape.unknown_rank:
            shape = tuple(dim.size if dim.size >= 0 else None for dim in tensor.tensor_shape.dim)
        return TensorSpec(types_pb2.DataType.Name(tensor.dtype), shape)

    return Signature(
        name,
        {key: spec(tensor) for key, tensor in definition.inputs.items()},
        {key: spec(tensor) for key, tensor in definition.outputs.items()},
    )


def _as_json(message: Any) -> Any:
    options: dict[str, Any] = {"preserving_proto_field_name": True}
    try:
        return json_format.MessageToDict(message, always_print_fields_with_no_presence=True, **options)
    except TypeError:
        # Before protobuf 5 the option had another name.
        return json_format.MessageToDict(message, including_default_value_fields=True, **options)


@dataclasses.dataclass(frozen=True)
class VersionState:
    """What is known of a version, in TensorFlow Serving's words.

    Attributes
    ----------
    state : str
        `LOADING`, `AVAILABLE` or `END`.
    error_code, error_message : str
        `OK` and nothing, or why it could not be loaded.
    """

    state: str
    error_code: str = "OK"
    error_message: str = ""


class ModelVersions:
    """The newest versions of a model, kept up with its folder by calls of `poll`.

    A version is replaced only when its successor is loaded and warmed up, and who holds a `Servable` can finish with
    it. One that fails to load is not tried again until its files change. The last one is never dropped.

    Parameters
    ----------
    base : Path
        Folder of version folders, whose names are integers.
    name : str
        The model's name.
    keep : int > 0
        How many versions are served.
    load : callable
        Makes a `Servable` of a folder and a version.
    on_change : callable
        Is told of every change, in a sentence.
    """

    def __init__(
        self,
        base: Path,
        name: str,
        keep: int = 1,
        load: Callable[[Path, int], Servable] = Servable,
        on_change: Callable[[str], None] = lambda text: None,
    ):
        self.base = base
        self.name = name
        self._keep = keep
        self._load = load
        self._on_change = on_change
        self._polling = threading.Lock()
        # Rebound as a whole and never changed, so that readers in other threads need no lock.
        self._available: Mapping[int, Servable] = {}
        self._states: Mapping[int, VersionState] = {}
        self._failed: dict[int, frozenset[tuple[str, int, int]]] = {}

    @property
    def states(self) -> dict[int, VersionState]:
        """What is known of each version, the newest first."""
        return dict(sorted(self._states.items(), reverse=True))

    @property
    def available(self) -> list[int]:
        """The versions that can be called, the newest first."""
        return sorted(self._available, reverse=True)

    def get(self, version: int | None = None) -> Servable:
        """Return a version, by default the newest.

        Raises
        ------
        RequestError
            Status 404, if it is not available.
        """
        available = self._available
        if version is None and available:
            return available[max(available)]
        if version is not None and version in available:
            return available[version]
        wanted = f"Latest({self.name})" if version is None else f"Specific({self.name}, {version})"
        raise RequestError(404, f"Servable not found for request: {wanted}")

    def poll(self) -> None:
        """Look at the folder; load what is new, drop what is gone or superseded. Takes as long as loading takes."""
        with self._polling:
            try:
                found = _versions_in(self.base)
            except OSError as error:
                # A file system that is away for a moment is no reason to drop anything.
                self._on_change(f"{self.base}: cannot be read: {error.strerror}")
                return
            self._failed = {
                version: files
                for version, files in self._failed.items()
                if version in found and _fingerprint(found[version]) == files
            }
            while missing := [version for version in self._wanted(found) if version not in self._available]:
                self._load_version(missing[0], found[missing[0]])
            wanted = self._wanted(found)
            for version in self._available.keys() - set(wanted) if wanted else ():
                self._drop(version)

    def _wanted(self, found: Mapping[int, Path]) -> list[int]:
        return sorted(found.keys() - self._failed.keys(), reverse=True)[: self._keep]

    def _load_version(self, version: int, folder: Path) -> None:
        self._set_state(version, VersionState("LOADING"))
        files = _fingerprint(folder)
        try:
            servable = self._load(folder, version)
            servable.warm_up()
        except Exception as error:
            # Whatever TensorFlow raises for a damaged model, the versions that work must go on.
            self._failed[version] = files
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
            self._set_state(version, VersionState("END", "UNKNOWN", reason))
            self._on_change(f"version {version} cannot be loaded: {reason}")
            return
        self._available = {**self._available, version: servable}
        self._set_state(version, VersionState("AVAILABLE"))
        audio = "" if isinstance(servable.contract, AudioContract) else f" (no audio: {servable.contract})"
        self._on_change(f"version {version} is available{audio}")

    def _drop(self, version: int) -> None:
        self._available = {other: servable for other, servable in self._available.items() if other != version}
        self._set_state(version, VersionState("END"))
        self._on_change(f"version {version} is dropped")

    def _set_state(self, version: int, state: VersionState) -> None:
        states = {**self._states, version: state}
        ended = sorted(other for other in states if states[other].state == "END")
        for other in ended[: max(len(states) - KEPT_STATES, 0)]:
            del states[other]
        self._states = states


def _versions_in(base: Path) -> dict[int, Path]:
    """Return the version folders that hold a SavedModel, by their number."""
    found = {}
    for folder in base.iterdir():
        # Only ASCII digits: int() takes those of other scripts too.
        if folder.name.isascii() and folder.name.isdigit() and int(folder.name) <= MAX_VERSION:
            with contextlib.suppress(OSError):
                if (folder / "saved_model.pb").is_file():
                    found[int(folder.name)] = folder
    return found


def _fingerprint(folder: Path) -> frozenset[tuple[str, int, int]]:
    """Return what changes when a file of a folder is replaced or grows."""
    files = set()
    with contextlib.suppress(OSError):
        for path in folder.rglob("*"):
            with contextlib.suppress(OSError):
                status = path.stat()
                files.add((str(path.relative_to(folder)), status.st_size, status.st_mtime_ns))
    return frozenset(files)
