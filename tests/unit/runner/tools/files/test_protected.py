"""Names that file tools must not write, and files that the kernel would import."""

import json
import sys

import pytest

from piano_jupyter.runner.tools.files.import_hazards import ImportHazards
from piano_jupyter.runner.tools.files.protected import instructs_agents, is_private, protected_part

REASON = "would be imported by your kernel, outside the sandbox"


def shadows_import(parts, here):
    """Return why a file would be imported in place of another, None if it would not."""
    found = ImportHazards(here, lambda path: here.joinpath(*path).exists()).find((*parts,))
    return found and f"{'/'.join(parts)!r} {found.reason}"


@pytest.mark.parametrize(
    "path",
    [
        ".git/hooks/pre-commit",
        "sub/.git/config",
        ".GIT/config",
        ".agents/skills/x/SKILL.md",
        "AGENTS.md",
        "deep/down/agents.MD",
        ".mcp.json",
        ".env",
        ".env.local",
        ".envrc",
        ".vscode/tasks.json",
        ".ipython/profile_default/startup/x.py",
        ".jupyter/jupyter_server_config.py",
        ".pdbrc",
        ".husky/pre-commit",
        ".pre-commit-config.yaml",
        ".claude/settings.json",
        "CLAUDE.md",
        ".github/copilot-instructions.md",
        ".piano/piano.duckdb",
    ],
)
def test_a17_files_that_run_automatically_or_instruct_an_agent_are_protected(path):
    assert protected_part(path.split("/"))


@pytest.mark.parametrize("path", ["", ".gitignore", "env", ".environment", "agents.py", "piano.py", "src/git/x"])
def test_similar_names_are_not_protected(path):
    assert not protected_part(path.split("/"))


@pytest.mark.parametrize(
    ("path", "private"),
    [
        ("data/chat.duckdb", True),
        ("data/chat.duckdb.wal", True),
        ("data/chat.duckdb.lock", True),
        ("data/chat.duckdb.tmp/x", True),
        ("DATA/Chat.duckdb", True),
        ("data/chat.duckdb2", False),
        ("data", False),
        ("chat.duckdb", False),
        ("other/data/chat.duckdb", False),
    ],
)
def test_a17_the_history_database_is_private_in_any_folder(path, private):
    assert is_private(path.split("/"), ("data", "chat.duckdb")) is private


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("skills", True),
        ("skills/x.md", True),
        ("SKILLS/x/SKILL.md", True),
        ("skills/x/references/more.md", True),
        ("team/skills/x.md", True),
        ("team/x.md", False),
        ("src/skills/x.md", False),
        ("skills.md", False),
        ("", False),
    ],
)
def test_a17_files_in_a_folder_of_skills_instruct_agents(path, counts):
    assert instructs_agents(path.split("/"), [("skills",), ("team", "skills"), ()]) is counts


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A workspace that is the working directory."""
    (tmp_path / "ws").mkdir()
    monkeypatch.chdir(tmp_path / "ws")
    return tmp_path / "ws"


@pytest.mark.parametrize(
    "path",
    [
        "pytest.py",
        "pytest/__init__.py",
        "json.py",
        "sys.py",
        "json.pyc",
        "json.abi3.so",
        "yaml/__init__.abi3.so",
        "conftest.py",
        "sitecustomize.py",
        "usercustomize.py",
        "x.pth",
    ],
)
def test_a19_a_file_that_would_be_imported_instead_of_a_module_is_recognised(here, path):
    assert shadows_import(path.split("/"), here).startswith(f"{path!r} ")


@pytest.mark.parametrize(
    "path",
    [
        "report.py",
        "src/report.py",
        "src/json.py",
        "json.txt",
        "json/data.csv",
        "json/rows.py",
        "test/__init__.py",
        "test/test_x.py",
    ],
)
def test_a_file_that_shadows_no_module_is_allowed(here, path):
    assert shadows_import(path.split("/"), here) is None


def test_a19_a_module_of_a_package_that_already_shadows_another_is_recognised(here):
    (here / "yaml").mkdir()
    (here / "yaml/__init__.py").touch()

    assert shadows_import(("yaml", "loader.py"), here)


def test_a19_a_folder_on_the_import_path_counts_like_the_working_directory(here, monkeypatch):
    assert shadows_import(("lib", "json.py"), here) is None
    monkeypatch.syspath_prepend(str(here / "lib"))

    assert shadows_import(("lib", "json.py"), here) == f"'lib/json.py' {REASON}"


def test_a19_the_workspace_counts_if_the_kernel_works_in_one_of_its_folders(here, monkeypatch):
    (here / "notebooks").mkdir()
    monkeypatch.chdir(here / "notebooks")

    assert shadows_import(("json.py",), here) == f"'json.py' {REASON}"
    assert shadows_import(("notebooks", "json.py"), here)
    assert shadows_import(("other", "json.py"), here) is None


def test_a19_the_folder_of_a_notebook_counts_for_the_kernel_that_starts_there(here):
    (here / "reports").mkdir()
    (here / "reports/sales.ipynb").touch()

    assert shadows_import(("reports", "json.py"), here)
    assert shadows_import(("other", "json.py"), here) is None


def test_a19_a_module_installed_in_the_workspace_is_recognised_even_through_a_link(here, monkeypatch):
    site = here / ".venv/lib/site-packages"
    (site / "alone").mkdir(parents=True)
    (site / "alone/__init__.py").touch()
    monkeypatch.syspath_prepend(str(site))

    assert shadows_import(("alone.py",), here) == f"'alone.py' {REASON}"
    assert shadows_import((".venv", "lib", "site-packages", "alone", "x.py"), here)
    assert shadows_import((".venv", "bin", "x.py"), here) is None


def test_a19_parts_of_an_installed_namespace_package_count(here, monkeypatch, tmp_path):
    site = tmp_path / "site-packages"
    (site / "spread/part").mkdir(parents=True)
    (site / "spread/part/__init__.py").touch()
    monkeypatch.syspath_prepend(str(site))

    assert shadows_import(("spread", "part", "__init__.py"), here)


def test_a19_a_module_loaded_from_elsewhere_counts_with_any_finder(here, monkeypatch, tmp_path):
    loaded = type(sys)("found_by_a_finder")
    loaded.__file__ = str(tmp_path / "elsewhere/found_by_a_finder.py")
    monkeypatch.setitem(sys.modules, "found_by_a_finder", loaded)

    assert shadows_import(("found_by_a_finder.py",), here)


def test_a_project_in_the_workspace_is_its_own_package_installed_or_not(here, monkeypatch, tmp_path):
    (here / "src/mine").mkdir(parents=True)
    (here / "src/mine/__init__.py").touch()
    monkeypatch.syspath_prepend(str(here / "src"))

    assert shadows_import(("src", "mine", "__init__.py"), here) is None
    assert shadows_import(("mine", "__init__.py"), here) is None

    site = tmp_path / "site-packages"
    about = site / "built-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "built.py").touch()
    (about / "METADATA").write_text("Name: built\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(site))
    assert shadows_import(("built.py",), here)
    (about / "direct_url.json").write_text(json.dumps({"url": here.as_uri(), "dir_info": {}}))
    assert shadows_import(("built.py",), here) is None


def test_a19_a_missing_module_that_an_installed_package_depends_on_would_be_imported(tmp_path):
    assert shadows_import(["numexpr.py"], tmp_path).endswith(REASON)  # by pandas, as it is imported
    assert shadows_import(["nobody_wants_this.py"], tmp_path) is None


def test_a_file_in_the_kernels_own_environment_needs_approval(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))

    assert shadows_import([".venv", "bin", "activate"], tmp_path).startswith("'.venv/bin/activate' is part of your")
    assert shadows_import([".venv2", "bin", "activate"], tmp_path) is None
