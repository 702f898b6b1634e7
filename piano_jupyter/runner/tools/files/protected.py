"""Which names in a workspace file tools keep their hands off. Pure, so that bash's sandbox asks the same.

A name counts at any depth, in any case, and whether or not there is such a file yet: the first one to make it wins.
"""

from collections.abc import Collection, Sequence

from piano_jupyter.text.words import words

PRIVATE = frozenset({".piano"})  #: Piano's own data: not even read
#: What runs by itself later, or instructs an agent: not written.
PROTECTED = PRIVATE | words(
    """
    .agents .claude .codex .cursor .cursorrules .devcontainer .env .envrc .git .githooks .husky .idea .ipython
    .jupyter .mcp.json .pdbrc .pre-commit-config.yaml .vscode .windsurfrules agents.md claude.md copilot-instructions.md
    """
)
#: Of the user's home folder, where that lies in the workspace: what holds keys, and is not even read,
KEYS = words(
    """
    .aws .azure .bash_history .boto .cache .cargo/credentials.toml .config .databrickscfg .docker .git-credentials
    .gnupg .huggingface .ipython .jupyter .kube .local/share .local/state .m2 .mozilla .my.cnf .mysql_history .netrc
    .node_repl_history .npmrc .password-store .pgpass .psql_history .pypirc .python_history .s3cfg .sqlite_history .ssh
    .terraform.d .thunderbird .vault-token .zsh_history
    """
)
#: and what starts by itself, and is not written.
STARTERS = words(
    """
    .bash_aliases .bash_login .bash_logout .bash_profile .bashrc .condarc .cshrc .emacs .emacs.d .exrc .forward
    .gdbinit .gitconfig .inputrc .kshrc .lldbinit .local .login .pam_environment .profile .Renviron .Rprofile .screenrc
    .tcshrc .tmux.conf .vim .vimrc .xinitrc .xprofile .xsession .xsessionrc .zlogin .zlogout .zprofile .zshenv .zshrc
    bin Library
    """
)


def is_key(parts: Sequence[str], home: Sequence[str] | None) -> bool:
    """Return whether a path holds the user's keys; `home` is where their home folder is beneath the same folder."""
    return _is_of_home(parts, home, KEYS)


def is_starter(parts: Sequence[str], home: Sequence[str] | None) -> bool:
    """Return whether a path is of what starts by itself, with the user's next shell, say."""
    return _is_of_home(parts, home, STARTERS)


def _is_of_home(parts: Sequence[str], home: Sequence[str] | None, names: Collection[str]) -> bool:
    if home is None or [*parts[: len(home)]] != [*home]:
        return False
    inside = "/".join(parts[len(home) :]).casefold() + "/"
    return any(inside.startswith(f"{name.casefold()}/") for name in names)


def is_private(parts: Sequence[str], database: Sequence[str] = ()) -> bool:
    """Return whether a path beneath the workspace is Piano's own; `database` is where its file is, if it is there too.

    More is kept beside the file, by its name and a suffix: `.lock`, `.wal`, `.tmp`.
    """
    folded, own = [part.casefold() for part in parts], [part.casefold() for part in database]
    if not PRIVATE.isdisjoint(folded):
        return True
    at = len(own) - 1
    return 0 <= at < len(folded) and folded[:at] == own[:at] and f"{folded[at]}.".startswith(f"{own[at]}.")


def shares_folder(database: Sequence[str]) -> bool:
    """Return whether a database in the workspace lies beside other files, in a folder that can be shown read-only.

    What DuckDB makes beside it comes and goes, and a command could plant a link under such a name.
    """
    return len(database) > 1 and PRIVATE.isdisjoint(database)


def protected_part(parts: Sequence[str]) -> str | None:
    """Return the first name of a path that is protected."""
    return next((part for part in parts if part.casefold() in PROTECTED or part.casefold().startswith(".env.")), None)


def instructs_agents(parts: Sequence[str], skills: Sequence[Sequence[str]]) -> bool:
    """Return whether a path beneath the workspace lies in a folder of skills, and so is put into later prompts.

    `skills` are those folders; one that the workspace itself lies in says nothing about it.
    """
    folded = [part.casefold() for part in parts]
    roots = ([part.casefold() for part in root] for root in skills)
    return any(root and folded[: len(root)] == root for root in roots)
