"""read_file, create_file and edit_file, called as a model calls them; bash is in test_shell.py."""

import asyncio
import json
import os
import random
import tracemalloc

import pytest

from piano_jupyter.config import PianoConfig
from piano_jupyter.runner.bash_tool import BashTool
from piano_jupyter.runner.builtin_tools import builtin_tools
from piano_jupyter.runner.tools import run_tool


@pytest.fixture
def limits():
    return {"output": 30_000}


@pytest.fixture
def call(tmp_path, limits):
    """Call a tool in an empty workspace; return whether it went well, and its text."""
    tools = {
        each.name: each
        for each in builtin_tools(lambda: tmp_path, output_limit=lambda: limits["output"], bash=BashTool(PianoConfig()))
    }

    async def call(name, **arguments):
        result = await run_tool(tools[name], arguments, timeout=60, output_limit=limits["output"])
        return result.ok, result.text

    return call


def test_there_are_four_tools_and_none_asks_whatever_the_call(tmp_path):
    tools = builtin_tools(lambda: tmp_path, output_limit=lambda: 1, bash=BashTool(PianoConfig()))

    assert {each.name: each.asks for each in tools} == {
        "read_file": False,
        "create_file": False,
        "edit_file": False,
        "bash": False,
    }
    assert all("example" in each.description for each in tools)


async def test_a_file_is_created_read_and_edited(call, tmp_path):
    assert await call("create_file", path="src/a.py", content="one\ntwo\n") == (
        True,
        "created 'src/a.py': 2 lines, 8 bytes",
    )
    assert await call("edit_file", path="src/a.py", old_text="two", new_text="zwei\ndrei") == (
        True,
        "edited 'src/a.py' at line 2",
    )
    assert await call("read_file", path="src/a.py") == (True, "1\tone\n2\tzwei\n3\tdrei")
    assert await call("read_file", path=".") == (True, "'.' is a folder:\nsrc/")
    assert (tmp_path / "src" / "a.py").read_text() == "one\nzwei\ndrei\n"


async def test_a_long_file_comes_in_parts_that_say_how_to_go_on(call, tmp_path, limits):
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
    limits["output"] = 500
    assert len((await call("read_file", path="log"))[1]) < 500


async def test_a_huge_file_and_a_huge_line_take_no_memory(call, tmp_path):
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

    assert "[line cut at 2,000 characters]\n3\tthird\n['huge' has 3,221,225,473 bytes and goes on; " in huge
    assert line.endswith("x [line cut at 2,000 characters]\n2\tlast")
    assert peak < 5_000_000


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"offset": 4}, "bad_range: 'a' has 3 lines, none at offset 4"),
        ({"offset": 0}, "bad_range: offset counts lines from 1, and limit must be 1 or more"),
        ({"limit": 0}, "bad_range: offset counts lines from 1, and limit must be 1 or more"),
        ({"path": "b"}, "not_found: there is no file 'b'; list its folder first"),
        ({"path": "sales.cvs"}, "not_found: there is no file 'sales.cvs'; near it: sales.csv"),
        ({"path": "a/b"}, "not_found: 'a/b': not a directory"),
        ({"path": "pipe"}, "not_a_regular_file: 'pipe' is a named pipe"),
        (
            {"path": "null"},
            "outside_workspace: file tools reach only what is in the workspace; give a path relative to it",
        ),
    ],
)
async def test_what_cannot_be_read_is_refused_with_the_way_out(call, tmp_path, arguments, text):
    (tmp_path / "a").write_text("1\n2\n3\n")
    (tmp_path / "sales.csv").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")

    assert await call("read_file", **{"path": "a"} | arguments) == (False, text)


async def test_an_empty_file_and_an_empty_folder_say_so(call, tmp_path):
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
        "[and more than these 200]",
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
async def test_a_binary_file_is_refused_with_its_kind(call, tmp_path, data, kind):
    (tmp_path / "f").write_bytes(data)

    assert await call("read_file", path="f") == (False, kind)
    assert await call("edit_file", path="f", old_text="a", new_text="b") == (False, kind)


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
async def test_an_edit_keeps_encoding_byte_order_mark_and_line_ends(call, tmp_path, encoding, bom, end):
    file = tmp_path / "f"
    file.write_bytes(bom + f"é{end}one{end}two  {end}\tü{end}".encode(encoding))

    assert await call("read_file", path="f") == (True, "1\té\n2\tone\n3\ttwo  \n4\t\tü")
    assert (await call("edit_file", path="f", old_text="one\ntwo", new_text="1\n2\n3"))[0]
    assert file.read_bytes() == bom + f"é{end}1{end}2{end}3  {end}\tü{end}".encode(encoding)


async def test_bytes_that_are_no_text_survive_an_edit(call, tmp_path):
    rest = b"x" * 70_000 + b"\n\xff\xfe broken \xc3\n\r\n\r"
    (tmp_path / "f").write_bytes("é one\n".encode() + rest)

    assert (await call("edit_file", path="f", old_text="é one", new_text="ü two"))[0]
    assert (tmp_path / "f").read_bytes() == "ü two\n".encode() + rest


async def test_a_character_that_the_encoding_lacks_is_refused(call, tmp_path):
    (tmp_path / "f").write_bytes(b"caf\xe9\n")

    ok, text = await call("edit_file", path="f", old_text="café", new_text="→")

    assert (ok, text) == (False, "bad_character: 'f' is latin-1, which has no '→'")
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
        ("return 2", "not_unique: old_text is there more than once, at lines 4, 10; add lines around it"),
        ("  return  2 ", "not_unique: old_text is there more than once, at lines 4, 10; add lines around it"),
        (
            "def first(x):\n    if not x:\n        return 1",
            "not_found: nearest are lines 1-3; at line 2 the file has '    if x:', old_text has '    if not x:'",
        ),
        (
            "def secnd(y):",
            "not_found: nearest are lines 7-7; at line 7 the file has 'def second(x):', old_text has 'def secnd(y):'",
        ),
        (
            "    return 2\nend",
            "not_found: nearest are lines 4-5; at line 5 the file has '', old_text has 'end'",
        ),
        (
            "1\tdef first(x):\n2\t    if x:",
            "not_found: old_text has line numbers at its start; give the text without them",
        ),
        (
            "if x:\nreturn 3",
            "not_found: nearest are lines 8-9; at line 8 the file has '\\tif x:', old_text has 'if x:'",
        ),
        ("zebra", "not_found: old_text is not in the file, nor is anything like it; read the file first"),
        ("", "empty: old_text is empty; give the text to replace, or use create_file for a new file"),
        ("new", "same: old_text and new_text are equal; there is nothing to change"),
    ],
)
async def test_an_edit_that_is_not_certain_is_refused_and_changes_nothing(call, tmp_path, old, text):
    (tmp_path / "f").write_text(CODE)

    assert await call("edit_file", path="f", old_text=old, new_text="new") == (False, text)
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
async def test_a_match_but_for_white_space_is_taken_and_told(call, tmp_path, old, new, changed):
    (tmp_path / "f").write_text(CODE)

    ok, text = await call("edit_file", path="f", old_text=old, new_text=new)

    assert ok, text
    assert "matched but for white space" in text
    assert (tmp_path / "f").read_text() == CODE.replace(*changed)


async def test_an_indentation_that_the_file_does_not_have_is_refused(call, tmp_path):
    (tmp_path / "f").write_text(CODE)

    ok, text = await call(
        "edit_file", path="f", old_text="        return 3", new_text="        for y in x:\n            return y"
    )

    assert (ok, text.partition(":")[0]) == (False, "bad_indent")
    assert (tmp_path / "f").read_text() == CODE


async def test_an_edit_changes_nothing_beside_the_text_that_was_meant(call, tmp_path):
    chance = random.Random(7)
    for _ in range(150):
        text = "".join(
            chance.choices(["a", "b", " ", "\t", "\r\n", "\n", "\r", "\u00a0", "“"], k=chance.randrange(1, 40))
        )
        start = chance.randrange(len(text))
        old = text[start : start + chance.randrange(1, 12)]
        (tmp_path / "f").write_bytes(text.encode())

        ok, told = await call("edit_file", path="f", old_text=old, new_text="NEW")
        after = (tmp_path / "f").read_bytes().decode()

        if ok and "white space" not in told:
            head, tail = after.split("NEW")
            assert text.startswith(head)
            assert text.endswith(tail)
        elif not ok:
            assert after == text


async def test_two_edits_at_once_are_both_there(call, tmp_path):
    (tmp_path / "f").write_text("\n".join(f"<{number}>" for number in range(20)))

    done = await asyncio.gather(
        *(call("edit_file", path="f", old_text=f"<{number}>", new_text=f"[{number}]") for number in range(20))
    )

    assert all(ok for ok, _ in done)
    assert (tmp_path / "f").read_text() == "\n".join(f"[{number}]" for number in range(20))


async def test_an_edit_through_a_link_leaves_the_link(call, tmp_path):
    (tmp_path / "f").write_text("one")
    (tmp_path / "l").symlink_to("f")

    assert (await call("edit_file", path="l", old_text="one", new_text=""))[0]
    assert (tmp_path / "l").is_symlink()
    assert (tmp_path / "f").read_text() == ""


async def test_a_notebook_stays_one(call, tmp_path):
    notebook = json.dumps({"cells": [{"source": ["x = 1"]}]})
    (tmp_path / "n.ipynb").write_text(notebook)

    ok, text = await call("edit_file", path="n.ipynb", old_text="x = 1", new_text='x = "1"')

    assert (ok, text.partition(":")[0]) == (False, "bad_notebook")
    assert (tmp_path / "n.ipynb").read_text() == notebook
    assert (await call("edit_file", path="n.ipynb", old_text="x = 1", new_text="x = 2"))[0]


@pytest.mark.parametrize(
    ("path", "content", "text"),
    [
        ("f", "new", "exists: 'f' is already a file of 3 bytes; read it, then change it with edit_file"),
        ("d", "new", "exists: 'd' is already a folder; read it, then change it with edit_file"),
        ("f/g", "new", "exists: 'f/g': file exists"),
        ("big", "x" * 1_048_577, "too_large: content has 1,048,577 bytes, more than 1,048,576; write it with code"),
        ("half", "\ud83d", "bad_character: content has half a character at position 0"),
        (".git/config", "x", "protected: tools do not write '.git'; tell the user what should be in it"),
    ],
)
async def test_a_file_that_must_not_be_created_is_refused(call, tmp_path, path, content, text):
    (tmp_path / "f").write_text("old")
    (tmp_path / "d").mkdir()

    assert await call("create_file", path=path, content=content) == (False, text)
    assert (tmp_path / "f").read_text() == "old"
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["d", "f"]
