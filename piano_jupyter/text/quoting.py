"""Names as they are typed after %piano."""

import re

NEEDS_QUOTES = re.compile(r"""\s|^["'@-]""")


def quoted(name: str) -> str:
    """Return a name as it is typed after %piano, in quotes if it needs them."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if NEEDS_QUOTES.search(name) else name
