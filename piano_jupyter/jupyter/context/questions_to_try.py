"""What somebody could ask first, in this notebook as it is."""

from collections.abc import Mapping
from typing import Any

from piano_jupyter.variables.data_frames import frames_in

FOR_ANYBODY = (
    "Write a Python function that reads all CSV files of a folder into one data frame.",
    "Which questions should I ask first about a table of sales, and which chart answers each?",
    "Explain the difference between a list and a generator in Python, with an example of each.",
)
COUNT = 3


def questions_to_try(variables: Mapping[str, Any], *, has_failed: bool) -> list[str]:
    """Return three questions that work now: about a data frame and the last error where there are any.

    The first one needs no variable.
    """
    frames = [name for name in frames_in(variables) if not name.startswith("_")]
    about = [f"Describe {{{{{frames[-1]}}}}} and say what looks odd in it."] if frames else []
    about += ["Explain this error, and how to fix it: {{error}}"] if has_failed else []
    first, *others = FOR_ANYBODY
    return [first, *about, *others][:COUNT]
