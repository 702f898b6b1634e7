"""The environment variables that bash gets: an allow list, so that it contains no key and no token."""

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from piano_jupyter.runner.tools.bash.programs import ProgramNotFoundError, find_program
from piano_jupyter.text.words import words

#: Passed on, besides LC_*.
ALLOWED_VARIABLES = words(
    "CONDA_PREFIX CUDA_VISIBLE_DEVICES HOME LANG LD_LIBRARY_PATH LOGNAME PATH TMPDIR TZ USER VIRTUAL_ENV"
)
#: So that no program waits for input.
NON_INTERACTIVE = {
    "DEBIAN_FRONTEND": "noninteractive",
    "EDITOR": "true",
    "GIT_EDITOR": "true",
    "GIT_PAGER": "cat",
    "GIT_TERMINAL_PROMPT": "0",
    "NO_COLOR": "1",
    "PAGER": "cat",
    "PIP_NO_INPUT": "1",
    "TERM": "dumb",
}


def clean_environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that bash gets from `given`; its `python` is the kernel's."""
    kept = {name: value for name, value in given.items() if name in ALLOWED_VARIABLES or name.startswith("LC_")}
    python_folder = str(Path(sys.executable).parent)
    return kept | NON_INTERACTIVE | {"PATH": f"{python_folder}:{kept.get('PATH', os.defpath)}"}


@cache
def git_identity(workspace: str) -> Mapping[str, str]:
    """Return the user's name and email as git's variables: the sandbox hides the file that contains them and more."""
    try:
        result = subprocess.run(  # noqa: S603  git, from a folder that only a trusted user can write to
            [find_program("git", workspace), "config", "--global", "--get-regexp", r"^user\.(name|email)$"],
            cwd="/",
            # Libraries that these variables name may be in the workspace, where a command could have put them.
            env={name: value for name, value in os.environ.items() if not name.startswith(("LD_", "DYLD_"))},
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (ProgramNotFoundError, OSError, subprocess.TimeoutExpired):
        return {}  # Without git, nobody commits.
    settings = dict(line.split(" ", 1) for line in result.stdout.splitlines() if " " in line)
    return {
        f"GIT_{role}_{key.upper()}": settings[f"user.{key}"]
        for role in ("AUTHOR", "COMMITTER")
        for key in ("name", "email")
        if f"user.{key}" in settings
    }
