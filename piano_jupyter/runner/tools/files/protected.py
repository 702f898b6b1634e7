"""Which names in a workspace tools must not touch. Pure, and used for file tools and for bash's sandbox.

A name counts at any depth, in upper or lower case, and even if there is no such file yet.
"""

from collections.abc import Collection, Sequence

from piano_jupyter.text.words import words

PRIVATE = frozenset({".piano"})  #: Piano's own data, which tools cannot even read
#: Files that run automatically later or instruct an agent; tools cannot write them.
PROTECTED = PRIVATE | words(
    """
    .agents .claude .codex .cursor .cursorrules .devcontainer .env .envrc .git .githooks .husky .idea .ipython
    .jupyter .mcp.json .pdbrc .pre-commit-config.yaml .vscode .windsurfrules agents.md claude.md copilot-instructions.md
    """
)
#: In the user's home folder, if that is in the workspace: files with keys, which tools cannot even read.
KEY_NAMES = words(
    """
    .aws .azure .bash_history .boto .cache .cargo/credentials.toml .config .databrickscfg .docker .git-credentials
    .gnupg .huggingface .ipython .jupyter .kube .local/share .local/state .m2 .mozilla .my.cnf .mysql_history .netrc
    .node_repl_history .npmrc .password-store .pgpass .psql_history .pypirc .python_history .s3cfg .sqlite_history .ssh
    .terraform.d .thunderbird .vault-token .zsh_history
    """
)
#: In the user's home folder: files that run automatically, which tools cannot write.
STARTUP_NAMES = words(
    """
    .bash_aliases .bash_login .bash_logout .bash_profile .bashrc .condarc .cshrc .emacs .emacs.d .exrc .forward
    .gdbinit .gitconfig .inputrc .kshrc .lldbinit .local .login .pam_environment .profile .Renviron .Rprofile .screenrc
    .tcshrc .tmux.conf .vim .vimrc .xinitrc .xprofile .xsession .xsessionrc .zlogin .zlogout .zprofile .zshenv .zshrc
    bin Library
    """
)


def is_key(parts: Sequence[str], home: Sequence[str] | None) -> bool:
    """Return whether a path contains the user's keys; `home` is their home folder, beneath the same folder."""
    return _is_in_home(parts, home, KEY_NAMES)


def is_startup_file(parts: Sequence[str], home: Sequence[str] | None) -> bool:
    """Return whether a path runs automatically, for example with the user's next shell."""
    return _is_in_home(parts, home, STARTUP_NAMES)


def _is_in_home(parts: Sequence[str], home: Sequence[str] | None, names: Collection[str]) -> bool:
    if home is None or [*parts[: len(home)]] != [*home]:
        return False
    inside = "/".join(parts[len(home) :]).casefold() + "/"
    return any(inside.startswith(f"{name.casefold()}/") for name in names)


def is_private(parts: Sequence[str], database: Sequence[str] = ()) -> bool:
    """Return whether a path in the workspace is Piano's own; `database` is the path of its database, if it is there.

    The files beside the database count, too: its name with `.lock`, `.wal` or `.tmp`.
    """
    folded, own = [part.casefold() for part in parts], [part.casefold() for part in database]
    if not PRIVATE.isdisjoint(folded):
        return True
    at = len(own) - 1
    return 0 <= at < len(folded) and folded[:at] == own[:at] and f"{folded[at]}.".startswith(f"{own[at]}.")


def has_own_folder(database: Sequence[str]) -> bool:
    """Return whether a database in the workspace has a folder, other than `.piano`, that can be mounted read-only.

    DuckDB creates and removes files beside it, and a command could put a link in their place.
    """
    return len(database) > 1 and PRIVATE.isdisjoint(database)


def protected_part(parts: Sequence[str]) -> str | None:
    """Return the first protected name in a path, None if there is none."""
    return next((part for part in parts if part.casefold() in PROTECTED or part.casefold().startswith(".env.")), None)


def instructs_agents(parts: Sequence[str], skills: Sequence[Sequence[str]]) -> bool:
    """Return whether a path in the workspace is in a folder of skills, whose text goes into later prompts.

    `skills` are those folders; one that contains the workspace itself is ignored.
    """
    folded = [part.casefold() for part in parts]
    roots = ([part.casefold() for part in root] for root in skills)
    return any(root and folded[: len(root)] == root for root in roots)
