"""What stands after %piano."""

import pytest

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.jupyter.magic.options import split_options, split_words

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
