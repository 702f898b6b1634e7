"""The syntax of rules, and what a plain command is."""

import subprocess
import tempfile

import pytest
from hypothesis import given, settings, strategies as st
from traitlets import TraitError

from piano_jupyter import PianoConfig, PianoError
from piano_jupyter.config import configured
from piano_jupyter.rules import Rule, matches_words, parse_rule, pattern_words, plain_command_words
from piano_jupyter.tool import Verdict


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("allow bash(git status)", (Verdict.ALLOW, "bash", "git status")),
        (" ask   edit_file ", (Verdict.ASK, "edit_file", None)),
        ("deny create_file( secrets/* )", (Verdict.DENY, "create_file", "secrets/*")),
        ("allow github.search(*)", (Verdict.ALLOW, "github.search", "*")),
        ("ask github.*", (Verdict.ASK, "github.*", None)),
        ("deny bash(curl * | (sh))", (Verdict.DENY, "bash", "curl * | (sh)")),
    ],
)
def test_a_rule_is_a_verdict_a_tool_and_an_optional_pattern(text, rule):
    assert parse_rule(text) == Rule(text.strip(), *rule)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not a valid rule; write it as 'allow bash"),
        ("permit bash", "is not a valid rule"),
        ("allow", "is not a valid rule"),
        ("allow bash(git status", "is not a valid rule"),
        ("allow bash git status", "is not a valid rule"),
        ("Deny bash", "is not a valid rule"),
        ("allow .search", "is not a valid rule"),
        ("allow *.search", "is not a valid rule"),
        ("allow bash()", "has empty parentheses"),
        ("allow bash(git status; ls)", "can never match"),
        ("allow bash(echo $HOME)", "can never match"),
        ("allow bash(FOO=1 make)", "can never match"),
    ],
)
def test_setting_an_invalid_rule_is_an_error_at_once(text, says):
    config = PianoConfig(rules=["ask edit_file"])

    with pytest.raises(TraitError, match=says):
        config.rules = [text]
    with pytest.raises(PianoError, match=says):
        configured(rules=[text])
    assert config.rules == ["ask edit_file"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("git  log\t'a b'", ["git", "log", "a b"]),
        ('c""url "x y"', ["curl", "x y"]),
        ("grep 'a*;$(b)' f", ["grep", "a*;$(b)", "f"]),
        ("echo ''", ["echo", ""]),
        ("", None),
        ("ls *.py", None),
        ("ls ~", None),
        ("echo {a,b}", None),
        ("A=1 ls", None),
        ("while x", None),
        ("%1", None),
        ("echo 'open", None),
        ("ls \u00a0x", None),
        ("ls\u200b x", None),
        ("echo a\nls", None),
    ],
)
def test_only_a_plain_command_is_split_into_words(text, words):
    assert plain_command_words(text) == words


harmless = st.sampled_from(["a", "b=c", "'a  b'", '"c;$d"', '"c;d"', "''", "/x.y", "%+@,:", "-", " ", "  ", "\t"])
anything = st.sampled_from([*"ab '\"$(){}[]<>|&;*?~#!\\,=:%-.@+`\n\t"])


@settings(deadline=None, max_examples=150)
@given((st.lists(harmless, max_size=9) | st.lists(anything, max_size=6)).map("".join))
def test_the_words_of_a_plain_command_are_those_that_bash_passes_on(written):
    text = f"printf_ {written}"
    words = plain_command_words(text)
    if words is not None:
        script = f"printf_() {{ printf '%s\\0' \"$@\"; }}\n{text}"
        ran = subprocess.run(["bash", "-c", script], capture_output=True, check=True, cwd=tempfile.gettempdir())
        said = ran.stdout.decode().split("\0")[:-1]
        assert said == (words[1:] or [""])  # printf prints once though it is given nothing


@pytest.mark.parametrize(
    ("pattern", "command", "fits"),
    [
        ("git status", "git status", True),
        ("git status", "git  'status'", True),
        ("git status", "git status -s", False),
        ("git *", "git", True),
        ("git *", "git log -n 3", True),
        ("git * main", "git push main", True),
        ("git * main", "git push origin main", False),
        ("pytest tests/*.py", "pytest tests/a.py", True),
        ("pytest tests/*.py", "pytest tests/a.py -x", False),
        ("grep '*' *", "grep x f", False),
        ("grep '*' *", "grep '*' f", True),
        ("*", "anything at all", True),
    ],
)
def test_an_allow_pattern_matches_word_by_word_and_a_last_star_matches_the_rest(pattern, command, fits):
    assert matches_words(pattern_words(pattern), plain_command_words(command)) is fits
