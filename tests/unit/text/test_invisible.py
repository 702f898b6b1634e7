"""What goes to a terminal: named where it would steer it, and else as it is."""

import io
import logging
import random

import pytest
from hostile import HOSTILE, OBEYED, ORDINARY

from piano_jupyter.errors import NotFoundError, PianoError, StoreError, ToolError
from piano_jupyter.logs import logger
from piano_jupyter.text.invisible import TerminalStream, model_text, terminal_text


def test_characters_that_control_a_terminal_are_named():
    assert terminal_text("\x1b[2J\x1b]52;c;aGk=\x07 \x9b8m \x08\x7f") == (
        "‹U+001B›[2J‹U+001B›]52;c;aGk=‹U+0007› ‹U+009B›8m ‹U+0008›‹U+007F›"
    )
    assert OBEYED.search(HOSTILE)
    assert not OBEYED.search(terminal_text(HOSTILE))


def test_ordinary_text_in_any_language_and_emoji_stay_as_they_are():
    assert terminal_text(ORDINARY) == ORDINARY


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\r\nb\n\tc", "a\nb\n\tc"),
        ("safe\revil", "safe‹U+000D›evil"),
        ("a\r\r\nb\r", "a‹U+000D›\nb‹U+000D›"),
        ("\u202eevil\u202c\u200f", "‹U+202E›evil‹U+202C›‹U+200F›"),
        ("pass\u200dword\u200b", "pass‹U+200D›word‹U+200B›"),
        ("x\ufe0f\ufe0e", "x‹U+FE0F›‹U+FE0E›"),
        ("❤\ufe0f\ufe0f\ufe01", "❤\ufe0f‹U+FE0F›‹U+FE01›"),
        ("\u200d\ufe0f", "‹U+200D›‹U+FE0F›"),
        ("a\U000e0068\U000e0069", "a‹U+E0068›‹U+E0069›"),
        ("\U0001f3f4" + "\U000e0068" * 8, "\U0001f3f4" + "\U000e0068" * 6 + "‹U+E0068›" * 2),
        ("\ud800\ue000\u2028\x85\x00", "‹U+D800›‹U+E000›‹U+2028›‹U+0085›‹U+0000›"),
    ],
)
def test_characters_that_mislead_a_reader_are_named(text, shown):
    assert terminal_text(text) == shown
    assert terminal_text(shown) == shown


@pytest.mark.parametrize(
    "char", [*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200b\u200e\u200f\u2060\ufeff\xad\u061c"]
)
def test_f22_what_turns_or_hides_text_is_named_for_a_model(char):
    assert model_text(f"a{char}b\r\n") == f"a<U+{ord(char):04X}>b\r\n"
    assert model_text(char) == f"<U+{ord(char):04X}>"


@pytest.mark.parametrize("code", [0xE0000, 0xE0001, *range(0xE0020, 0xE0080), 0x200C, 0x200D, 0xFE0F, 0xE0100])
def test_f22_what_belongs_to_no_emoji_and_no_word_is_named_for_a_model(code):
    assert model_text(f"a{chr(code)}") == f"a<U+{code:04X}>"
    assert model_text(f"می{chr(code) * 2}").endswith(f"<U+{code:04X}>")


def test_a_model_reads_ordinary_text_in_any_language_emoji_and_icons_as_they_are():
    assert model_text(ORDINARY) == ORDINARY
    assert model_text("שָׁלוֹם عَلَيْكُمْ \ue0b0 \U000f0001") == "שָׁלוֹם عَلَيْكُمْ \ue0b0 \U000f0001"


def test_however_a_text_is_cut_into_pieces_the_same_is_shown():
    chance = random.Random(9)
    whole = HOSTILE + "a\r\nb" + ORDINARY + "\U0001f3f4" + "\U000e0068" * 9 + "❤\ufe0f\ufe0f\r"
    for _ in range(500):
        stream, shown, rest = TerminalStream(), "", whole
        while rest:
            many = chance.randint(0, 4)
            shown, rest = shown + stream.feed(rest[:many]), rest[many:]
        assert shown + stream.end() == terminal_text(whole)


def test_an_error_cannot_control_a_terminal_and_reaches_the_model_unchanged():
    for error in (PianoError(HOSTILE), StoreError(HOSTILE), NotFoundError.among("model", HOSTILE, [HOSTILE])):
        assert not OBEYED.search(str(error))
    assert str(PianoError("a\nb")) == "a\nb"
    assert str(PianoError()) == ""
    assert str(ToolError(HOSTILE)) == HOSTILE


def fail():
    raise ValueError(HOSTILE)


def test_logs_cannot_control_a_terminal_in_messages_and_tracebacks():
    log, screen = logger("piano_jupyter.tests.hostile"), io.StringIO()
    log.addHandler(handler := logging.StreamHandler(screen))
    try:
        log.warning("%s said", HOSTILE)
        try:
            fail()
        except ValueError:
            log.exception("failed")
    finally:
        log.removeHandler(handler)

    assert "‹U+001B›[2J" in screen.getvalue()
    assert "ValueError: a‹U+001B›" in screen.getvalue()
    assert not OBEYED.search(screen.getvalue())
