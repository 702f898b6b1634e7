"""The four tools that ship: read_file, create_file, edit_file, bash."""

from collections.abc import Callable
from pathlib import Path

from piano_jupyter.runner.tools.bash.bash_tool import BashTool
from piano_jupyter.runner.tools.files.file_tools import Roots, file_tools
from piano_jupyter.tool import Tool


def builtin_tools(
    workspace: Callable[[], Path],
    *,
    output_limit: Callable[[], int],
    database: Callable[[], str],
    skills: Roots,
    bash: BashTool,
) -> list[Tool]:
    """Return the four tools. The knobs are asked at each call, so that a change works at once."""
    return [*file_tools(workspace, output_limit=output_limit, database=database, skills=skills), bash.tool()]
