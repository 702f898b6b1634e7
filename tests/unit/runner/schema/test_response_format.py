"""From what a user gives to a JSON Schema, and from a model's text to a checked value."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, NotRequired, Optional, TypedDict
from uuid import UUID

import pydantic
import pytest
from hypothesis import given, settings, strategies as st

from piano_jupyter.errors import PianoError
from piano_jupyter.runner.schema.coercion import SchemaMismatchError, mismatch
from piano_jupyter.runner.schema.response_format import response_format_of
from piano_jupyter.text.invisible import terminal_text

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
}


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Place:
    """Where somebody lives."""

    city: str
    zip: Annotated[int, "five digits"]


@dataclass(frozen=True)
class Person:
    name: str
    born: date
    height: float
    favourite: Colour
    home: Place | None = None
    tags: list[str] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)
    level: Level = Level.LOW
    mood: Literal["good", "bad"] = "good"
    pair: tuple[int, str] = (1, "a")
    places: tuple[Place, ...] = ()
    derived: str = field(init=False, default="x")


@dataclass
class Tree:
    value: int
    children: "list[Tree]"


class Film(TypedDict):
    title: str
    year: int
    seen: NotRequired[datetime]


class Movie(pydantic.BaseModel):
    title: str
    year: int = pydantic.Field(ge=1888)
    released: date
    home: Place | None = None

    @pydantic.field_validator("title")
    @classmethod
    def not_shouted(cls, title):
        if title.isupper():
            raise ValueError("it must not be shouted")
        return title


class Shelf(pydantic.BaseModel):
    movies: list[Movie]


def test_a_dataclass_becomes_a_schema_with_what_it_says_of_itself():
    @dataclass
    class Trip:
        """A way from one place to another."""

        start: Place
        days: int = 3

    assert response_format_of(Trip).schema == {
        "title": "Trip",
        "description": "A way from one place to another.",
        "type": "object",
        "properties": {
            "start": {
                "title": "Place",
                "description": "Where somebody lives.",
                "type": "object",
                "properties": {"city": {"type": "string"}, "zip": {"type": "integer", "description": "five digits"}},
                "required": ["city", "zip"],
                "additionalProperties": False,
            },
            "days": {"type": "integer", "default": 3},
        },
        "required": ["start"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (int, {"type": "integer"}),
        (list[date], {"type": "array", "items": {"type": "string", "format": "date"}}),
        (Optional[datetime], {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}),  # noqa: UP045
        (Colour, {"enum": ["red", "blue"]}),
        (Level, {"enum": [1, 2]}),
        (Literal["a", 1], {"enum": ["a", 1]}),
        (dict[str, UUID], {"type": "object", "additionalProperties": {"type": "string", "format": "uuid"}}),
    ],
)
def test_a_type_becomes_a_schema(kind, schema):
    assert response_format_of(kind).schema == schema


def test_a_value_of_a_dataclass_is_built_all_the_way_down():
    text = json.dumps(
        {
            "name": "Ada",
            "born": "1815-12-10",
            "height": 2,
            "favourite": "blue",
            "home": {"city": "London", "zip": "12345"},
            "tags": ["maths"],
            "scores": {"chess": 1},
            "level": 2,
            "pair": [7, "b"],
            "places": [{"city": "Rome", "zip": 1}],
        }
    )

    ada = response_format_of(Person).value(text)

    assert ada == Person(
        "Ada",
        date(1815, 12, 10),
        2.0,
        Colour.BLUE,
        Place("London", 12345),
        ["maths"],
        {"chess": 1.0},
        Level.HIGH,
        "good",
        (7, "b"),
        (Place("Rome", 1),),
    )
    assert isinstance(ada.height, float)
    assert isinstance(ada.level, Level)


def test_a_recursive_type_has_a_definition_and_is_built_too():
    form = response_format_of(list[Tree])
    text = '[{"value": 1, "children": [{"value": 2, "children": []}]}]'

    assert form.schema["items"] == {"$ref": "#/$defs/Tree"}
    assert form.value(text) == [Tree(1, [Tree(2, [])])]
    with pytest.raises(SchemaMismatchError, match=r"'\[0\].children\[0\].value': \"x\" is not of type \"integer\""):
        form.value(text.replace("2", '"x"'))


def test_a_typed_dict_takes_what_may_be_left_out_and_makes_times_of_texts():
    form = response_format_of(Film)

    assert form.value('{"title": "M", "year": 1931}') == {"title": "M", "year": 1931}
    assert form.value('{"title": "M", "year": 1931, "seen": "2026-01-31T20:00:00Z"}') == {
        "title": "M",
        "year": 1931,
        "seen": datetime(2026, 1, 31, 20, tzinfo=UTC),
    }


def test_what_a_typed_dict_needs_is_known_where_annotations_are_texts():
    space = {}
    exec(  # a module of its own
        "from __future__ import annotations\nfrom typing import *\n"
        "class Row(TypedDict):\n    a: int\n    b: NotRequired[int]\n",
        space,
    )
    sys.modules[space["Row"].__module__].__dict__.setdefault("NotRequired", NotRequired)

    assert response_format_of(space["Row"]).schema["required"] == ["a"]


def test_a_pydantic_model_is_checked_by_its_schema_and_then_by_itself():
    form = response_format_of(Shelf)
    text = '{"movies": [{"title": "Em", "year": "1931", "released": "1931-05-11"}]}'

    with pytest.raises(SchemaMismatchError, match=r"'movies\[0\].year': \"1931\" is not of type \"integer\""):
        form.value(text)
    text = text.replace('"1931"', "1931")
    assert form.value(text) == Shelf(movies=[Movie(title="Em", year=1931, released=date(1931, 5, 11))])
    with pytest.raises(SchemaMismatchError, match=r"'movies\[0\].year': 1066 is less than the minimum of 1888"):
        form.value(text.replace("1931,", "1066,"))
    with pytest.raises(
        SchemaMismatchError, match=r"'movies\[0\].released': \"1931-13-11\" is not a date like 2026-01-31"
    ):
        form.value(text.replace("1931-05", "1931-13"))
    with pytest.raises(SchemaMismatchError, match=r"Shelf rejects it: 'movies.0.title': .*it must not be shouted"):
        form.value(text.replace('"Em"', '"LOUD"'))


def test_models_of_pydantic_stand_inside_other_types():
    form = response_format_of(dict[str, Movie | None])

    assert form.value('{"a": null, "b": {"title": "Em", "year": 1931, "released": "1931-05-11"}}') == {
        "a": None,
        "b": Movie(title="Em", year=1931, released=date(1931, 5, 11)),
    }


def test_an_error_of_a_constructor_is_one_sentence():
    @dataclass
    class Share:
        part: float

        def __post_init__(self):
            if self.part > 1:
                raise ValueError("a part is at most 1")

    @dataclass
    class Sum:
        total: float

        def __post_init__(self):
            assert self.total > 0, "a total is positive"

    assert response_format_of(Share).value('{"part": 1}').part == 1.0
    with pytest.raises(SchemaMismatchError, match="Sum rejects it: a total is positive"):
        response_format_of(Sum).value('{"total": 0}')
    with pytest.raises(SchemaMismatchError, match="Share rejects it: a part is at most 1"):
        response_format_of(Share).value('{"part": 2}')
    with pytest.raises(SchemaMismatchError, match=r"float rejects it: .*too large"):
        response_format_of(float).value("1" + "0" * 400)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"age": 1}', "'name' is missing; it must be a string"),
        ('{"name": "a", "age": "old"}', "'age' must be a whole number, not \"old\""),
        ('{"name": "a", "age": 1.5}', "'age' must be a whole number, not 1.5"),
        ('["a"]', 'it must be an object, not ["a"]'),
        ("Ada is 36.", "it is not JSON (Expecting value: line 1 column 1 (char 0))"),
        ('{"name": "a"', "it is not JSON (Expecting ',' delimiter: line 1 column 13 (char 12))"),
        ('{"name": "a"} and more', "it is not JSON (Extra data: line 1 column 15 (char 14))"),
        ('{"name": "a", "age": NaN}', "it is not JSON (NaN is not a number)"),
        ('{"name": "a", "size": 1e999}', "it is not JSON (1e999 is too large a number)"),
        ("  ", "it is empty"),
        ("[" * 100_000, "it is nested too deeply"),
    ],
)
def test_a_text_that_does_not_match_is_an_error_with_the_field_and_what_was_expected(text, problem):
    with pytest.raises(SchemaMismatchError) as caught:
        response_format_of(PERSON).value(text)

    assert str(caught.value) == problem


@pytest.mark.parametrize(
    "text", ['{"name": "a"}', ' {"name": "a"}\n', '```json\n{"name": "a"}\n```', '```\n{\n"name": "a"\n}```\n']
)
def test_white_space_and_a_code_fence_around_the_json_fall_away(text):
    assert response_format_of(PERSON).value(text) == {"name": "a"}


def test_what_is_wrong_inside_an_option_is_named_there():
    with pytest.raises(SchemaMismatchError, match=r"'home.zip' must be a whole number, not \"x\""):
        response_format_of(Person).value(
            '{"name": "a", "born": "2000-01-01", "height": 1, "favourite": "red", "home": {"city": "b", "zip": "x"}}'
        )


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (date, '"31.1.2026"', "a date like 2026-01-31"),
        (datetime, '"noon"', "a time like 2026-01-31T12:00:00Z"),
        (time, '"noon"', "a time of day like 12:00:00"),
        (UUID, '"1"', "a UUID"),
        (date | None, "1", "a date like 2026-01-31 or null"),
    ],
)
def test_a_value_of_another_type_is_an_error_that_says_what_it_must_be(kind, text, expected):
    with pytest.raises(SchemaMismatchError) as caught:
        response_format_of(kind).value(text)

    assert str(caught.value) == f"it must be {expected}, not {text}"


@pytest.mark.parametrize(
    ("thing", "sentence"),
    [
        (Place("a", 1), "give the class Place itself, not an instance of it"),
        (bytes, "bytes cannot be the format of an answer; give a dataclass"),
        (list[bytes], "bytes cannot be the format of an answer"),
        (dict[int, str], r"dict\[int, str\] cannot be the format of an answer"),
        (5, "5 cannot be the format of an answer"),
        ([str], r"\[<class 'str'>\] cannot be the format of an answer"),
        (list["Person"], "'Person' cannot be the format of an answer"),
        ("nowhere.json", '"nowhere.json" is neither JSON nor the name of a file: nowhere.json cannot be read: no such'),
        ("{nonsense", "the schema is not JSON"),
        ({"type": "strng"}, 'the schema is wrong: \'type\' must be "string", .* not "strng"'),
        ({"type": "object", "properties": {"a": {"type": "int"}}}, "'properties.a.type' must be"),
        ({"type": "object", "properties": ["a"]}, "'properties' must be an object"),
        ({"type": "object", "required": "a"}, "'required' must be a list"),
        ({"type": "array", "items": {"anyOf": []}}, "'items.anyOf' must have 1 items"),
        ({"type": "object", "additionalProperties": {"type": "x"}}, "'additionalProperties.type' must be"),
        ({"type": "number", "minimum": "1"}, 'the schema is wrong: \'minimum\': "1" is not of type "number"'),
        ({"type": "string", "pattern": "("}, 'the schema is wrong: \'pattern\': "\\(" is not a "regex"'),
        ({"$ref": "#/$defs/Nobody"}, "\\$ref names '#/\\$defs/Nobody', which is not in the schema"),
        ({"items": {"$ref": "http://127.0.0.1:9/x.json"}}, "external schemas are not fetched"),
        ({"$ref": "#"}, "a \\$ref leads back to itself"),
        (
            {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/a"}}},
            "a \\$ref leads back to itself",
        ),
        (
            {"type": "object", "$defs": {"a": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/a"}]}}},
            "a \\$ref leads back to itself",
        ),
        ({"type": "object", "$dynamicRef": "#x"}, "which is not in the schema"),
        (Literal[b"a"], r"typing.Literal\[b'a'\] cannot be the format of an answer"),
        ({"name": "Ada", "age": 36}, "it does not restrict the value at all"),
        ({"type": str}, "the schema is not JSON: Object of type type is not JSON serializable"),
        ({}, "it does not restrict the value at all: {}"),
    ],
)
def test_an_invalid_schema_is_rejected_with_what_to_do(thing, sentence):
    with pytest.raises(PianoError, match=sentence):
        response_format_of(thing)


def test_a_value_of_a_recursive_type_may_be_nested_too_deep():
    with pytest.raises(SchemaMismatchError, match="nested too deep"):
        response_format_of(Tree).value('{"value": 1, "children": [' * 300 + "]}" * 300)


def test_the_members_of_an_enum_may_be_tuples():
    shade = Enum("Shade", {"RED": (255, 0, 0), "BLUE": (0, 0, 255)})

    assert response_format_of(shade).value("[0, 0, 255]") is shade.BLUE
    with pytest.raises(SchemaMismatchError, match=r"it must be \[255, 0, 0\] or \[0, 0, 255\], not \[1, 0, 0\]"):
        response_format_of(shade).value("[1, 0, 0]")


def test_an_annotation_that_cannot_be_looked_up_is_a_sentence():
    @dataclass
    class Lost:
        thing: "Nowhere"  # noqa: F821

    @dataclass
    class Wrong:
        thing: "json.Nothing"

    class Odd(pydantic.BaseModel):
        thing: Callable[[], int]

    with pytest.raises(PianoError, match="an annotation of Wrong cannot be resolved: module 'json' has no attribute"):
        response_format_of(Wrong)
    with pytest.raises(PianoError, match="Odd has no JSON Schema: Cannot generate"):
        response_format_of(Odd)
    with pytest.raises(PianoError, match="an annotation of Lost cannot be resolved: name 'Nowhere'"):
        response_format_of(Lost)


def test_a_schema_may_be_a_file_or_a_text(tmp_path):
    (tmp_path / "person.json").write_text(json.dumps(PERSON))
    (tmp_path / "list.json").write_text("[1]")

    assert (
        response_format_of(tmp_path / "person.json").schema
        == response_format_of(str(tmp_path / "person.json")).schema
        == PERSON
    )
    assert response_format_of(json.dumps(PERSON)).value('{"name": "a"}') == {"name": "a"}
    with pytest.raises(PianoError, match=r"list\.json is not a JSON Schema, which must be an object: \[1\]"):
        response_format_of(tmp_path / "list.json")


def test_a_schema_is_taken_as_it_is_now():
    mine = json.loads(json.dumps(PERSON))
    form = response_format_of(mine)

    mine["properties"].clear()

    assert form.schema == PERSON


def test_plain_schemas_and_types_do_not_load_the_validator_and_nothing_loads_pydantic():
    program = """if True:
        import sys
        from dataclasses import dataclass
        from piano_jupyter.runner.schema.response_format import response_format_of
        @dataclass
        class Point:
            x: int
        point = response_format_of(Point).value('{"x": "1"}')
        response_format_of({"type": "object", "properties": {"a": {"type": ["integer", "null"]}}}).value('{"a": null}')
        print(point, "jsonschema_rs" in sys.modules, "pydantic" in sys.modules)"""

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout == "Point(x=1) False False\n"


SCALARS = {
    str: st.text(),
    int: st.integers(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    date: st.dates(),
    datetime: st.datetimes(timezones=st.just(UTC)),
    UUID: st.uuids(),
    Colour: st.sampled_from(Colour),
}


@st.composite
def kinds(draw, depth=2):
    """Return a type, and a strategy for its values."""
    made = draw(st.sampled_from(["scalar"] if depth == 0 else ["scalar", "list", "dict", "optional", "pair", "record"]))
    if made == "scalar":
        return draw(st.sampled_from(list(SCALARS.items())))
    kind, values = draw(kinds(depth - 1))
    if made == "list":
        return list[kind], st.lists(values, max_size=3)
    if made == "dict":
        return dict[str, kind], st.dictionaries(st.text(), values, max_size=3)
    if made == "optional":
        return Optional[kind], st.none() | values  # noqa: UP045  The kind may be a union.
    other, others = draw(kinds(depth - 1))
    if made == "pair":
        return tuple[kind, other], st.tuples(values, others)
    record = dataclasses.make_dataclass("Record", [("first", kind), ("second", other)])
    return record, st.builds(record, values, others)


def as_json(value: Any) -> Any:
    match value:
        case Enum():
            return value.value
        case date() | UUID():
            return str(value.isoformat() if isinstance(value, date) else value)
        case list() | tuple():
            return [as_json(each) for each in value]
        case dict():
            return {name: as_json(each) for name, each in value.items()}
        case _ if dataclasses.is_dataclass(value):
            return {each.name: as_json(getattr(value, each.name)) for each in dataclasses.fields(value)}
    return value


@settings(max_examples=100, deadline=None)
@given(kinds().flatmap(lambda made: st.tuples(st.just(made[0]), made[1])))
def test_any_value_of_any_type_comes_back_as_it_was(made):
    kind, value = made

    assert response_format_of(kind).value(json.dumps(as_json(value))) == value


NODES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def value_or_sentence(form, text):
    try:
        return form.value(text)
    except SchemaMismatchError as error:
        return error


@settings(max_examples=100, deadline=None)
@given(kinds(), NODES | st.text().map(str))
def test_any_answer_is_a_matching_value_or_one_sentence(made, node):
    form = response_format_of(made[0])
    text = json.dumps(node)

    said = value_or_sentence(form, text)

    if isinstance(said, SchemaMismatchError):
        assert str(said)
        assert "\n" not in str(said)
    else:
        assert mismatch(form.schema, as_json(said)) is None


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(min_size=1), st.sampled_from(["integer", "boolean"]), min_size=1, max_size=4), st.data())
def test_the_field_that_is_wrong_is_named(fields, data):
    schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in fields.items()},
        "required": list(fields),
    }
    good = {name: 1 if kind == "integer" else True for name, kind in fields.items()}
    wrong = data.draw(st.sampled_from(list(fields)))
    named = terminal_text(repr(wrong))  # an error names what nobody sees

    assert response_format_of(schema).value(json.dumps(good)) == good
    with pytest.raises(SchemaMismatchError) as caught:
        response_format_of(schema).value(json.dumps({**good, wrong: ["wrong"]}))
    assert str(caught.value).startswith(f"{named} must be ")
    with pytest.raises(SchemaMismatchError) as caught:
        response_format_of(schema).value(json.dumps({name: each for name, each in good.items() if name != wrong}))
    assert str(caught.value).startswith(f"{named} is missing")


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["type", "properties", "items", "anyOf", "enum", "required", "x"]), NODES))
def test_any_schema_is_accepted_or_rejected_with_a_sentence(schema):
    try:
        form = response_format_of(schema)
    except PianoError:
        return
    said = value_or_sentence(form, "[1]")

    assert said == [1] or isinstance(said, SchemaMismatchError)
