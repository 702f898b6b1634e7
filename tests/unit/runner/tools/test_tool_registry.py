"""ToolRegistry and run_tool: whatever a tool does, the result is a text."""

import asyncio
import subprocess
import sys
import threading
from typing import Literal

import pytest

from piano_jupyter.errors import NotFoundError, ToolError
from piano_jupyter.runner.tools.tool_registry import ToolRegistry, make_readable, run_tool
from piano_jupyter.tool import Tool, tool


async def run(function, /, *, timeout=10.0, output_limit=1000, **arguments):
    made = function if isinstance(function, Tool) else tool(function)
    return await run_tool(made, arguments, timeout=timeout, output_limit=output_limit)


@tool
def look(path: str, limit: int = 5, *, deep: bool = False, order: Literal["up", "down"] | None = None) -> object:
    """Look somewhere."""
    return [path, limit, deep, order]


@tool
def edit(edits: list[dict[str, int]], share: float = 0.5) -> object:
    """Make edits."""
    return [edits, share]


def test_the_registry_lists_by_name_and_returns_what_was_replaced():
    registry = ToolRegistry([look])
    again = Tool(name="look", description="Look again.", parameters={}, function=print)

    assert registry.add(edit) is None
    assert registry.add(again) is look
    assert registry.list_available() == [edit, again]
    assert registry.get_tools(["look", "edit", "look"]) == [edit, again]


def test_an_unknown_tool_is_an_error_that_lists_the_known_ones():
    registry = ToolRegistry([look, edit])

    with pytest.raises(NotFoundError, match="no tool named 'lok'; known: look, edit"):
        registry.get_tools(["edit", "lok"])


@pytest.mark.parametrize(
    ("called", "arguments", "text"),
    [
        (look, {"path": "a", "limit": "10", "deep": "True"}, '["a", 10, true, null]'),
        (look, {"path": 7, "limit": 3.0, "deep": None}, '["7", 3, false, null]'),
        (look, {"path": "a", "order": "up"}, '["a", 5, false, "up"]'),
        (edit, {"edits": '[{"a": 1}]', "share": "1e-1"}, '[[{"a": 1}], 0.1]'),
        (edit, {"edits": ['{"a": "1"}']}, '[[{"a": 1}], 0.5]'),
    ],
)
async def test_arguments_that_are_nearly_right_are_corrected(called, arguments, text):
    result = await run(called, **arguments)

    assert (result.ok, result.text) == (True, text)


@pytest.mark.parametrize(
    ("called", "arguments", "text"),
    [
        (look, {}, "look did not run: 'path' is missing; it must be a string"),
        (look, {"file": "a"}, "look did not run: it takes no 'file', only path, limit, deep, order"),
        (look, {"path": "a", "limit": "ten"}, """look did not run: 'limit' must be a whole number, not "ten\""""),
        (look, {"path": "a", "limit": True}, "look did not run: 'limit' must be a whole number, not true"),
        (look, {"path": None}, "look did not run: 'path' must be a string, not null"),
        (look, {"path": "a", "order": "on"}, """look did not run: 'order' must be "up" or "down" or null, not "on\""""),
        (edit, {"edits": "[{]"}, """edit did not run: 'edits' must be a list, not "[{]\""""),
        (edit, {"edits": [{"a": []}]}, "edit did not run: 'edits[0].a' must be a whole number, not []"),
    ],
)
async def test_a_wrong_call_names_the_argument_and_what_was_expected(called, arguments, text):
    result = await run(called, **arguments)

    assert (result.ok, result.text) == (False, text)


async def test_a_pair_is_checked_for_its_types_and_length():
    def between(ends: tuple[int, str]) -> object:
        """Look between two ends."""
        return ends

    assert (await run(between, ends="[1, 2]")).text == '[1, "2"]'
    assert (await run(between, ends=[1])).text == "between did not run: 'ends' must have 2 items, not 1"


async def test_a_custom_schema_may_allow_several_types_and_forbid_an_argument():
    schema = {"type": "object", "properties": {"a": {"type": ["integer", "null"]}, "b": False}}
    made = Tool(name="t", description="T.", parameters=schema, function=lambda a: f"{a!r}")

    assert (await run(made, a="7")).text == "7"
    assert (await run(made, a=None)).text == "None"
    assert (await run(made, a="x")).text == """t did not run: 'a' must be a whole number or null, not "x\""""
    assert (await run(made, a={1})).text == "t did not run: 'a' must be a whole number or null, not set"
    assert (await run(made, a=1, b=1)).text == "t did not run: 'b' is not expected"


async def test_a_schema_with_other_keywords_is_checked_by_the_validator():
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}
    made = Tool(name="t", description="T.", parameters=schema, function=lambda n: n)
    broken = Tool(name="t", description="T.", parameters={"type": "thing", "not": {}}, function=print)

    assert (await run(made, n="3")).text == "3"
    assert (await run(made, n=0)).text == "t did not run: 'n': 0 is less than the minimum of 1"
    assert (await run(broken)).text.startswith("t did not run: its schema is wrong")


def test_a_tool_made_from_a_function_does_not_load_the_validator():
    program = """if True:
        import asyncio, sys
        from piano_jupyter.runner.tools.tool_registry import run_tool
        from piano_jupyter.tool import tool
        @tool
        def double(n: int) -> int:
            "Double it."
            return 2 * n
        result = asyncio.run(run_tool(double, {"n": "2"}, timeout=5, output_limit=100))
        print(result.text, "jsonschema_rs" in sys.modules)"""

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout == "4 False\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        (None, "it ran and returned nothing"),
        ({"grün": [1, None]}, '{"grün": [1, null]}'),
        ({1}, "{1}"),
        ("\x1b[31mred\x1b[0m \x1b]0;title\x07bell\x07\r\nnext\ttab\x00", "red bell\nnext\ttab"),
        ("half \ud83d", "half \ufffd"),
    ],
)
async def test_what_a_tool_returns_becomes_plain_text(value, text):
    def give() -> object:
        """Give it."""
        return value

    assert (await run(give)).text == text


async def test_a_result_that_is_too_long_keeps_its_head_and_its_tail():
    def much() -> str:
        """Give much."""
        return "a" * 3_000_000 + "\x1b[0mb" * 1000

    result = await run(much, output_limit=300)

    assert len(result.text) <= 300
    assert result.text.startswith("aaa")
    assert result.text.endswith("bbb")
    assert "[... 3,004,760 characters left out ...]" in result.text


def test_a_text_that_fits_is_left_as_it_is():
    assert make_readable("x" * 50, 50) == "x" * 50


@pytest.mark.parametrize("char", ["\u202e", "\u2066", "\u200b", "\U000e0041"])
async def test_f22_invisible_characters_that_any_tool_returns_prints_or_raises_are_named(char):
    def give() -> str:
        """Give it."""
        print(f"printed{char}")
        return f"returned{char}"

    async def fail() -> None:
        """Fail."""
        raise ToolError(f"raised{char}")

    def crash() -> None:
        """Crash."""
        raise ValueError(f"crashed{char}")

    name = f"<U+{ord(char):04X}>"
    assert (await run(give)).text == f"printed{name}\nreturned{name}"
    assert (await run(fail)).text == f"raised{name}"
    assert (await run(crash)).text.startswith(f"ValueError: crashed{name}")


@pytest.mark.parametrize("char", ["\u202e", "\u2066", "\u200b", "\U000e0041"])
async def test_f22_control_the_tool_itself_gives_them_as_they_are(char):
    def give() -> str:
        """Give it."""
        return f"returned{char}"

    assert tool(give).function() == f"returned{char}"
    assert not char.isprintable()


async def test_f22_a_thousand_invisible_characters_make_a_result_no_longer_than_its_limit():
    def much() -> str:
        """Give much."""
        return "\U000e0041" * 1000

    result = await run(much, output_limit=300)

    assert len(result.text) <= 300
    assert "[... 8,760 characters left out ...]" in result.text


async def test_what_a_tool_prints_is_in_its_result_and_nowhere_else(capsys):
    heard = threading.Event()

    def chat() -> str:
        """Print and return."""
        print("from the tool")
        print("\tand more", end="")
        threading.Thread(target=lambda: (print("from elsewhere"), heard.set())).start()
        assert heard.wait(10)
        return "returned"

    async def mumble() -> None:
        """Print on the loop."""
        print("mumbled")
        await asyncio.sleep(0)
        sys.stdout.writelines(["t", "oo"])
        assert not sys.stdout.isatty()

    texts = [(await run(chat)).text, (await run(mumble)).text]

    assert texts == ["from the tool\n\tand more\nreturned", "mumbled\ntoo"]
    assert capsys.readouterr().out == "from elsewhere\n"


async def test_the_result_of_a_tool_error_is_its_message():
    def refuse() -> None:
        """Refuse."""
        raise ToolError("not_found: there is no such table")

    result = await run(refuse)

    assert (result.ok, result.text) == (False, "not_found: there is no such table")


def _fails(n: int) -> int:
    """Fail."""
    return int("x" * n)


async def _fails_later(n: int) -> int:
    """Fail on the loop."""
    await asyncio.sleep(0)
    return _fails(n)


@pytest.mark.parametrize("function", [_fails, _fails_later])
async def test_the_result_of_an_exception_is_its_name_message_and_line(function):
    result = await run(function, n=2)

    assert not result.ok
    assert result.text.startswith("ValueError: invalid literal for int() with base 10: 'xx' (line ")
    assert result.text.endswith('in _fails: return int("x" * n))')


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration(), asyncio.CancelledError()])
async def test_a_tool_cannot_end_the_kernel_or_the_turn(error):
    def plain() -> None:
        """Raise."""
        raise error

    async def coroutine() -> None:
        """Raise on the loop."""
        raise error

    results = [await run(plain), await run(coroutine)]

    assert [each.ok for each in results] == [False, False]
    assert type(error).__name__ in results[0].text


async def test_a_plain_function_that_returns_an_awaitable_is_awaited():
    async def later() -> str:
        return "later"

    def now() -> object:
        """Return something to wait for."""
        return later()

    assert (await run(now)).text == "later"


async def test_a_tool_that_hangs_is_given_up_and_says_that_it_may_still_run():
    go_on = threading.Event()

    def hang() -> None:
        """Hang."""
        go_on.wait(30)

    result = await run(hang, timeout=0.05)
    go_on.set()

    assert (result.ok, result.text) == (False, "timeout: hang did not finish within 0.05 s; it may still be running")


async def test_a_coroutine_that_hangs_is_cancelled():
    ended = asyncio.Event()

    async def hang() -> None:
        """Hang."""
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    result = await run(hang, timeout=0.05)

    assert (result.ok, result.text) == (False, "timeout: hang did not finish within 0.05 s")
    assert ended.is_set()


async def test_a_cancelled_call_ends_although_its_thread_continues():
    started, go_on, finished = threading.Event(), threading.Event(), threading.Event()

    def hang() -> None:
        """Hang."""
        started.set()
        go_on.wait(30)
        finished.set()

    call = asyncio.create_task(run(hang))
    assert await asyncio.to_thread(started.wait, 10)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert not finished.is_set()
    go_on.set()
    assert finished.wait(10)


async def test_plain_tools_run_outside_the_event_loop():
    meet = threading.Barrier(2, timeout=10)

    def come() -> str:
        """Wait for the other."""
        return f"came {meet.wait() >= 0}"

    results = await asyncio.gather(run(come), run(come))

    assert [each.text for each in results] == ["came True", "came True"]
