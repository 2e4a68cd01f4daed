"""JSON becomes the tensors that it says, or an error that says why not; tensors become JSON that gives them back."""

import base64
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_genre.serving.protocol import RequestError, Signature, TensorSpec, format_answer, format_error, parse_call

SIGNATURES = {
    signature.name: signature
    for signature in (
        Signature(
            "serving_default", {"x": TensorSpec("DT_FLOAT", (None, None))}, {"y": TensorSpec("DT_FLOAT", (None,))}
        ),
        Signature(
            "two",
            {"tag": TensorSpec("DT_STRING", (None,)), "signal": TensorSpec("DT_INT32", (None, 2))},
            {"y": TensorSpec("DT_FLOAT", (None,))},
        ),
        Signature("scalar", {"x": TensorSpec("DT_DOUBLE", ())}, {"y": TensorSpec("DT_DOUBLE", ())}),
        Signature("any", {"x": TensorSpec("DT_FLOAT", None)}, {"y": TensorSpec("DT_FLOAT", None)}),
        Signature("bool", {"x": TensorSpec("DT_BOOL", (None,))}, {"y": TensorSpec("DT_BOOL", (None,))}),
        Signature("bytes", {"x": TensorSpec("DT_STRING", (1,))}, {"y": TensorSpec("DT_FLOAT", (1,))}),
        Signature("half", {"x": TensorSpec("DT_HALF", (None,))}, {"y": TensorSpec("DT_HALF", (None,))}),
        Signature("nothing", {}, {"y": TensorSpec("DT_FLOAT", (None,))}),
        *(
            Signature(f"DT_{kind}", {"x": TensorSpec(f"DT_{kind}", (None,))}, {"y": TensorSpec("DT_FLOAT", (None,))})
            for kind in ("INT8", "UINT8", "INT16", "INT32", "UINT32", "INT64", "UINT64")
        ),
    )
}


def call(document, signature=""):
    body = document if isinstance(document, bytes) else json.dumps(document | {"signature_name": signature}).encode()
    return parse_call(body, SIGNATURES)


def error_of(document, signature="") -> RequestError:
    with pytest.raises(RequestError) as caught:
        call(document, signature)
    return caught.value


def test_rows_and_columns_of_one_input_are_the_same_tensor():
    by_row = call({"instances": [[1, 2.5], [3, -4e2]]})
    by_column = call({"inputs": [[1, 2.5], [3, -4e2]]})
    named_row = call({"instances": [{"x": [1, 2.5]}, {"x": [3, -4e2]}]})
    named_column = call({"inputs": {"x": [[1, 2.5], [3, -4e2]]}})
    for found in (by_row, by_column, named_row, named_column):
        assert found.signature.name == "serving_default"
        assert found.inputs["x"].dtype == np.float32
        np.testing.assert_array_equal(found.inputs["x"], [[1, 2.5], [3, -400]])
    assert [found.by_row for found in (by_row, by_column, named_row, named_column)] == [True, False, True, False]


def test_several_inputs_are_told_apart_by_name():
    rows = {"instances": [{"tag": "a", "signal": [1, 2]}, {"tag": {"b64": "/w=="}, "signal": [3, 4]}]}
    columns = {"inputs": {"tag": ["a", {"b64": "/w=="}], "signal": [[1, 2], [3, 4]]}}
    for document in (rows, columns):
        inputs = call(document, "two").inputs
        assert inputs["tag"].tolist() == [b"a", b"\xff"]
        np.testing.assert_array_equal(inputs["signal"], np.array([[1, 2], [3, 4]], np.int32))
        assert inputs["signal"].dtype == np.int32


def test_a_scalar_is_given_as_a_column():
    assert call({"inputs": 1.5}, "scalar").inputs["x"] == 1.5
    assert call({"inputs": 1.5}, "scalar").inputs["x"].shape == ()
    assert error_of({"instances": [1.5]}, "scalar").status == 400


@pytest.mark.parametrize("document", [{"instances": [{"b64": "YWI="}]}, {"inputs": [{"b64": "YWI"}]}])
def test_base64_needs_no_name_and_no_padding(document):
    assert call(document, "bytes").inputs["x"].tolist() == [b"ab"]


def test_text_becomes_utf8():
    assert call({"instances": ["läßt"]}, "bytes").inputs["x"].tolist() == ["läßt".encode()]


def test_tokens_for_what_is_not_finite_are_read():
    found = call(b'{"instances": [[NaN, Infinity, -Infinity, 1]]}').inputs["x"]
    np.testing.assert_array_equal(found, np.array([[np.nan, np.inf, -np.inf, 1]], np.float32))


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1))
def test_every_float_survives_the_way_there_and_back(values):
    array = call(json.dumps({"instances": [values]}).encode()).inputs["x"]
    assert array[0].tolist() == values
    back = json.loads(format_answer({"y": array}, by_row=True))["predictions"]
    assert np.array(back, np.float32).tobytes() == array.tobytes()


@given(st.binary())
def test_bytes_survive_the_way_there_and_back(content):
    text = base64.b64encode(content).decode()
    array = call({"inputs": [{"b64": text}]}, "bytes").inputs["x"]
    assert array.tolist() == [content]
    assert json.loads(format_answer({"y_bytes": array}, by_row=False)) == {"outputs": [{"b64": text}]}


@pytest.mark.parametrize("kind", ["INT8", "UINT8", "INT16", "INT32", "UINT32", "INT64", "UINT64"])
def test_integers_are_exact_or_refused(kind):
    limits = np.iinfo(kind.lower())
    array = call({"inputs": [limits.min, limits.max]}, f"DT_{kind}").inputs["x"]
    assert array.tolist() == [limits.min, limits.max]
    for value in (limits.min - 1, limits.max + 1, 1.0, True, "1", None):
        assert error_of({"inputs": [0, value]}, f"DT_{kind}").status == 400


@pytest.mark.parametrize(
    ("signature", "value", "words"),
    [
        ("", [[True]], "not of expected type: DT_FLOAT"),
        ("", [["1"]], "not of expected type: DT_FLOAT"),
        ("", [[None]], "not of expected type: DT_FLOAT"),
        ("", [[{"b64": ""}]], "not of expected type: DT_FLOAT"),
        ("", [[1, [2]]], "list at unexpected level"),
        ("", [[1, 2], [3]], "unexpected size: 1"),
        ("", [[1, 2], 3], "incorrect level"),
        ("", [1, 2], "has shape [2], but [any, any] is expected"),
        ("", 1, "has shape []"),
        ("", [[[1]]], "has shape [1, 1, 1]"),
        ("", [[16777217]], "without loss of precision"),
        ("", [[10**60]], "without loss of precision"),
        ("", [[1e39]], "without loss of precision"),
        ("bool", [1], "not of expected type: DT_BOOL"),
        ("bytes", [1], "not of expected type: DT_STRING"),
        ("bytes", ["a", "b"], "has shape [2], but [1] is expected"),
        ("bytes", [{"b64": "a"}], "Unable to base64 decode"),
        ("bytes", [{"b64": "ä"}], "Unable to base64 decode"),
        ("bytes", [{"b64": 1}], "not formatted correctly for base64"),
        ("bytes", [{"c": "YQ=="}], "not formatted correctly for base64"),
        ("bytes", ["\ud800"], "surrogate"),
        ("two", [1], "keys ['signal', 'tag'] is needed"),
        ("two", {"tag": ["a"]}, "Missing named input: signal"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_the_reason(signature, value, words):
    error = error_of({"inputs": value}, signature)
    assert error.status == 400
    assert words in str(error)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "document is empty"),
        (b" \n", "document is empty"),
        (b"instances = [1, 2]", "JSON Parse error"),
        (b'{"instances": [[1]]', "JSON Parse error"),
        (b'{"instances": [[1]]} tail', "JSON Parse error"),
        (b'{"instances": [[01]]}', "JSON Parse error"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"instances": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"signature_name": "any", "inputs": ' + b"[" * 40 + b"]" * 40 + b"}", "nested 40 deep"),
        (b'{"instances": [[' + b"9" * 5000 + b"]]}", "too many digits"),
        (b'{"instances": [[1e999]]}', "Number too big"),
        (b"[]", "Is not object"),
        (b"1", "Is not object"),
        (b"NaN", "Is not object"),
        (b"{}", "Missing 'inputs' or 'instances' key"),
        (b'{"instances": [[1]], "inputs": [[1]]}', "only one of"),
        (b'{"instances": []}', "No values in 'instances'"),
        (b'{"instances": 1}', "must be a list"),
        (b'{"instances": {"x": [1]}}', "must be a list"),
        (b'{"instances": [[1], {"x": [1]}]}', "got object at item 1"),
        (b'{"instances": [{"x": [1]}, [1]]}', "Expecting object"),
        (b'{"instances": [{"y": [1]}]}', "keys (y) must be ['x']"),
        (b'{"instances": [{"x": [1], "y": 1}]}', "must be ['x']"),
        (b'{"instances": [{"x": [1]}, {"x": [1, 2]}]}', "unexpected size: 2"),
        (b'{"signature_name": "nosuch", "instances": [[1]]}', 'signature name: "nosuch" not found'),
        (b'{"signature_name": 1, "instances": [[1]]}', "must be a string"),
        (b'{"signature_name": "nothing", "instances": [[1]]}', "Failed to get input map"),
        (b'{"inputs": {"x": []}}', "has shape [0]"),
    ],
)
def test_a_body_that_is_no_call_is_refused_with_the_reason(body, words):
    error = error_of(body)
    assert error.status == 400
    assert words in str(error)


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [[' + b"0," * 8_000_001 + b"0]]}",
        b'{"instances": [' + b"[]," * 1_000_001 + b"[]]}",
        b'{"instances": [' + b"{}," * 1_000_001 + b"{}]}",
        b"{" + b'"":0,' * 1_000_001 + b'"":0}',
    ],
    ids=["numbers", "lists", "objects", "keys"],
)
def test_a_body_that_would_fill_the_memory_is_not_parsed(body):
    tracemalloc.start()
    try:
        error = error_of(body)
        assert tracemalloc.get_traced_memory()[1] < len(body) + 1_000_000
    finally:
        tracemalloc.stop()
    assert error.status == 413


def test_types_without_json_are_not_implemented():
    assert error_of({"inputs": [1]}, "half").status == 501
    with pytest.raises(RequestError) as caught:
        format_answer({"y": np.zeros(1, np.complex64)}, by_row=False)
    assert caught.value.status == 501


def test_reasons_stay_short_whatever_was_sent():
    huge = "x" * 1_000_000
    for value in ([[huge]], [[[huge]]], [[{huge: 1}]]):
        assert len(str(error_of({"inputs": value}))) < 300
    assert len(str(error_of({"instances": [[1]]}, huge))) < 1000
    assert len(str(error_of({"instances": [{huge: 1}]}))) < 300


def test_one_output_loses_its_name_and_several_keep_theirs():
    one = {"y": np.array([2.5, 3], np.float32)}
    two = one | {"z": np.array([[1, 2], [3, 4]], np.int64)}
    assert json.loads(format_answer(one, by_row=True)) == {"predictions": [2.5, 3.0]}
    assert json.loads(format_answer(one, by_row=False)) == {"outputs": [2.5, 3.0]}
    assert json.loads(format_answer(two, by_row=True)) == {
        "predictions": [{"y": 2.5, "z": [1, 2]}, {"y": 3.0, "z": [3, 4]}]
    }
    assert json.loads(format_answer(two, by_row=False)) == {"outputs": {"y": [2.5, 3.0], "z": [[1, 2], [3, 4]]}}


def test_numbers_are_written_as_their_type_needs_them():
    floats = np.array([0.2, 3, 1e-20, np.nan, np.inf, -np.inf], np.float32)
    assert format_answer({"y": floats}, by_row=False) == b'{"outputs": [0.2, 3.0, 1e-20, NaN, Infinity, -Infinity]}'
    assert format_answer({"y": np.array(7)}, by_row=False) == b'{"outputs": 7}'
    assert format_answer({"y": np.array([True])}, by_row=True) == b'{"predictions": [true]}'
    text = np.array(["ä".encode(), b"\xff"], object)
    assert json.loads(format_answer({"y": text}, by_row=True)) == {"predictions": ["ä", "\ufffd"]}


@pytest.mark.parametrize(
    "outputs",
    [
        {"y": np.float32(1.0) * np.ones(())},
        {"y": np.zeros((0, 2))},
        {"y": np.zeros(2), "z": np.zeros(3)},
        {"y": np.zeros(2), "z": np.zeros(())},
    ],
)
def test_outputs_without_a_common_batch_cannot_be_written_as_rows(outputs):
    with pytest.raises(RequestError) as caught:
        format_answer(outputs, by_row=True)
    assert caught.value.status == 400
    assert json.loads(format_answer(outputs, by_row=False))


def test_errors_are_json_whatever_they_quote():
    assert json.loads(format_error('a "quote"\n\ud800')) == {"error": 'a "quote"\n\ud800'}


def test_only_open_first_dimensions_of_all_tensors_make_a_batch():
    assert SIGNATURES["serving_default"].is_batched
    assert SIGNATURES["two"].is_batched
    for name in ("scalar", "any", "bytes"):
        assert not SIGNATURES[name].is_batched
