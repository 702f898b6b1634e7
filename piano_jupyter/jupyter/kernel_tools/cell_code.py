"""Code that a model wrote for a new cell: nothing in it may be hidden from the user, who reads it before it runs."""

import re

from piano_jupyter.errors import ToolError
from piano_jupyter.text.invisible import INVISIBLE, to_the_letter

HIDDEN_CODE = re.compile(f"[{INVISIBLE}]| {{200,}}|\t{{50,}}|\n{{20,}}")


def code_for_cell(code: str) -> str:
    """Return code as a cell takes it. Raises ToolError if it is empty, or if something in it is hidden."""
    code = code.replace("\r\n", "\n")
    if not code.strip():
        raise ToolError("empty: there is no code to put into a cell")
    if found := HIDDEN_CODE.search(code):
        unseen = to_the_letter(found[0][:200])
        raise ToolError(f"hidden: {unseen} in the code is invisible, or hides what follows")
    return code
