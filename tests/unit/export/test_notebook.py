"""A thread as a notebook."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import nbformat
import pytest
from hypothesis import given, strategies as st
from IPython.core.inputtransformer2 import TransformerManager

from piano_jupyter.export import ExportedThread
from piano_jupyter.export.notebook import to_notebook
from piano_jupyter.jupyter.magic.options import split_options
from piano_jupyter.records import Message, Thread
from piano_jupyter.variables.fill_in import fill_in

START = datetime(2026, 1, 1, tzinfo=UTC)
OPTIONS = {"--thread": "T", "--no-wait": "", "--raw": ""}


def cells(text):
    notebook = nbformat.reads(text, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    return notebook.cells


def told(cell):
    assert all(set(output.data) == {"text/plain"} for output in cell.outputs)
    return [output.data["text/plain"] for output in cell.outputs]


def without_blanks(text):
    return "\n".join("" if line.isspace() else line for line in text.split("\n")).strip()


def run(source):
    """Return whom a cell asks, and what, as IPython and Piano read it."""
    asked = []

    class Shell:
        def run_cell_magic(self, name, line, cell):
            options, handles, first = split_options(line, OPTIONS)
            asked.append((name, options, handles, fill_in(f"{first}\n{cell}".strip(), {}).sent))

    exec(TransformerManager().transform_cell(source), {"get_ipython": Shell})
    [(name, options, handles, text)] = asked
    assert (name, options) == ("piano", {})
    return handles, text


def test_each_question_is_a_cell_and_its_answers_are_the_outputs(sums):
    title, load, first, second = cells(sums.export("notebook"))

    assert (title.cell_type, title.source) == ("markdown", "# Sums")
    assert (load.source, told(load)) == ("%load_ext piano_jupyter", [])
    assert first.source == "%%piano @ada\nHow much is 1 + 1?"
    assert told(first) == ["Let me see.\n[add(a=1, b=1)]", "It is 2."]
    assert second.source == "%%piano @ada @bob\nSure?"
    assert told(second) == ["ada:\nYes.", "bob:\nI think so.", "Note:\nnot asked: @eve"]


def test_only_the_agents_that_the_user_asked_are_asked_again(talk):
    talk.ask("?").say("ada", "@bob?").say("bob", "!", to=1)

    assert cells(talk.export("notebook"))[2].source == "%%piano @ada\n?"


def test_all_who_answered_an_imported_question_are_asked_again(talk):
    talk.ask("?").say("ada", "one", job_id=None).say("bob", "two", job_id=None).say(None, "three", job_id=None)

    asking = cells(talk.export("notebook"))[2]

    assert asking.source == "%%piano @ada @bob\n?"
    assert told(asking) == ["ada:\none", "bob:\ntwo", "Assistant:\nthree"]


def test_a_question_without_an_answer_is_asked_as_it_was(talk):
    assert cells(talk.ask("@bob hi").export("notebook"))[2].source == "%%piano\n@bob hi"


def test_messages_before_the_first_question_are_raw_cells(talk):
    talk.say("ada", "<b>Hello</b>").ask("?")

    _, _, before, asking = cells(talk.export("notebook"))

    assert (before.cell_type, before.source) == ("raw", "ada:\n<b>Hello</b>")
    assert asking.source == "%%piano\n?"


def test_g1_what_a_model_wrote_is_never_markdown_nor_html(talk):
    talk.ask("?").say("ada", "<script>alert(1)</script>")

    [asking] = [cell for cell in cells(talk.export("notebook")) if cell.get("outputs")]

    assert told(asking) == ["<script>alert(1)</script>"]


def test_an_empty_thread_is_a_notebook_too(talk):
    assert len(cells(talk.export("notebook"))) == 2


def test_the_same_thread_gives_the_same_bytes_and_each_cell_an_id_of_its_own(talk):
    for _ in range(50):
        talk.ask("again?")

    ids = [cell.id for cell in cells(talk.export("notebook"))]

    assert talk.export("notebook") == talk.export("notebook")
    assert len(set(ids)) == 52


def test_g1_a_title_is_text(talk):
    talk.thread = replace(talk.thread, title="<img src=x> $x$")

    assert cells(talk.export("notebook"))[0].source == r"# \<img src=x\> \$x\$"


@pytest.mark.parametrize(
    "text",
    [
        *[
            "--no-wait",
            "--x y",
            "-- a",
            "-",
            "@bob hi",
            "@bob @ada",
            "%%piano x",
            "%matplotlib",
            "!ls",
            "x?",
            "?x",
            "a\\",
            "'''\"",
        ],
        *[">>> 1\n1", "a\n\n  >>> b", "In [1]: x", "a\n...: b", "a\r>>> b", "... c", "'''\n>>> d\n'''"],
        *[
            "    indented\n  less",
            "a\x0cb\x1cc\u2028d\x85e",
            "\\n {x} {{}} $y",
            "{{x}} {{{x}}} {{{{ x }}}}}",
            "é 🎹",
            "\x00",
            "get_ipython()",
        ],
    ],
)
def test_a_text_is_sent_unchanged_when_the_notebook_runs_again(talk, text):
    source = cells(talk.ask(text).say("ada", "ok").export("notebook"))[2].source

    assert run(source) == (["ada"], text.strip())


@given(text=st.text(">.In[1]: \n\r\t-@%!?'\"\\a{}#\x0c\u2028", min_size=1, max_size=30))
def test_any_text_is_sent_unchanged_when_the_notebook_runs_again_except_blank_lines(text):
    thread = Thread(id=UUID(int=1), title="t", inserted_at=START)
    asked = Message(id=UUID(int=2), thread_id=thread.id, role="user", content=text, inserted_at=START)

    source = json.loads(to_notebook(ExportedThread(thread, [asked], [], {})))["cells"][2]["source"]

    handles, again = run("".join(source))

    assert (handles, without_blanks(again)) == ([], without_blanks(text))


def test_a_lone_surrogate_does_not_keep_it_from_being_written(talk):
    assert talk.ask("a\ud800b").export("notebook").encode()
