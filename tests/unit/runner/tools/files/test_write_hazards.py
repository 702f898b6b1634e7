"""What the one judge says about paths in a workspace, for file tools and for what bash wrote."""

import os
import shutil
import stat
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES

import pytest

from piano_jupyter.runner.tools.bash.workspace_index import WorkspaceIndex
from piano_jupyter.runner.tools.files import shadowing
from piano_jupyter.runner.tools.files.protected import protected_names
from piano_jupyter.runner.tools.files.write_hazards import (
    HazardKind,
    WriteHazards,
    hidden_home_names,
    protected_link_targets,
)

AGENT_FILES = ["CLAUDE.local.md", "AGENTS.override.md", "GEMINI.md", ".cursor/rules/x.mdc", ".mcp.json", ".rules"]
AGENT_FILES += ["AGENTS.team.md", "claude.private.local.md", ".roorules-code", "x.instructions.md"]
EDITOR_FILES = [".zed/tasks.json", ".vscode/tasks.json", "my.code-workspace", ".vimrc", ".exrc", ".dir-locals.el"]
EDITOR_FILES += ["x.sublime-project", ".helix/languages.toml", ".luarc.json", "rust-analyzer.toml"]
START_FILES = [".Rprofile", ".Renviron", ".gdbinit", ".lldbinit", ".mise.toml", ".pdbrc", ".envrc", ".env.local"]
START_FILES += [
    "matplotlibrc",
    "jupyter_nbconvert_config.py",
    "jupyter_lab_config.json",
    "mise.dev.toml",
    ".envrc.local",
]
BUILD_FILES = [".yarnrc.yml", ".yarnrc", ".npmrc", ".pnpmfile.cjs", ".cargo/config.toml", ".cargo/config", ".mvn/x"]
BUILD_FILES += ["pip.conf", "uv.toml", "bunfig.toml", ".bazelrc", ".pnp.cjs", "rust-toolchain.toml"]
CI_FILES = [".github/workflows/x.yml", ".github/actions/x/action.yml", ".gitlab-ci.yml", ".circleci/config.yml"]
CI_FILES += ["azure-pipelines.release.yml", "Jenkinsfile.nightly", ".readthedocs.yaml"]
GIT_FILES = [".git/hooks/pre-commit", ".git/config", ".gitmodules", ".husky/_/h", ".hg/hgrc", ".gitconfig"]
GIT_FILES += [".lintstagedrc.json", "lint-staged.config.js", ".config/lefthook.toml", ".commitlintrc.cjs"]
FOLDER, LINK = stat.S_IFDIR, stat.S_IFLNK


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A workspace that is the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def kind_of(here):
    """Return what kind of hazard it is to write a path in the workspace, None if it is none."""

    def judge(path, mode=stat.S_IFREG, **options):
        found = WriteHazards(workspace=here, **options).find(path.split("/"), mode)
        return found.kind if found else None

    return judge


@pytest.mark.parametrize(
    "path", [*AGENT_FILES, *EDITOR_FILES, *START_FILES, *BUILD_FILES, *CI_FILES, *GIT_FILES, *sorted(protected_names())]
)
def test_a20_names_that_run_by_themselves_or_instruct_agents_count_at_any_depth_in_any_case(kind_of, path):
    for each in (path, path.upper(), f"a/b/{path}", f"node_modules/x/{path}", f"{path}/more"):
        assert kind_of(each) is HazardKind.PROTECTED, each


#: What the documentation of Codex CLI and of Claude Code's sandbox runtime names as protected.
OF_OTHERS = """.git/config .git/hooks/x .agents/x .codex/x .bashrc .bash_profile .zshrc .zprofile .profile .gitconfig
.gitmodules .ripgreprc .mcp.json .vscode/x .idea/x .claude/commands/x .claude/agents/x .husky/x"""


@pytest.mark.parametrize("path", OF_OTHERS.split())
def test_a20_what_other_agents_protect_is_protected_here_from_commands_too(kind_of, path):
    for each in (path, f"a/b/c/d/{path}"):
        assert kind_of(each, allows_git=True) is HazardKind.PROTECTED


@pytest.mark.parametrize(
    "path", [".g\u200cit/config", "\uff21GENTS.md", ".env\u200d", "CLAUDE.md.", ".GIT./config", "Git~1/config"]
)
def test_a20_a_name_counts_in_any_unicode_form(kind_of, path):
    assert kind_of(path) is HazardKind.PROTECTED


ORDINARY = (
    "pyproject.toml package.json Makefile Dockerfile setup.py tox.ini src/app.py .gitignore .gitattributes data.csv"
)
ORDINARY += (
    " .github/ISSUE_TEMPLATE/x.md .github/dependabot.yml .cargo/x .editorconfig .python-version src/hooks/use.ts"
)
ORDINARY += " docs/agents.txt git-1/config config.toml mise.md src/jupyter_config.txt env.local lefthook.md"
ORDINARY += " src/config github/workflows/x.yml model.bin lib/json.py tests/test_x.py yarn/releases/x models/best.pth"


@pytest.mark.parametrize("path", ORDINARY.split())
def test_ordinary_files_of_a_project_may_be_written(kind_of, path):
    assert kind_of(path) is None
    assert kind_of(path, allows_git=True) is None


STARTUP = ["conftest.py", "sitecustomize.py", "usercustomize.pyc", "conftest.abi3.so", "conftest/__init__.py"]
METADATA = [
    "x-1.0.dist-info/entry_points.txt",
    "x.egg-info/PKG-INFO",
    "x.egg-link",
    "__editable__.x.pth",
    "X.DIST-INFO/R",
]
SITE = ["site-packages/x.pth", ".venv/lib/python3.12/site-packages/x.pth", "sub/__editable___x_finder.py"]


@pytest.mark.parametrize("path", [*STARTUP, *METADATA, *SITE])
def test_a21_what_python_imports_by_itself_counts_at_any_depth_new_or_existing(kind_of, here, path):
    for each in (path, f"a/b/{path}", f"node_modules/{path}"):
        assert kind_of(each) is HazardKind.IMPORTED, each
    (here / path).parent.mkdir(parents=True, exist_ok=True)
    (here / path).touch()
    assert kind_of(path) is HazardKind.IMPORTED


def test_a21_a_link_to_a_package_counts_and_an_ordinary_folder_does_not(kind_of):
    assert kind_of("a/conftest", LINK) is HazardKind.IMPORTED
    assert kind_of("json", LINK) is HazardKind.IMPORTED
    assert kind_of("json", FOLDER) is kind_of("a/conftest", FOLDER) is kind_of("report", LINK) is None


def test_a21_bytecode_counts_like_its_module(kind_of):
    assert kind_of("a/__pycache__/conftest.cpython-312-pytest-8.3.pyc") is HazardKind.BYTECODE
    assert kind_of("__pycache__/json.cpython-312.pyc") is HazardKind.BYTECODE
    assert kind_of("pkg/__pycache__/report.cpython-312.pyc") is HazardKind.BYTECODE  # it may not be what it says
    assert kind_of("pkg/__pycache__", LINK) is HazardKind.BYTECODE


@pytest.mark.parametrize("path", ["json.py", "JSON.py", "yaml/__init__.py", "pytest.abi3.so", "numexpr.py"])
def test_a19_what_shadows_a_module_counts_where_the_kernel_imports_from(kind_of, here, path):
    assert kind_of(path) is (HazardKind.IMPORTED if path != "JSON.py" else None)
    assert kind_of(f"sub/{path}") is None
    (here / "sub").mkdir()
    (here / "sub/day.ipynb").touch()
    assert kind_of(f"sub/{path}") is (HazardKind.IMPORTED if path != "JSON.py" else None)


def test_a19_a_package_that_a_command_is_about_to_make_counts_with_all_its_modules(kind_of):
    there = {("yaml", "__init__.py")}

    assert kind_of("yaml/loader.py", exists=there.__contains__) is HazardKind.IMPORTED
    assert kind_of("yaml/loader.py", exists=lambda _: False) is None


def test_a19_the_kernels_own_python_counts_if_it_is_in_the_workspace(kind_of, here, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(here / "env"))
    monkeypatch.syspath_prepend(str(here / "env/lib/site-packages"))

    assert kind_of("env/lib/site-packages/json5/__pycache__/x.pyc") is HazardKind.BYTECODE
    for path in ("env/bin/python", "env/pyvenv.cfg", "env/lib/site-packages/json5/data.txt"):
        assert kind_of(path) is HazardKind.IMPORTED
    assert kind_of("other/bin/python") is None


def test_k17_an_extension_module_counts_beside_a_module_that_people_read(kind_of, here):
    (here / "fast.py").touch()

    for suffix in EXTENSION_SUFFIXES:
        assert kind_of(f"fast{suffix}") is HazardKind.IMPORTED
        assert kind_of(f"other{suffix}") is kind_of(f"sub/fast{suffix}") is None


def test_k19_a_program_in_a_folder_on_path_counts(kind_of, here, monkeypatch):
    monkeypatch.setenv(
        "PATH", os.pathsep.join([str(here / "tools/bin"), "node_modules/.bin", str(here), "/usr/bin", ""])
    )

    for path in ("tools/bin/git", "node_modules/.bin/ls"):
        assert kind_of(path) is kind_of(path, LINK) is HazardKind.PROTECTED
    assert kind_of("ls") is HazardKind.PROTECTED  # in the workspace itself, only in place of another one
    assert kind_of("tools/bin", LINK) is HazardKind.PROTECTED
    assert kind_of("tools/git") is kind_of("tools/bin/deep/git") is kind_of("report") is None
    assert kind_of("tools/bin", FOLDER) is kind_of("tools/bin/deep", FOLDER) is None


def test_k19_control_such_a_program_is_found_before_the_one_of_its_name(here):
    (here / "bin").mkdir()
    (here / "bin/ls").touch(0o755)

    assert shutil.which("ls", path=os.pathsep.join([str(here / "bin"), os.environ["PATH"]])) == str(here / "bin/ls")


def test_k23_what_a_variable_names_that_programs_obey_when_they_start_counts(kind_of, here, monkeypatch):
    (here / "real").mkdir()
    (here / "ipython").symlink_to("real")
    monkeypatch.setenv("IPYTHONDIR", str(here / "ipython"))
    monkeypatch.setenv("JUPYTER_PATH", os.pathsep.join(["", "/usr/share/jupyter", str(here / "share/jupyter")]))
    monkeypatch.setenv("PYTHONSTARTUP", "start.py")

    for path in ("real/profile_default/startup/x.py", "share/jupyter/kernels/x/kernel.json", "start.py"):
        assert kind_of(path) is HazardKind.PROTECTED
    for path in ("ipython", "share", "share/jupyter"):
        assert kind_of(path, LINK) is HazardKind.PROTECTED
    assert kind_of("share/data.csv") is kind_of("ipython", FOLDER) is kind_of("shared", LINK) is None


def test_k23_control_ipython_runs_what_is_in_the_folder_that_the_variable_names(here, monkeypatch):
    (here / "mine/profile_default/startup").mkdir(parents=True)
    (here / "mine/profile_default/startup/x.py").write_text("print('evil')")
    monkeypatch.setenv("IPYTHONDIR", str(here / "mine"))

    ran = subprocess.run([sys.executable, "-m", "IPython", "-c", ""], capture_output=True, text=True, check=True)

    assert "evil" in ran.stdout


def test_k24_a_name_that_a_program_takes_for_an_option_counts(kind_of):
    for path in ("--checkpoint-action=exec=sh x.sh", "a/-rf", "-x/y"):
        assert kind_of(path) is HazardKind.OPTION
    assert kind_of("a-b/c-d.txt") is None


def test_k24_control_a_name_can_be_an_option_where_somebody_writes_a_star(here):
    for name in ("a.csv", "--checkpoint=1", "--checkpoint-action=exec=echo evil"):
        (here / name).touch()

    ran = subprocess.run("tar -cf /dev/null *", shell=True, capture_output=True, text=True, check=True)

    assert ran.stdout == "evil\n"


def test_k20_a_python_environment_counts_and_what_else_is_beside_it_does_not(kind_of, here):
    for mark in ("env/pyvenv.cfg", "a/conda/conda-meta/history"):
        (here / mark).parent.mkdir(parents=True)
        (here / mark).touch()

    for path in ("env/bin/python", "env/lib/python3.12/site-packages/x/y.py", "a/conda/etc/conda/activate.d/x.sh"):
        assert kind_of(path) is HazardKind.IMPORTED
    assert kind_of("new/pyvenv.cfg") is kind_of("env", LINK) is HazardKind.IMPORTED
    for path in ("env/notes.txt", "env/src/x.py", "lib/x.py", "a/bin/x", "node_modules/x/lib/y.js"):
        assert kind_of(path) is None
    assert WriteHazards(workspace=here).find_removal(("env", "bin", "python")) is None


def test_a19_an_archive_that_the_kernel_imports_from_counts(kind_of, here, monkeypatch):
    monkeypatch.syspath_prepend(str(here / "libs/all.zip"))

    assert kind_of("libs/all.zip") is HazardKind.IMPORTED
    assert kind_of("libs/other.zip") is None


@pytest.mark.parametrize("path", ["mine/__init__.py", "mine/report.py"])
def test_a_project_on_the_path_of_python_may_be_written(kind_of, here, monkeypatch, path):
    (here / "src/mine").mkdir(parents=True)
    (here / "src/mine/__init__.py").touch()
    monkeypatch.syspath_prepend(str(here / "src"))

    assert kind_of(f"src/{path}") is kind_of(path) is None


OBEYED = (
    "hooks/pre-commit config config.worktree commondir modules/sub/config modules/sub/hooks/h worktrees/w/commondir"
)
DATA = "index HEAD packed-refs refs/heads/config logs/refs/heads/hooks/x objects/ab/cd hooks/x.sample COMMIT_EDITMSG"
DATA += " worktrees/w/index modules/sub/HEAD modules/sub/objects/x modules/sub/hooks/x.sample refs/heads/CLAUDE.md"


@pytest.mark.parametrize("path", OBEYED.split())
def test_a22_git_itself_may_write_its_data_but_no_settings_and_hooks(kind_of, path):
    for repository in (".git", "deep/down/.git", ".GIT"):
        assert kind_of(f"{repository}/{path}", allows_git=True) is HazardKind.PROTECTED
        assert kind_of(f"{repository}/{path}") is HazardKind.PROTECTED


@pytest.mark.parametrize("path", DATA.split())
def test_git_may_write_its_data(kind_of, path):
    assert kind_of(f".git/{path}", allows_git=True) is None
    assert kind_of(f".git/{path}") is HazardKind.PROTECTED  # file tools leave the whole folder to git


def test_a22_a_link_or_a_file_that_tells_git_where_a_repository_is_counts(kind_of):
    for path in ("sub/.git", ".git/modules", ".git/modules/sub", ".git/worktrees/w", ".git/hooks"):
        assert kind_of(path, LINK, allows_git=True) is HazardKind.PROTECTED
        assert kind_of(path, FOLDER, allows_git=True) is None
    assert kind_of("sub/.git", allows_git=True) is HazardKind.PROTECTED


def test_git_may_remove_the_steps_of_a_rebase_that_is_over(here):
    judge = WriteHazards(workspace=here, allows_git=True)

    assert judge.find_removal((".git", "rebase-merge", "git-rebase-todo")) is None
    assert judge.find_removal((".git", "hooks", "pre-commit")).kind is HazardKind.PROTECTED


def test_a22_settings_and_hooks_of_a_bare_repository_count_and_so_does_what_makes_one(kind_of, here):
    for name in ("objects", "refs"):
        (here / "bare" / name).mkdir(parents=True)
    assert kind_of("bare/config") is kind_of("bare/hooks/update") is kind_of("bare/HEAD") is None
    (here / "bare/config").touch()
    assert kind_of("bare/HEAD") is HazardKind.PROTECTED
    (here / "bare/HEAD").touch()
    for path in ("bare/config", "bare/hooks/update", "bare/commondir"):
        assert kind_of(path) is HazardKind.PROTECTED
    for path in ("bare/HEAD", "bare/refs/heads/main", "bare/objects/ab/cd", "bare/hooks/update.sample", "other/config"):
        assert kind_of(path) is None


def test_a23_a_link_in_place_of_a_folder_gives_its_files_protected_names(kind_of):
    for path in (".github", ".cargo", "a/.yarn", ".jj/repo", ".vscode"):
        assert kind_of(path, LINK) is HazardKind.PROTECTED
    assert kind_of(".github", FOLDER) is kind_of("repo", LINK) is None


def test_a23_what_a_link_with_a_protected_name_leads_to_is_protected(kind_of, here):
    (here / ".git/hooks").mkdir(parents=True)
    (here / "sub").mkdir()
    (here / ".envrc").symlink_to("tools/environment.sh")
    (here / ".git/hooks/pre-commit").symlink_to("../../scripts/check.sh")
    (here / "sub/.vscode").symlink_to(here / "editor")
    (here / "sub/.zed").symlink_to("/elsewhere")
    (here / ".git/config").write_text("[core]\n\thooksPath = team/hooks\n")
    targets = protected_link_targets(here, [(), ("sub",), ("missing",)])

    hooks = {("team", "hooks"), (".git", "team", "hooks")}
    assert targets == {("tools", "environment.sh"), ("scripts", "check.sh"), ("editor",), *hooks}
    for path in ("tools/environment.sh", "scripts/check.sh", "editor/tasks.json", "team/hooks/pre-commit"):
        assert kind_of(path) is None
        assert kind_of(path, link_targets=targets) is HazardKind.PROTECTED
    assert kind_of("scripts/other.sh", link_targets=targets) is None


def test_k18_what_the_repository_around_the_workspace_names_in_it_is_protected(tmp_path):
    workspace = tmp_path / "deep/down"
    for folder in (workspace, tmp_path / ".git/hooks"):
        folder.mkdir(parents=True)
    (tmp_path / ".git/hooks/pre-push").symlink_to("../../deep/down/check.sh")
    (tmp_path / ".git/config").write_text("[core]\n\thooksPath = deep/down/hooks\n")
    (tmp_path / ".envrc").symlink_to("elsewhere")

    targets = {("check.sh",), ("hooks",)}
    assert protected_link_targets(workspace, [()]) == targets
    assert WorkspaceIndex(WriteHazards(workspace=workspace)).refresh().link_targets == targets


HIDDEN = ".dbt/profiles.yml .kaggle/kaggle.json .config/gh/hosts.yml .netrc .claude.json .bashrc c.pem id_rsa snap/x"


@pytest.mark.parametrize("path", HIDDEN.split())
def test_d13_names_with_a_dot_or_keys_are_hidden_directly_in_the_home_folder(kind_of, path):
    assert kind_of(path, home=()) is kind_of(f"ada/{path}", home=("ada",)) is HazardKind.HIDDEN
    assert kind_of(f"ada/project/{path}", home=("ada",)) is not HazardKind.HIDDEN
    assert kind_of(path, home=None) is not HazardKind.HIDDEN


def test_d13_what_the_user_names_may_be_read_and_not_written(here):
    judge = WriteHazards(workspace=here, home=(), readable=[(".config", "matplotlib"), ()])

    assert judge.find_hidden((".config", "matplotlib", "rc")) is None
    assert judge.find((".config", "matplotlib", "rc")).kind is HazardKind.PROTECTED
    assert judge.find_hidden((".config", "gh")).kind is judge.find_hidden((".ssh", "id")).kind is HazardKind.HIDDEN


def test_d13_what_a_hidden_link_leads_to_is_hidden(here, kind_of):
    (here / ".ssh").symlink_to("private/ssh")
    (here / "bin").mkdir()

    assert kind_of("private/ssh/id_ed25519", home=()) is HazardKind.HIDDEN
    assert kind_of("private/notes.md", home=()) is None
    assert kind_of("bin/ls", home=()) is HazardKind.PROTECTED
    assert hidden_home_names(here) == [".ssh"]
    assert hidden_home_names(here / "missing") == []


def test_pianos_own_data_must_not_be_written_whoever_approves(here):
    judge = WriteHazards(workspace=here, database=("data", "chat.duckdb"), own=[("cache", "piano_jupyter")])

    for path in (".piano/x", "a/.PIANO/x", "data/chat.duckdb.wal", "cache/piano_jupyter/x"):
        found = judge.find(path.split("/"))
        assert (found.kind, found.is_forbidden) == (HazardKind.PRIVATE, True)
    assert not judge.find(("AGENTS.md",)).is_forbidden


def test_a_hazard_says_in_a_sentence_why(here):
    judge = WriteHazards(workspace=here, skills=[("skills",)])
    reasons = {
        path: judge.find(path.split("/")).reason for path in ("a/AGENTS.md", ".envrc", "conftest.py", "skills/x.md")
    }

    assert reasons == {
        "a/AGENTS.md": "'a/AGENTS.md' instructs agents",
        ".envrc": "'.envrc' runs when a shell or a program is started in the folder",
        "conftest.py": "'conftest.py' is imported by Python or pytest without being named",
        "skills/x.md": "'skills/x.md' would become part of your skills, which instruct agents",
    }


def test_many_paths_cost_no_search_each(here, monkeypatch):
    searched = []
    monkeypatch.setattr(shadowing, "taken_name", lambda *each: searched.append(each) or (True, False))
    judge = WriteHazards(workspace=here, allows_git=True)

    for number in range(20_000):
        assert judge.find(("pkg", f"module{number}.py")) is None
        judge.find(("json", f"part{number}.py"))
    assert len(searched) == 1


def test_k5_many_notebooks_beside_many_modules_cost_one_look_at_their_folder(here, monkeypatch):
    looked = []
    modules_in = shadowing.modules_in
    monkeypatch.setattr(shadowing, "modules_in", lambda folder: looked.append(folder) or modules_in(folder))
    searched = []
    monkeypatch.setattr(shadowing, "taken_name", lambda *each: searched.append(each) or (True, False))
    for folder in ("n", "m"):
        (here / folder).mkdir()
        (here / folder / "json.py").touch()
    judge = WriteHazards(workspace=here)

    assert all(judge.find((folder, f"{number}.ipynb")) for number in range(2000) for folder in ("n", "m"))
    assert looked == [here / "n", here / "m"]
    assert len(searched) == 1


def test_k5_the_targets_of_thousands_of_links_cost_no_comparison_each(here):
    class Compared(tuple):
        __slots__ = ()
        times = 0

        def __eq__(self, other):
            Compared.times += 1
            return tuple(self) == tuple(other)

        __hash__ = tuple.__hash__

    judge = WriteHazards(workspace=here, link_targets=frozenset(Compared(("d", f"{number}")) for number in range(2000)))

    assert [judge.find(("d", f"{number}.txt")) for number in range(2000)] == [None] * 2000
    assert judge.find(("d", "7", "x")).kind is HazardKind.PROTECTED
    assert Compared.times < 100


class WithoutTheTable(WriteHazards):
    """A judge for which no name is protected."""

    def find_protected(self, *_):
        return None


@pytest.mark.parametrize("path", [*AGENT_FILES, *EDITOR_FILES, *START_FILES, *BUILD_FILES, *CI_FILES])
def test_a20_control_without_the_table_nothing_is_dangerous_about_these_names(here, path):
    assert WithoutTheTable(workspace=here).find(path.split("/")) is None


#: What runs when somebody does something else in the folder: the files that are written, `MARK` being the attack.
SHELL, PYTHON = "#!/bin/sh\ntouch MARK\n", "open('MARK', 'w')\n"
ENTRY_POINT = {"x-1.dist-info/entry_points.txt": "[pytest11]\nx = evil_x\n", "evil_x.py": PYTHON}
ENTRY_POINT["x-1.dist-info/METADATA"] = "Metadata-Version: 2.1\nName: x\nVersion: 1\n"
BARE = {f"b/{name}": text for name, text in {"HEAD": "ref: refs/heads/x\n", "objects/x": "", "refs/x": ""}.items()}
SETTING = "[core]\n\trepositoryformatversion = 0\n\tfsmonitor = touch MARK; true\n\tbare = false\n\tworktree = .\n"
IN_PYTHON, IN_PYTEST = [sys.executable, "-c", ""], [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "."]
IN_GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--allow-empty", "-qm", "x"]
OBEYED_FILES = {
    "a19: a module": ({"json.py": PYTHON}, [sys.executable, "-c", "import json"]),
    "a20: .pdbrc": ({".pdbrc": f"{PYTHON}quit\n"}, [sys.executable, "-m", "pdb", "ordinary.py"]),
    "a21: conftest": ({"conftest.py": PYTHON}, IN_PYTEST),
    "a21: sitecustomize": ({"sitecustomize.py": PYTHON}, IN_PYTHON),
    "a21: a package": ({"sitecustomize/__init__.py": PYTHON}, IN_PYTHON),
    "a21: an entry point": (ENTRY_POINT, IN_PYTEST),
    "a21: .pth": (
        {"site-packages/x.pth": "import sys; open('MARK', 'w')\n"},
        [sys.executable, "-c", "import site; site.addsitedir('site-packages')"],
    ),
    "a22: a hook": ({".git/hooks/pre-commit": SHELL}, IN_GIT),
    "a22: a setting": ({".git/config": SETTING}, ["git", "status"]),
    "a22: a pointer": ({"sub/.git": "gitdir: ../mine\n", "mine/config": SETTING}, ["git", "-C", "sub", "status"]),
    "a22: another name": ({**BARE, "b/config": SETTING}, ["git", "-C", "b", "status"]),
    "a23: a link's target": ({"scripts/check.sh": SHELL}, IN_GIT),
}


@pytest.mark.parametrize("name", OBEYED_FILES)
def test_a17_to_a23_control_what_is_written_without_the_judge_runs_by_itself(here, name):
    files, command = OBEYED_FILES[name]
    subprocess.run(["git", "init", "-q", "--template=", "."], check=True)
    for folder in (".git/hooks", "scripts", "sub", "mine/objects", "mine/refs"):
        (here / folder).mkdir(parents=True)
    (here / "ordinary.py").write_text("x = 1\n")
    (here / "mine/HEAD").write_text("ref: refs/heads/x\n")
    (here / ".git/hooks/pre-commit").symlink_to("../../scripts/check.sh")
    for path, text in files.items():
        (here / path).parent.mkdir(parents=True, exist_ok=True)
        (here / path).unlink(missing_ok=True)
        (here / path).write_text(text.replace("MARK", str(here / "mark")))
        (here / path).chmod(0o755)

    environment = {**os.environ, "PYTHONPATH": str(here), "HOME": str(here)}
    subprocess.run(command, env=environment, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False)

    assert (here / "mark").exists()
    assert any(
        WriteHazards(workspace=here, link_targets=[("scripts", "check.sh")]).find(path.split("/")) for path in files
    )


def test_d13_control_what_is_hidden_in_the_home_folder_is_ordinary_in_another_one(here):
    judge = WriteHazards(workspace=here, home=("ada",))

    assert judge.find_hidden(("ada", ".kaggle", "kaggle.json")).kind is HazardKind.HIDDEN
    assert judge.find_hidden(("bob", ".kaggle", "kaggle.json")) is None
