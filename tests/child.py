"""A Python process of a test's own: as another user, or on a system that refuses a call; killed without harm."""

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOBODY = 65534
#: Makes the kernel answer a system call, by its number on x86_64 and aarch64, with an error.
REFUSE = """
import ctypes, platform, struct

def refuse(numbers, error):
    number = numbers[platform.machine()]
    rules = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | error), (0x06, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(rules), ctypes.addressof(code)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(38, 1, 0, 0, 0) == 0  # no new privileges
    assert prctl(22, 2, ctypes.c_void_p(ctypes.addressof(program)), 0, 0) == 0, ctypes.get_errno()
"""


def _is_root():
    """Return whether we may mount, make devices and give files to anybody: the root of a container often may not."""
    if sys.platform != "linux":
        return os.geteuid() == 0
    rights = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines())["CapEff"]
    everybody = Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
    return os.geteuid() == 0 and everybody and int(rights, 16) >> CAP_SYS_ADMIN & 1 == 1


CAP_SYS_ADMIN = 21
IS_ROOT = _is_root()
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only a machine's own root can mount and change owners")


def run_child(code, *arguments, user=None):
    """Run Python code; return what it printed, or the negative number of the signal that ended it.

    With `user` it gives up the rights of root once it has imported what the tests use: where the interpreter is,
    others may not be able to read.
    """
    drop = f"import os; os.setgroups([]); os.setresgid(*[{user}] * 3); os.setresuid(*[{user}] * 3)\n" if user else ""
    imports = "import os, sys, stat, encodings.idna\nfrom pathlib import Path\nfrom uuid import UUID\n"
    imports += "from piano_jupyter.pipeline import trust\n"
    imports += "from piano_jupyter.records import DatabaseIdentity\n"
    imports += "from piano_jupyter.config import PianoConfig\n"
    imports += "from piano_jupyter.runner.tools.files import beneath\n"
    imports += "from piano_jupyter.runner.tools.files.file_tools import file_tools\n"
    imports += "from piano_jupyter.runner.tools.bash.programs import find_program\n"
    imports += "from piano_jupyter.runner.tools.bash.bash_tool import BashTool\n"
    imports += "from piano_jupyter.runner.tools.tool_registry import run_tool\n"
    imports += "from piano_jupyter.tool import ToolCallContext\n"
    imports += "import concurrent.futures.thread\n"
    done = subprocess.run(
        [sys.executable, "-c", REFUSE + imports + drop + code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},  # it would be renamed, too
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode <= 0, done.stderr
    return done.returncode or done.stdout.strip()


@contextmanager
def users_folder():
    """Give a folder that belongs to another user, and the user's number; or one's own, where one is not root."""
    if os.geteuid() == 0 and not IS_ROOT:
        pytest.skip("this root can become nobody else")
    with tempfile.TemporaryDirectory() as folder:
        user = None
        if IS_ROOT:
            user = NOBODY
            os.chown(folder, user, user)
        yield Path(folder), user
