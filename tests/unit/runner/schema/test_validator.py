import json
import subprocess
import sys

import pytest
from hypothesis import given, settings, strategies as st

from piano_jupyter.runner.schema.coercion import mismatch
from piano_jupyter.runner.schema.validator import schema_problem

NAME = {"type": "string", "minLength": 2}
PERSON = {"type": "object", "properties": {"names": {"type": "array", "items": NAME}}, "minProperties": 1}
NESTED = {"items": {"$ref": "#"}, "maxItems": 2}


def nested(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("schema", "value", "sentence"),
    [
        (PERSON, {"names": ["Ada", "B"]}, """'names[1]': "B" is shorter than 2 characters"""),
        (PERSON, {}, "{} has less than 1 property"),
        ({"required": ["a"], "minProperties": 0}, {}, '"a" is a required property'),
        ({"type": "string", "pattern": "^[a-z]+$"}, "A" * 500, f'"{"A" * 118}… does not match "^[a-z]+$"'),
        (
            {"oneOf": [{"type": "null"}, {"minimum": 3}]},
            1,
            "1 is not valid under any of the schemas listed in the 'oneOf'",
        ),
        ({"format": "date-time", "minLength": 1}, "noon", '"noon" is not a time like 2026-01-31T12:00:00Z'),
        ({"format": "email", "maxLength": 9}, "not checked", '"not checked" is longer than 9 characters'),
        ({"allOf": [{"type": "string"}]}, "\ud800", "it cannot be checked: "),
        (
            {"allOf": [{"$ref": "#/$defs/gone"}]},
            1,
            "its schema is wrong: $ref names '#/$defs/gone'",
        ),
        ({"pattern": "("}, "a", """its schema is wrong: 'pattern': "(" is not a "regex\""""),
        ({"pattern": "(a{1000}){1000}"}, "a", "its schema is wrong: 'pattern': "),
        ({"items": {"$ref": "%%"}}, [1], "its schema is wrong: Invalid URI reference '%%'"),
    ],
)
def test_a_mismatch_names_the_field_and_what_was_expected(schema, value, sentence):
    assert mismatch(schema, value).startswith(sentence)


@pytest.mark.parametrize(
    ("pattern", "text", "sentence"),
    [
        ("^(a+)+$", "a" * 50_000 + "!", "does not match"),
        ("^(a|aa)+\\1c$", "a" * 50_000 + "!", "cannot be checked: the pattern takes too many steps"),
        ("^(?=(a+)+$)", "a" * 50_000 + "!", "does not match"),
        ("^(?=a)(a|aa)+$", "a" * 50, None),
    ],
)
def test_a_hostile_pattern_ends_after_a_bounded_number_of_steps(pattern, text, sentence):
    """By `re` the first takes longer than the universe is old."""
    said = mismatch({"type": "string", "pattern": pattern}, text)

    assert said is None if sentence is None else sentence in said


def test_what_is_nested_too_deep_is_a_sentence_and_not_the_end_of_the_process():
    program = """if True:
        from piano_jupyter.runner.schema.coercion import mismatch
        def nested(levels):
            value = 1
            for _ in range(levels):
                value = [value]
            return value
        steps = {f"s{at}": {"allOf": [{"$ref": f"#/$defs/s{at + 1}"}]} for at in range(500)}
        steps["s500"] = {"items": {"$ref": "#/$defs/s0"}}
        for schema in ({"items": {"$ref": "#"}, "maxItems": 2}, {"$ref": "#/$defs/s0", "$defs": steps}):
            print(mismatch(schema, nested(100_000)), mismatch(schema, nested(150)), mismatch(schema, nested(4)))"""

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.splitlines() == [
        "it is nested too deeply None None",
        "it is nested too deeply it is nested too deeply None",
    ]


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$defs": {"a": {"$anchor": "here", "$ref": "#here"}}, "properties": {"x": {"$ref": "#/$defs/a"}}},
        {"$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"if": {"$ref": "#/$defs/a"}}}, "minimum": 1},
        {"dependentSchemas": {"a": {"$ref": "#"}}},
        {"$id": "https://example.org/a", "oneOf": [{"$ref": "https://example.org/a"}, {"type": "null"}]},
    ],
)
def test_a_reference_that_leads_back_to_itself_for_the_same_value_is_refused(schema):
    assert schema_problem(schema) == "a $ref leads back to itself"
    assert mismatch(schema, {"a": 1}) is None  # as a tool's own, it ends at least


@pytest.mark.parametrize(
    "schema",
    [
        NESTED,
        {"properties": {"next": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}}},
        {"$ref": "https://json-schema.org/draft/2020-12/schema"},
    ],
)
def test_a_reference_to_what_is_inside_the_value_is_taken(schema):
    assert schema_problem(schema) is None


NODES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.sampled_from(
    ["minimum", "pattern", "$ref", "allOf", "not", "if", "$id", "const", "format", "contains", "$defs"]
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(WORDS, NODES | st.sampled_from(["#", "#/$defs/a", "%"]), min_size=1), NODES)
def test_whatever_the_schema_and_the_value_are_there_is_an_answer(schema, value):
    said = mismatch(schema, value)

    assert said is None or (said and "\n" not in said)
    assert schema_problem(json.loads(json.dumps(schema))) != ""
