"""Which notebook a kernel belongs to."""

import os
import re
from pathlib import Path
from typing import Any

from piano_jupyter.records import Notebook

SESSION_NAME = "JPY_SESSION_NAME"  #: the path of the notebook when its kernel was started, from Jupyter Server
VS_CODE_PATH = "__vsc_ipynb_file__"  #: a variable that Visual Studio Code sets
VS_CODE_ENDING = re.compile(r"(?<=\.ipynb)-jvsc-.*")  #: what Visual Studio Code adds to the path
SHORT_ID_CHARS = 6


def notebook_of(shell: Any) -> Notebook:
    """Return the notebook of a kernel: its id lasts through a restart of the kernel; a terminal has none."""
    if not hasattr(shell, "kernel"):
        return Notebook()
    connection_file = getattr(shell.kernel.parent, "connection_file", "")  # none for a kernel inside another program
    identity = Path(connection_file).stem.removeprefix("kernel-")
    path = str(shell.user_ns.get(VS_CODE_PATH) or VS_CODE_ENDING.sub("", os.environ.get(SESSION_NAME, "")))
    return Notebook(identity, path or f"kernel {identity[-SHORT_ID_CHARS:] or os.getpid()}")
