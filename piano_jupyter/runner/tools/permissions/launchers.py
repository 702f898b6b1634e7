"""Programs that run other programs, or code from their command line: the one table of them.

The pattern of a rule should not allow what they run, and a rule that denies looks for its program in their arguments.
Options that write a file anywhere count, too, if the program otherwise only reads.

Whoever allows `git *` means git, not what `git -c core.fsmonitor=PROGRAM` starts. This list helps people who write
rules; the protection is the sandbox. Whether an interpreter may run a file is up to the rule.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from piano_jupyter.text.words import words

#: Programs that always can run others.
ALWAYS_LAUNCHERS = words(
    """
    . abduco alias ansible ansible-playbook ash at autossh awk aws-vault bash batch bind box64 bpftrace bsub builtin
    bunx busybox bwrap byobu caffeinate capsh catchsegv ccache cgexec chamber choom chpst chronic chroot chrt clush cmd
    command compgen complete concurrently condor_run convert coproc coreutils cpulimit crontab cross-env csh daemon
    daemonize dash dbus-launch dbus-run-session dc declare distcc distrobox doas docker doppler dsh dtach dtrace duckdb
    dumb-init eatmydata ed emacs emacsclient enable entr env env-cmd envdir eval ex exec expect export fakechroot
    fakeroot faketime fc firejail fish flock foreman ftp fzf gawk gdb getopts ghci gnuplot gosu groovy gs gtime gtimeout
    hash honcho horovodrun hyperfine iex ifne infisical inotifywait ionice ip irb jobs jshell jupyter kak kernprof ksh
    latexmk ld.so ldd less let lftp libtool linux32 linux64 lldb local logrotate ltrace lxc lxc-attach m4 machinectl
    magick mail mailx mapfile mariadb mawk micro mispipe mogrify mongosh more mosh most mount mpiexec mpirun mutt mysql
    nano nawk nbqa nice nix nix-shell nnn nodemon nohup npx nsenter numactl nvim octave open orterun osascript parallel
    pee perf pexec pico pkexec pnpx podman powershell prlimit proot proxychains proxychains4 pry psql pssh pwsh py-spy
    pyinfra qsub ranger read readarray readonly reflex rerun rlogin rlwrap rr rsh run-parts run0 runcon runuser rview
    rvim sage salloc salt-call scala sccache schedtool scp screen script sem set setarch setpriv setsid setuidgid sftp
    sh shopt socat softlimit source sqlite3 srun ssh ssh-agent sshpass stap start-stop-daemon stdbuf strace su su-exec
    sudo supervisord swipl systemctl systemd-cat systemd-inhibit systemd-nspawn systemd-run taskset tclsh tcsh teller
    telnet tig time timeout tini tmux toolbox torify torsocks toybox trap trickle ts tsp typeset uclampset unbuffer
    unset unshare uvx valgrind vi view vim vimdiff vipe w3m wait watch watchexec watchman watchmedo wine wish wsl x86_64
    xargs xdg-open xterm xvfb-run zellij zsh
    """
)

#: Programs that read what to run from their input, unless they are given a file.
SHELLS = words("ash bash csh dash fish ksh sh tcsh zsh")
INPUT_LAUNCHERS = words("at batch parallel pee")
INPUT_FILES = words("- -s /dev/stdin /dev/fd/0 /proc/self/fd/0")

#: Variables whose values programs run, wherever they are set; one that is set for a single command counts anyway.
RUN_VARIABLE = re.compile(
    r"(?:GIT_\w+|\w*(?:ASKPASS|COMMAND|EDITOR|FLAGS|OPTIONS|OPTS?|PAGER|RSH|STARTUP|WRAPPER)"
    r"|BASH_ENV|BROWSER|CC|CXX|ENV|LESSCLOSE|LESSOPEN|PS4|SHELL|VISUAL)\+?="
)

NODE = "--eval --print --import --require --loader --experimental-loader --run --env-file -e -p -r"
COMPILER = "-wrapper -B* -specs --specs -fplugin -fuse-ld --ld-path -Xclang -load @* -ccbin --compiler-bindir -run"
PYTHON_RUNNER = "run exec shell x tool --python -p"  #: commands and options of managers of environments
WRITES = "-o --output"

#: For programs with the same options: the options and commands that run something, as one writes them. Any prefix of a
#: long option counts, a letter also among other letters, an option of one dash also with its value behind it, and what
#: begins as a text before a star.
OPTIONS_OF: Mapping[str, str] = {
    "ack ag bat delta": "--pager",
    "apt apt-get apt-cache aptitude": "--option --config-file -o -c",
    "asdf direnv mise pyenv rbenv": "exec shell x run",
    "apptainer singularity": "exec run shell",
    "aria2c": "--on-* --conf-path --dir --out -o -d",
    "ant gradle mvn sbt": "--init-script --lib -lib -D* -I* -P* -s* exec:*",
    "bazel": "--bazelrc --run_under --config run",
    "bsdtar cpio": "--use-compress-program --rsh-command -F -I",
    "bun": f"{NODE} --preload x exec",
    "bundle gem opam stack cabal dune dotnet composer swift": "--config-file exec console script repl x",
    "cargo": "--config -Z",
    "cc gcc g++ c++ clang clang++ cpp gfortran tcc ld nvcc": f"{COMPILER} -plugin",
    "cmake": "-E -P -C -D --toolchain --preset",
    "cpack ctest": "--script --build-and-test --build-makeprogram --test-command --config -S -D",
    "conda hatch mamba micromamba pdm pipenv pipx pixi poetry rye uv": PYTHON_RUNNER,
    "coverage flake8": "--rcfile --config --append-config --output-file",
    "ctags": "--options --filter-terminator -o -f",
    "curl": "--output --output-dir --remote-name --remote-name-all --remote-header-name --config --dump-header "
    "--cookie-jar --trace --trace-ascii --stderr --libcurl --engine --etag-save --hsts --alt-svc -o -O -J -K -D -c",
    "crictl ctr incus limactl multipass nerdctl vagrant": "exec run shell ssh",
    "deno": f"{NODE} eval repl task",
    "diff3 sdiff": f"--diff-program {WRITES}",
    "dnf yum": "--config --setopt --enableplugin -c",
    "dot iconv tree xmllint xsltproc": f"{WRITES} --shell -O",
    "dotenv op": "run",
    "elixir erl mix": "--eval --require --rpc-eval -eval -run -s -e -r -S run do",
    "eslint jest mocha prettier rollup vite vitest webpack": "--config --plugin --configPlugin --rulesdir --parser "
    "--resolve-plugins-relative-to --require --import --loader --reporter --reporters --format --formatter "
    "--output-file --runner --transform --globals --resolver --testRunner --testEnvironment --setupFiles -c -r -R",
    "exiftool": "-config -if -api -stay_open -o* -w* -@* -p*",
    "fd fdfind": "--exec --exec-batch -x -X",
    "find": "-delete -exec -execdir -fls -fprint -fprint0 -fprintf -ok -okdir",
    "ghc runghc": "-e* -F* -pgm -fplugin",
    "gh glab": "alias extension codespace config ext",
    "go": "-exec -toolexec -vettool -compiler -ldflags -gcflags -asmflags -gccgoflags -overlay "
    "-modfile tool generate env",
    "flatpak guix meson": "run --command shell environment devenv",
    "gpg": f"--agent-program --dirmngr-program --photo-viewer --options --homedir --load-extension {WRITES}",
    "helm": "--post-renderer plugin",
    "hg": "--config --config-file --cwd --repository -R",
    "http https": f"--download {WRITES} --session -d",
    "ipython": "-c --c --ext --ipython-dir --profile-dir --config",
    "java javac": "-javaagent -agent -XX:On -Xrun -processor -J*",
    "julia": "--eval --print --load --sysimage -e -E -L -J",
    "jupytext": "--pipe --check",
    "just task": "--shell --shell-arg --command --set --justfile -c -f",
    "kubectl oc": "--kubeconfig exec debug edit run plugin attach cp",
    "latex lualatex pdflatex pdftex tex xelatex": "-shell-escape -enable-write18 -output-directory",
    "lua luajit": "-e -l -i -j",
    "make gmake ninja": "--eval --file --makefile --include-dir -E -f -I",
    "man": "--pager --html --preprocessor --config-file --local-file -P -H -p -C -l",
    "mypy": "--python-executable --config-file --install-types",
    "nc ncat netcat": "--exec --sh-exec --lua-exec --output -e -c -o",
    "nm objdump objcopy strip ar ranlib": "--plugin",
    "nmap": "--script --interactive --datadir -o*",
    "node": NODE,
    "npm pnpm yarn": "--node-options --script-shell --shell --editor --viewer --browser --git --userconfig "
    "--globalconfig --init-module exec x dlx explore edit config set init create node",
    "openssl": "-engine -provider -provider-path -out",
    "pandoc": f"--filter --lua-filter --pdf-engine --defaults --extract-media {WRITES} -F -L -d",
    "patch": f"--ed --reject-file {WRITES} -e -r",
    "perl": "-e -E -M -m -d -I -x",
    "php": "--run --process-code --process-begin --process-end --define -r -B -R -E -d",
    "pip": "--python --editor --log --config-settings --global-option",
    "printf": "-v",
    "pylint": f"--init-hook --load-plugins --rcfile {WRITES}",
    "pypy python": "-c",
    "pytest py.test": "--override-ini --rootdir --confcutdir --config-file -p -c -o",
    "pre-commit tox nox": "--override --config try-repo -x -c -f",
    "r rscript": "-e",
    "rake": "--execute --execute-print --execute-continue --require -e -E -p -r",
    "rg": "--pre --hostname-bin",
    "rpm rpmbuild": "--eval --define --pipe --load -E -D",
    "rsync": "--rsh --rsync-path --remote-option --log-file --write-batch -e -M",
    "ruby": "--require -e -r -I",
    "ruff shuf": WRITES,
    "rustc": "--codegen -C -Z -L --extern -o",
    "sbatch": "--wrap",
    "sops": "exec-env exec-file",
    "sort": "--compress-program --output -o",
    "split": "--filter",
    "ssh-add ssh-keygen": "-D -s -S -w",
    "svn": "--diff-cmd --diff3-cmd --merge-cmd --editor-cmd --config-option --config-dir",
    "tar": "--checkpoint-action --info-script --new-volume-script --rmt-command --rsh-command --to-command "
    "--use-compress-program -I -F",
    "tcpdump tshark": "-z -w -X",
    "test [": "-v -R",
    "torchrun": "--no-python --no_python --module -m",
    "ts-node tsx": NODE,
    "wget": "--execute --use-askpass --config --output-document --output-file --append-output --directory-prefix "
    "--save-cookies --warc-file -e -O -o -a -P",
    "zip": "--unzip-command -T",
}
OPTIONS = {name: options.split() for names, options in OPTIONS_OF.items() for name in names.split()}

#: Python's own modules that run code from their command line. Any other is a file like a script.
PYTHON_MODULES = words("bdb cProfile code pdb profile runpy timeit trace")

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
GIT_OPTIONS = words(
    """
    --config --config-env --edit --exec --exec-path --ext-diff --filters --git-dir --interactive
    --open-files-in-pager --output --paginate --receive-pack --strategy --template --textconv --unsafe-paths
    --upload-pack --work-tree
    """
)
GIT_LETTERS = {
    "archive": ["-o"],
    "clone": ["-c", "-u"],
    "grep": ["-O"],
    "rebase": ["-x", "-i", "-s"],
    "merge": ["-s"],
    "pull": ["-s"],
    "cherry-pick": ["-s"],
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
    if name == "tar" and (any(":" in word for word in given) or (given and re.fullmatch(r"\w*[IF]\w*", given[0]))):
        return True  # a colon is an archive on another machine, by rsh; letters without a dash are options
    if name in {"make", "gmake"} and any("=" in word for word in given):
        return True  # SHELL=, CC= and so on are programs that it runs
    plain_name = without_version(name).lower()
    if (module := python_module(words)) is not None:
        return module[0] in PYTHON_MODULES or may_run_others(module)
    return _has_option(given, OPTIONS.get(plain_name, ()))


def reads_commands(words: Sequence[str]) -> bool:
    """Return whether a command runs what it reads from its input, like `sh` without a file."""
    name, given = words[0].rpartition("/")[2], words[1:]
    if name in SHELLS:
        return not INPUT_FILES.isdisjoint(given) or all(word.startswith(("-", "+")) for word in given)
    if name in {".", "source"}:
        return not INPUT_FILES.isdisjoint(given)
    return name in INPUT_LAUNCHERS or (name == "xargs" and not ALWAYS_LAUNCHERS.isdisjoint(given))


def without_version(name: str) -> str:
    """Return a program's name without the version behind it: `python3.12` is `python`, `g++-12` is `g++`."""
    return re.sub(r"-?[\d.]+$", "", name) or name


def python_module(words: Sequence[str]) -> Sequence[str] | None:
    """Return the module that Python runs (`python -m timeit x`) and its arguments, None if a command runs none."""
    if without_version(words[0].rpartition("/")[2]).lower() not in {"python", "pypy"}:
        return None
    rest = list(words[1:])
    while rest:
        word = rest.pop(0)
        if re.fullmatch(r"-[A-Zbdisuvx]*m", word):
            return rest or None
        if re.match(r"-[A-Zbdisuvx]*m", word):
            return [word.partition("m")[2], *rest]
        if word in {"-X", "-W"}:
            rest = rest[1:]
        elif not word.startswith("-") or re.match(r"-[A-Zbdisuvx]*c", word):
            return None
    return None


def _git_may_run_others(arguments: list[str]) -> bool:
    if arguments[:1] == ["--no-pager"]:
        arguments = arguments[1:]
    if not arguments or arguments[0] not in GIT_COMMANDS:
        return bool(arguments)
    command, rest = arguments[0], arguments[1:]
    return (
        (command == "bisect" and "run" in rest)
        or any(re.match(r"\w+::", word) for word in rest)  # a transport that is a program
        or _has_option(rest, [*GIT_OPTIONS, *GIT_LETTERS.get(command, ())])
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


def _has_option(arguments: Sequence[str], options: Iterable[str]) -> bool:
    return any(_is_option(word, option) for word in arguments for option in options)


def _is_option(word: str, option: str) -> bool:
    """Return whether a word is an option or a command of the table, in any of its forms."""
    if option.endswith("*"):
        return word.startswith(option[:-1])
    if not option.startswith("-"):
        return word == option
    if option.startswith("--"):
        given = word.partition("=")[0]
        return len(given) > 2 and option.startswith(given)
    if re.fullmatch(r"-\w", option):
        return re.match("-[^-]", word) is not None and option[1] in word
    return word.startswith("-") and f"-{word.lstrip('-')}".startswith(option)
