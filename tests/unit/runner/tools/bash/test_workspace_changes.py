"""What commands change in the workspace: what is applied, what waits for an approval, and what never comes."""

import asyncio
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from piano_jupyter.runner.tools.bash.overlay import remove_tree

NOTHING = "[exit code 0, nothing printed]"


def tree(folder):
    """Return the names of all files and links in a folder, with their contents or targets."""
    found = {}
    for at, folders, names in os.walk(folder):
        links = [name for name in folders if Path(at, name).is_symlink()]
        for path in (Path(at, name) for name in (*names, *links)):
            found[str(path.relative_to(folder))] = f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
    return found


def lay(folder, **files):
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


async def test_what_a_command_changes_is_applied_with_modes_times_and_links(run, tmp_path):
    (tmp_path / "a").write_text("one")
    (tmp_path / "gone/deep").mkdir(parents=True)
    (tmp_path / "gone/deep/x").touch()
    (tmp_path / "becomes_a_folder").touch()

    await run(
        "echo two >>a; chmod 750 a; touch -d 2001-02-03T04:05:06Z old; ln -s a link; ln a twin; rm -r gone; "
        "mkfifo pipe; mkdir -p n/m; chmod 700 n; chmod 500 n/m; "
        "rm becomes_a_folder; mkdir becomes_a_folder; echo x >becomes_a_folder/y"
    )

    assert tree(tmp_path) == {
        "a": "onetwo\n",
        "twin": "onetwo\n",
        "old": "",
        "link": "-> a",
        "becomes_a_folder/y": "x\n",
    }
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "old").stat().st_mtime == 981173106
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("n", "n/m")] == [0o700, 0o500]
    assert (tmp_path / "a").stat().st_ino == (tmp_path / "twin").stat().st_ino


async def test_k4_nothing_is_in_the_workspace_before_a_command_is_over(paused, tmp_path):
    call, go_on = await paused("echo 1 >pandas.py; echo 2 >mine; $pause")
    seen = tree(tmp_path)
    (tmp_path / "saved").write_text("by the user")
    go_on()

    await asyncio.wait_for(call, 30)

    assert seen == {}
    assert tree(tmp_path) == {"mine": "2\n", "saved": "by the user"}


async def test_k4_control_without_an_overlay_it_is_there_while_the_command_runs(paused, tmp_path):
    call, go_on = await paused("echo 1 >pandas.py; echo 2 >mine; $pause", mode="full")
    seen = tree(tmp_path)
    go_on()

    await asyncio.wait_for(call, 30)

    assert seen == {"pandas.py": "1\n", "mine": "2\n"}


async def test_k2_a_file_that_the_user_saves_while_a_command_writes_it_stays_and_the_model_is_told(paused, tmp_path):
    lay(tmp_path, mine="old", same="old", removed="old")
    call, go_on = await paused("echo theirs >mine; echo theirs >same; rm removed; $pause")
    lay(tmp_path, mine="the user's", removed="the user's")
    go_on()

    _, text = await asyncio.wait_for(call, 30)

    assert tree(tmp_path) == {
        "mine": "the user's",
        "same": "theirs\n",
        "removed": "the user's",
    }
    assert "conflict: somebody else changed 'mine'; 'removed' while the command ran" in text


async def test_k2_control_without_an_overlay_what_the_user_saves_meanwhile_is_lost(paused, tmp_path):
    lay(tmp_path, mine="old", removed="old")
    call, go_on = await paused("$pause; echo theirs >mine; rm removed", mode="full")
    lay(tmp_path, mine="the user's", removed="the user's")
    go_on()

    await asyncio.wait_for(call, 30)

    assert tree(tmp_path) == {"mine": "theirs\n"}


#: Commands, and what of them must not be there unless the user approves: they run by themselves or instruct agents.
ATTACKS = {
    "a new hook": ("mkdir -p .git/hooks; echo evil >.git/hooks/pre-commit", [".git/hooks/pre-commit"]),
    "a setting of git": ("echo evil >.git/config", [".git/config"]),
    "a copied folder": ("mv sub old; mkdir sub; cp -a old/. sub/; echo evil >sub/.envrc", ["sub/.envrc"]),
    "a copied repository": ("mv .git g; cp -a g .git; echo evil >.git/config", [".git/config"]),
    "a whole repository": (
        "cp -a .git other.git; mkdir r; mv other.git r/.git; echo evil >r/.git/config",
        ["r/.git/config"],
    ),
    "very deep": ("mkdir -p a/b/c/d/e/f/g; echo evil >a/b/c/d/e/f/g/CLAUDE.md", ["a/b/c/d/e/f/g/CLAUDE.md"]),
    "in node_modules": ("mkdir -p node_modules/x; echo evil >node_modules/x/.envrc", ["node_modules/x/.envrc"]),
    "a link's target": ("echo evil >settings.sh", ["settings.sh"]),
    "a linked folder's target": ("echo evil >editor/tasks.json", ["editor/tasks.json"]),
    "through the link": ("echo evil >linked/.envrc", ["settings.sh"]),
    "another target": ("ln -sfn evil.sh linked/.envrc; echo evil >evil.sh", []),
    "a new link": ("echo evil >x.sh; ln -s x.sh .envrc", [".envrc"]),
    "a link as a part of the name": (
        "mkdir -p ci/workflows; echo evil >ci/workflows/x.yml; ln -s ci .github",
        [".github"],
    ),
    "upper case": (
        "echo evil >Claude.MD; mkdir .GitHub .github; mkdir .GitHub/Workflows; echo >.GitHub/Workflows/x.yml",
        ["Claude.MD", ".GitHub/Workflows/x.yml"],
    ),
    "a moved file": ("echo evil >x; mv x AGENTS.md", ["AGENTS.md"]),
    "a moved folder": ("mkdir x; echo evil >x/tasks.json; mv x .vscode", [".vscode/tasks.json"]),
    "an exchanged folder": ("mkdir x; echo evil >x/.envrc; mv sub y; mv x sub", ["sub/.envrc"]),
    "another one's settings": ("mkdir z; mv sub/.envrc z/.envrc", ["z/.envrc"]),
    "sitecustomize": ("echo evil >sitecustomize.py", ["sitecustomize.py"]),
    "usercustomize": ("mkdir d; echo evil >d/usercustomize.py", ["d/usercustomize.py"]),
    "conftest": ("mkdir -p t/u; echo evil >t/u/conftest.py", ["t/u/conftest.py"]),
    "bytecode of conftest": (
        "mkdir -p t/__pycache__; echo evil >t/__pycache__/conftest.cpython-311.pyc",
        ["t/__pycache__/conftest.cpython-311.pyc"],
    ),
    "entry points": (
        "mkdir x-1.dist-info; echo evil >x-1.dist-info/entry_points.txt",
        ["x-1.dist-info/entry_points.txt"],
    ),
    "an egg's entry points": (
        "mkdir x.egg-info; echo evil >x.egg-info/entry_points.txt",
        ["x.egg-info/entry_points.txt"],
    ),
    "the standard library": (
        "echo evil >json.py; mkdir random; echo evil >random/__init__.py",
        ["json.py", "random/__init__.py"],
    ),
    "an installed package": (
        "echo evil >duckdb.py; mkdir httpx; echo evil >httpx/__init__.py",
        ["duckdb.py", "httpx/__init__.py"],
    ),
    "a link to a package": ("mkdir mine; echo evil >mine/__init__.py; ln -s mine yaml", ["yaml"]),
    "a skill": ("mkdir -p skills/x; echo evil >skills/x/SKILL.md", ["skills/x/SKILL.md"]),
    "a server's script": ("mkdir serve; echo evil >serve/run.py", ["serve/run.py"]),
    "Piano's own folder": (
        "mkdir .piano sub/.piano; echo evil >.piano/x; echo evil >sub/.piano/x",
        [".piano/x", "sub/.piano/x"],
    ),
    "in place of a file": (
        "rm CLAUDE.local.md; mkdir CLAUDE.local.md; echo evil >CLAUDE.local.md/x",
        ["CLAUDE.local.md/x"],
    ),
    "hidden by many": ("for i in {1..3000}; do mkdir d$i; done; echo evil >d2999/.envrc", ["d2999/.envrc"]),
    "an unreadable folder": ("mkdir x; echo evil >x/.envrc; chmod 0 x", ["x/.envrc"]),
    "behind the back": ("(sleep 0.2; echo evil >.envrc) & disown; exit 0", [".envrc"]),
}


@pytest.fixture
def project(tmp_path):
    """A workspace with what these attacks are about."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    lay(tmp_path, sub__x="", sub__envrc="", editor__tasks_json="", settings_sh="mine", evil_sh="mine")
    for old, new in (
        ("editor/tasks_json", "editor/tasks.json"),
        ("settings_sh", "settings.sh"),
        ("sub/envrc", "sub/.envrc"),
    ):
        (tmp_path / old).rename(tmp_path / new)
    (tmp_path / "CLAUDE.local.md").write_text("mine")
    (tmp_path / ".mcp.json").write_text('{"mcpServers": {"own": {"command": "python", "args": ["serve/run.py"]}}}')
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/.envrc").symlink_to("../settings.sh")
    (tmp_path / ".vscode").symlink_to("editor")
    return tmp_path


@pytest.mark.parametrize("name", ATTACKS)
async def test_k1_what_acts_later_comes_only_with_an_approval(run, project, name):
    command, targets = ATTACKS[name]
    if name == "a moved folder":
        (project / ".vscode").unlink()
    before = tree(project)

    await run(command)
    held = {target: tree(project).get(target) for target in targets}

    assert held == {target: before.get(target) for target in targets}
    assert (project / "linked/.envrc").readlink() == Path("../settings.sh")
    is_private = name == "Piano's own folder"
    assert len(run.bash.asked) == (0 if is_private or "bytecode" in name or name == "behind the back" else 1)


@pytest.mark.parametrize(
    "name", [name for name in ATTACKS if name not in {"Piano's own folder", "behind the back", "bytecode of conftest"}]
)
async def test_k1_control_with_an_approval_each_of_them_comes(run, project, name):
    """The control: without the defence the attack succeeds."""
    command, targets = ATTACKS[name]
    if name == "a moved folder":
        (project / ".vscode").unlink()
    run.bash.approves = True

    text = await run(command)
    (project / "x").chmod(0o700) if (project / "x").exists() else None

    assert "the user approved these changes, and they were applied" in text
    there = tree(project)
    assert all(each in there for each in targets)
    assert any("evil" in there[each] or "->" in there[each] for each in targets) or name in {
        "upper case",
        "another target",
        "another one's settings",
    }


@pytest.mark.parametrize("target", ["real", "outside", "missing"])
async def test_k1_a_linked_folder_of_pianos_own_is_neither_read_nor_written_through(
    run, tmp_path, tmp_path_factory, target
):
    outside = tmp_path_factory.mktemp("outside")
    (tmp_path / "real").mkdir()
    (tmp_path / ".piano").symlink_to(outside if target == "outside" else target)
    for folder in (tmp_path / "real", outside):
        (folder / "kept").write_text("history")
    before = tree(tmp_path)

    text = await run("cat .piano/kept; echo evil >.piano/x; echo evil >.piano/kept; rm -rf .piano; mkdir .piano")

    assert "history" not in text
    assert tree(tmp_path) == before
    assert tree(outside) == {"kept": "history"}


ORDINARY = {
    "modules": ("mkdir -p src/pkg; touch src/pkg/__init__.py src/pkg/model.py app.py", ["src/pkg/model.py", "app.py"]),
    "tests": ("mkdir -p tests; echo 'def test_x(): pass' >tests/test_x.py", ["tests/test_x.py"]),
    "a project's files": (
        "touch pyproject.toml setup.py package.json Makefile Dockerfile",
        ["setup.py", "package.json"],
    ),
    "a folder like a module": ("mkdir site; touch site/index.html", ["site/index.html"]),
    "a file like a module elsewhere": ("mkdir -p src; touch src/json.py", ["src/json.py"]),
    "github, but no workflow": ("mkdir -p .github; touch .github/FUNDING.yml", [".github/FUNDING.yml"]),
}


@pytest.mark.parametrize("name", ORDINARY)
async def test_what_people_work_on_is_written_without_a_question(run, tmp_path, name):
    command, made = ORDINARY[name]

    await run(command)

    assert run.bash.asked == []
    assert set(made) <= tree(tmp_path).keys()


GIT = "git -c user.name=a -c user.email=a@b"


async def test_git_commits_switches_branches_and_moves_folders(run, tmp_path):
    lay(tmp_path, pkg__a_py="1", pkg__deep__b_py="2", pkg__conftest_py="3")
    (tmp_path / "pkg/conftest_py").rename(tmp_path / "pkg/conftest.py")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)  # noqa: ASYNC221

    first = await run(
        f"git add -A && {GIT} commit -qm one && git checkout -qb other && git mv pkg lib && {GIT} commit -qm two"
    )
    second = await run(
        "git checkout -q master 2>/dev/null || git checkout -q main; ls; git log --oneline --all | wc -l; git status -s"
    )

    assert first == NOTHING
    assert second.split() == ["pkg", "2"]
    assert run.bash.asked == []
    assert (tmp_path / "pkg/conftest.py").read_text() == "3"
    assert await run("git fsck --strict") == NOTHING
    assert "use git clone --no-hardlinks]" in await run("git clone -q . copy")
    worktree = "mkdir w; echo gitdir: /elsewhere/.git/worktrees/w >w/.git; cd w; git status"
    assert "the repository of this worktree or submodule is outside the workspace, out of sight" in await run(worktree)


async def test_git_init_asks_once_for_its_settings_and_the_rest_is_there(run, tmp_path):
    run.bash.approves = True

    await run("git init -q && git config user.name Ada")

    assert len(run.bash.asked) == 1
    assert "'.git/config' is a setting or a hook of git" in run.bash.asked[0]
    assert "name = Ada" in (tmp_path / ".git/config").read_text()
    assert (tmp_path / ".git/hooks/pre-commit.sample").exists()


async def test_a_folder_is_renamed_and_removed_with_what_is_protected_in_it(run, tmp_path):
    for name in ("pkg/tests/conftest.py", "pkg/.envrc", "pkg/a.py", "other/b.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)

    renamed = await run(f'{sys.executable} -c \'import os; os.rename("pkg", "lib")\' && mv other more && ls')
    after = tree(tmp_path)
    (tmp_path / "lib/.envrc").unlink()
    await run("rm -r lib")

    assert renamed.split() == ["lib", "more"]
    assert after == {
        "lib/tests/conftest.py": "pkg/tests/conftest.py",
        "lib/.envrc": "pkg/.envrc",
        "lib/a.py": "pkg/a.py",
        "more/b.py": "other/b.py",
    }
    assert tree(tmp_path) == {"more/b.py": "other/b.py"}
    assert run.bash.asked == []


async def test_k1_a_renamed_folder_whose_protected_file_was_changed_asks(run, tmp_path):
    lay(tmp_path, pkg__a="1")
    (tmp_path / "pkg/.envrc").write_text("mine")

    await run("mv pkg lib; echo evil >>lib/.envrc")

    assert tree(tmp_path) == {"lib/a": "1", "pkg/.envrc": "mine"}


@pytest.mark.parametrize(("approves", "left"), [(False, {"README.md": "mine"}), (True, {"CLAUDE.md": "mine"})])
async def test_k1_a_file_that_was_moved_to_a_protected_name_stays_until_that_is_approved(run, tmp_path, approves, left):
    (tmp_path / "README.md").write_text("mine")
    run.bash.approves = approves

    await run("mv README.md CLAUDE.md")

    assert tree(tmp_path) == left
    assert len(run.bash.asked) == 1


async def test_pytest_and_the_formatter_run_as_usual(run, tmp_path):
    lay(tmp_path, test_x="def test_it(there): assert there==1\n")
    (tmp_path / "test_x").rename(tmp_path / "test_x.py")
    (tmp_path / "conftest.py").write_text("import pytest\n@pytest.fixture\ndef there(): return 1\n")

    tested = await run(f"{sys.executable} -m pytest -q -p no:cacheprovider --rootdir . test_x.py -c /dev/null")
    formatted = await run(f"{sys.executable} -m ruff format test_x.py --isolated")

    assert "1 passed" in tested
    assert "1 file reformatted" in formatted
    assert "there == 1" in (tmp_path / "test_x.py").read_text()
    assert run.bash.asked == []


async def test_k3_a_file_with_a_hard_link_elsewhere_is_not_written_through(run, bash_of, tmp_path, tmp_path_factory):
    outside = tmp_path_factory.mktemp("store") / "shared.js"
    outside.write_text("shared")
    (tmp_path / "node_modules").mkdir()
    os.link(outside, tmp_path / "node_modules/shared.js")

    await run(
        "echo evil >>node_modules/shared.js; chmod 777 node_modules/shared.js; truncate -s 4 node_modules/shared.js"
    )

    assert outside.read_text() == "shared"
    assert (tmp_path / "node_modules/shared.js").read_text() == "shar"
    await bash_of()("echo evil >>node_modules/shared.js", mode="full")  # on another inode by now
    assert outside.read_text() == "shared"


async def test_k3_control_without_an_overlay_the_file_elsewhere_is_written(bash, tmp_path, tmp_path_factory):
    outside = tmp_path_factory.mktemp("store") / "shared.js"
    outside.write_text("shared")
    os.link(outside, tmp_path / "shared.js")

    await bash("echo evil >>shared.js")

    assert outside.read_text() == "sharedevil\n"


async def test_k6_a_command_that_is_running_when_the_kernel_ends_changes_nothing(bash_of, sandboxed, tmp_path):
    bash = bash_of()
    call = asyncio.create_task(bash("touch mine AGENTS.md; sleep 60", mode="write"))
    await asyncio.wait({call}, timeout=0.5)

    bash.tool.stop()  # as at exit, when nobody waits for the call any more
    left = tree(tmp_path)
    with suppress(Exception):
        await call

    assert left == {}


async def test_k6_control_without_an_overlay_what_it_wrote_is_left(paused, tmp_path):
    call, _ = await paused("touch mine AGENTS.md; $pause", mode="full")

    call.cancel()
    await asyncio.wait({call})

    assert set(tree(tmp_path)) == {"mine", "AGENTS.md"}


async def test_k1_what_a_command_did_before_its_time_was_over_is_kept(bash_of, sandboxed, tmp_path):
    ok, text = await bash_of()("echo 1 >result; echo evil >.envrc; sleep 60", mode="write", timeout=1)

    assert not ok
    assert "ended after 1 s" in text
    assert "not applied" in text
    assert tree(tmp_path) == {"result": "1\n"}


async def test_k5_twenty_thousand_protected_names_are_one_short_question(run, tmp_path):
    gaps, loop = [], asyncio.get_running_loop()
    call = asyncio.create_task(run("for i in {1..20000}; do echo >.env.$i; done"))
    while not call.done():
        begun = loop.time()
        await asyncio.sleep(0)
        gaps.append(loop.time() - begun)

    assert tree(tmp_path) == {}
    assert len(run.bash.asked) == 1
    assert "(also '.env.10', '.env.100', '.env.1000', '.env.10000', '.env.10001', 19,994 more)" in run.bash.asked[0]
    assert len(run.bash.asked[0]) < 2000
    assert max(gaps) < 2  # it was 90 s


async def test_k5_no_number_of_other_reasons_hides_one(run):
    await run(
        "for i in {10..40}; do mkdir -p \\!$i/objects \\!$i/refs; echo >\\!$i/HEAD; echo >\\!$i/config; "
        "ln -s /mnt/$i \\!l$i; done; echo >Z.code-workspace"
    )

    assert "'Z.code-workspace' runs when the folder is opened in an editor; until you approve" in run.bash.asked[0]
    assert len(run.bash.asked[0]) < 2000


async def test_k5_an_overlay_is_removed_with_a_tree_that_is_too_deep_for_a_path(run, tmp_path):
    text = await run("for i in {1..600}; do mkdir dddddddddd; cd dddddddddd || break; done; touch x; chmod 0 .")

    assert "not applied: " in text
    (kept,) = Path(os.environ["XDG_CACHE_HOME"]).glob("piano_jupyter/commands/*")
    remove_tree(kept)
    assert not kept.exists()


async def test_k5_control_by_its_path_such_a_tree_cannot_be_removed(run):
    await run("for i in {1..600}; do mkdir dddddddddd; cd dddddddddd || break; done; touch x")
    (kept,) = Path(os.environ["XDG_CACHE_HOME"]).glob("piano_jupyter/commands/*")

    with pytest.raises(OSError, match="File name too long"):
        kept.joinpath("changes", *["dddddddddd"] * 600, "x").unlink()
    remove_tree(kept)
