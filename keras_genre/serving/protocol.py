"""TensorFlow Serving's REST protocol: JSON to tensors and back, without a server and without TensorFlow.

What is accepted, how it is answered and which status goes with which error follow
https://www.tensorflow.org/tfx/serving/api_rest and the behaviour of TensorFlow Serving where that page is silent.
"""

import base64
import binascii
import dataclasses
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

DEFAULT_SIGNATURE = "serving_default"
BYTES_SUFFIX = "_bytes"
MAX_RANK = 32
MAX_SHOWN_CHARACTERS = 80
MAX_NUMBERS = 8_000_000
MAX_PARTS = 1_000_000

FLOATS: dict[str, type[np.floating]] = {"DT_FLOAT": np.float32, "DT_DOUBLE": np.float64}
INTEGERS: dict[str, type[np.integer]] = {
    "DT_INT8": np.int8,
    "DT_UINT8": np.uint8,
    "DT_INT16": np.int16,
    "DT_INT32": np.int32,
    "DT_UINT32": np.uint32,
    "DT_INT64": np.int64,
    "DT_UINT64": np.uint64,
}


class RequestError(Exception):
    """A request that cannot be answered, with the HTTP status and the reason for the client.

    Attributes
    ----------
    status : int
    headers : dict
        For the answer.
    """

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None):
        super().__init__(reason)
        self.status = status
        self.headers = dict(headers or {})


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """A named tensor of a signature.

    Attributes
    ----------
    dtype : str
        As TensorFlow's protocol buffers call it: `DT_FLOAT`.
    shape : tuple of int or None
        None for a dimension that is open; the whole None where the rank is open.
    """

    dtype: str
    shape: tuple[int | None, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function of a model: its inputs and outputs by name."""

    name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]

    @property
    def is_batched(self) -> bool:
        """Whether the first dimension of every input and output is open, so that it can be taken for the batch's."""
        tensors = [*self.inputs.values(), *self.outputs.values()]
        return all(tensor.shape and tensor.shape[0] is None for tensor in tensors)


@dataclasses.dataclass(frozen=True)
class Call:
    """A request to a signature.

    Attributes
    ----------
    signature : Signature
    inputs : dict of str to np.ndarray
        Strings are arrays of bytes objects.
    by_row : bool
        Whether the request had the row format (`instances`), which the answer then has too.
    """

    signature: Signature
    inputs: dict[str, np.ndarray]
    by_row: bool


def parse_call(body: bytes, signatures: Mapping[str, Signature]) -> Call:
    """Read the body of a `:predict` request.

    Parameters
    ----------
    body : bytes
        JSON, in row or column format.
    signatures : mapping
        The model's signatures by name.

    Raises
    ------
    RequestError
        Status 400 with the reason, for every body that is no call of one of the signatures; 501 for tensors of
        types that the protocol has no JSON for.
    """
    document, has_infinity = _parse_json(body)
    signature = _signature_of(document, signatures)
    if "instances" in document and "inputs" in document:
        raise RequestError(400, "only one of 'instances' and 'inputs' may be given")
    if "instances" in document:
        inputs = _inputs_of_rows(document["instances"], signature)
    elif "inputs" in document:
        inputs = _inputs_of_columns(document["inputs"], signature)
    else:
        raise RequestError(400, "Missing 'inputs' or 'instances' key")
    if not has_infinity:
        for name, array in inputs.items():
            # A literal such as 1e999 becomes infinite without being called so.
            if array.dtype.kind == "f" and np.isinf(array).any():
                raise RequestError(400, f"{name}: JSON Parse error: Number too big to be stored in {array.dtype}")
    return Call(signature, inputs, "instances" in document)


def format_answer(outputs: Mapping[str, np.ndarray], by_row: bool) -> bytes:
    """Write a signature's outputs as the body of an answer.

    Parameters
    ----------
    outputs : mapping of str to np.ndarray
    by_row : bool
        Write `predictions`, a list with an item a row; otherwise `outputs`. A single output loses its name.

    Raises
    ------
    RequestError
        Status 400 if the outputs cannot be cut into rows; 501 for types that the protocol has no JSON for.
    """
    values = {name: _to_json(name, array) for name, array in sorted(outputs.items())}
    if not by_row:
        return _dump({"outputs": next(iter(values.values())) if len(values) == 1 else values})
    rows = {name: array.shape[0] if array.ndim else 0 for name, array in outputs.items()}
    if not rows or min(rows.values()) < 1 or len(set(rows.values())) > 1:
        raise RequestError(400, f"the outputs have no common batch size ({rows}); ask for them with 'inputs'")
    if len(values) == 1:
        return _dump({"predictions": next(iter(values.values()))})
    return _dump({"predictions": [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]})


def format_error(reason: str) -> bytes:
    """Write the body of an answer that says why there is none."""
    return _dump({"error": reason})


def _dump(value: object) -> bytes:
    return json.dumps(value).encode()


def _parse_json(body: bytes) -> tuple[dict[str, Any], bool]:
    constants: set[str] = set()

    def constant(token: str) -> float:
        constants.add(token)
        return float(token)

    if not body.strip():
        raise RequestError(400, "JSON Parse error: The document is empty")
    # In memory a value takes many times the bytes that it takes in JSON, so those few are counted first.
    if body.count(b",") > MAX_NUMBERS or sum(map(body.count, (b"[", b"{", b":"))) > MAX_PARTS:
        raise RequestError(
            413, f"more than {MAX_NUMBERS} values or {MAX_PARTS} lists and objects in one request; send less at once"
        )
    try:
        document = json.loads(body.decode("utf-8-sig"), parse_constant=constant)
    except UnicodeDecodeError as error:
        raise RequestError(400, f"JSON Parse error: not UTF-8 at offset: {error.start}") from error
    except json.JSONDecodeError as error:
        raise RequestError(400, f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
    except RecursionError as error:
        raise RequestError(400, "JSON Parse error: nested too deeply") from error
    except ValueError as error:
        # Python refuses to read integers of thousands of digits.
        raise RequestError(400, "JSON Parse error: a number has too many digits") from error
    if not isinstance(document, dict):
        raise RequestError(400, f"JSON Value: {_shown(document)} Is not object")
    return document, any(token != "NaN" for token in constants)


def _signature_of(document: dict[str, Any], signatures: Mapping[str, Signature]) -> Signature:
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise RequestError(400, "'signature_name' key must be a string value.")
    name = name or DEFAULT_SIGNATURE
    if name not in signatures:
        raise RequestError(
            400, f'Serving signature name: "{_shown(name)}" not found in signature def; known: {sorted(signatures)}'
        )
    if not signatures[name].inputs:
        raise RequestError(400, f"Failed to get input map for signature: {name}")
    return signatures[name]


def _inputs_of_rows(rows: Any, signature: Signature) -> dict[str, np.ndarray]:
    if not isinstance(rows, list):
        raise RequestError(400, f"'instances' must be a list/array, not {_shown(rows)}")
    if not rows:
        raise RequestError(400, "No values in 'instances' array")
    names = set(signature.inputs)
    if not _is_named(rows[0]):
        if len(names) > 1:
            raise RequestError(
                400, f"instances is a plain list, but a list of objects with the keys {sorted(names)} is needed"
            )
        for number, row in enumerate(rows):
            if _is_named(row):
                raise RequestError(400, f"Expecting value/list but got object at item {number} of 'instances'")
        name = next(iter(names))
        return {name: _to_array(rows, name, signature.inputs[name])}
    for number, row in enumerate(rows):
        if not _is_named(row):
            raise RequestError(400, f"Expecting object but got {_shown(row)} at item {number} of 'instances'")
        if set(row) != names:
            raise RequestError(
                400, f"item {number} of 'instances': its keys ({_shown(', '.join(row))}) must be {sorted(names)}"
            )
    return {name: _to_array([row[name] for row in rows], name, signature.inputs[name]) for name in names}


def _inputs_of_columns(columns: Any, signature: Signature) -> dict[str, np.ndarray]:
    if not _is_named(columns):
        if len(signature.inputs) > 1:
            raise RequestError(
                400, f"inputs is a plain value/list, but an object with the keys {sorted(signature.inputs)} is needed"
            )
        columns = {next(iter(signature.inputs)): columns}
    for name in signature.inputs:
        if name not in columns:
            raise RequestError(400, f"Missing named input: {name} in 'inputs' object.")
    return {name: _to_array(columns[name], name, spec) for name, spec in signature.inputs.items()}


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str)


def _to_array(value: Any, name: str, spec: TensorSpec) -> np.ndarray:
    """Turn nested lists into an array of the type and a shape that the signature wants."""
    shape = []
    inner = value
    while isinstance(inner, list):
        shape.append(len(inner))
        inner = inner[0] if inner else None
    if len(shape) > MAX_RANK:
        raise RequestError(400, f"{name}: lists nested {len(shape)} deep; tensors have at most {MAX_RANK} dimensions")
    _require_shape(name, tuple(shape), spec)
    leaves = _leaves(value, name, shape)
    return _convert(leaves, name, spec.dtype).reshape(shape)


def _require_shape(name: str, shape: tuple[int, ...], spec: TensorSpec) -> None:
    if spec.shape is None:
        return
    matches = len(shape) == len(spec.shape) and all(
        wanted is None or size == wanted for size, wanted in zip(shape, spec.shape, strict=True)
    )
    if not matches:
        wanted = ", ".join("any" if size is None else str(size) for size in spec.shape)
        raise RequestError(400, f"{name}: has shape [{', '.join(map(str, shape))}], but [{wanted}] is expected")


def _leaves(value: Any, name: str, shape: list[int]) -> list[Any]:
    """Return the values in nested lists, in order, after checking that the lists make a box of this shape."""
    level = [value]
    for depth, size in enumerate(shape):
        for part in level:
            if not isinstance(part, list):
                raise RequestError(
                    400, f"{name}: JSON Value: {_shown(part)} found at incorrect level: {depth}. A list is expected"
                )
            if len(part) != size:
                raise RequestError(
                    400,
                    f"{name}: Encountered list at unexpected size: {len(part)} at level: {depth} expected size: {size}",
                )
        level = level[0] if len(level) == 1 else [item for part in level for item in part]
    return level


def _convert(leaves: list[Any], name: str, dtype: str) -> np.ndarray:
    # One look at the set of types is far quicker than a look at every value.
    kinds = set(map(type, leaves))
    if dtype not in {*FLOATS, *INTEGERS, "DT_BOOL", "DT_STRING"}:
        raise RequestError(501, f"{name}: Conversion of JSON to type {dtype} is not supported")
    if kinds <= set(_accepted(dtype)):
        if dtype in FLOATS:
            return _floats(leaves, kinds, name, FLOATS[dtype])
        if dtype in INTEGERS:
            return _integers(leaves, name, INTEGERS[dtype])
        if dtype == "DT_BOOL":
            return np.array(leaves, np.bool_)
        array = np.empty(len(leaves), object)
        array[:] = [_to_bytes(leaf, name) for leaf in leaves]
        return array
    wrong = next(leaf for leaf in leaves if type(leaf) not in _accepted(dtype))
    if isinstance(wrong, list):
        raise RequestError(400, f"{name}: Encountered list at unexpected level: {_shown(wrong)}")
    raise RequestError(
        400, f"{name}: JSON Value: {_shown(wrong)} Type: {_type_name(wrong)} is not of expected type: {dtype}"
    )


def _accepted(dtype: str) -> tuple[type, ...]:
    if dtype in FLOATS:
        return float, int
    return (int,) if dtype in INTEGERS else (bool,) if dtype == "DT_BOOL" else (str, dict)


def _floats(leaves: list[Any], kinds: set[type], name: str, kind: type[np.floating]) -> np.ndarray:
    limits = np.finfo(kind)
    if int in kinds:
        # Beyond this, integers have neighbours that the type cannot tell apart.
        largest = 2 ** (limits.nmant + 1) - 1
        for leaf in leaves:
            if type(leaf) is int and abs(leaf) > largest:
                raise _lossy(leaf, name, kind)
    wide = np.array(leaves, np.float64)
    with np.errstate(over="ignore"):
        array = wide.astype(kind)
    overflown = np.isinf(array) & ~np.isinf(wide)
    if overflown.any():
        raise _lossy(leaves[int(overflown.argmax())], name, kind)
    return array


def _integers(leaves: list[int], name: str, kind: type[np.integer]) -> np.ndarray:
    limits = np.iinfo(kind)
    for leaf in (min(leaves, default=0), max(leaves, default=0)):
        if not limits.min <= leaf <= limits.max:
            raise _lossy(leaf, name, kind)
    return np.array(leaves, kind)


def _lossy(value: float, name: str, kind: type[np.generic]) -> RequestError:
    return RequestError(
        400, f"{name}: Cannot convert JSON value: {_shown(value)} to {kind.__name__} without loss of precision."
    )


def _to_bytes(value: Any, name: str) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise RequestError(400, f"{name}: a string has half of a surrogate pair, which is no character") from error
    if not _is_base64(value):
        raise RequestError(400, f"{name}: JSON Value: {_shown(value)} not formatted correctly for base64 data")
    text = re.sub(r"\s", "", value["b64"])
    try:
        # The padding may be left out.
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(400, f"{name}: Unable to base64 decode") from error


def _to_json(name: str, array: np.ndarray) -> Any:
    if array.dtype.kind == "f" and array.dtype.itemsize >= 4:
        # The shortest digits that give this float32 again; those of the same value as float64 are noise.
        return array.astype("U").astype(np.float64).tolist() if array.dtype == np.float32 else array.tolist()
    if array.dtype.kind in "iub":
        return array.tolist()
    if array.dtype.kind in "OS":
        return _map_leaves(array.tolist(), name.endswith(BYTES_SUFFIX))
    raise RequestError(501, f"{name}: there is no JSON for tensors of type {array.dtype}")


def _map_leaves(value: Any, as_bytes: bool) -> Any:
    if isinstance(value, list):
        return [_map_leaves(item, as_bytes) for item in value]
    if as_bytes:
        return {"b64": base64.b64encode(value).decode()}
    return value.decode(errors="replace")


def _type_name(value: Any) -> str:
    names = {type(None): "Null", bool: "Bool", str: "String", dict: "Object", list: "Array"}
    return names.get(type(value), "Number")


def _shown(value: Any) -> str:
    """Return a value for a message, cut to a bearable length without writing all of it first."""
    if isinstance(value, list | dict):
        return f"{_type_name(value)} of {len(value)}"
    if isinstance(value, int) and abs(value) >= 10**MAX_SHOWN_CHARACTERS:
        return f"an integer of about {math.log10(abs(value)):.0f} digits"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[:MAX_SHOWN_CHARACTERS] + "..."
