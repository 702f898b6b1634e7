"""What git, Python or Piano obey though its name does not say so: behind links, and in unusual places."""

import os

import pytest


def names_in(folder):
    """Return the paths of all files and links in a folder."""
    return {str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_symlink() or not each.is_dir()}


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
    "a folder of modules": ({}, "mkdir x; echo evil >x/json.py; rm -r modules; ln -s x modules", "modules/json.py"),
}


@pytest.mark.parametrize("approves", [False, True], ids=["", "approved"])
@pytest.mark.parametrize("name", LINKS)
async def test_k8_a_link_that_leads_what_is_obeyed_elsewhere_needs_an_approval(
    bash_of, sandboxed, tmp_path, monkeypatch, name, approves
):
    links, command, obeyed = LINKS[name]
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/own.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "modules")
    (tmp_path / "folder").mkdir()
    for each in ("mine", "folder/mine"):
        (tmp_path / each).write_text("mine")
    for link, target in links.items():
        (tmp_path / link).symlink_to(target)
    bash = bash_of(skills_paths=["kept/skills"])
    bash.approves = approves
    before = os.path.realpath(tmp_path / obeyed), (tmp_path / obeyed).exists()

    await bash(command, mode="write")

    assert ((os.path.realpath(tmp_path / obeyed), (tmp_path / obeyed).exists()) == before) is not approves
    assert len(bash.asked) == 1


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
    "a notebook after a package": ("mkdir -p n/duckdb; echo >n/duckdb/__init__.py", "echo {} >n/a.ipynb", "n/a.ipynb"),
}


@pytest.mark.parametrize("approves", [False, True], ids=["", "approved"])
@pytest.mark.parametrize("name", PLACES)
async def test_k9_what_is_obeyed_in_unusual_places_needs_an_approval(run, tmp_path, name, approves):
    first, second, obeyed = PLACES[name]
    run.bash.approves = approves

    await run(first)
    await run(second or ":")

    assert (tmp_path / obeyed).exists() is approves
    assert len(run.bash.asked) == 1


async def test_a_notebook_beside_ordinary_modules_and_a_changed_one_need_no_approval(run, tmp_path):
    (tmp_path / "n").mkdir()
    (tmp_path / "n/a.ipynb").touch()
    (tmp_path / "n/json.py").touch()

    await run("echo {} >n/a.ipynb; echo {} >n/b.ipynb; mkdir m; touch m/prices_of_2031.py m/a.ipynb")

    assert run.bash.asked == []
    assert {"n/b.ipynb", "m/a.ipynb"} <= names_in(tmp_path)
