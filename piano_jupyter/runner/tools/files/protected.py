"""Which names in a workspace tools must not touch: one table for the file tools and for what bash wrote. Pure.

A name counts at any depth, in upper or lower case, in any Unicode form, and even if there is no such file yet. In the
table is what programs obey before anybody reads it: when somebody enters the folder, opens it in an editor, starts an
agent in it, or runs git, npm, cargo, R or pytest for something else. Ordinary files of a project, such as
`pyproject.toml`, `package.json`, `Makefile` and `setup.py`, are not in it, although they run when somebody says so. Nor
is what only names things that other settings define, such as `.gitattributes`, `.editorconfig` and `.python-version`.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from piano_jupyter.text.words import words

PRIVATE = frozenset({".piano"})  #: Piano's own data, which tools cannot even read
#: Why tools do not write a name -> the names. One with a slash counts only as the end of such a path.
PROTECTED_NAMES = {
    "instructs agents": words(
        """
        .agent .agents .aiassistant .aider.conf.yml .amazonq .amp .augment .augment-guidelines .bolt .claude
        .claude-plugin .claude.json .cline .clinerules .codebuddy .codex .continue .continuerules .copilot .crush
        .crush.json .cursor .cursorrules .devin .factory .firebender .gemini .github/agents .github/chatmodes
        .github/copilot .github/extensions .github/hooks .github/instructions .github/lsp.json .github/mcp.json
        .github/prompts .github/skills .goose .goosehints .grok .iflow .junie .kilo .kilocode .kilocodemodes
        .kilocoderules .kimi .kiro .mcp.json .opencode .openhands .openhands_instructions .pi .qoder .qwen .roo
        .roomodes .roorules .rovodev .rules .sourcegraph .tabnine .trae .vibe .warp .windsurf .windsurfrules .zencoder
        AGENT.md AGENTS.md AGENTS.override.md CLAUDE.local.md CLAUDE.md CODEBUDDY.md CRUSH.md GEMINI.md IFLOW.md QWEN.md
        WARP.md copilot-instructions.md crush.json gptme.toml opencode.json opencode.jsonc replit.md
        """
    ),
    "runs when git is used": words(
        """
        .commitlintrc .git .gitconfig .githooks .gitmodules .hg/hgrc .hg/hgrc-not-shared .hg/sharedpath .husky .huskyrc
        .jj/repo/config.toml .jj/workspace-config.toml .lefthook .lefthook-local .lefthook-local.yml .lefthook.yml
        .lintstagedrc .local-overcommit.yml .overcommit.yml .pijul/config .pre-commit-config.yaml
        .pre-commit-config.yml .sl/config _darcs/prefs captainhook.json grumphp.yml grumphp.yml.dist
        lefthook-local.yml lefthook.yml prek.toml
        """
    ),
    "runs when the folder is opened in an editor": words(
        """
        .bsp .codesandbox .devcontainer .devcontainer.json .devfile.yaml .dir-locals-2.el .dir-locals.el .exrc
        .externalToolBuilders .fleet .gitpod.yml .helix .idea .idx .jedi .lsp .luarc.json .luarc.jsonc .lvimrc
        .neoconf.json .nlsp-settings .nova .nvim.lua .nvimrc .pylintrc .pylintrc.toml .replit .ropeproject
        .rust-analyzer.toml .stackblitzrc .vim .vimrc .vs .vscode .ycm_extra_conf.py .yarn/sdks .zed devfile.yaml
        hie.yaml pylintrc pylintrc.toml pyrightconfig.json replit.nix rust-analyzer.toml
        """
    ),
    "runs when a shell or a program is started in the folder": words(
        """
        .Renviron .RData .Rprofile .autoenv .autoenv.zsh .bash_aliases .bash_login .bash_logout .bash_profile .bashrc
        .config/mise .config/mise.toml .direnv .envrc .gdbinit .ghci .gnuplot .iex.exs .ipython .irbrc .jupyter
        .jupytext.py .latexmkrc .lldbinit .mise .mise.local.toml .mise.toml .numba_config.yaml .ocamlinit .octaverc
        .pdbrc .pdbrc.py .perldb .profile .pryrc .ripgreprc .rtx.toml .rvmrc .scilab .shadowenv.d .tool-versions .zlogin
        .zlogout .zprofile .zshenv .zshrc autoexec.sas finish.m ipython_config.json ipython_config.py
        ipython_kernel_config.json ipython_kernel_config.py jupyter_config.json jupyter_config.py jupyter_lab_config.py
        jupyter_notebook_config.json jupyter_notebook_config.py jupyter_server_config.json jupyter_server_config.py
        latexmkrc matplotlibrc mise.local.toml mise.toml mise/config.toml profile.do renv/activate.R scilab.ini
        startup.m
        """
    ),
    "runs when the project's tools are used, before any of its code": words(
        """
        .bazeliskrc .bazelrc .bazelversion .buckconfig .bundle .bunfig.toml .cargo/config .cargo/config.toml .condarc
        .jvmopts .mambarc .mvn .npmrc .pants.bootstrap .pants.rc .pdm-plugins .pdm-python .pnp.cjs .pnp.js
        .pnp.loader.mjs .pnpmfile.cjs .pnpmfile.mjs .pypirc .sbtopts .yarn/plugins .yarn/releases .yarnrc .yarnrc.yml
        bunfig.toml gradle-wrapper.properties pip.conf pip.ini rust-toolchain rust-toolchain.toml uv.toml
        """
    ),
    "runs on the machines that build the project": words(
        """
        .appveyor.yml .azure-pipelines .azure-pipelines.yml .build.yml .builds .buildkite .circleci .cirrus.star
        .cirrus.yml .drone.jsonnet .drone.star .drone.yml .forgejo/workflows .gitea/workflows .github/actions
        .github/workflows .gitlab-ci.yml .readthedocs.yaml .readthedocs.yml .semaphore .teamcity .tekton .travis.yml
        .woodpecker .woodpecker.yaml .woodpecker.yml Jenkinsfile appveyor.yml azure-pipelines.yaml azure-pipelines.yml
        bitbucket-pipelines.yml buildspec.yml cloudbuild.yaml cloudbuild.yml wercker.yml
        """
    ),
    "holds keys": words(".env"),
}
#: The same for names of which there are many, in lower case.
PROTECTED_PATTERNS = {
    "instructs agents": r"(?:agents?|claude|gemini)(?:\.[^.]+)+\.md|.+\.instructions\.md"
    r"|\.(?:cline|kilocode|roo)rules-.+",
    "runs when git is used": r"\.(?:commitlint|husky|lintstaged)rc\..+|(?:commitlint|lint-staged)\.config\..+"
    r"|\.?lefthook(?:-local)?\.(?:ya?ml|toml|jsonc?)",
    "runs when the folder is opened in an editor": r".*\.(?:code-workspace|sublime-project|sublime-workspace)",
    "runs when a shell or a program is started in the folder": r"\.(?:autoenv|envrc)\..+|\.autoenv_.+"
    r"|\.?mise\..+\.toml|(?:ipython|jupyter)_(?:.+_)?config\.(?:json|py)",
    "runs on the machines that build the project": r"\.?azure-pipelines[-.].+\.ya?ml|jenkinsfile\..+",
    "holds keys": r"\.env\..+",
}
#: What git obeys in its folder, at any depth of it: hooks, settings, what points git to more of them, and the list of
#: steps of a rebase that somebody else will continue, which may run commands.
REBASE_STEPS = "git-rebase-todo"
GIT_SETTINGS = frozenset({"commondir", "config", "config.worktree", "hooks", REBASE_STEPS})
GIT_DATA = frozenset({"logs", "objects", "refs"})  #: in these a branch or an object may have any name
BARE_REPOSITORY = ("HEAD", "objects", "refs")  #: a folder with these is a repository, whatever its name
#: In the user's home folder, if that is in the workspace: names without a dot that hold keys.
HOME_KEY_NAMES = words("AppData Library kubeconfig snap")
HOME_KEY_SUFFIXES = (".jks", ".kdbx", ".key", ".keystore", ".ovpn", ".p12", ".pem", ".pfx", ".ppk")
HOME_KEY_PREFIXES = (".", "client_secret", "id_dsa", "id_ecdsa", "id_ed25519", "id_rsa")
HOME_STARTUP_NAMES = words("bin")  #: in the home folder: programs that the user starts by their bare names
SHORT_GIT = re.compile(r"git~\d")  #: what Windows also calls `.git`


def folded(name: str) -> str:
    """Return a name as the most forgiving file systems compare it.

    `.GIT`, `.git.` (Windows drops the dot), `git~1` and `.git` with an invisible character in it (macOS drops that) are
    `.git`.
    """
    if not name.isascii():
        composed = unicodedata.normalize("NFKC", name)
        name = "".join(each for each in composed if unicodedata.category(each) != "Cf")
    name = name.casefold()
    name = name.rstrip(". ") or name
    return ".git" if SHORT_GIT.fullmatch(name) else name


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
_PATTERNS = {reason: re.compile(pattern, re.DOTALL) for reason, pattern in PROTECTED_PATTERNS.items()}
_ANY_PATTERN = re.compile("|".join(PROTECTED_PATTERNS.values()), re.DOTALL)
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
        if _ANY_PATTERN.fullmatch(name):
            return parts[at], next(reason for reason, each in _PATTERNS.items() if each.fullmatch(name))
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
