"""What bash may know of the kernel's environment: an allow list, so that no key and no token is among it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from piano_jupyter.runner.tools.bash.programs import ProgramNotFoundError, program
from piano_jupyter.text.words import words

#: Kept, beside LC_*.
KNOWN = words("CONDA_PREFIX CUDA_VISIBLE_DEVICES HOME LANG LD_LIBRARY_PATH LOGNAME PATH TMPDIR TZ USER VIRTUAL_ENV")
#: So that no program waits for a key press.
QUIET = {
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
    """Return what bash may know; `python` is the kernel's own."""
    kept = {name: value for name, value in given.items() if name in KNOWN or name.startswith("LC_")}
    own = str(Path(sys.executable).parent)
    return kept | QUIET | {"PATH": f"{own}:{kept.get('PATH', os.defpath)}"}


@cache
def git_identity(workspace: str) -> Mapping[str, str]:
    """Return who commits, as git's variables: the sandbox hides the file that says so, which may hold more."""
    try:
        found = subprocess.run(  # noqa: S603  git, from where only its owner puts it
            [program("git", workspace), "config", "--global", "--get-regexp", r"^user\.(name|email)$"],
            cwd="/",
            # What the loader takes from the environment may lie in the workspace, as programs on PATH may.
            env={name: value for name, value in os.environ.items() if not name.startswith(("LD_", "DYLD_"))},
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (ProgramNotFoundError, OSError, subprocess.TimeoutExpired):
        return {}  # No git, nobody who commits.
    told = dict(line.split(" ", 1) for line in found.stdout.splitlines() if " " in line)
    return {
        f"GIT_{role}_{key.upper()}": told[f"user.{key}"]
        for role in ("AUTHOR", "COMMITTER")
        for key in ("name", "email")
        if f"user.{key}" in told
    }
