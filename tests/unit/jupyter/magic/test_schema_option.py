"""What stands after --json; and values that a cell has shown by itself."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest
from IPython.core.formatters import DisplayFormatter

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.jupyter.magic.schema_option import schema_named
from piano_jupyter.jupyter.render.shown_values import ShownValues


@dataclass
class Person:
    name: str


VARIABLES = {
    "Person": Person,
    "schema": {"type": "integer"},
    "space": SimpleNamespace(Person=Person),
    "Literal": Literal,
    "nothing": None,
}


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("Person", Person),
        ("schema", {"type": "integer"}),
        ("space.Person", Person),
        ("list[Person]", list[Person]),
        ("dict[str, Person | None]", dict[str, Person | None]),
        ("Literal['a', 1]", Literal["a", 1]),
        ('{"type": "integer"}', '{"type": "integer"}'),
        ("~/person.json", Path("~/person.json")),
    ],
)
def test_a_schema_is_a_variable_a_type_a_file_or_json(written, named):
    assert schema_named(written, VARIABLES) == named


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        (
            "Persn",
            r"no variable named 'Persn'; known: Person, schema; --json takes a variable .*, a \*\.json file, or JSON",
        ),
        ("nothing", "nothing is None; --json takes"),
        ("a b", "'a b' is not a schema; --json takes"),
        ("f()", "only names, dots and brackets are allowed; --json takes"),
        ("space.Nobody", "--json space.Nobody cannot be read: AttributeError"),
        ("Person[int]", r"--json Person\[int\] cannot be read: TypeError"),
    ],
)
def test_an_invalid_schema_is_one_sentence(written, sentence):
    with pytest.raises(PianoError, match=sentence):
        schema_named(written, VARIABLES)


def test_nothing_is_called_for_a_schema():
    called = []

    with pytest.raises(PianoError):
        schema_named("f(1)", {"f": called.append})
    with pytest.raises(NotFoundError):
        schema_named("f[g]", {"f": SimpleNamespace()})

    assert called == []


@pytest.fixture
def shell():
    return SimpleNamespace(display_formatter=DisplayFormatter())


class Loud:
    def __init__(self):
        self.shown = 0

    def _ipython_display_(self):
        self.shown += 1


def test_a_shown_value_is_not_shown_again_until_it_is_forgotten(shell):
    values, mine, other = ShownValues(shell), {"a": 1}, {"a": 1}
    show = shell.display_formatter.format

    values.add(mine)
    values.add(person := Person("Ada"))
    while_shown = [show(each)[0] for each in (mine, person, other)]
    values.forget()

    assert while_shown == [{}, {}, {"text/plain": "{'a': 1}"}]
    assert [show(each)[0] for each in (mine, person)] == [
        {"text/plain": "{'a': 1}"},
        {"text/plain": "Person(name='Ada')"},
    ]
    assert shell.display_formatter.ipython_display_formatter.type_printers == {}


def test_other_values_of_its_type_are_displayed_as_usual(shell):
    values, mine, other, seen = ShownValues(shell), Loud(), Loud(), []
    printers = shell.display_formatter.ipython_display_formatter

    values.add(mine)
    shown = [printers(mine), printers(other)]
    values.forget()
    printers.for_type(int, seen.append)
    values.add(1)
    printers(1)
    printers(2)
    values.forget()
    printers(1)

    assert (shown, mine.shown, other.shown) == ([True, True], 0, 1)
    assert seen == [2, 1]
