"""Tool and @tool."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, NotRequired, TypedDict

import pytest

from piano_jupyter.errors import ToolError
from piano_jupyter.tool import TOOL_NAME, Tool, as_tool, name_for_model, tool

tool_module = import_module("piano_jupyter.tool")  # `piano_jupyter.tool` is the function


class Row(TypedDict):
    """A row as a model gives it."""

    name: str
    price: NotRequired[float]


class Blob(TypedDict):
    """A type that JSON does not support."""

    data: bytes


def test_a_function_becomes_a_tool_with_its_docstring_and_signature():
    @tool
    def rows(table: str, limit: int = 5, *, order: Literal["up", "down"] | None = None) -> str:
        """Return the first rows of a table."""
        return f"{table} {limit} {order}"

    assert rows.schema() == {
        "type": "function",
        "function": {
            "name": "rows",
            "description": "Return the first rows of a table.",
            "parameters": {
                "type": "object",
                "properties": {
                    "table": {"type": "string"},
                    "limit": {"type": "integer", "default": 5},
                    "order": {"anyOf": [{"enum": ["up", "down"]}, {"type": "null"}]},
                },
                "required": ["table"],
                "additionalProperties": False,
            },
        },
    }
    assert rows.function("t", 1) == "t 1 None"


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (Any, {}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (list, {"type": "array", "items": {}}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (Sequence, {"type": "array", "items": {}}),
        (Sequence[str], {"type": "array", "items": {"type": "string"}}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (
            tuple[int, str],
            {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2},
        ),
        (dict, {"type": "object", "additionalProperties": True}),
        (Mapping, {"type": "object", "additionalProperties": True}),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (
            list[Row],
            {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "price": {"type": "number"}},
                    "required": ["name"],
                    "additionalProperties": False,
                },
            },
        ),
    ],
)
def test_an_annotation_becomes_json_schema(hint, schema):
    def function(value):
        """Take a value."""

    function.__annotations__["value"] = hint

    assert tool(function).parameters["properties"]["value"] == schema


def test_a_name_with_dots_or_a_long_one_is_told_to_the_model_in_a_form_that_it_accepts():
    long = "server." + "x" * 100

    assert name_for_model("price") == "price"
    assert name_for_model("github.files.read") == "github__files__read"
    assert TOOL_NAME.fullmatch(name_for_model(long))
    assert name_for_model(long) != name_for_model(long + "y")


def test_the_decorator_can_name_a_tool_and_require_approval():
    @tool(name="drop", asks=True)
    def _anything() -> None:
        """Drop it."""

    assert (_anything.name, _anything.asks) == ("drop", True)
    assert as_tool(_anything) is _anything


def test_a_method_becomes_a_tool_without_self():
    class Desk:
        def look(self, where: str) -> str:
            """Look there."""
            return where

    assert list(as_tool(Desk().look).parameters["properties"]) == ["where"]


def test_a_default_that_json_does_not_support_is_left_out():
    def wait(seconds: float = float("inf"), how: object = ...) -> None:
        """Wait."""

    wait.__annotations__["how"] = str

    assert tool(wait).parameters["properties"] == {"seconds": {"type": "number"}, "how": {"type": "string"}}


def _undocumented(x: int):
    pass


def _rest(*rows: str):
    """Take the rest."""


def _bytes(data: bytes):
    """Take bytes."""


def _blob(blob: Blob):
    """Take bytes in a field."""


def _unresolved(data: "Nowhere"):  # noqa: F821
    """Take what is not there."""


def größe(x: int):  # noqa: PLC2401  That is the point.
    """Take a number."""


class _Callable:
    """Not a function."""

    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("thing", "sentence"),
    [
        (_undocumented, "'_undocumented' needs a docstring"),
        (_rest, "list them"),
        (_bytes, "'data' as <class 'bytes'>, which JSON does not support"),
        (_blob, "'blob.data' as <class 'bytes'>, which JSON does not support"),
        (_unresolved, "'_unresolved' has an annotation that cannot be resolved"),
        (größe, "'größe' is not a valid tool name; use @tool\\(name=...\\)"),
        (_Callable(), "is not a function"),
    ],
)
def test_a_function_that_cannot_be_a_tool_is_an_error_that_says_what_to_do(thing, sentence):
    with pytest.raises(ToolError, match=sentence):
        as_tool(thing)


def test_a_tool_without_the_decorator_can_have_a_custom_schema():
    made = Tool(name="t", description="T.", parameters={"type": "object", "properties": {}}, function=dict)

    assert made.schema()["function"]["parameters"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("old", "new"), [("Calling", "ToolCallContext"), ("Opinion", "ToolAssessment"), ("calling", "current_call")]
)
def test_what_was_renamed_is_found_under_its_old_name_with_a_warning(old, new):
    with pytest.warns(DeprecationWarning, match=f"piano_jupyter.tool.{old} is now {new}"):
        found = getattr(tool_module, old)

    assert found is getattr(tool_module, new)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tool_module.nothing  # noqa: B018
