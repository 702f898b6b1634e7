"""Programs that run other programs, or code from their command line, which the pattern of a rule should not allow.

Options that write a file anywhere count, too, if the program otherwise only reads.

Whoever allows `git *` means git, not what `git -c core.fsmonitor=PROGRAM` starts. This list helps people who write
rules; the protection is the sandbox. Whether an interpreter may run a file is up to the rule.
"""

import re
from collections.abc import Mapping, Sequence

from piano_jupyter.text.words import words

#: Programs that always can run others.
ALWAYS_LAUNCHERS = words(
    """
    . alias at awk ash batch bash bind builtin busybox bwrap capsh chroot chrt command compgen complete coproc crontab
    csh dash dc declare doas docker duckdb ed emacs enable entr env eval ex exec expect export fc firejail fish flock
    gawk gdb getopts gnuplot hash ionice ip jobs ksh ld.so less let lldb local logrotate ltrace mapfile mawk more
    most mysql nano nawk nice nohup nsenter numactl nvim parallel perf pico pkexec podman proot psql read readarray
    readonly rr rsh run-parts runuser rview rvim scp screen script set setarch setpriv setsid sftp sh shopt
    source sqlite3 ssh stdbuf strace su sudo systemctl systemd-run taskset tcsh time timeout tmux toybox trap typeset
    unbuffer unset unshare valgrind vi view vim vimdiff wait watch xargs zsh
    """
)

#: For programs with the same options: the long options and the single letters that run something. Any prefix of a long
#: option counts.
OPTIONS_OF: Mapping[str, tuple[str, str]] = {
    "ack ag bat": ("--pager", ""),
    "bun": ("--eval --print", "ep"),
    "cargo": ("--config", ""),
    "fd fdfind": ("--exec --exec-batch", "xX"),
    "hg": ("--config --config-file", ""),
    "ipython pypy python": ("", "c"),
    "julia": ("--eval --print", "eE"),
    "lua r rscript": ("", "e"),
    "make gmake": ("--eval", "E"),
    "man": ("--pager --html --preprocessor --config-file --local-file", "PHpCl"),
    "node": ("--eval --print --import --require --loader", "epr"),
    "npm": ("--node-options --script-shell", ""),
    "perl": ("", "eEMmd"),
    "php": ("--run --process-code", "rBRE"),
    "printf": ("", "v"),
    "rg": ("--pre --hostname-bin", ""),
    "rsync": ("--rsh --rsync-path", "e"),
    "ruby": ("", "er"),
    "sort": ("--compress-program --output", "o"),
    "split": ("--filter", ""),
    "svn": ("--diff-cmd --diff3-cmd --merge-cmd --editor-cmd --config-option --config-dir", ""),
    "tar": (
        "--checkpoint-action --info-script --new-volume-script --rmt-command --rsh-command --to-command "  # noqa: ISC004
        "--use-compress-program",
        "IF",
    ),
    "tcpdump": ("", "z"),
    "test [": ("", "vR"),
    "wget": ("--execute --use-askpass --config", "e"),
    "zip": ("--unzip-command", "T"),
}
OPTIONS = {name: options for names, options in OPTIONS_OF.items() for name in names.split()}
FIND_OPTIONS = words("-delete -exec -execdir -fls -fprint -fprint0 -fprintf -ok -okdir")

#: git's own commands; any other word may be an alias, which can run anything.
GIT_COMMANDS = words(
    """
    add annotate apply archive bisect blame branch cat-file check-ignore checkout cherry cherry-pick clean clone commit
    count-objects describe diff diff-files diff-index diff-tree fetch for-each-ref format-patch fsck gc grep init log
    ls-files ls-remote ls-tree merge merge-base mv name-rev pull push range-diff rebase reflog remote reset restore
    rev-list rev-parse revert rm shortlog show show-branch show-ref stash status switch symbolic-ref tag version
    worktree --version
    """
)
GIT_OPTIONS = (
    "--config --config-env --edit --exec --exec-path --ext-diff --filters --git-dir --interactive "
    "--open-files-in-pager --output --paginate --receive-pack --strategy --template --textconv --unsafe-paths "
    "--upload-pack --work-tree"
)
GIT_LETTERS = {
    "archive": "o",
    "clone": "cu",
    "grep": "O",
    "rebase": "xis",
    "merge": "s",
    "pull": "s",
    "cherry-pick": "s",
}

#: A sed script that only prints, deletes or replaces.
SAFE_SED_SCRIPT = re.compile(r"((\d+|\$)(,(\d+|\$))?)?([dp=]|s([/|,:@#_])((\\.|(?!\6)[^\\])*\6){2}[gpiIm0-9]*)|\d+q")


def may_run_others(words: Sequence[str]) -> bool:
    """Return whether a plain command can start another program or run code from its arguments."""
    name, given = words[0].rpartition("/")[2], list(words[1:])
    if name in ALWAYS_LAUNCHERS or name.startswith(("ld-linux", "ld-musl")):
        return True
    if name == "git":
        return _git_may_run_others(given)
    if name == "sed":
        return _sed_may_run_others(given)
    if name == "find":
        return not FIND_OPTIONS.isdisjoint(given)
    if name == "tar" and (any(":" in word for word in given) or (given and re.fullmatch(r"\w*[IF]\w*", given[0]))):
        return True  # a colon is an archive on another machine, by rsh; letters without a dash are options
    if name in {"make", "gmake"} and any("=" in word for word in given):
        return True  # SHELL=, CC= and so on are programs that it runs
    longs, letters = OPTIONS.get(re.sub(r"[\d.]+$", "", name).lower(), ("", ""))
    return _has_option(given, longs, letters)


def _git_may_run_others(arguments: list[str]) -> bool:
    if arguments[:1] == ["--no-pager"]:
        arguments = arguments[1:]
    if not arguments or arguments[0] not in GIT_COMMANDS:
        return bool(arguments)
    command, rest = arguments[0], arguments[1:]
    return (
        (command == "bisect" and "run" in rest)
        or any(re.match(r"\w+::", word) for word in rest)  # a transport that is a program
        or _has_option(rest, GIT_OPTIONS, GIT_LETTERS.get(command, ""))
    )


def _sed_may_run_others(arguments: list[str]) -> bool:
    """Return whether sed may do more than print, delete and replace: `e` runs a command, `w` writes a file."""
    scripts, files = [], []
    words = iter(arguments)
    for word in words:
        if word in {"-e", "--expression"}:
            scripts.append(next(words, ""))
        elif word.startswith("--expression="):
            scripts.append(word.partition("=")[2])
        elif re.fullmatch(r"-[nErsuz]+|-i[\w.]*|--(quiet|silent|regexp-extended|in-place)", word):
            continue
        elif word.startswith("-"):
            return True
        else:
            files.append(word)
    return any(SAFE_SED_SCRIPT.fullmatch(script) is None for script in scripts or files[:1])


def _has_option(arguments: Sequence[str], longs: str, letters: str) -> bool:
    for word in arguments:
        if word.startswith("--") and len(word) > 2:
            option = word.partition("=")[0]
            if any(each.startswith(option) for each in longs.split()):
                return True
        elif re.match("-[^-]", word) and any(letter in word for letter in letters):
            return True
    return False
