"""`{{…}}` in a text."""

import pytest
from hypothesis import given, strategies as st

from piano_jupyter.text.placeholders import Placeholder, escaped_placeholders, split_placeholders


def parts(text):
    return [part.written if isinstance(part, Placeholder) else part for part in split_placeholders(text) if part]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a {{ n }} b", ["a ", "{{n}}", " b"]),
        ("{{a}}{{b}}", ["{{a}}", "{{b}}"]),
        ("{{{n}}} {{n}}}}", ["{", "{{n}}", "}", " ", "{{n}}", "}}"]),
        ("{{{{n}}}} {{{{{{n}}}}}}", ["{{n}}", " ", "{{{{n}}}}"]),
        ("{{{{n}}", ["{{", "{{n}}"]),
        ("{{1,2},{3,4}} {{}}", ["{{1,2},{3,4}}", " ", "{{}}"]),
        ('{{d["}"]}}', ['{{d["}"]}}']),
        ("{{a {{b}}", ["{{a ", "{{b}}"]),
        (r"{n} {{n} n}} \frac{a}{b}", [r"{n} {{n} n}", "} \\frac{a}{b}"]),
        ("{{\nn\n}}", ["{{n}}"]),
    ],
)
def test_a_text_is_split_at_its_double_braces(text, found):
    assert "".join(parts(text)) == "".join(found)


@given(st.text(alphabet="{}a\n ."))
def test_an_escaped_text_has_no_placeholder_and_says_the_text(text):
    found = list(split_placeholders(escaped_placeholders(text)))

    assert not any(isinstance(part, Placeholder) for part in found)
    assert "".join(found) == text


@pytest.mark.parametrize("text", ["{{" * 200_000, "{" * 400_000, "{{a" * 100_000, "{{" + "a}" * 100_000, "}" * 400_000])
def test_a_long_text_of_braces_is_split_in_a_pass(text):
    assert "".join(parts(text)) == text
