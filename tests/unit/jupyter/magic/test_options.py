"""What stands after %piano, and {{name}} in a prompt."""

import pytest

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.jupyter.magic.options import split_options, split_words
from piano_jupyter.jupyter.placeholders import fill_in

KNOWN = {"--thread": "THREAD", "--no-wait": "", "--tools": "TOOL,…"}


def test_options_and_handles_come_first_and_the_rest_is_verbatim():
    line = r'@ada --no-wait --thread "my \"own\" thread"  what is \frac{a}{b}  --thread x?'

    options, handles, rest = split_options(line, KNOWN)

    assert options == {"--no-wait": "", "--thread": 'my "own" thread'}
    assert handles == ["ada"]
    assert rest == r"what is \frac{a}{b}  --thread x?"


def test_two_dashes_end_the_options():
    assert split_options("-- --no-wait is an option", KNOWN) == ({}, [], "--no-wait is an option")


def test_an_option_value_may_follow_an_equals_sign():
    assert split_options("--thread=abc hi", KNOWN) == ({"--thread": "abc"}, [], "hi")


def test_handles_may_be_separated_by_commas_and_end_with_a_colon():
    assert split_options("@ada, @bob: what now, @ada?", KNOWN) == ({}, ["ada", "bob"], "what now, @ada?")


def test_values_of_a_repeatable_option_are_joined_and_otherwise_the_last_one_counts():
    line = "ada --tools a,b --thread x --tools c --thread y"

    assert split_words(line, KNOWN) == ({"--tools": "a,b,c", "--thread": "y"}, [], ["ada"])
    assert split_options(line[4:], KNOWN)[0] == {"--tools": "a,b,c", "--thread": "y"}


def test_an_unknown_option_lists_the_known_ones():
    with pytest.raises(NotFoundError, match="no option named '--thred'; known: --thread, --no-wait, --tools"):
        split_options("--thred x", KNOWN)


def test_an_option_without_its_value_is_refused():
    with pytest.raises(PianoError, match="--thread needs a value"):
        split_options("--thread", KNOWN)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{{n}} and {{ n }}", "3 and 3"),
        ("{{rows[0]}}, {{rows[-1]}}, {{d['k']}}", "1, 2, v"),
        ("{{n.real}}", "3"),
        (r"\frac{a}{b} {n} {{}} {{1}} {{a b}} $PATH", r"\frac{a}{b} {n} {{}} {{1}} {{a b}} $PATH"),
        ("{{{n}}} {{n}}}} {{{{n}}", "{3} 3}} {{3"),
        ("{{{{n}}}} {{{{ nope }}}} {{{{{n}}}}} {{{{{{n}}}}}}", "{{n}} {{ nope }} {{{n}}} {{{{n}}}}"),
    ],
)
def test_placeholders_are_replaced_and_other_braces_stay(text, filled):
    assert fill_in(text, {"n": 3, "rows": [1, 2], "d": {"k": "v"}}) == filled


def test_an_unknown_variable_lists_the_closest_names_first():
    with pytest.raises(NotFoundError, match="no variable named 'salse'; known: sales, n"):
        fill_in("{{salse}}", {"n": 1, "sales": 2, "_hidden": 3})


def test_nothing_is_called():
    called = []

    with pytest.raises(PianoError, match=r"\{\{f\(\)\}\}: only names"):
        fill_in("{{f()}}", {"f": lambda: called.append(1)})

    assert called == []


def test_a_missing_attribute_is_one_sentence():
    with pytest.raises(PianoError, match=r"\{\{n.shape\}\} cannot be read: AttributeError"):
        fill_in("{{n.shape}}", {"n": 3})


def test_a_value_of_megabytes_is_refused():
    with pytest.raises(PianoError, match="1,000,000 characters long"):
        fill_in("{{x}}", {"x": "a" * 1_000_000})
