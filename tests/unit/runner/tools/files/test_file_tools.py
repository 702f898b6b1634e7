"""read_file, create_file and edit_file, called as a model calls them."""

import asyncio
import json
import os
import random
import socket
import tracemalloc
import unicodedata
from uuid import UUID

import pytest

from piano_jupyter.config import PianoConfig
from piano_jupyter.runner.tools.files.file_tools import file_layer, file_tools
from piano_jupyter.runner.tools.tool_registry import run_tool
from piano_jupyter.tool import ToolCallContext, Verdict


@pytest.fixture
def config(tmp_path):
    return PianoConfig(workspace=str(tmp_path))


@pytest.fixture
def call(config):
    """Call a tool in an empty workspace, in a thread if one is named; return whether it succeeded, and its text."""
    tools = {each.name: each for each in file_tools(config)}

    async def call(name, *, thread=0, mode="write", **arguments):
        known = (
            ToolCallContext(thread_id=UUID(int=thread), call_id=UUID(int=1), mode=mode, say=print) if thread else None
        )
        limit = config.tool_output_limit
        result = await run_tool(tools[name], arguments, call=known, timeout=60, output_limit=limit)
        return result.ok, result.text

    call.tools = tools

    return call


async def test_a_file_is_created_read_and_edited(call, tmp_path):
    assert await call("create_file", path="src/a.py", content="one\ntwo\n") == (
        True,
        "created 'src/a.py': 2 lines, 8 bytes",
    )
    assert await call("edit_file", path="src/a.py", edits=[{"old_text": "two", "new_text": "zwei\ndrei"}]) == (
        True,
        "edited 'src/a.py' at line 2",
    )
    assert await call("read_file", path="src/a.py") == (True, "1\tone\n2\tzwei\n3\tdrei")
    assert await call("read_file", path=".") == (True, "'.' is a folder:\nsrc/")
    assert (tmp_path / "src" / "a.py").read_text() == "one\nzwei\ndrei\n"


@pytest.mark.parametrize(("on_disk", "typed"), [("NFD", "NFC"), ("NFC", "NFD")])
async def test_a_name_whose_accents_are_written_in_another_way_is_the_same_file(call, tmp_path, on_disk, typed):
    path = tmp_path / unicodedata.normalize(on_disk, "Übung") / unicodedata.normalize(on_disk, "café.txt")
    path.parent.mkdir()
    path.write_text("one\n")
    name = unicodedata.normalize(typed, "Übung/café.txt")

    assert await call("read_file", path=name, thread=1) == (True, "1\tone")
    ok, text = await call("edit_file", path=name, thread=1, edits=[{"old_text": "one", "new_text": "two"}])
    assert ok, text
    ok, text = await call("create_file", path=name, content="three\n")
    assert (ok, "already a file" in text) == (False, True)
    assert path.read_text() == "two\n"
    assert len(list(path.parent.iterdir())) == 1


async def test_of_two_names_that_look_the_same_the_one_that_was_written_is_read(call, tmp_path):
    for form in ("NFC", "NFD"):
        (tmp_path / unicodedata.normalize(form, "café.txt")).write_text(form)

    for form in ("NFC", "NFD"):
        assert await call("read_file", path=unicodedata.normalize(form, "café.txt")) == (True, f"1\t{form}")


async def test_a_long_file_comes_in_parts_that_say_how_to_continue(call, tmp_path, config):
    lines = [f"line {number}" for number in range(1, 5001)]
    (tmp_path / "log").write_text("\n".join(lines))
    read, offset = [], 1
    while offset:
        ok, text = await call("read_file", path="log", offset=offset)
        *part, last = text.split("\n")
        offset = int(last.removesuffix("]").rpartition("=")[2]) if last.startswith("[") else 0
        read += part if offset else [*part, last]

    assert [line.partition("\t")[2] for line in read] == lines
    assert ok
    assert (await call("read_file", path="log", offset="4999", limit=1))[1].startswith("4999\tline 4999\n['log' has ")
    config.tool_output_limit = 500
    assert len((await call("read_file", path="log"))[1]) < 500


async def test_a13_a14_a_huge_file_and_a_huge_line_are_cut_and_take_little_memory(call, tmp_path):
    with (tmp_path / "huge").open("wb") as file:
        file.write(b"first\n" + b"x" * 5_000 + b"\n" + b"third\n" * 20_000)
        file.seek(3 << 30)
        file.write(b"\n")
    (tmp_path / "line").write_bytes(b"x" * 30_000_000 + b"\nlast")

    tracemalloc.start()
    _, huge = await call("read_file", path="huge", limit=3)
    _, line = await call("read_file", path="line")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert "[line cut at 2,000 characters]\n3\tthird\n['huge' has 3,221,225,473 bytes and continues; " in huge
    assert line.endswith("x [line cut at 2,000 characters]\n2\tlast")
    assert peak < 5_000_000


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"offset": 4}, "bad_range: 'a' has only 3 lines, so none at offset 4"),
        ({"offset": 0}, "bad_range: offset counts lines from 1, and limit must be 1 or more"),
        ({"limit": 0}, "bad_range: offset counts lines from 1, and limit must be 1 or more"),
        ({"path": "b"}, "not_found: there is no file 'b'; list its folder first"),
        ({"path": "sales.cvs"}, "not_found: there is no file 'sales.cvs'; similar names: sales.csv"),
        ({"path": "a/b"}, "not_found: 'a/b': not a directory"),
        ({"path": "pipe"}, "not_a_regular_file: 'pipe' is a named pipe"),
        (
            {"path": "null"},
            "outside_workspace: file tools can access only the workspace; give a path relative to it",
        ),
    ],
)
async def test_an_error_of_read_file_says_what_to_do(call, tmp_path, arguments, text):
    (tmp_path / "a").write_text("1\n2\n3\n")
    (tmp_path / "sales.csv").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")

    assert await call("read_file", **{"path": "a"} | arguments) == (False, text)


async def test_an_empty_file_and_an_empty_folder_are_described_as_such(call, tmp_path):
    (tmp_path / "a").touch()
    (tmp_path / "b").mkdir()

    assert await call("read_file", path="a") == (True, "'a' is empty")
    assert await call("read_file", path="b") == (True, "'b' is an empty folder")


async def test_a_large_folder_is_listed_in_part(call, tmp_path):
    for number in range(250):
        (tmp_path / f"{number:03}").touch()

    _, text = await call("read_file", path=".")

    assert text.split("\n") == [
        "'.' is a folder:",
        *(f"{number:03}" for number in range(200)),
        "[only the first 200 names are shown]",
    ]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"PAR1\x15\x04", "binary: 'f' is a Parquet file; query it with DuckDB"),
        (b"%PDF-1.7 text", "binary: 'f' is a PDF document"),
        (b"12345678DUCK@\0", "binary: 'f' is a DuckDB database"),
        (b"abc\0def", "binary: 'f' is not text"),
    ],
)
async def test_a15_a_binary_file_is_an_error_that_names_its_kind(call, tmp_path, data, kind):
    (tmp_path / "f").write_bytes(data)

    assert await call("read_file", path="f") == (False, kind)
    assert await call("edit_file", path="f", edits=[{"old_text": "a", "new_text": "b"}]) == (False, kind)


@pytest.mark.parametrize(
    ("encoding", "bom"),
    [
        ("utf-8", b""),
        ("utf-8", b"\xef\xbb\xbf"),
        ("utf-16-le", b"\xff\xfe"),
        ("utf-16-be", b"\xfe\xff"),
        ("latin-1", b""),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
async def test_a15_an_edit_keeps_encoding_byte_order_mark_and_line_ends(call, tmp_path, encoding, bom, end):
    file = tmp_path / "f"
    file.write_bytes(bom + f"é{end}one{end}two  {end}\tü{end}".encode(encoding))

    assert await call("read_file", path="f") == (True, "1\té\n2\tone\n3\ttwo  \n4\t\tü")
    assert (await call("edit_file", path="f", edits=[{"old_text": "one\ntwo", "new_text": "1\n2\n3"}]))[0]
    assert file.read_bytes() == bom + f"é{end}1{end}2{end}3  {end}\tü{end}".encode(encoding)


async def test_bytes_that_are_not_text_survive_an_edit(call, tmp_path):
    rest = b"x" * 70_000 + b"\n\xff\xfe broken \xc3\n\r\n\r"
    (tmp_path / "f").write_bytes("é one\n".encode() + rest)

    assert (await call("edit_file", path="f", edits=[{"old_text": "é one", "new_text": "ü two"}]))[0]
    assert (tmp_path / "f").read_bytes() == "ü two\n".encode() + rest


async def test_a_character_that_the_encoding_lacks_is_an_error(call, tmp_path):
    (tmp_path / "f").write_bytes(b"caf\xe9\n")

    ok, text = await call("edit_file", path="f", edits=[{"old_text": "café", "new_text": "→"}])

    assert (ok, text) == (False, "bad_character: 'f' is encoded as latin-1, which has no '→'")
    assert (tmp_path / "f").read_bytes() == b"caf\xe9\n"


CODE = """\
def first(x):
    if x:
        return 1
    return 2


def second(x):
\tif x:
\t\treturn 3
    return 2
"""


@pytest.mark.parametrize(
    ("old", "text"),
    [
        ("return 2", "not_unique: old_text occurs more than once, at lines 4, 10; include more lines"),
        ("  return  2 ", "not_unique: old_text occurs more than once, at lines 4, 10; include more lines"),
        (
            "def first(x):\n    if not x:\n        return 1",
            "not_found: most similar: lines 1-3; at line 2 the file has '    if x:', old_text has '    if not x:'",
        ),
        (
            "def secnd(y):",
            "not_found: most similar: lines 7-7; at line 7 the file has 'def second(x):', old_text has 'def secnd(y):'",
        ),
        (
            "    return 2\nend",
            "not_found: most similar: lines 4-5; at line 5 the file has '', old_text has 'end'",
        ),
        (
            "1\tdef first(x):\n2\t    if x:",
            "not_found: old_text starts with line numbers; give the text without them",
        ),
        (
            "if x:\nreturn 3",
            "not_found: most similar: lines 8-9; at line 8 the file has '\\tif x:', old_text has 'if x:'",
        ),
        ("zebra", "not_found: neither old_text nor anything similar is in the file; read the file first"),
        ("", "empty: old_text is empty; give the text to replace, or use create_file for a new file"),
        ("new", "same: old_text and new_text are the same; there is nothing to change"),
    ],
)
async def test_b1_b2_b7_an_ambiguous_or_unmatched_edit_is_an_error_and_changes_nothing(call, tmp_path, old, text):
    (tmp_path / "f").write_text(CODE)

    assert await call("edit_file", path="f", edits=[{"old_text": old, "new_text": "new"}]) == (False, text)
    assert (tmp_path / "f").read_text() == CODE


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        # blanks at line ends and within lines
        (
            "def first(x):  \n    if  x:",
            "def first(y):\n    if y:",
            ("def first(x):\n    if x:", "def first(y):\n    if y:"),
        ),
        # indented less than the file
        (
            "if x:\n    return 1\n",
            "if y:\n    if z:\n        pass\n\n",
            ("    if x:\n        return 1\n", "    if y:\n        if z:\n            pass\n\n"),
        ),
        # indented more than the file
        ("    def first(x):\n", "    def first(y):\n        #\n", ("def first(x):\n", "def first(y):\n    #\n")),
        # blanks for tabs
        ("    if x:\n        return 3", "    if x:\n        return 4", ("\t\treturn 3", "\t\treturn 4")),
    ],
)
async def test_b3_a_match_except_for_white_space_is_accepted_and_reported(call, tmp_path, old, new, changed):
    (tmp_path / "f").write_text(CODE)

    ok, text = await call("edit_file", path="f", edits=[{"old_text": old, "new_text": new}])

    assert ok, text
    assert "match=whitespace" in text
    assert (tmp_path / "f").read_text() == CODE.replace(*changed)


async def test_an_indentation_that_the_file_does_not_have_is_an_error(call, tmp_path):
    (tmp_path / "f").write_text(CODE)

    ok, text = await call(
        "edit_file",
        path="f",
        edits=[{"old_text": "        return 3", "new_text": "        for y in x:\n            return y"}],
    )

    assert (ok, text.partition(":")[0]) == (False, "bad_indent")
    assert (tmp_path / "f").read_text() == CODE


async def test_b4_an_edit_changes_only_the_matched_text(call, tmp_path):
    chance = random.Random(7)
    for _ in range(150):
        text = "".join(
            chance.choices(["a", "b", " ", "\t", "\r\n", "\n", "\r", "\u00a0", "“"], k=chance.randrange(1, 40))
        )
        start = chance.randrange(len(text))
        old = text[start : start + chance.randrange(1, 12)]
        (tmp_path / "f").write_bytes(text.encode())

        ok, told = await call("edit_file", path="f", edits=[{"old_text": old, "new_text": "NEW"}])
        after = (tmp_path / "f").read_bytes().decode()

        if ok and "match=whitespace" not in told:
            head, tail = after.split("NEW")
            assert text.startswith(head)
            assert text.endswith(tail)
        elif not ok:
            assert after == text


async def test_b8_simultaneous_edits_of_one_file_are_all_made(call, tmp_path):
    (tmp_path / "f").write_text("\n".join(f"<{number}>" for number in range(20)))

    done = await asyncio.gather(
        *(
            call("edit_file", path="f", edits=[{"old_text": f"<{number}>", "new_text": f"[{number}]"}])
            for number in range(20)
        )
    )

    assert [text for ok, text in done if not ok] == []
    assert (tmp_path / "f").read_text() == "\n".join(f"[{number}]" for number in range(20))


async def test_an_edit_through_a_link_leaves_the_link(call, tmp_path):
    (tmp_path / "f").write_text("one")
    (tmp_path / "l").symlink_to("f")

    assert (await call("edit_file", path="l", edits=[{"old_text": "one", "new_text": ""}]))[0]
    assert (tmp_path / "l").is_symlink()
    assert (tmp_path / "f").read_text() == ""


async def test_b12_an_edited_notebook_stays_valid(call, tmp_path):
    notebook = json.dumps({"cells": [{"source": ["x = 1"]}]})
    (tmp_path / "n.ipynb").write_text(notebook)

    ok, text = await call("edit_file", path="n.ipynb", edits=[{"old_text": "x = 1", "new_text": 'x = "1"'}])

    assert (ok, text.partition(":")[0]) == (False, "bad_notebook")
    assert (tmp_path / "n.ipynb").read_text() == notebook
    assert (await call("edit_file", path="n.ipynb", edits=[{"old_text": "x = 1", "new_text": "x = 2"}]))[0]


@pytest.mark.parametrize(
    ("path", "content", "text"),
    [
        (
            "f",
            "new",
            "exists: 'f' is already a file of 3 bytes, sha256 cba06b5736fa; read it, then change it with edit_file",
        ),
        ("d", "new", "exists: 'd' is already a folder; read it, then change it with edit_file"),
        ("f/g", "new", "not_found: 'f/g': not a directory"),
        ("big", "x" * 1_048_577, "too_large: content is larger than 1,048,576 bytes; write it with code"),
        ("half", "\ud83d", "bad_character: content has an incomplete character at position 0"),
        (".git/config", "x", "protected: tools must not write '.git'; tell the user what should be in it"),
    ],
)
async def test_a11_a_file_that_must_not_be_created_is_an_error(call, tmp_path, path, content, text):
    (tmp_path / "f").write_text("old")
    (tmp_path / "d").mkdir()

    assert await call("create_file", path=path, content=content) == (False, text)
    assert (tmp_path / "f").read_text() == "old"
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["d", "f"]


async def test_a12_a_file_that_is_too_large_is_an_error_before_anything_is_written(call, tmp_path):
    content = "x" * 200_000_000

    tracemalloc.start()
    refusal = await call("create_file", path="new/big", content=content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert refusal == (False, "too_large: content is larger than 1,048,576 bytes; write it with code")
    assert peak < 10_000_000
    assert list(tmp_path.iterdir()) == []


async def test_a16_a_number_given_as_a_string_is_accepted(call, tmp_path):
    (tmp_path / "a").write_text("1\n2\n3\n")

    assert await call("read_file", path="a", offset="2", limit="1") == (
        True,
        "2\t2\n['a' has 6 bytes and continues; read it with offset=3]",
    )
    assert await call("read_file", path="a", offset="-1") == (
        False,
        "bad_range: offset counts lines from 1, and limit must be 1 or more",
    )


async def test_a_part_of_a_file_stays_within_the_byte_limit_for_any_characters(call, tmp_path, config):
    config.tool_output_limit = 1_000_000
    (tmp_path / "f").write_text(("ü" * 999 + "\n") * 100, encoding="utf-8")

    _, text = await call("read_file", path="f")

    assert 45 * 1024 < len(text.encode()) <= 50 * 1024 + 100
    assert text.endswith("read it with offset=26]")


NAMES = [".git/hooks/pre-commit", ".agents/skills/x/SKILL.md", "AGENTS.md", ".mcp.json", ".env", ".vscode/tasks.json"]


@pytest.mark.parametrize("path", [*NAMES, ".ipython/profile_default/startup/x.py", "sub/.ENV.local"])
async def test_a18_neither_a_protected_name_nor_its_folder_is_created(call, tmp_path, path):
    opinion = call.tools["create_file"].judge({"path": path, "content": ""}, "write")
    ok, text = await call("create_file", path=path, content="", thread=1)

    assert (opinion.verdict, opinion.reason) == (Verdict.DENY, text)
    assert (ok, text.partition(":")[0]) == (False, "protected")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", NAMES)
@pytest.mark.parametrize("mode", ["write", "full"])
async def test_a17_a_protected_name_is_not_edited(call, tmp_path, path, mode):
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text("old")
    await call("read_file", path=path, thread=1)
    arguments = {"path": path, "edits": [{"old_text": "old", "new_text": "new"}]}

    opinion = call.tools["edit_file"].judge(arguments, mode)
    ok, text = await call("edit_file", **arguments, thread=1, mode=mode)

    assert (opinion.verdict, opinion.reason) == (Verdict.DENY, text)
    assert (ok, text.partition(":")[0]) == (False, "protected")
    assert (tmp_path / path).read_text() == "old"


async def test_a17_the_history_database_is_neither_read_nor_written_wherever_it_is(tmp_path):
    (tmp_path / "chat.db.wal").write_text("old")
    read, create, edit = file_tools(PianoConfig(workspace=str(tmp_path), database=str(tmp_path / "chat.db")))
    calls = [(read, {"path": "chat.db.wal"}), (create, {"path": "chat.db", "content": ""})]
    calls.append((edit, {"path": "chat.db.wal", "edits": [{"old_text": "old", "new_text": "new"}]}))

    for tool, arguments in calls:
        result = await run_tool(tool, arguments, timeout=60, output_limit=1000)
        assert (result.ok, result.text.partition(":")[0]) == (False, "private")
    assert create.judge(calls[1][1], "write").verdict == Verdict.DENY


def test_a19_a_file_that_the_kernel_would_import_needs_approval(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "here").symlink_to(".")
    judge = call.tools["create_file"].judge

    for path in ("pytest.py", "sub/../pytest.py", str(tmp_path / "pytest.py"), "here/pytest.py"):
        opinion = judge({"path": path, "content": ""}, "write")
        assert (opinion.verdict, opinion.reason) == (
            Verdict.ASK,
            "'pytest.py' would be imported by your kernel, outside the sandbox",
        )
    assert judge({"path": "report.py", "content": ""}, "write").verdict == Verdict.ALLOW
    assert call.tools["edit_file"].judge({"path": "conftest.py", "edits": []}, "full").verdict == Verdict.ASK


def test_a17_a_file_that_would_instruct_agents_needs_approval(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "skills").symlink_to("docs")
    tools = file_tools(PianoConfig(workspace=str(tmp_path), skills_paths=["team/skills"]))
    judge = tools[1].judge

    for path in ("skills/tea.md", "docs/tea/SKILL.md", "./skills/../docs/x.txt", "team/skills/x.md"):
        opinion = judge({"path": path, "content": ""}, "write")
        assert opinion.verdict is Verdict.ASK, path
        assert opinion.reason.endswith("would become part of your skills, which instruct agents")
    assert judge({"path": "docs.md", "content": ""}, "write").verdict is Verdict.ALLOW
    assert tools[2].judge({"path": "skills/tea.md", "edits": []}, "full").verdict is Verdict.ASK


def test_s17_what_an_mcp_server_runs_needs_approval(tmp_path):
    (tmp_path / "weather").mkdir()
    servers = {
        "own": {"command": "python", "args": ["-u", "--run=tools/serve.py", "data.csv", "."]},
        "uv": {"command": "uv", "args": ["--directory", str(tmp_path / "weather"), "run", "main.py"]},
    }
    (tmp_path / ".mcp.json").write_text('{"mcpServers": {"b": {"command": "./bin/serve"}, "c": {"type": "sse"}}}')
    judge = file_tools(PianoConfig(workspace=str(tmp_path), mcp_servers=servers))[1].judge

    for path in ("tools/serve.py", "bin/serve", "weather/main.py"):
        opinion = judge({"path": path, "content": ""}, "write")
        assert opinion.verdict is Verdict.ASK, path
        assert opinion.reason == f"{path!r} is run by an MCP server, outside the sandbox"
    for path in ("data.csv", "tools/data.py", "tools/main.py"):
        assert judge({"path": path, "content": ""}, "write").verdict is Verdict.ALLOW


async def test_in_mode_read_nothing_is_written_and_the_user_is_not_asked(call, tmp_path):
    (tmp_path / "f").write_text("old")
    for name, arguments in (
        ("create_file", {"path": "new", "content": ""}),
        ("edit_file", {"path": "f", "edits": [{"old_text": "old", "new_text": "new"}]}),
    ):
        opinion = call.tools[name].judge(arguments, "read")

        assert opinion.verdict == Verdict.DENY
        assert await call(name, **arguments, thread=1, mode="read") == (False, opinion.reason)
    assert await call("read_file", path="f", thread=1, mode="read") == (True, "1\told")
    assert [each.name for each in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_text() == "old"


def test_an_invalid_path_is_denied_without_asking_the_user(call):
    for path in ("../x", "/etc/passwd", "~/x", 7):
        opinion = call.tools["create_file"].judge({"path": path, "content": ""}, "write")
        assert opinion.verdict == (Verdict.ALLOW if path == 7 else Verdict.DENY)
    assert call.tools["create_file"].judge({"path": "../x"}, "write").reason.startswith("outside_workspace: ")


def test_rules_match_the_path(call):
    assert {each.subject for each in call.tools.values()} == {"path"}
    assert call.tools["read_file"].judge is None


async def test_edits_apply_to_the_result_of_the_one_before_and_all_or_none_is_made(call, tmp_path):
    (tmp_path / "f").write_text("one\ntwo\n  three\n")

    none_made = "not_found: edit 3 of 3 failed, so none was made: "
    made = [{"old_text": "one", "new_text": "1"}, {"old_text": "1\ntwo", "new_text": "2"}]
    assert await call("edit_file", path="f", edits=[*made, {"old_text": "four", "new_text": "4"}]) == (
        False,
        f"{none_made}neither old_text nor anything similar is in the file; read the file first",
    )
    assert (tmp_path / "f").read_text() == "one\ntwo\n  three\n"
    assert await call("edit_file", path="f", edits=[*made, {"old_text": "2\nthree", "new_text": "3"}]) == (
        False,
        f"{none_made}most similar: lines 1-2; at line 2 the file has '  three', old_text has 'three'",
    )
    assert await call("edit_file", path="f", edits=made) == (
        True,
        "edited 'f' at lines 1, 1",
    )
    assert (tmp_path / "f").read_text() == "2\n  three\n"
    assert await call("edit_file", path="f", edits=[{"old_text": "three  ", "new_text": "3"}]) == (
        True,
        "edited 'f' at line 2; match=whitespace at line 2: check the result",
    )
    assert await call("edit_file", path="f", edits=[]) == (
        False,
        "empty: edits is empty; give at least one old_text with its new_text",
    )


async def test_b5_editing_a_file_that_changed_since_it_was_read_is_an_error_with_the_diff(call, tmp_path):
    (tmp_path / "f").write_text("one\ntwo\nthree\nfour\n")
    edit = {"path": "f", "edits": [{"old_text": "four", "new_text": "4"}], "thread": 1}
    await call("read_file", path="f", thread=1, limit=1)
    (tmp_path / "f").write_text("one\nzwei\nthree\nand\nfour\n")

    ok, text = await call("edit_file", **edit)

    assert not ok
    assert text.split("\n") == [
        "stale: 'f' has changed since you read it (sha256 now cd10fba0118b); read it again",
        "@@ line 2 @@",
        "-two",
        "+zwei",
        "@@ line 4 @@",
        "+and",
    ]
    assert (await call("edit_file", **edit))[1] == text
    await call("read_file", path="f", thread=1)
    assert (await call("edit_file", **edit)) == (True, "edited 'f' at line 5")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("a\nb\n", "a\r\nb\r\n", ["[only its encoding or its line ends changed]"]),
        ("a\n", "\0", ["[it is not text any more]"]),
        ("x\n" * 9000, "y\n" * 9000, ["@@ line 1: 9,000 lines were replaced by 9,000 others @@"]),
        ("", "y\n" * 90, ["@@ line 1 @@", *["+y"] * 59, "[31 more lines of this diff]"]),
        ("x" * 300_000, "y", []),
        ("x", "y" * 1000, ["@@ line 1 @@", "-x", "+" + "y" * 298 + "…"]),
    ],
)
async def test_b5_the_diff_is_short_and_quick(call, tmp_path, before, after, told):
    (tmp_path / "f").write_bytes(before.encode())
    await call("read_file", path="f", thread=1)
    (tmp_path / "f").write_bytes(after.encode())

    _, text = await call("edit_file", path="f", edits=[{"old_text": "a", "new_text": "b"}], thread=1)

    if "\0" in after:
        assert text == "binary: 'f' is not text"
    else:
        assert text.split("\n")[1:] == told


async def test_b6_editing_a_file_that_this_thread_never_read_is_an_error(call, tmp_path):
    (tmp_path / "f").write_text("old")
    (tmp_path / "l").symlink_to("f")
    edit = {"path": "f", "edits": [{"old_text": "old", "new_text": "new"}]}
    await call("read_file", path="f", thread=2)

    assert await call("edit_file", **edit, thread=1) == (False, "read_first: read 'f' before you edit it")
    assert (tmp_path / "f").read_text() == "old"
    await call("read_file", path="l", thread=1)
    assert await call("edit_file", **edit, thread=1) == (True, "edited 'f' at line 1")
    assert (await call("edit_file", **edit, thread=2))[1].startswith("stale: ")


async def test_a_file_that_the_thread_created_or_edited_counts_as_read(call):
    await call("create_file", path="f", content="one", thread=1)

    for old, new in (("one", "two"), ("two", "three")):
        assert (await call("edit_file", path="f", edits=[{"old_text": old, "new_text": new}], thread=1))[0]


async def test_b8_the_second_of_two_simultaneous_edits_is_checked_against_the_result_of_the_first(call, tmp_path):
    (tmp_path / "f").write_text("one")
    await call("read_file", path="f", thread=1)
    edits = [[{"old_text": "one", "new_text": "two"}], [{"old_text": "one", "new_text": "three"}]]

    done = await asyncio.gather(*(call("edit_file", path="f", edits=each, thread=1) for each in edits))

    assert sorted(ok for ok, _ in done) == [False, True]
    assert "not_found: " in "".join(text for ok, text in done if not ok)
    assert (tmp_path / "f").read_text() in {"two", "three"}


async def test_b4_quotes_dashes_and_unusual_blanks_elsewhere_stay_as_they_are(call, tmp_path):
    rest = "“quoted” – it’s \u00a0odd…\r\n\u2003x\u200b\n"
    (tmp_path / "f").write_bytes((rest + "def  f( ):\n" + rest).encode())

    ok, text = await call("edit_file", path="f", edits=[{"old_text": "def f( ):  ", "new_text": "def g():"}])

    assert (ok, text) == (True, "edited 'f' at line 3; match=whitespace at line 3: check the result")
    assert (tmp_path / "f").read_bytes() == (rest + "def g():\n" + rest).encode()


async def test_b12_an_invalid_notebook_is_not_created(call, tmp_path):
    assert (await call("create_file", path="a.IPYNB", content="{"))[1].startswith(
        "bad_notebook: 'a.IPYNB' would not be a valid"
    )
    assert (await call("create_file", path="b.ipynb", content="[" * 100_000))[1].startswith("bad_notebook: ")
    assert (await call("create_file", path="c.ipynb", content='{"cells": []}'))[0]


@pytest.mark.parametrize(
    ("edits", "text"),
    [
        ('[{"old_text": "one", "new_text": "two"}]', "edited 'f' at line 1"),
        (['{"old_text": "one", "new_text": "two"}'], "edited 'f' at line 1"),
        ('"[]"', 'edit_file did not run: \'edits\' must be a list, not "\\"[]\\""'),
        ("one -> two", "edit_file did not run: 'edits' must be a list, not \"one -> two\""),
        ('[{"old_text": "one"}]', "edit_file did not run: 'edits[0].new_text' is missing; it must be a string"),
        (
            [{"old_text": "one", "new_text": None}],
            "edit_file did not run: 'edits[0].new_text' must be a string, not null",
        ),
        (
            [{"old_text": "one", "new_text": "two", "all": True}],
            "edit_file did not run: it takes no 'edits[0].all', only old_text, new_text",
        ),
    ],
)
async def test_b13_edits_given_as_a_string_are_parsed_once_and_checked(call, tmp_path, edits, text):
    (tmp_path / "f").write_text("one")

    ok, said = await call("edit_file", path="f", edits=edits)

    assert said == text
    assert (tmp_path / "f").read_text() == ("two" if ok else "one")


async def test_a7_a_socket_is_an_error_and_a_folder_is_listed_without_pianos_own_data(call, tmp_path):
    (tmp_path / ".piano").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "out").symlink_to("/")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))

        assert await call("read_file", path="s") == (False, "not_a_regular_file: 's' is a socket")
        assert await call("read_file", path="") == (
            False,
            "bad_path: a path is one line without control characters or surrounding blanks",
        )
        assert await call("read_file", path=".") == (True, "'.' is a folder:\ndata/\nout\ns")


def test_the_status_says_how_file_tools_are_kept_in_the_workspace():
    assert file_layer() in {
        "files: only within the workspace, paths are checked by the kernel (openat2)",
        "files: only within the workspace, paths are followed step by step, without links (no openat2)",
    }


async def test_d7_keys_and_startup_files_are_protected_if_the_workspace_is_the_home_folder(call, tmp_path, monkeypatch):
    (tmp_path / "ada/.ssh").mkdir(parents=True)
    (tmp_path / "ada/.ssh/id_rsa").write_text("secret")
    (tmp_path / "ada/.bashrc").write_text("alias ll='ls -l'\n")
    (tmp_path / "ada/keys").symlink_to(".ssh")
    judge = call.tools["create_file"].judge

    monkeypatch.setenv("HOME", str(tmp_path / "ada"))

    assert await call("read_file", path="ada/keys/id_rsa") == (
        False,
        "private: this is where the user keeps keys and settings, which tools cannot access",
    )
    for path in ("ada/.ssh/authorized_keys", "ada/.zshenv", "ada/.config/autostart/x.desktop", "ada/bin/ls"):
        assert judge({"path": path}, "write").verdict is Verdict.DENY
        assert not (await call("create_file", path=path, content="x"))[0]
    assert (await call("create_file", path=".xprofile", content="x"))[0]  # of nobody's home


async def test_d13_hidden_names_of_the_home_folder_are_neither_read_nor_listed_unless_the_user_names_them(
    call, config, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (".dbt/profiles.yml", ".config/gh/hosts.yml", ".config/matplotlib/rc", "notes.md"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("secret")
    config.readable_paths = ["~/.config/matplotlib"]

    assert await call("read_file", path=".") == (True, "'.' is a folder:\nnotes.md")
    for path in (".dbt/profiles.yml", ".config/gh/hosts.yml", ".config"):
        assert (await call("read_file", path=path))[1].partition(":")[0] == "private"
    assert await call("read_file", path=".config/matplotlib/rc") == (True, "1\tsecret")
    assert call.tools["create_file"].judge({"path": ".config/matplotlib/x"}, "write").verdict is Verdict.DENY


async def test_d13_control_in_a_folder_that_is_not_the_home_folder_the_same_names_are_read(
    call, tmp_path, tmp_path_factory, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    (tmp_path / ".dbt").mkdir()
    (tmp_path / ".dbt/profiles.yml").write_text("secret")

    assert await call("read_file", path=".dbt/profiles.yml") == (True, "1\tsecret")


async def test_a23_what_a_protected_link_leads_to_is_not_written(call, tmp_path):
    (tmp_path / "deep/.git/hooks").mkdir(parents=True)
    (tmp_path / "deep/.git/hooks/pre-commit").symlink_to("../../check.sh")
    (tmp_path / ".envrc").symlink_to("tools/environment.sh")

    for path in ("tools/environment.sh", "deep/check.sh"):
        assert call.tools["create_file"].judge({"path": path}, "write").verdict is Verdict.DENY
        ok, text = await call("create_file", path=path, content="x")
        assert (ok, text.partition(":")[0]) == (False, "protected")
    assert (await call("create_file", path="deep/other.sh", content="x"))[0]


def test_a21_metadata_of_installed_packages_and_modules_that_python_imports_by_itself_need_approval(call):
    for path in ("x-1.dist-info/entry_points.txt", "x-1.dist-info/METADATA", "a/b/conftest.py", "a/sitecustomize.py"):
        for name in ("create_file", "edit_file"):
            assert call.tools[name].judge({"path": path}, "write").verdict is Verdict.ASK


@pytest.mark.parametrize("name", ["create_file", "edit_file"])
@pytest.mark.parametrize("exchange", ["a link", "another folder", "nothing"])
async def test_e12_a_path_that_leads_elsewhere_than_when_the_call_was_allowed_is_not_written(
    call, config, tmp_path, name, exchange
):
    for folder in ("docs", "skills", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "old.md").write_text("old")
    path = "docs/new.md" if name == "create_file" else "docs/old.md"
    arguments = {"content": "evil"} if name == "create_file" else {"edits": [{"old_text": "old", "new_text": "evil"}]}
    await call("read_file", path=path, thread=1)
    opinion = call.tools[name].judge({"path": path, **arguments}, "write")
    context = ToolCallContext(
        thread_id=UUID(int=1), call_id=UUID(int=1), mode="write", say=print, target=opinion.target
    )
    if exchange != "nothing":
        (tmp_path / "docs").rename(tmp_path / "gone")
    if exchange == "a link":
        (tmp_path / "docs").symlink_to("skills")
    if exchange == "another folder":
        (tmp_path / "other").rename(tmp_path / "docs")

    result = await run_tool(call.tools[name], {"path": path, **arguments}, call=context, timeout=60, output_limit=1000)

    assert opinion.verdict is Verdict.ALLOW
    written = [each for each in tmp_path.rglob("*.md") if each.read_text() == "evil"]
    if exchange == "nothing":
        assert (result.ok, written) == (True, [tmp_path / path])
    else:
        assert (result.ok, result.text.partition(":")[0], written) == (False, "moved", [])


@pytest.mark.parametrize("exchange", ["a link", "another folder"])
async def test_e12_control_a_call_that_is_bound_to_no_place_is_written_elsewhere(call, tmp_path, exchange):
    for folder in ("docs", "other"):
        (tmp_path / folder).mkdir()
    opinion = call.tools["create_file"].judge({"path": "docs/new.md"}, "write")
    (tmp_path / "docs").rename(tmp_path / "gone")
    if exchange == "a link":
        (tmp_path / "docs").symlink_to("other")
    else:
        (tmp_path / "other").rename(tmp_path / "docs")

    assert opinion.verdict is Verdict.ALLOW
    assert (await call("create_file", thread=1, path="docs/new.md", content="evil"))[0]
    assert (tmp_path / "docs/new.md").read_text() == "evil"
