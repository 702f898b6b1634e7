"""A path that must not be read must not be named in a command either: row E13 of the list of bad inputs."""

import itertools
import os
import re
import subprocess

import pytest
from hypothesis import given, strategies as st

from piano_jupyter.runner.tools.permissions.globs import ANY_TEXT, PIECE, can_match
from piano_jupyter.runner.tools.permissions.policy import judge
from piano_jupyter.tool import Tool, Verdict

ALLOW, ASK, DENY = Verdict.ALLOW, Verdict.ASK, Verdict.DENY


@pytest.fixture
def verdict(tmp_path):
    """Return the verdict on a command in a workspace with files, which `WORKSPACE` in it stands for."""
    workspace = tmp_path / "project"
    for file in ("secrets/key", "src/a.py", "conf/.env", "many/a.txt"):
        (workspace / file).parent.mkdir(parents=True)
        (workspace / file).write_text("x")
    (workspace / "link").symlink_to("secrets")
    shell = Tool(name="bash", description="bash", parameters={}, function=str, subject="command")

    def make(command, *rules):
        arguments = {"command": command.replace("WORKSPACE", str(workspace))}
        return judge(shell, arguments, mode="write", rules=[*rules, "allow bash"], workspace=str(workspace)).verdict

    make.workspace = workspace
    return make


@pytest.mark.parametrize(
    "command",
    [
        "cat secrets/key",
        "cat ./secrets//key",
        "cat src/../secrets/key",
        "cat SECRETS/key",
        "cat link/key",
        "cat WORKSPACE/secrets/key",
        "cat ../project/secrets/key",
        "cat \"secrets\"/'key'",
        "cat sec\\rets/key",
        "cat s*/key",
        "cat secr?ts/k[e]y",
        "cat link/*",
        "cat [[:alpha:]]*/key",
        "cat [!a-c]*/key",
        "cat ../*/secrets/key",
        "tar c *",
        "cat /proc/self/cwd/secrets/key",
        f"cat /proc/*/{'root'}/WORKSPACE/secrets/key",
        "cat < secrets/key",
        "sed -n p<secrets/key",
        "echo $(<secrets/key)",
        "cat $(echo secrets/key)",
        "diff src/a.py secrets/key",
        "x=secrets/key; cat $x",
        "for f in secrets/*; do cat $f; done",
        "./secrets/run",
        "grep -r x .",
        "grep -r x secrets",
        "find / -name key",
        "ls ..",
        "ln -s . other",
        "cd secrets; cat key",
        "cd link; cat key",
        "pushd secrets",
        "cd src && cat ../secrets/key",
        "cd .. && cat project/secrets/key",
        "env -C secrets cat key",
        "bash -c 'cat secrets/key'",
        "bash <<< 'cat secrets/key'",
        "bash <<E\ncat secrets/key\nE",
        "echo 'cat secrets/key' | sh",
        "sh -c 'cat *'",
        "python -c \"print(open('secrets/key').read())\"",
        "python - <<E\nprint(open('secrets/key').read())\nE",
        "dd if=secrets/key",
        "curl -d @secrets/key x",
        "sort -osecrets/key x",
        "git show HEAD:secrets/key",
        "tar cf - --directory=secrets .",
        "cat 'an open quote",
        "echo " + "a" * 20_000,
    ],
)
def test_e13_a_command_that_names_a_path_that_must_not_be_read_is_denied(verdict, command):
    assert verdict(command, "deny read_file(secrets/*)") is DENY
    assert verdict(command, "ask read_file(secrets/*)") is ASK
    for rule in ("allow read_file(secrets/*)", "deny read_file", "deny edit_file(secrets/*)"):
        assert verdict(command, rule) is ALLOW


@pytest.mark.parametrize(
    "command",
    ["cat secrets/key", "cat src/../secrets/key", "cat link/key", "cat s*/key", "cat [!a-c]*/key",
     "x=secrets/key; cat $x",
     "cat /proc/self/cwd/secrets/key", "cd link; cat key", "cat $(echo secrets/key)", "env -C secrets cat key",
     "bash <<< 'cat secrets/key'", "echo 'cat secrets/key' | sh", "tar c *", "grep -r x ."],
)  # fmt: skip
def test_e13_control_without_the_rule_each_of_these_commands_reads_the_file(verdict, command):
    (verdict.workspace / "secrets/key").write_text("x secret")

    ran = subprocess.run(
        ["bash", "-c", command], cwd=verdict.workspace, env=os.environ, capture_output=True, check=False
    )

    assert b"x secret" in ran.stdout
    assert verdict(command) is ALLOW


@pytest.mark.parametrize(
    "command",
    ["cat $x", "cat {a,b}", 'cat "$HOME/a"', "cat < $x", "cd $x", "bash -c 'cat $x'", "bash <<< \"it's $x\"",
     "find src -exec cat {} +", "cd /proc/self; cat root/etc/passwd", "cd /proc && cat self/cwd/x"],
)  # fmt: skip
def test_e13_a_command_whose_paths_are_known_only_when_it_runs_needs_approval(verdict, command):
    assert verdict(command, "deny read_file(secrets/*)") is ASK
    assert verdict(command) is ALLOW


@pytest.mark.parametrize(
    "command",
    ["ls", "pytest -q", "cat src/a.py", "cat src/*.py", "ls *.py", "ls src", "cd src && pytest", "cd WORKSPACE && ls",
     "cd src; cd ..; ls", "cd src && cat ../src/a.py", "git commit -m 'a / b . c'", "python -c 'print(2 / 3, 2 * 3)'",
     "python - <<'E'\nd = {'a': [1]}\nprint(d['a'][0] * 2, f'{d}')\nE", "cat > src/b.py <<'E'\nx = a * b\nE",
     "sed 's/.*//' src/a.py", "cat /proc/1/environ", "cat /etc/passwd",
     "case x in *) ls;; esac", "awk '{print $1 / 2}' src/a.py",
     "find src -name '*.py'", "cat secretsfile", "cat old.secrets/key"],
)  # fmt: skip
def test_e13_a_command_that_names_other_paths_runs(verdict, command):
    assert verdict(command, "deny read_file(secrets/*)") is ALLOW


@pytest.mark.parametrize(
    ("pattern", "denied", "allowed"),
    [
        (
            "*.env",
            ["cat .env", "cat conf/.env", "cat a.env", "cat *", "cat .e*", "cat conf/*", "grep -r x conf", "ls .",
             "cd conf; cat .env", "cat /elsewhere/.env"],
            ["ls src", "pytest src", "cat *.py", "cd conf; ls", "cat conf/.envrc"],
        ),
        ("src/key.txt", ["cat src/key.txt", "ls src", "cd src", "cat s*/k*", "cat k/../src/key.txt"], ["cat key.txt"]),
        ("conf/keys/*", ["cd conf/keys", "cd conf", "cd conf/other; cat ../keys/a", "cat conf/*"], ["cat conf/a.txt"]),
        ("*/keys/*", ["cat conf/keys/a", "cd conf/keys", "cd conf; cat keys/a"], ["cat conf/a", "cd conf; cat a"]),
        ("*/a/b/*", ["cd x/a", "cd x/a/b", "grep -r y x/a", "cat a/b/c"], ["cat a/c", "cd x; ls"]),
        ("/etc/*", ["cat /etc/passwd", "cat /e*/passwd", "ls /etc", "ls /"], ["cat etc/x", "ls /usr"]),
    ],
)  # fmt: skip
def test_e13_a_pattern_counts_wherever_its_stars_stand(verdict, pattern, denied, allowed):
    rule = f"deny read_file({pattern})"

    assert {command: verdict(command, rule) for command in denied} == dict.fromkeys(denied, DENY)
    assert {command: verdict(command, rule) for command in allowed} == dict.fromkeys(allowed, ALLOW)


def test_e13_a_folder_with_too_many_files_to_look_at_needs_approval(verdict):
    for number in range(2_001):
        (verdict.workspace / "many" / f"{number}.txt").touch()

    assert verdict("ls many", "deny read_file(*.env)") is ASK
    assert verdict("ls src", "deny read_file(*.env)") is ALLOW


PATHS = ["".join(each) for length in range(8) for each in itertools.product("a/", repeat=length)]


def regex(text, any_name, any_letter):
    forms = {ANY_TEXT: ".*", "*": any_name, "**": any_name, "***": any_name, "****": any_name, "?": any_letter}
    return re.compile("".join(forms.get(each) or re.escape(each) for each in PIECE.findall(text)), re.DOTALL)


@given(st.text("a/*?\0", max_size=4), st.text("a/\0", max_size=4))
def test_a_glob_can_match_a_pattern_if_some_path_matches_both(glob, pattern):
    forms = regex(glob, "[^/]*", "[^/]"), regex(pattern, "", "")

    assert can_match(glob, pattern) is any(all(form.fullmatch(path) for form in forms) for path in PATHS)


def test_e13_a_path_that_cannot_be_resolved_is_compared_as_it_is_written(verdict):
    (verdict.workspace / "loop").symlink_to("loop")

    for path in ("loop", "a" * 5_000, "a\udc80", "'a\0b'", "/proc/1/cwd/x"):
        assert verdict(f"cat {path}", "deny read_file(secrets/*)") is ALLOW


@given(st.text(max_size=40), st.sampled_from(["secrets/*", "*", "/", "~/x", "a[b", "*/x/*", "..", "."]))
def test_any_text_at_all_can_be_compared_with_any_path(text, pattern):
    shell = Tool(name="bash", description="bash", parameters={}, function=str, subject="command")
    rules = [f"deny read_file({pattern})"]

    assert judge(shell, {"command": text}, mode="write", rules=rules, workspace="/nowhere").verdict in Verdict
