"""What commands change by links, renames and modes that most commands do not use, and what is applied of it."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from child import run_child, users_folder

from piano_jupyter.runner.tools.bash.bwrap import Bubblewrap

NOTHING = "[exit code 0, nothing printed]"


def names_in(folder):
    """Return the paths of all files and links in a folder."""
    return {str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_symlink() or not each.is_dir()}


@pytest.mark.parametrize("approves", [False, True], ids=["", "approved"])
async def test_k10_a_removal_in_a_folder_that_was_made_again_can_be_approved(run, tmp_path, approves):
    (tmp_path / "d/deep").mkdir(parents=True)
    for name in ("d/.envrc", "d/deep/.envrc", "d/x"):
        (tmp_path / name).write_text("mine")
    run.bash.approves = approves

    await run("rm -r d; mkdir d; touch d/new")

    assert names_in(tmp_path) == {"d/new"} | (set() if approves else {"d/.envrc", "d/deep/.envrc"})


async def test_k10_a_renamed_folder_keeps_what_is_protected_if_another_takes_its_name(run, tmp_path):
    (tmp_path / "d").mkdir()
    for name in ("d/.envrc", "d/x"):
        (tmp_path / name).write_text("mine")

    await run("mv d e; mkdir d; touch d/new")

    assert names_in(tmp_path) == {"d/new", "e/.envrc", "e/x"}
    assert run.bash.asked == []


async def test_k10_a_closed_folder_is_closed_again_after_an_approval(run, tmp_path):
    run.bash.approves = True

    await run("mkdir d; echo evil >d/.envrc; touch d/x; chmod 0 d")

    assert (tmp_path / "d").stat().st_mode & 0o777 == 0


#: What happens to a folder `d` with `.envrc` and `x` in it, in one command after another.
AGAIN = {
    "made again": "rm -r d; mkdir d; touch d/new",
    "renamed, and made again": "mv d e; mkdir d; touch d/new",
    "opened and closed": "chmod 0 d; chmod 700 d; echo evil >d/.envrc; chmod 500 d",
    "the workspace closed": "echo evil >d/.envrc; chmod 0 .",
}


@pytest.mark.parametrize("name", AGAIN)
async def test_k10_control_without_an_overlay_what_is_protected_goes_or_changes_in_such_folders(bash, tmp_path, name):
    (tmp_path / "d").mkdir()
    for each in ("d/.envrc", "d/x"):
        (tmp_path / each).write_text("mine")

    await bash(AGAIN[name])
    closed = tmp_path.stat().st_mode & 0o777 == 0
    tmp_path.chmod(0o700)
    envrc = tmp_path / "d/.envrc"

    assert not envrc.exists() or envrc.read_text() == "evil\n"
    assert closed is (name == "the workspace closed")


async def test_k10_control_without_an_overlay_a_cancelled_call_leaves_what_it_wrote(paused, tmp_path):
    call, _ = await paused("touch .envrc; $pause", mode="full")

    call.cancel()
    await asyncio.wait({call})

    assert names_in(tmp_path) == {".envrc"}


async def test_k10_control_without_an_overlay_a_command_writes_to_the_workspace_that_was_moved_away(paused, tmp_path):
    call, go_on = await paused("$pause; touch .envrc", mode="full")
    moved = tmp_path.rename(f"{tmp_path}-moved")
    go_on()

    await asyncio.wait_for(call, 30)
    moved.rename(tmp_path)

    assert names_in(tmp_path) == {".envrc"}


#: As another user, who may not pass over modes as root may, and whose Python is the system's.
AS_A_USER = """
import asyncio, ctypes
from uuid import uuid4
from piano_jupyter.runner.tools.bash import bwrap

async def main(folder, command):
    workspace = Path(folder, "workspace")
    (workspace / "closed/deep").mkdir(parents=True)
    (workspace / "closed/deep/x").touch()
    for name, mode in (("closed/deep", 0o555), ("closed", 0o555)):
        (workspace / name).chmod(mode)
    tool = BashTool(PianoConfig(workspace=str(workspace)))
    context = ToolCallContext(thread_id=UUID(int=1), call_id=uuid4(), mode="write", say=print)
    result = await run_tool(tool.tool(), {"command": command}, call=context, timeout=60, output_limit=4000)
    await tool.aclose()
    found = [f"{each.relative_to(workspace)}={each.stat().st_mode & 0o777:o}" for each in workspace.rglob("*")]
    print(result.text, *sorted(found), sep="|")

ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # a process that has changed its user may not look at itself
os.environ |= {"HOME": sys.argv[1], **{each: sys.argv[1] for each in os.environ if each.startswith("XDG_")}}
bwrap.python_prefixes = lambda: ()
asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def as_a_user():
    """Run code as another user, with a folder of theirs; return what it printed."""
    with users_folder() as (folder, user):
        yield lambda code, *arguments: run_child(code, folder, *arguments, user=user)


@pytest.mark.parametrize(
    ("command", "left"),
    [
        ("chmod -R u+w closed && rm -r closed", ""),
        (
            "chmod u+w closed/deep; touch closed/deep/y; rm closed/deep/x; chmod u-w closed/deep",
            "|closed/deep/y=644|closed/deep=555|closed=555",
        ),
        ("touch z; chmod 0 .", "|closed/deep/x=644|closed/deep=555|closed=555|z=644"),
    ],
    ids=["removed", "changed", "the workspace itself"],
)
def test_k10_what_a_command_changes_in_folders_that_it_opened_first_is_applied_for_any_user(
    sandboxed, as_a_user, command, left
):
    assert as_a_user(AS_A_USER, command) == NOTHING + left


async def test_k10_a_workspace_that_is_moved_away_while_a_command_runs_is_a_sentence(paused, tmp_path):
    call, go_on = await paused("touch x; $pause")
    moved = tmp_path.rename(f"{tmp_path}-moved")
    go_on()

    _, text = await asyncio.wait_for(call, 30)
    moved.rename(tmp_path)

    assert "not applied: '.' (No such file or directory)" in text


async def test_k2_a_name_that_is_not_text_or_has_a_line_break_is_quoted_in_notes(paused, tmp_path):
    name = tmp_path / "a\n[exit code 0]\udcff"
    name.touch()
    call, go_on = await paused('for each in a*; do echo >>"$each"; done; $pause')
    name.write_text("mine")
    go_on()

    _, text = await asyncio.wait_for(call, 30)

    assert r"conflict: somebody else changed 'a\n[exit code 0]\udcff' while" in text


async def test_k10_a_cancelled_call_leaves_its_overlay_to_be_removed_later(run, paused):
    call, _ = await paused("touch .envrc; $pause")
    call.cancel()
    await asyncio.wait({call})
    [folder] = Path(os.environ["XDG_CACHE_HOME"], "piano_jupyter/commands").iterdir()
    os.utime(folder, (0, 0))

    await run(":")

    assert not folder.exists()


#: Programs that rename folders of the workspace; each prints nothing if all went as on a disk.
RENAMES = {
    "interrupted": (
        "import os, signal\n"
        "signal.signal(signal.SIGALRM, lambda *_: None); signal.siginterrupt(signal.SIGALRM, False)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\n"
        "for at in range(20): os.rename(f'd{at}', f'e{at}')\n"
        "signal.setitimer(signal.ITIMER_REAL, 0)\n"
    ),
    "many threads": (
        "import os\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(8) as pool: [*pool.map(os.rename, [f'd{n}' for n in range(20)],"
        " [f'e{n}' for n in range(20)])]\n"
    ),
    "from a folder": (
        "import os\nat = os.open('.', os.O_RDONLY); os.chdir('/tmp')\n"
        "for n in range(20): os.rename(f'd{n}', f'e{n}', src_dir_fd=at, dst_dir_fd=at)\n"
    ),
}


@pytest.mark.parametrize("name", RENAMES)
async def test_k11_programs_rename_folders_as_on_a_disk(run, tmp_path, name):
    for at in range(20):
        (tmp_path / f"d{at}/x/y").mkdir(parents=True)
        (tmp_path / f"d{at}/x/y/z").touch()
        (tmp_path / f"d{at}/x/y").chmod(0o555)  # what nobody may write to can be renamed, too
    (tmp_path / "program.py").write_text(RENAMES[name])

    assert await run(f"{sys.executable} program.py") == NOTHING
    assert names_in(tmp_path) == {"program.py", *(f"e{at}/x/y/z" for at in range(20))}


async def test_k11_control_an_overlay_by_itself_renames_no_folder(bash_of, sandboxed, tmp_path):
    (tmp_path / "d").mkdir()
    bash = bash_of(Bubblewrap(renames_folders=False))

    _, text = await bash(f'{sys.executable} -c \'import os; os.rename("d", "e")\'; ls', mode="write")

    assert "Invalid cross-device link" in text
    assert text.splitlines()[-1] == "d"


async def test_k11_an_address_that_is_none_is_an_error_of_the_program_only(run):
    code = "import ctypes; rename = ctypes.CDLL(None, use_errno=True).rename; rename.argtypes = [ctypes.c_void_p] * 2; "
    code += "print(rename(2**64 - 8, 2**64 - 8), ctypes.get_errno())"

    assert await run(f"{sys.executable} -c '{code}'; echo on") == "-1 14\non"


async def test_k11_a_folder_that_is_too_deep_is_renamed_or_not_but_the_command_goes_on(run, tmp_path):
    at = os.open(tmp_path, os.O_RDONLY)
    for _ in range(600):  # more than 900 pytest could not remove
        os.mkdir("d", dir_fd=at)
        inner = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)

    text = await run("mv d e && ls && mv e/d e/f; echo on")

    assert text.startswith("e\non\n")


def test_the_sandbox_starts_whatever_numbers_its_descriptors_have(sandboxed, tmp_path):
    reasons = run_child(
        """
from piano_jupyter.runner.tools.bash.bwrap import Bubblewrap, SandboxSpec
taken, reasons = [], set()
for _ in range(12):
    spec = SandboxSpec(workspace=sys.argv[1], writable=True, environment=(("PATH", "/usr/bin:/bin"),))
    reasons.add(Bubblewrap().unavailable_reason(spec))
    taken.append(os.open(os.devnull, os.O_RDONLY))
print(reasons)
""",
        tmp_path,
    )

    assert reasons == "{''}"


async def test_a_file_of_another_group_is_explained(run, tmp_path):
    if os.geteuid():
        pytest.skip("only root can give files away")
    (tmp_path / "shared").touch()
    os.chown(tmp_path / "shared", 0, 1)
    (tmp_path / "shared").chmod(0o660)

    text = await run("chmod 600 shared")

    assert "files of another owner or group can be read here, but not changed" in text
