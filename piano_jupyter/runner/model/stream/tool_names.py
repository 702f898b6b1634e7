"""Finds the tool that a name means: some models and servers decorate it. Pure."""

import re
from collections.abc import Collection

PREFIX = re.compile(r"(?:functions?|tools?|default_api|assistant|call)[.:/]|to=")
SUFFIX = re.compile(r"(?::\d+|<\|.*|\(\))\Z", re.DOTALL)
MAX_NAME_CHARS = 200  #: a longer name is not examined


def tool_named(name: str, names: Collection[str]) -> str:
    """Return the only tool that a name like `functions.look:0`, `look<|channel|>json` or `Look` means, or the name."""
    if name in names or len(name) > MAX_NAME_CHARS:
        return name
    plain = SUFFIX.sub("", name.strip())
    while prefix := PREFIX.match(plain):
        plain = plain[prefix.end() :]
    if plain in names:
        return plain
    found = [each for each in names if _loose(each) == _loose(plain)]
    return found[0] if len(found) == 1 else name


def _loose(name: str) -> str:
    return name.casefold().replace("-", "_").replace(".", "__")  # the last as in `name_for_model`
