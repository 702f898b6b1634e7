"""What TAB offers after %piano: where the cursor stands, and which names fit there."""

import sys
from concurrent.futures import Future
from dataclasses import make_dataclass
from types import SimpleNamespace

import duckdb
import pytest
from IPython.core.completer import CompletionContext

from piano_jupyter.batch.batches import DAFT
from piano_jupyter.batch.frames import FRAMES
from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.magic.catalog import COMMANDS
from piano_jupyter.jupyter.magic.completion import candidates, completion_point, register
from piano_jupyter.jupyter.magic.completion_names import READERS, TABLES, CompletionNames, LabelledId
from piano_jupyter.jupyter.magic.map_option import TABLES as TABLES_TO_ASK

KNOWN = {
    "AGENT": ["Assistant", "ada"],
    "THREAD": ["plain", "Data work", 'the "big" one'],
    "MODEL": ["qwen3:8b", "phi4"],
    "TOOL": ["bash", "read_file", "time.convert_time"],
    "SERVER": ["time", "tiny"],
    "MESSAGE": ["3fa9c1"],
    "JOB": ["77ab01"],
    "COLUMN": ["content", "role"],
    "BATCH": ["stars", "my stars"],
    "TOPIC": ["agents-and-skills", "settings"],
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working directory has a file, a hidden one, and a folder with a file in it."""
    (tmp_path / "a b").mkdir()
    for name in ("notes.txt", ".hidden", "a b/talk.jsonl"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)


def offered(typed, **where):
    found = completion_point(typed, COMMANDS, **where)
    return candidates(found, COMMANDS, lambda kind: KNOWN.get(kind, [])) if found else None


@pytest.mark.parametrize(
    ("typed", "offers"),
    [
        ("regen", ["regenerate"]),
        ("th", ["thread", "threads"]),
        ("help fo", ["fork"]),
        ("help set", ["settings"]),
        ("help a", ["agent", "agents", "approve", "ask", "agents-and-skills"]),
        ("ask @a", ["@Assistant", "@ada"]),
        ("ask @ada @as", ["@Assistant"]),
        ("ask --t", ["--thread"]),
        ("ask --thread ", ["plain", '"Data work"', '"the \\"big\\" one"']),
        ('ask --thread "da', ['"Data work"']),
        ("ask --thread=pl", ["plain"]),
        ("ask --model ", ["qwen3:8b", "phi4"]),
        ("send @ada --model p", ["phi4"]),
        ("thread data w", ['"Data work"']),
        ("thread pl", ["plain"]),
        ("thread plain --ren", ["--rename"]),
        ("panel pl", ["plain"]),
        ("agent ada --de", ["--description", "--delete"]),
        ("history --at ", ["3fa9c1"]),
        ("history --at 3fa9c1 pl", ["plain"]),
        ("agent a", ["Assistant", "ada"]),
        ("agent @a", ["@Assistant", "@ada"]),
        ("agent ada --model qw", ["qwen3:8b"]),
        ("agent ada --tools read_file,b", ["bash"]),
        ('agent ada --tools "read_file, b', ["bash"]),
        ("agent ada --tools bash,time.", ["time.convert_time"]),
        ("mcp t", ["trust", "time", "tiny"]),
        ("mcp --restart ti", ["time", "tiny"]),
        ("models --unload ", ["qwen3:8b", "phi4", "all"]),
        ("stats --by mo", ["model"]),
        ("cancel ", ["77ab01", *COMMANDS["cancel"].options]),
        ("edit ", ["3fa9c1"]),
        ("export --for", ["--format", "--force"]),
        ("export --format m", ["md"]),
        ("no-such --", []),
        ("no-such ", []),
        ("ask @ada what is th", None),
        ("edit 3fa9c1 an", None),
        ("ask what @a", []),
        ("batch st", ["stars"]),
        ("batch my", ['"my stars"']),
        ("ask --map rows --name s", ["stars"]),
        ("sql SELECT * FROM ", list(TABLES)),
        ("sql SELECT * FROM jobs JOIN me", ["messages"]),
        ("sql SELECT con", ["content"]),
        ("sql SELECT length(m", ["messages"]),
        ("export no", ["notes.txt"]),
        ("agent ada --system-file ", ['"a b/', "notes.txt"]),
        ('import "a b/', ['"a b/talk.jsonl"']),
        ("import ~no-such-user/x", []),
        ("ask wh", []),
    ],
)
def test_completions_match_the_word_at_the_cursor(typed, offers):
    assert offered(typed) == offers


@pytest.mark.parametrize(
    ("typed", "offers"),
    [
        ("", ["agent", "ask", "edit", "send", "sql", *COMMANDS["ask"].options]),
        ("@a", ["@Assistant", "@ada"]),
        ("--no", ["--no-wait"]),
        ("@ada --thread pl", ["plain"]),
        ("agent ada --model ph", ["phi4"]),
        ("threads --a", None),
        ("what is", None),
    ],
)
def test_the_first_line_of_a_cell_completes_options_and_sub_commands_that_take_a_cell(typed, offers):
    assert offered(typed, is_cell=True) == offers


@pytest.fixture
def complete():
    """Complete at the end of a text, as IPython asks for it: what is offered, for what, and whether nothing else is."""
    shell = SimpleNamespace(Completer=SimpleNamespace(custom_matchers=[]))
    answered = Future()
    answered.set_result(["Assistant", "ada"])
    unregister = register(shell, lambda _: answered)
    (matcher,) = shell.Completer.custom_matchers

    def at_the_end(text):
        lines = text.split("\n")
        result = matcher(CompletionContext("", text, len(lines[-1]), len(lines) - 1, None))
        return [each.text for each in result["completions"]], result.get("matched_fragment"), result.get("suppress")

    yield at_the_end
    unregister()
    assert shell.Completer.custom_matchers == []


@pytest.mark.parametrize(
    ("text", "offers", "fragment"),
    [
        ("%piano ask @ad", ["@ada"], "@ad"),
        ("x = 1\nanswer = %piano ask @ad", ["@ada"], "@ad"),
        ("%%piano @ad", ["@ada"], "@ad"),
        ("\n%%piano --no", ["--no-wait"], "--no"),
        ("%%piano\n@Assistant, @ad", ["@ada"], "@ad"),
        ("%%piano --raw\n\n@ad", ["@ada"], "@ad"),
        ("%%piano\nwhat do you say, @ad", [], "@ad"),
        ("%%piano sql\nSELECT *\nFROM thr", ["threads"], "thr"),
        ("%%time\n%piano thr", ["thread", "threads"], "thr"),
        ("%piano agent newcomer", [], "newcomer"),
        ("%piano nonsense ", [], ""),
        ("%piano import notes", ["notes.txt"], "notes"),
    ],
)
def test_a_piano_line_offers_only_matching_completions(complete, text, offers, fragment):
    assert complete(text) == (offers, fragment, True)


@pytest.mark.parametrize(
    "text",
    [
        "%pia",
        "%piano",
        "%%piano",
        "print(1)",
        "%%piano\nhello the",
        "%%bash\n%piano th",
        "%%time %piano th",
        "%pianos th",
        "what is {{na",
        "%%time\nwhat = '{{na",
        "%piano ask what is {{name}} and",
    ],
)
def test_elsewhere_only_other_completers_answer(complete, text):
    assert complete(text) == ([], None, None)


def test_a_completion_of_an_id_has_a_label():
    shell = SimpleNamespace(Completer=SimpleNamespace(custom_matchers=[]))
    answered = Future()
    answered.set_result([LabelledId("3fa9c1", "What is\nthe capital of France, and how many people live there?")])
    register(shell, lambda _: answered)

    result = shell.Completer.custom_matchers[0](CompletionContext("", "%piano edit ", 12, 0, None))

    (offered,) = result["completions"]
    assert (offered.text, offered.type) == ("3fa9c1", "What is the capital of France, and how…")


def test_names_that_arrive_late_are_offered_at_the_next_tab():
    late, never = Future(), Future()
    answers = iter([late, never])
    names = CompletionNames(lambda _: next(answers))

    at_first = names.of("AGENT")
    late.set_result(["ada"])
    then = names.of("AGENT")

    assert (at_first, then) == ([], ["ada"])


def test_no_names_are_offered_without_an_open_piano_or_if_the_store_fails():
    refused = Future()
    refused.set_exception(PianoError("the database is locked"))

    assert CompletionNames(lambda _: None).of("AGENT") == []
    assert CompletionNames(lambda _: refused).of("AGENT") == []


def test_variables_that_can_be_a_schema_are_offered_after_json():
    person = make_dataclass("Person", ["name"])
    variables = {"Person": person, "schema": {"type": "object"}, "ada": person("Ada"), "n": 1, "_x": {}, "Plain": int}
    names = CompletionNames(lambda _: None, lambda: variables)

    assert candidates(completion_point("ask --json ", COMMANDS), COMMANDS, names.of) == ["Person", "schema"]
    assert candidates(completion_point("@ada --json=P", COMMANDS, is_cell=True), COMMANDS, names.of) == ["Person"]


def test_variables_that_hold_data_are_offered_after_into():
    variables = {"answer": "Paris.", "ask": len, "Plain": int, "_x": 1, "sys": sys, "rows": [1]}
    names = CompletionNames(lambda _: None, lambda: variables)

    assert candidates(completion_point("--into ", COMMANDS, is_cell=True), COMMANDS, names.of) == ["answer", "rows"]
    assert candidates(completion_point("ask --into=r", COMMANDS), COMMANDS, names.of) == ["rows"]


def test_variables_that_hold_tables_are_offered_after_map():
    frame = duckdb.sql("SELECT 1 AS n")
    variables = {"rows": [{"n": 1}], "empty": [], "numbers": [1], "text": "a", "_x": [{}], "relation": frame}
    names = CompletionNames(lambda _: None, lambda: variables)

    offered = candidates(completion_point("--map ", COMMANDS, is_cell=True), COMMANDS, names.of)

    assert offered == ["relation", "rows"]
    assert candidates(completion_point("ask --map=ro", COMMANDS), COMMANDS, names.of) == ["rows"]


def test_each_word_of_a_usage_is_completed_or_free_text():
    free = {"TEXT", "…", "SELECT", "WORDS", "FILE", "TITLE", "N", "PROMPT", "LINE", "NUMBER", "NAME=VALUE"}
    completed = {"SUB-COMMAND|TOPIC", "SCHEMA", "NAME", "FRAME", *READERS} - {"COLUMN", "MCP"}

    words = {
        word.strip("[]@").removesuffix(",…")
        for each in COMMANDS.values()
        for usage in (each.takes, *each.options.values())
        for word in usage.split()
        if not word.islower()
    }

    assert words - {"MODEL|all", "trust|SERVER"} == free | completed


def test_the_tables_that_are_offered_are_those_that_can_be_asked_about():
    assert {*FRAMES, *DAFT} == TABLES_TO_ASK
