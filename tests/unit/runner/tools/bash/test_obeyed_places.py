"""What git, Python or Piano obey though its name does not say so: behind links, and in unusual places."""

import marshal
import os
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path

import pytest


def names_in(folder):
    """Return the paths of all files and links in a folder."""
    return {str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_symlink() or not each.is_dir()}


def content(path):
    """Return what is in a file, where a link leads, or None for anything else."""
    return os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else None  # noqa: PTH115


#: The links before, what a command does, and the path whose content may not change: each is a link to it, or leads on.
LINKS = {
    "a link on the way": ({".envrc": "a", "a": "mine"}, "echo evil >x; ln -sfn x a", ".envrc"),
    "a linked folder on the way": (
        {".envrc": "a/mine", "a": "folder"},
        "mkdir x; echo evil >x/mine; ln -sfn x a",
        ".envrc",
    ),
    "a folder that is missing": ({".envrc": "a/b/mine"}, "mkdir -p x/b; echo evil >x/b/mine; ln -s x a", ".envrc"),
    "a file that is missing": ({".envrc": "a/b/mine"}, "mkdir -p a/b; echo evil >a/b/mine", ".envrc"),
    "a folder above and back": ({".envrc": "folder/../a", "a": "mine"}, "echo evil >x; ln -sfn x a", ".envrc"),
    "a folder of skills": ({}, "mkdir -p x/skills/s; echo evil >x/skills/s/SKILL.md; ln -s x kept", "kept/skills/s"),
    "a folder that commands may read": ({}, "mkdir keys; rmdir shared; ln -s keys shared", "shared"),
    "a folder above it": ({}, "mkdir -p keys/b; ln -s keys parts", "parts/b"),
    "a folder of modules": ({}, "mkdir x; echo evil >x/json.py; rm -r modules; ln -s x modules", "modules/json.py"),
}


@pytest.mark.parametrize("approves", [False, True], ids=["", "control: approved"])
@pytest.mark.parametrize("name", LINKS)
async def test_k8_k22_with_its_control_a_link_that_leads_what_is_obeyed_elsewhere_needs_an_approval(
    bash_of, sandboxed, tmp_path, monkeypatch, name, approves
):
    links, command, obeyed = LINKS[name]
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/own.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "modules")
    for each in ("folder", "shared"):
        (tmp_path / each).mkdir()
    for each in ("mine", "folder/mine"):
        (tmp_path / each).write_text("mine")
    for link, target in links.items():
        (tmp_path / link).symlink_to(target)
    readable = [str(tmp_path / each) for each in ("shared", "parts/b")]
    bash = bash_of(skills_paths=["kept/skills"], readable_paths=readable)
    bash.approves = approves
    before = os.path.realpath(tmp_path / obeyed), (tmp_path / obeyed).exists()

    await bash(command, mode="write")

    assert ((os.path.realpath(tmp_path / obeyed), (tmp_path / obeyed).exists()) == before) is not approves
    assert len(bash.asked) == 1


#: Of a repository in the folder `of`: what git obeys is beside it.
SETTINGS = """[core]
  hooksPath = ../mine/hooks  # of all our projects
[include] path = "../../mine/team.config"
[includeIf "gitdir:~/"]
  path = ../../team/config
[filter "clean"]
  clean = python3 ../mine/clean.py %f
  hooksPath = ../team
[remote "origin"]
  url = ../mine/report.py
[branch "main"]
  merge = refs/heads/main
[alias]
  st = status
"""
#: What git or the kernel obeys in other places than usual: in one command, or in two.
PLACES = {
    "a repository with its settings elsewhere": (
        "mkdir -p r c/objects c/refs; echo ref: refs/heads/x >r/HEAD; echo ../c >r/commondir; echo evil >c/config",
        "",
        "r/commondir",
    ),
    "the same in two steps": (
        "mkdir -p r c/objects c/refs; echo ../c >r/commondir; echo evil >c/config",
        "echo ref: refs/heads/x >r/HEAD",
        "r/HEAD",
    ),
    "the steps of a rebase": (
        "mkdir -p .git/rebase-merge; echo exec evil >.git/rebase-merge/git-rebase-todo",
        "",
        ".git/rebase-merge/git-rebase-todo",
    ),
    "a notebook beside a module": ("mkdir n; echo evil >n/json.py; echo {} >n/z.ipynb", "", "n/z.ipynb"),
    "a module beside a notebook": ("mkdir n; echo evil >n/json.py; echo {} >n/a.ipynb", "", "n/json.py"),
    "a repository that was another folder's": ("mv vendor/.git .", "", ".git/config"),
    "an editor's folder that was another's": ("mv vendor/.vscode .", "", ".vscode/tasks.json"),
    "workflows of another project": ("mv vendor/.github .", "", ".github/workflows/x.yml"),
    "a hook in another folder": ("echo evil >mine/hooks/pre-commit", "", "mine/hooks/pre-commit"),
    "a new folder of hooks": ("mkdir team; echo evil >team/pre-push", "", "team/pre-push"),
    "settings that are included": ("echo evil >mine/team.config", "", "mine/team.config"),
    "a program of git's filter": ("echo evil >mine/clean.py", "", "mine/clean.py"),
    "an extension module": ("echo evil >mine/report.abi3.so", "", "mine/report.abi3.so"),
    "the Python of another kernel": ("echo evil >env/bin/python", "", "env/bin/python"),
    "settings of a Python": ("echo home=/x >env/pyvenv.cfg", "", "env/pyvenv.cfg"),
    "a Python in two steps": ("mkdir -p x/bin; echo evil >x/bin/python", "echo >x/pyvenv.cfg", "x/pyvenv.cfg"),
    "a Python that was another folder's": ("mv env other", "", "other/bin/python"),
    "a link in place of a Python": ("mkdir -p x/bin; echo evil >x/bin/python; rm -r env; ln -s x env", "", "env"),
    "a link to a file elsewhere": ("ln -s /etc/group data.csv", "", "data.csv"),
    "a link that leads up and out": (
        "d=$(printf 'd/%.0s' {1..15}); mkdir -p $d; ln -s ${d//d/..} ${d}up; ln -s ${d}up/${d//d/..}etc/group data.csv",
        "",
        "data.csv",
    ),
    "a link to Piano's own data": ("ln -s .piano/x data.csv", "", "data.csv"),
    "a link that is moved": ("mv mine/up .", "", "up"),
    "a notebook after a package": ("mkdir -p n/duckdb; echo >n/duckdb/__init__.py", "echo {} >n/a.ipynb", "n/a.ipynb"),
}


@pytest.mark.parametrize("approves", [False, True], ids=["", "control: approved"])
@pytest.mark.parametrize("name", PLACES)
async def test_k9_k16_to_k18_k20_k21_with_its_control_what_is_obeyed_in_unusual_places_needs_an_approval(
    run, tmp_path, name, approves
):
    first, second, obeyed = PLACES[name]
    for path in (
        "vendor/.git/config",
        "vendor/.git/HEAD",
        "vendor/.vscode/tasks.json",
        "vendor/.github/workflows/x.yml",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("of another project")
    names = "mine/clean.py mine/team.config mine/report.py mine/hooks/pre-commit of/.git/config env/bin/python"
    for path in [*names.split(), "env/pyvenv.cfg"]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "of/.git/config").write_text(SETTINGS)
    (tmp_path / "mine/up").symlink_to("../of")
    before = content(tmp_path / obeyed)
    run.bash.approves = approves

    await run(first)
    await run(second or ":")

    assert (content(tmp_path / obeyed) != before) is approves
    assert len(run.bash.asked) == 1


async def test_k17_bytecode_that_a_command_leaves_is_dropped_without_a_question(run, tmp_path):
    for path in ("report.py", "old/__pycache__/x.pyc", "old/__pycache__/y.pyc", "pkg/__pycache__/z.pyc", "pkg/z.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")

    text = await run(
        f"{sys.executable} -m py_compile report.py; ls __pycache__; echo evil >old/__pycache__/x.pyc; mkdir p; "
        "rm old/__pycache__/y.pyc; ln -s ../old p/__pycache__; mv pkg lib; touch p/q; mkdir -p r/__pycache__/s"
    )

    assert text == f"report.{sys.implementation.cache_tag}.pyc"
    assert names_in(tmp_path) == {"report.py", "old/__pycache__/x.pyc", "lib/z.py", "p/q"}
    assert (tmp_path / "old/__pycache__/x.pyc").read_text() == ""
    assert run.bash.asked == []


def test_k17_control_bytecode_runs_in_place_of_the_module_that_people_read(tmp_path):
    (tmp_path / "report.py").write_text("harmless\n")
    seen = (tmp_path / "report.py").stat()
    cached = Path(cache_from_source(tmp_path / "report.py"))
    cached.parent.mkdir()
    times = int(seen.st_mtime).to_bytes(4, "little") + seen.st_size.to_bytes(4, "little")
    cached.write_bytes(MAGIC_NUMBER + bytes(4) + times + marshal.dumps(compile("evil", "x", "exec")))

    code = SourceFileLoader("report", str(tmp_path / "report.py")).get_code("report")

    assert code.co_names == ("evil",)


async def test_what_the_settings_of_git_name_and_git_does_not_run_is_written_without_a_question(run, tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/config").write_text(
        '[alias]\n\tx = !make -C src/app\n[core]\n\thooksPath = .\n[remote "o"]\n\turl = ./data.csv\n'
    )
    (tmp_path / "src/app").mkdir(parents=True)
    (tmp_path / "data.csv").touch()

    await run("echo new >data.csv; echo new >src/app/main.py; mv src lib")

    assert run.bash.asked == []
    assert names_in(tmp_path) == {".git/config", "data.csv", "lib/app/main.py"}


async def test_links_to_what_commands_can_see_and_renamed_folders_with_links_and_a_python_need_no_approval(
    run, tmp_path
):
    for path in ("old/env/pyvenv.cfg", "old/env/bin/python", "old/data.csv"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    (tmp_path / "old/big").symlink_to("/mnt/big")

    await run(f"mv old new; ln -s new/data.csv a; ln -s {sys.executable} b; ln -s /usr/bin/env c; ln -s /dev/null d")

    assert run.bash.asked == []
    assert names_in(tmp_path) == {"new/env/pyvenv.cfg", "new/env/bin/python", "new/data.csv", "new/big", *"abcd"}


async def test_a_notebook_beside_ordinary_modules_and_a_changed_one_need_no_approval(run, tmp_path):
    (tmp_path / "n").mkdir()
    (tmp_path / "n/a.ipynb").touch()
    (tmp_path / "n/json.py").touch()

    await run("echo {} >n/a.ipynb; echo {} >n/b.ipynb; mkdir m; touch m/prices_of_2031.py m/a.ipynb")

    assert run.bash.asked == []
    assert {"n/b.ipynb", "m/a.ipynb"} <= names_in(tmp_path)
