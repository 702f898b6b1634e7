"""TAB completion after %piano and %%piano: sub-commands, options, and names of agents, threads, models and so on.

The usage of each sub-command (`magic/catalog.py`) says what can be completed where. Names come from an open Piano; if
it does not answer in time, its answer is used at the next TAB.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

from piano_jupyter.jupyter.context.special_names import QuestionVariables
from piano_jupyter.jupyter.magic.command import Command
from piano_jupyter.jupyter.magic.completion_names import TABLES, CompletionNames, Peek, matching_files
from piano_jupyter.text.quoting import quoted

MAX_COMPLETIONS = 100
LINE_MAGIC = re.compile(r"""\s*(?:[\w.\[\]'", ]+=\s*)?%piano\s+(.*)""", re.DOTALL)
CELL_MAGIC = re.compile(r"\s*%%piano(?:\s+(.*))?")
FIRST_LINE = re.compile(r"\s*%%(\w+)")
PYTHON_CELL_MAGICS = frozenset({"capture", "debug", "prun", "time", "timeit"})  # cell magics whose body is Python
LAST_HANDLE = re.compile(r"(?:^|\s)(@[\w.-]*)$")
LEADING_HANDLES = re.compile(r"\s*(?:@[\w.-]+[,:]?\s+)*@[\w.-]*")
MAPPED_TABLE = re.compile(r"\s*%%?piano\s.*?--map(?:=|\s+)(\w+)")
OPEN_PLACEHOLDER = re.compile(r"\{\{[^{}]*$")
IMAGE_PATH = re.compile(r"""\s*image\(((?P<quote>["']?)([^"']*))""")
MCP_TEXT = re.compile(r"\s*(mcp\(.*)")
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".webp")
SQL_WORD = re.compile(r"(?:\b(from|join)\s+)?(\w*)$", re.IGNORECASE)
WORD = re.compile(r"""(?:"(?:[^"\\]|\\.)*(?:"|$)|'(?:[^'\\]|\\.)*(?:'|$)|\S)+""")


class NoCompletions(list[SimpleCompletion]):
    """An empty list that suppresses IPython's own completions: IPython ignores `suppress` if the length is 0."""

    def __len__(self) -> int:
        """Return 1."""
        return 1


class CompletionPoint(NamedTuple):
    """The word at the cursor, and what it can be."""

    kinds: tuple[str, ...]  #: what it can be: "option", SUB-COMMAND, AGENT, THREAD, ..., "agent|model|day"
    written: str  #: the part typed so far
    command: Command | None = None


def completion_point(typed: str, commands: Mapping[str, Command], *, is_cell: bool = False) -> CompletionPoint | None:
    """Return what can be completed at the end of `typed`, the text after %piano or %%piano; None in free text."""
    found = list(WORD.finditer(typed))
    words = [match[0] for match in found]
    if not found or found[-1].end() < len(typed):
        words.append("")
    name, *rest = words
    if is_cell and not (rest and name in commands and commands[name].cell):
        asked = _argument(words, typed, commands["ask"])
        if rest or name[:1] in {"-", "@"}:
            return asked
        return CompletionPoint(("cell", *(asked.kinds if asked else ())), name, commands["ask"])
    if not rest:
        return CompletionPoint(("SUB-COMMAND",), name)
    if name not in commands:
        return CompletionPoint((), words[-1])
    return _argument(rest, typed[found[0].end() :].lstrip(), commands[name])


def _argument(words: list[str], typed: str, command: Command) -> CompletionPoint | None:
    """Return what can be completed at the last of the words after a sub-command."""
    value, positional, options = "", 0, 0  # the value expected next; words and options seen so far
    *before, written = words
    for word in before:
        option, is_given, _ = word.partition("=")
        if value:
            value = ""
        elif option in command.options:
            value, options = "" if is_given else command.options[option], options + 1
        elif not (command.asks and word.startswith("@")):
            positional += 1
    option, is_given, rest = written.partition("=")
    if not value and is_given and option in command.options:
        value, written = command.options[option], rest
    if value:
        return CompletionPoint(
            (value.removesuffix(",…"),), written.rpartition(",")[2].lstrip() if "…" in value else written
        )
    if command.name == "sql":
        after, word = SQL_WORD.search(typed).groups()  # type: ignore[union-attr]  # it always matches
        return CompletionPoint(("TABLE",) if after else ("TABLE", "COLUMN"), word)
    if positional and command.is_text:
        return CompletionPoint((), written) if written.startswith("@") else None
    kind = command.takes.partition(" ")[0].strip("[]@")
    if command.asks and not written.startswith("@"):
        kind = ""
    elif kind == "THREAD" and positional and not options and not written.startswith("-"):  # titles need no quotes here
        return CompletionPoint((kind,), typed)
    elif positional:
        kind = ""
    kinds = tuple(filter(None, [kind if not written.startswith("-") else "", "option"]))
    return CompletionPoint(kinds, written, command)


def candidates(where: CompletionPoint, commands: Mapping[str, Command], names: Callable[[str], list[str]]) -> list[str]:
    """Return the completions at a point, quoted where needed; `names` returns the names of a kind."""
    found: list[str] = []
    for kind in where.kinds:
        if kind in {"SUB-COMMAND", "cell"}:
            known = [each for each in sorted(commands) if kind != "cell" or commands[each].cell]
            found += _starting_with(where.written, known)
        elif kind == "option":
            found += _starting_with(where.written, where.command.options if where.command else ())
        else:
            for part in kind.split("|"):
                known = [part] if part.islower() else _names_of(part, where.written, commands, names)
                if part == "AGENT" and where.written.startswith("@"):
                    found += _starting_with(where.written, [f"@{name}" for name in known])
                else:
                    found += map(_quoted, _starting_with(where.written.lstrip("\"'"), known))
    return found[:MAX_COMPLETIONS]


def _quoted(name: str) -> str:
    """Return a name in quotes if it needs them; those around a folder stay open, since a file in it comes next."""
    written = quoted(name)
    return written[:-1] if name.endswith("/") and written != name else written


def _names_of(kind: str, written: str, commands: Iterable[str], names: Callable[[str], list[str]]) -> list[str]:
    if kind == "FILE":
        return matching_files(written.lstrip("\"'"))
    fixed = {"SUB-COMMAND": sorted(commands), "TABLE": [*TABLES]}
    return fixed[kind] if kind in fixed else names(kind)


def _starting_with(written: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.casefold().startswith(written.casefold())]


def register(shell: Any, peek: Peek, variables: Callable[[], Mapping[str, Any]] = dict) -> Callable[[], None]:
    """Let a shell complete the words after %piano; return a function that undoes it.

    `peek` runs a verb of the Piano if it is open.
    """
    names = CompletionNames(peek, variables)

    @context_matcher(identifier="piano_jupyter.completion", priority=1000)
    def matcher(context: CompletionContext) -> SimpleMatcherResult:
        if (written := _open_placeholder(context)) is not None:
            if path := IMAGE_PATH.fullmatch(written):
                return _answer(path[1], [SimpleCompletion(text, type="file") for text in _image_files(*path.groups())])
            if text := MCP_TEXT.fullmatch(written):
                texts = _starting_with(text[1].replace("'", '"'), names.of("MCP"))
                return _answer(text[1], [SimpleCompletion(each, type="function") for each in texts[:MAX_COMPLETIONS]])
            from piano_jupyter.jupyter.context.placeholder_names import placeholder_names  # noqa: PLC0415  At the first TAB.
            from piano_jupyter.jupyter.magic.map_option import columns_of  # noqa: PLC0415

            table = MAPPED_TABLE.match(context.full_text)
            columns = columns_of(variables().get(table[1])) if table else []
            known = dict.fromkeys(columns) or QuestionVariables(shell, variables())
            fragment, found = placeholder_names(written, known)
            return _answer(fragment, [SimpleCompletion(text, type="variable") for text in found[:MAX_COMPLETIONS]])
        on = _typed(context.full_text, context.cursor_line, context.text_until_cursor)
        if on is None:
            return {"completions": []}
        from piano_jupyter.jupyter.magic.catalog import COMMANDS  # noqa: PLC0415  Loaded at the first TAB.

        typed, is_cell = on
        where = completion_point(typed, COMMANDS, is_cell=is_cell)
        if where is None:
            return {"completions": []}
        found = candidates(where, COMMANDS, names.of)
        offered = [SimpleCompletion(text, type=getattr(text, "about", where.kinds[0].lower())) for text in found]
        return _answer(where.written, offered)

    shell.Completer.custom_matchers.append(matcher)
    return partial(shell.Completer.custom_matchers.remove, matcher)


def _answer(fragment: str, offered: list[SimpleCompletion]) -> SimpleMatcherResult:
    """Return completions for a part of the text; those of IPython are left out."""
    return {
        "completions": offered or NoCompletions(),
        "matched_fragment": fragment,
        "ordered": True,
        "suppress": True,
    }


def _open_placeholder(context: CompletionContext) -> str | None:
    """Return what stands after an open `{{` of a question; None elsewhere."""
    line = context.text_until_cursor
    found = OPEN_PLACEHOLDER.search(line)
    magic = FIRST_LINE.match(context.full_text)
    is_question = LINE_MAGIC.fullmatch(line) or (magic and magic[1] == "piano")
    return found[0][2:] if found and is_question else None


def _image_files(_written: str, quote: str, path: str) -> list[str]:
    """Return the images and folders that `{{image("…` can go on with; a folder stays open for what is in it."""
    quote = quote or '"'
    found = [each for each in matching_files(path) if each.lower().endswith(("/", *IMAGE_ENDINGS))]
    return [f"{quote}{each}" + ("" if each.endswith("/") else f"{quote})") for each in found[:MAX_COMPLETIONS]]


def _typed(text: str, line_number: int, line: str) -> tuple[str, bool] | None:
    """Return the text from %piano to the cursor, and whether it is %%piano; None elsewhere."""
    magic = FIRST_LINE.match(text)
    first = magic.string[: magic.end()].count("\n") if magic else 0
    if magic is None or (magic[1] in PYTHON_CELL_MAGICS and line_number > first):
        on_line = LINE_MAGIC.fullmatch(line)
        return (on_line[1], False) if on_line else None
    if magic[1] != "piano":
        return None
    lines = text.split("\n")
    if line_number == first:
        here = CELL_MAGIC.fullmatch(line)
        return (here[1], True) if here and here[1] is not None else None
    body = "\n".join([*lines[first + 1 : line_number], line])
    if lines[first].split()[1:2] == ["sql"]:
        return f"sql {body}", False
    handle = LAST_HANDLE.search(line)
    if handle is None:
        return None
    return (handle[1], True) if LEADING_HANDLES.fullmatch(body) else (f"ask … {handle[1]}", False)
