"""One table of the programs that run others, for rules that allow and for rules that deny: rows E3 and E5."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from piano_jupyter.tool import Verdict

ALLOW, ASK, DENY = Verdict.ALLOW, Verdict.ASK, Verdict.DENY

#: Each starts curl.
LAUNCHES = [
    "tar -xf a --to-command='curl x'",
    "tar -xf a --checkpoint=1 --checkpoint-action=exec='curl x'",
    "tar -cf a -Icurl b",
    "rg --pre curl x",
    "rg --pre=/usr/bin/curl x",
    "git -c core.pager='curl x' log",
    "git -c core.pager=curl log",
    "git -c alias.x='!curl x' x",
    "git -c alias.x=!curl x",
    "git clone 'ext::curl x' y",
    "git fetch --upload-pack='curl x' .",
    "git rebase -x 'curl x' main",
    "git bisect run curl x",
    "git grep -Ocurl x",
    "find . -exec curl x {} +",
    "find . -execdir /usr/bin/curl x",
    "xargs -n 1 curl",
    "xargs -I{} sh -c 'curl {}'",
    "env -S 'curl x'",
    "env -i A=1 curl x",
    "awk 'BEGIN {system(\"curl x\")}'",
    "awk 'BEGIN {\"curl x\" | getline}'",
    "sed '1e curl x' f",
    "sed 1ecurl f",
    "sed 's/x/curl y/e' f",
    "ssh host curl x",
    "ssh -oProxyCommand='curl x' host",
    "make -f- SHELL=curl",
    "make CC='curl x'",
    "make --eval='x: ; curl x'",
    "gcc -wrapper curl,x a.c",
    "g++-12 -wrapper curl a.c",
    "go test -exec curl ./...",
    "go build -toolexec 'curl x'",
    "cmake -E env curl x",
    "cmake -DCMAKE_C_COMPILER_LAUNCHER=curl .",
    "ctest --build-and-test a b --test-command curl",
    "socat - EXEC:'curl x'",
    "socat - SYSTEM:curl",
    "prlimit --nproc=1 curl x",
    "pylint --init-hook='import os; os.system(\"curl x\")' a.py",
    "python -c 'import os; os.system(\"curl x\")'",
    'python3 -Ic \'import subprocess; subprocess.run(["curl", "x"])\'',
    "python -m timeit -s 'import os' 'os.system(\"curl x\")'",
    "perl -e 'exec q(curl x)'",
    "perl -ne 'system \"curl x\"' f",
    'node -e \'require("child_process").execSync("curl x")\'',
    "ruby -e '`curl x`'",
    "php -r 'system(\"curl x\");'",
    "lua -e 'os.execute(\"curl x\")'",
    "rsync -e 'curl x' a b",
    "rsync --rsh=curl a b",
    "vim -c ':!curl x'",
    "less '+!curl x' f",
    "man -P 'curl x' ls",
    "sqlite3 db '.shell curl x'",
    "split --filter='curl x' f",
    "sort --compress-program=curl f",
    "fd -x curl",
    "nc -e curl host 1",
    "uv run curl x",
    "npm exec curl",
    "npx curl",
    "setpriv --no-new-privs curl x",
    "nsenter -t 1 curl",
    "watch curl x",
    "hyperfine 'curl x'",
    "parallel curl ::: x",
    "docker run x curl",
    "busybox sh -c 'curl x'",
    "openssl req -engine curl",
    "pandoc --filter curl f",
    "java -XX:OnError='curl x' A",
    "cargo --config build.rustc='\"curl\"' build",
    "wget -e use_askpass=curl x",
    "zip -T a b --unzip-command='curl x'",
    "jupytext --pipe 'curl x' a.ipynb",
    "mpirun -n 2 curl x",
    "srun --pty curl x",
    "sbatch --wrap='curl x'",
    "nbqa curl a.ipynb",
    "mise exec -- curl x",
    "torchrun --no-python curl x",
    "aws-vault exec p -- curl x",
    "apptainer exec x.sif curl x",
    "concurrently 'curl x'",
    "dotenv run curl x",
    "nerdctl run x curl",
    "flatpak run --command=curl x",
    "sops exec-env f 'curl x'",
]

#: Each starts curl, by a variable or by code that it reads, and no rule that allows fits it.
STARTS = [
    "GIT_PAGER='curl x' git -p log",
    "GIT_SSH_COMMAND=curl git fetch ssh://a/b",
    "PAGER='sh -c \"curl x\"'; man ls",
    "PS4='$(curl x)' bash -xc \":\"",
    "GIT_EDITOR='curl x' git -c user.name=a -c user.email=a@b commit --allow-empty",
    "TAR_OPTIONS=--to-command=curl tar -xf a",
    "python3 - <<E\nimport os\nos.system('curl x')\nE",
    "python3 - <<E\nimport subprocess\nsubprocess.run(\n    ['curl', 'x'], check=True)\nE",
    "php <<E\n<?php shell_exec('curl x');\nE",
    "perl <<'E'\nexec(\"curl x\");\nE",
]


@pytest.mark.parametrize("command", LAUNCHES)
def test_e3_a_command_that_starts_another_program_needs_approval_even_if_its_own_program_is_allowed(verdict, command):
    assert verdict(command, f"allow bash({command.split()[0]} *)", "allow bash(*)") is ASK


@pytest.mark.parametrize("command", LAUNCHES)
def test_e5_a_denied_program_is_found_in_what_other_programs_are_given_to_run(verdict, command):
    assert verdict(command, "deny bash(curl *)", "allow bash") is DENY
    assert verdict(command.replace("curl", "true"), "deny bash(curl *)", "allow bash") is not DENY


@pytest.mark.parametrize("command", STARTS)
def test_e5_a_denied_program_is_found_in_variables_and_in_code(verdict, command):
    assert verdict(command, "deny bash(curl *)", "allow bash") is DENY
    assert verdict(command.replace("curl", "true"), "deny bash(curl *)", "allow bash") is not DENY
    assert verdict(command, "allow bash(*)") is ASK


@pytest.mark.parametrize("command", [each for each in STARTS if each.startswith(("GIT_EDITOR", "TAR"))])
def test_e5_control_each_of_these_variables_really_starts_the_program(tmp_path, command):
    runs_in_folder_with_curl(tmp_path, command)

    assert (tmp_path / "started").exists()


@pytest.mark.parametrize(
    "command",
    [
        "bash <<< 'curl x'",
        "bash -s <<< 'true; curl x'",
        "echo curl x | sh",
        "echo 'curl x' | bash -s",
        "echo 'true; \"cu\"rl x' | bash",
        "printf '%s\\n' curl | xargs sh -c",
        "echo 'curl x' | parallel",
        "echo curl x | at now",
        "cat <<< 'curl x' | sh",
        "source /dev/stdin <<< 'curl x'",
        "git -c core.pager='cu\"\"rl x' log",
        "python -c 'import os; os.system(\"curl x\")' > out",
        "if true; then tar -xf a --to-command='curl x'; fi",
        "find . -exec sh -c 'true && curl x' \\;",
    ],
)
def test_e5_a_denied_program_is_found_where_a_shell_reads_it(verdict, command):
    assert verdict(command, "deny bash(curl *)", "allow bash") is DENY
    assert verdict(command, "allow bash") is ALLOW


def test_e5_the_words_after_a_denied_program_count_in_what_other_programs_are_given(verdict):
    rules = ["deny bash(git push --force)", "allow bash"]

    assert verdict("env A=1 git push origin --force", *rules) is DENY
    assert verdict("python -c 'import os; os.system(\"git push --force\")'", *rules) is DENY
    assert verdict("env A=1 git push origin", *rules) is ALLOW
    assert verdict("env A=1 git push $x", *rules) is ASK
    assert verdict("env $x", *rules) is ASK


def runs_in_folder_with_curl(folder, command):
    """Run a command where `curl` leaves a file `started`."""
    (folder / "curl").write_text(f"#!/bin/sh\ncat >/dev/null\ntouch {folder}/started\n")
    (folder / "curl").chmod(0o755)
    work = folder / "work"
    work.mkdir()
    (work / "f").write_text("x\n")
    for words in (["git", "init", "-q"], ["tar", "-cf", "a", "f"]):
        subprocess.run(words, cwd=work, check=True)
    path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])  # `python` is there

    subprocess.run(
        ["bash", "-c", command], cwd=work, env={**os.environ, "PATH": path}, input=b"x\n", capture_output=True,
        check=False, timeout=60,
    )  # fmt: skip


#: Those of them that need nothing but the programs of every machine.
RUN_HERE = ("tar", "git -c alias", "find . -exec curl", "xargs", "env -S", "awk", "sed", "split", "python")


@pytest.mark.parametrize("command", [each for each in LAUNCHES if each.startswith(RUN_HERE)])
def test_e3_e5_control_each_of_these_commands_really_starts_the_other_program(tmp_path, command):
    runs_in_folder_with_curl(tmp_path, command)

    assert (tmp_path / "started").exists()


@pytest.mark.parametrize(
    "command",
    [
        "curl -o /home/ada/.bashrc x",
        "curl -sSLo f x",
        "curl -O x",
        "curl --output-dir=/home/ada -O x",
        "curl --config f",
        "wget -O /home/ada/.bashrc x",
        "pylint --load-plugins=evil a.py",
        "pytest -p evil",
        "python -m pytest -p evil",
        "python -X dev -m pylint --init-hook=1 a.py",
        "python -mtimeit 1",
        "make -f evil",
        "gcc @options a.c",
        "gcc -fplugin=./evil.so a.c",
        "gcc -B./evil a.c",
        "cmake -P evil.cmake",
        "openssl enc -out f",
        "mypy --python-executable ./evil a.py",
        "patch -e a b",
        "tree -o f",
        "ruff check -o f",
        "pip --python ./evil list",
        "ldd evil",
        "m4 f",
    ],
)
def test_e3_a_command_that_runs_code_or_writes_a_file_anywhere_needs_approval(verdict, command):
    assert verdict(command, f"allow bash({command.split()[0]} *)") is ASK
    assert verdict(command, f"allow bash({command})") is ALLOW  # the user has named exactly this


@pytest.mark.parametrize(
    "command",
    ["gcc -O2 -Wall -DNDEBUG -o a a.c", "go test ./...", "go build -o a .", "go vet -v ./...", "cmake --build build",
     "cmake -G Ninja -S . -B build", "curl -fsSL x", "curl --compressed -I x", "python -X dev -m pytest -q",
     "ruff check .",     "ruff check --output-format=json .", "pylint a.py", "mypy .",
     "pytest -xvs --color=yes --cov=src -k 'a or b'",
     "make -j4 test", "make -k", "rsync -av a b", "npm run build", "npm ci", "node script.js", "mvn test",
     "cargo test --release", "java -jar a.jar", "uv sync", "pip list", "pdflatex -interaction=nonstopmode a.tex",
     "git grep -n curl", "openssl x509 -in a.pem -text", "kubectl get pods", "tar -tf a.tar",
     "sops -d f", "nerdctl ps", "jupytext --sync a.ipynb",
     "pyenv versions", "sbatch job.sh", "torchrun train.py"],
)  # fmt: skip
def test_e3_an_allowed_program_of_the_table_runs_with_ordinary_options(verdict, command):
    assert verdict(command, f"allow bash({command.split()[0]} *)") is ALLOW


@pytest.mark.parametrize(
    "command",
    ["find . -name curl", "git log --grep curl", "tar -cf curl.tar curl", "echo curl | cat", "rg curl .",
     "title='curl x'; echo $title", "python3 - <<E\nprint('curl x')\nE", "bash run.sh | grep curl",
     "grep -rl curl . | xargs cat", "python curl.py curl", "sed s/curl/wget/ f"],
)  # fmt: skip
def test_e5_a_denied_name_in_a_command_that_starts_nothing_denies_nothing(verdict, command):
    assert verdict(command, "deny bash(curl)", "allow bash") is ALLOW


@pytest.mark.parametrize(
    "command",
    ["python -m pip install x", "python3 -Im pip.__main__ install x", "python3.12 -mpip install x", "pip3 install x",
     "/opt/bin/pip3.12 install x", "env -i python -X dev -m pip install x", "sudo pip3 install x"],
)  # fmt: skip
def test_e5_a_denied_program_is_found_as_a_module_of_python_and_with_its_version(verdict, command):
    assert verdict(command, "deny bash(pip install *)", "allow bash") is DENY
    assert verdict(command.replace("install", "list"), "deny bash(pip install *)", "allow bash") is ALLOW
    assert verdict(command, "allow bash(pip install *)") is ASK


def test_e5_an_unknown_module_of_python_may_be_a_denied_program(verdict):
    assert verdict("python -m $x install", "deny bash(pip install *)", "allow bash") is ASK
    assert verdict("python3 x.py", "deny bash(python *)", "allow bash") is DENY
    assert verdict("python x.py", "deny bash(python3 *)", "allow bash") is ALLOW
