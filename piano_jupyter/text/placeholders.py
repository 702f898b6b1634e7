"""Finds `{{…}}` in a text. Pure; what stands between the braces is not looked at."""

import re
from collections.abc import Iterator
from typing import NamedTuple

#: Braces, what stands between them, and braces. Nothing is read twice, so a long text takes no longer than its length.
BRACES = re.compile(r"(?<!\{)(\{{2,}+)((?:(?!\{\{|\}\}).)*)(\}{2,}+)", re.DOTALL)
ESCAPED_BRACES = 4


class Placeholder(NamedTuple):
    """A place in a text where a value is to stand."""

    expression: str  #: what stands between the braces, without blanks around it

    @property
    def written(self) -> str:
        """The expression with its braces."""
        return f"{{{{{self.expression}}}}}"


def split_placeholders(text: str) -> Iterator[str | Placeholder]:
    """Return the parts of a text in order; `{{{{name}}}}` is the text `{{name}}`."""
    end = 0
    for found in BRACES.finditer(text):
        before, between, after = found.groups()
        yield text[end : found.start()]
        end = found.end()
        if min(len(before), len(after)) >= ESCAPED_BRACES:
            yield found[0][2:-2]
            continue
        yield before[2:]
        yield Placeholder(between.strip())
        yield after[2:]
    yield text[end:]


def escaped_placeholders(text: str) -> str:
    """Return a text that says this text, whatever stands between its braces."""
    return BRACES.sub(r"{{\g<0>}}", text)


def has_placeholders(text: str) -> bool:
    """Return whether a value is to stand anywhere in a text."""
    return any(isinstance(part, Placeholder) for part in split_placeholders(text))
