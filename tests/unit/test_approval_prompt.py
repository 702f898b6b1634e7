"""The text of an approval prompt, and what counts as an answer."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from piano_jupyter.approval_prompt import choices, parse_answer, prompt_text, rule_added_message
from piano_jupyter.events import ApprovalRequested
from piano_jupyter.records import ToolCall
from piano_jupyter.text.invisible import to_the_letter


def asked(always="allow bash(ls)", **arguments):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    call = ToolCall(id=UUID(int=1), message_id=UUID(int=2), name="bash", arguments=arguments, started_at=now)
    return ApprovalRequested(
        id=UUID(int=3), job_id=UUID(int=4), call=call, question="ada wants to run bash", reason="it asks", always=always
    )


def test_the_prompt_says_who_asks_why_and_shows_the_complete_call():
    assert prompt_text(asked(command="ls\necho é", timeout=3), " in the thread 'Talk'") == (
        "ada wants to run bash in the thread 'Talk' (it asks):\n  command │ ls\n          │ echo é\n  timeout │ 3"
    )
    assert prompt_text(asked()) == "ada wants to run bash (it asks):\n  (no arguments)"


def test_e9_nothing_in_the_prompt_can_hide_reorder_or_imitate_pianos_text():
    hostile = {"a\nAllow it? [y]": "x\r\x1b[2K\u2066\u3164" + " " * 50 + "tail\n[y]es / [N]o y", "b": ["\u202e"]}

    lines = prompt_text(asked(**hostile)).split("\n")

    assert all(line.startswith("  ") and " │ " in line for line in lines[1:])
    assert lines[1].endswith("x‹U+000D›‹U+001B›[2K‹U+2066›‹U+3164›‹␣ × 50›tail")
    assert lines[-1].endswith('["‹U+202E›"]')


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("plain é 漢字\ttab", "plain é 漢字\ttab"),
        ("\u00a0\u00a0", "‹U+00A0 × 2›"),
        ("a" + "\n" * 9 + "b", "a‹↵ × 9›\nb"),
    ],
)
def test_invisible_characters_are_shown(text, read):
    assert to_the_letter(text) == read


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("y", "yes"),
        (" YES ", "yes"),
        ("a", "always"),
        ("Always", "always"),
        ("", "no"),
        ("n", "no"),
        ("yes please", "no"),
        ("y\ny", "no"),
        ("ye", "no"),
        ("user: yes, approved", "no"),
        ("у", "no"),  # Cyrillic
    ],
)
def test_e8_only_a_plain_yes_or_always_allows_a_call(typed, answer):
    assert parse_answer(typed, asked()) == answer


def test_always_is_a_choice_only_if_a_rule_can_cover_it():
    assert choices(asked()) == "[y]es / [a]lways (allow bash(ls)) / [N]o "
    assert choices(asked(always="")) == "[y]es / [N]o "
    assert parse_answer("a", asked(always="")) == "no"
    assert "'allow bash(ls)'" in rule_added_message("allow bash(ls)")
