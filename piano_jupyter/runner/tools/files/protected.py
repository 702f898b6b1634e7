"""Which names in a workspace tools must not touch: one table for the file tools and for what bash wrote. Pure.

A name counts at any depth, in upper or lower case, in any Unicode form, and even if there is no such file yet. In the
table is what programs obey before anybody reads it: when somebody enters the folder, opens it in an editor, starts an
agent in it, or runs git, npm, cargo, R or pytest for something else. Ordinary files of a project, such as
`pyproject.toml`, `package.json`, `Makefile` and `setup.py`, are not in it, although they run when somebody says so. Nor
is what only names things that other settings define, such as `.gitattributes`, `.editorconfig` and `.python-version`.
"""

import unicodedata
from collections.abc import Iterator, Sequence

from piano_jupyter.text.words import words

PRIVATE = frozenset({".piano"})  #: Piano's own data, which tools cannot even read
#: Why tools do not write a name -> the names. One with a slash counts only as the end of such a path.
PROTECTED_NAMES = {
    "instructs agents": words(
        """
        .agent .agents .aider.conf.yml .amazonq .amp .augment .augment-guidelines .claude .claude-plugin .claude.json
        .cline .clinerules .codex .continue .continuerules .copilot .crush .crush.json .cursor .cursorrules .factory
        .gemini .github/agents .github/chatmodes .github/hooks .github/instructions .github/prompts .github/skills
        .goose .goosehints .junie .kilocode .kilocodemodes .kiro .mcp.json .opencode .openhands .qwen .roo .roomodes
        .roorules .rules .trae .windsurf .windsurfrules AGENT.md AGENTS.md AGENTS.override.md CLAUDE.local.md CLAUDE.md
        CRUSH.md GEMINI.md QWEN.md WARP.md copilot-instructions.md crush.json opencode.json opencode.jsonc
        """
    ),
    "runs when git is used": words(
        """
        .git .gitconfig .githooks .gitmodules .hg/hgrc .husky .huskyrc .jj/repo/config.toml .lefthook
        .lefthook-local.yml .lefthook.yml .lintstagedrc .overcommit.yml .pre-commit-config.yaml .sl/config
        lefthook-local.yml lefthook.yml
        """
    ),
    "runs when the folder is opened in an editor": words(
        """
        .devcontainer .devcontainer.json .dir-locals-2.el .dir-locals.el .exrc .fleet .gitpod.yml .idea .idx .jedi
        .lvimrc .nova .nvim.lua .nvimrc .pylintrc .replit .ropeproject .sublime-project .vimrc .vs .vscode
        .ycm_extra_conf.py .yarn/sdks .zed pylintrc
        """
    ),
    "runs when a shell or a program is started in the folder": words(
        """
        .Renviron .RData .Rprofile .autoenv .autoenv.zsh .bash_aliases .bash_login .bash_logout .bash_profile .bashrc
        .direnv .envrc .gdbinit .ghci .iex.exs .ipython .irbrc .jupyter .latexmkrc .lldbinit .mise .mise.local.toml
        .mise.toml .ocamlinit .octaverc .pdbrc .perldb .profile .pryrc .ripgreprc .zlogin .zlogout .zprofile .zshenv
        .zshrc ipython_config.json ipython_config.py ipython_kernel_config.json ipython_kernel_config.py
        jupyter_config.json jupyter_config.py jupyter_lab_config.py jupyter_notebook_config.json
        jupyter_notebook_config.py jupyter_server_config.json jupyter_server_config.py latexmkrc mise.local.toml
        mise.toml
        """
    ),
    "runs when the project's tools are used, before any of its code": words(
        """
        .bundle .cargo/config .cargo/config.toml .mvn .npmrc .pnpmfile.cjs .pnpmfile.mjs .yarn/plugins .yarn/releases
        .yarnrc .yarnrc.yml
        """
    ),
    "runs on the machines that build the project": words(
        """
        .appveyor.yml .azure-pipelines .build.yml .builds .buildkite .circleci .cirrus.yml .drone.yml .forgejo/workflows
        .gitea/workflows .github/actions .github/workflows .gitlab-ci.yml .semaphore .teamcity .tekton .travis.yml
        .woodpecker .woodpecker.yaml .woodpecker.yml Jenkinsfile appveyor.yml azure-pipelines.yml
        bitbucket-pipelines.yml
        """
    ),
    "holds keys": words(".env"),
}
PROTECTED_PREFIXES = (".env.", ".huskyrc.", ".lintstagedrc.")
PROTECTED_SUFFIXES = (".code-workspace",)
#: What git obeys in its folder, at any depth of it: hooks, settings, what points git to more of them, and the list of
#: steps of a rebase that somebody else will continue, which may run commands.
GIT_SETTINGS = frozenset({"commondir", "config", "config.worktree", "git-rebase-todo", "hooks"})
GIT_DATA = frozenset({"logs", "objects", "refs"})  #: in these a branch or an object may have any name
BARE_REPOSITORY = ("HEAD", "objects", "refs")  #: a folder with these is a repository, whatever its name
#: In the user's home folder, if that is in the workspace: names without a dot that hold keys.
HOME_KEY_NAMES = words("AppData Library kubeconfig snap")
HOME_KEY_SUFFIXES = (".jks", ".kdbx", ".key", ".keystore", ".ovpn", ".p12", ".pem", ".pfx", ".ppk")
HOME_KEY_PREFIXES = (".", "client_secret", "id_dsa", "id_ecdsa", "id_ed25519", "id_rsa")
HOME_STARTUP_NAMES = words("bin")  #: in the home folder: programs that the user starts by their bare names


def folded(name: str) -> str:
    """Return a name as the most forgiving file systems compare it.

    `.GIT`, `.git.` (Windows drops the dot) and `.git` with an invisible character in it (macOS drops that) are `.git`.
    """
    if not name.isascii():
        composed = unicodedata.normalize("NFKC", name)
        name = "".join(each for each in composed if unicodedata.category(each) != "Cf")
    name = name.casefold()
    return name.rstrip(". ") or name


def _by_last_name() -> dict[str, list[tuple[tuple[str, ...], str]]]:
    """Return the table by the last name of each path in it: the folders before it, and why tools do not write it."""
    table: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for reason, names in PROTECTED_NAMES.items():
        for name in names:
            *before, last = folded(name).split("/")
            table.setdefault(last, []).append(((*before,), reason))
    table.setdefault(".piano", []).append(((), "is Piano's own"))
    return table


_TABLE = _by_last_name()
#: Folders such as `.github`: a link in place of one gives whatever is in its target a protected path.
_FOLDERS = frozenset(
    before[:length] for entries in _TABLE.values() for before, _ in entries for length in range(1, len(before) + 1)
)


def protection(parts: Sequence[str], *, is_link: bool = False) -> tuple[str, str] | None:
    """Return the first protected name in a path, and why it is protected; None if there is none.

    `is_link` says whether the path is itself a symbolic link.
    """
    names = [folded(part) for part in parts]
    for at, name in enumerate(names):
        for before, reason in _TABLE.get(name, ()):
            if len(before) <= at and (*names[at - len(before) : at],) == before:
                return "/".join(parts[at - len(before) : at + 1]), reason
        if name.startswith(PROTECTED_PREFIXES) or name.endswith(PROTECTED_SUFFIXES):
            return parts[at], "holds keys" if name.startswith(".env.") else "runs when it is opened or git is used"
    if is_link and any((*names[-length:],) in _FOLDERS for length in range(1, len(names) + 1)):
        return parts[-1], "would give other files names that programs obey"
    return None


def protected_part(parts: Sequence[str]) -> str | None:
    """Return the first protected name in a path, None if there is none."""
    found = protection(parts)
    return found[0] if found else None


def protected_names() -> Iterator[str]:
    """Yield each name or path in the table as it is usually written, so that one can look whether it is there."""
    for names in PROTECTED_NAMES.values():
        yield from names


def is_hidden_home_name(name: str) -> bool:
    """Return whether a name directly in the user's home folder is hidden: it starts with a dot, or holds keys."""
    plain = folded(name)
    return (
        plain.startswith(HOME_KEY_PREFIXES)
        or plain.endswith(HOME_KEY_SUFFIXES)
        or plain in {each.casefold() for each in HOME_KEY_NAMES}
    )


def is_private(parts: Sequence[str], database: Sequence[str] = ()) -> bool:
    """Return whether a path in the workspace is Piano's own; `database` is the path of its database, if it is there.

    The files beside the database count, too: its name with `.lock`, `.wal` or `.tmp`.
    """
    names, own = [folded(part) for part in parts], [folded(part) for part in database]
    if not PRIVATE.isdisjoint(names):
        return True
    at = len(own) - 1
    return 0 <= at < len(names) and names[:at] == own[:at] and f"{names[at]}.".startswith(f"{own[at]}.")


def instructs_agents(parts: Sequence[str], skills: Sequence[Sequence[str]]) -> bool:
    """Return whether a path in the workspace is in a folder of skills, whose text goes into later prompts.

    `skills` are those folders; one that contains the workspace itself is ignored.
    """
    names = [folded(part) for part in parts]
    roots = ([folded(part) for part in root] for root in skills)
    return any(root and names[: len(root)] == root for root in roots)
