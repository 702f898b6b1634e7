"""The last error of a cell: its traceback without the frames of IPython and Piano, and the variables that it is about.

Errors of Piano itself do not count: their sentence says what to do.
"""

import asyncio
import linecache
import re
import sys
import sysconfig
import tokenize
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import StringIO
from textwrap import indent
from types import BuiltinFunctionType, FrameType, FunctionType, ModuleType, TracebackType
from typing import Any

from piano_jupyter.errors import PianoError
from piano_jupyter.text.truncation import shortened
from piano_jupyter.variables.variable_access import INTERNAL_LIBRARIES, look_up

MAX_FRAMES = 20  # of one error
MAX_ERRORS = 5  # that led to each other, or that are in one group
MAX_GROUP_DEPTH = 3
MAX_FRAME_CHARS = 600
MAX_MESSAGE_CHARS = 4_000  # of one error
MAX_TRACEBACK_CHARS = 16_000
MAX_SOURCE_CHARS = 12_000  # of the failing cell
MAX_STATEMENT_LINES = 20
MAX_NAMES = 12
FILE = re.compile(r'(?<=File ")[^"\n]+(?=")')
NAME = re.compile(r"(?<![\w.])[^\W\d]\w*")
EMBEDDED = re.compile(r"\{[^{}]*")  # an expression in an f-string
LIBRARY_FOLDERS = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
NOT_THE_USERS = frozenset({*INTERNAL_LIBRARIES, "codeop"})  #: libraries that run and compile cells
CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"
#: of errors, whatever their classes have under these names
CAUSE_OF, CONTEXT_OF, HIDES_CONTEXT, TRACEBACK_OF = (
    vars(BaseException)[f"__{name}__"].__get__ for name in ("cause", "context", "suppress_context", "traceback")
)
ERRORS_OF = vars(BaseExceptionGroup)["exceptions"].__get__
INTERRUPTED = "(The user interrupted the cell.)\n"


@dataclass(frozen=True, slots=True, eq=False)
class FailedCell:
    """A cell that ended in an error."""

    error: BaseException = field(repr=False)
    source: str
    number: int | None  #: the number in In[ ]

    @property
    def name(self) -> str:
        """How the cell is named to a model."""
        return f"In[{self.number}]" if self.number else "the cell"


class LastError:
    """Remembers the last cell of the user that failed."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self.failed: FailedCell | None = None
        self.of_piano: PianoError | None = None  #: the last error, if it is Piano's own
        self._shown = _last_shown()
        self.note(getattr(shell, "last_execution_result", None))

    def begin(self, *_: object) -> None:
        """Note that a cell begins: what was shown before it is no error of it."""
        self._shown = _last_shown()

    def note(self, result: Any) -> None:
        """Note how a cell ended, as IPython tells it; `%run` shows an error of its file and does not fail itself."""
        error: Any = None
        if result is not None:
            shown = _last_shown()
            errors = (result.error_before_exec, result.error_in_exec, shown if shown is not self._shown else None)
            error = next((each for each in errors if each is not None), None)
        self._shown = _last_shown()
        if error is not None and issubclass(type(error), PianoError):  # its `__class__` may be code
            self.of_piano = error
        elif error is not None:
            self.of_piano = None
            self.failed = FailedCell(error, result.info.raw_cell, result.execution_count)

    def text(self) -> str:
        """Return the source of the failing cell and the traceback; "" if no cell has failed."""
        if self.failed is None:
            return ""
        source = shortened(self.failed.source.rstrip(), MAX_SOURCE_CHARS)
        return f"--- {self.failed.name}, which failed\n{source}\n--- the error\n{self.traceback()}"

    def required_text(self) -> str:
        """Return the same for `{{error}}`. Raises PianoError if no cell has failed."""
        if self.failed is None:
            raise PianoError("no cell has failed, so {{error}} stands for nothing")
        return self.text()

    def traceback(self) -> str:
        """Return the traceback of the failing cell, bounded, with Python's own words; "" if no cell has failed."""
        if self.failed is None:
            return ""
        text = FILE.sub(self._file_name, shortened(_chain_text(self.failed.error), MAX_TRACEBACK_CHARS))
        return text.rstrip("\n")

    def named_values(self) -> dict[str, Any]:
        """Return the variables that the failing lines of the user's code name, innermost first; no modules."""
        found: dict[str, Any] = {}
        for step in reversed(_steps(self.failed.error)[-MAX_FRAMES:]) if self.failed else ():
            frame = step.tb_frame
            is_cell = frame.f_globals is self._shell.user_ns
            if not (is_cell or _is_users_file(frame)):
                continue
            hidden = self._shell.user_ns_hidden if is_cell else {}
            variables = {**frame.f_globals, **frame.f_locals}
            for name in _names(_statement(step)):
                if name in found or name not in variables or len(found) == MAX_NAMES:
                    continue
                value = variables[name]
                if hidden.get(name, frame) is not value and _is_readable(name, value):
                    found[name] = value
        return found

    def _file_name(self, found: re.Match[str]) -> str:
        """Return the name of a file in a traceback; that of a cell is In[number]."""
        named = self._shell.compile.format_code_name(found[0])
        return named[1] if named else found[0]


def _last_shown() -> BaseException | None:
    """Return the last error that IPython has shown."""
    return getattr(sys, "last_value", None)


def _chain_text(error: BaseException) -> str:
    """Return an error and those that led to it, the first of them first, as Python shows them."""
    links: list[str] = []
    one: BaseException | None = error
    seen: set[int] = set()
    while one is not None and id(one) not in seen and len(seen) < MAX_ERRORS:
        seen.add(id(one))
        links.insert(0, _error_text(one))
        if (cause := CAUSE_OF(one)) is not None:
            one, link = cause, CAUSE
        else:
            one, link = None if HIDES_CONTEXT(one) else CONTEXT_OF(one), CONTEXT
        links.insert(0, link)
    return "".join(links[1:])


def _error_text(error: BaseException, depth: int = 0) -> str:
    steps = _steps(error)
    text = "Traceback (most recent call last):\n" if steps else ""
    if len(steps) > MAX_FRAMES:
        half = MAX_FRAMES // 2
        text += _steps_text(steps[:half]) + f"  [... {len(steps) - 2 * half:,} calls left out ...]\n"
        steps = steps[-half:]
    text += _steps_text(steps) + shortened(_message_text(error), MAX_MESSAGE_CHARS)
    if issubclass(type(error), KeyboardInterrupt | asyncio.CancelledError):
        text += INTERRUPTED
    if issubclass(type(error), BaseExceptionGroup) and depth < MAX_GROUP_DEPTH:
        parts = [_error_text(each, depth + 1) for each in ERRORS_OF(error)[:MAX_ERRORS]]
        text += "".join(f"  one of its errors:\n{indent(each, '    ')}" for each in parts)
    return text


def _message_text(error: BaseException) -> str:
    """Return what an error says, or that it says nothing."""
    try:
        return "".join(traceback.format_exception_only(error))
    except Exception:  # noqa: BLE001  An error of the user's, or one that led to it, may raise anything.
        return f"{type(error).__name__}: {_own_text(error)}\n"


def _own_text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:  # noqa: BLE001
        return f"<its text raised {type(failure).__name__}>"


def _steps(error: BaseException) -> list[TracebackType]:
    """Return the steps of a traceback without those in IPython and Piano."""
    steps, step = [], TRACEBACK_OF(error)
    while step is not None:
        library = str(step.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        if library not in NOT_THE_USERS:
            steps.append(step)
        step = step.tb_next
    return steps


def _steps_text(steps: Sequence[TracebackType]) -> str:
    alone = (TracebackType(None, each.tb_frame, each.tb_lasti, each.tb_lineno) for each in steps)
    return "".join(shortened("".join(traceback.format_tb(each)), MAX_FRAME_CHARS) for each in alone)


def _is_users_file(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return not file.startswith((*LIBRARY_FOLDERS, "<"))


def _statement(step: TracebackType) -> str:
    """Return the lines of the statement that a step of a traceback was at."""
    summary = traceback.extract_tb(step, limit=1)[0]
    first = summary.lineno or 0
    lines = range(first, min(summary.end_lineno or first, first + MAX_STATEMENT_LINES) + 1)
    return "".join(linecache.getline(summary.filename, each) for each in lines)


def _names(code: str) -> list[str]:
    """Return the names in a piece of code, none from inside of its strings."""
    names, before = [], ""
    try:
        for token in tokenize.generate_tokens(StringIO(code.strip()).readline):
            if token.type == tokenize.NAME and before != ".":
                names.append(token.string)
            elif token.type == tokenize.STRING and "f" in token.string.partition(token.string[-1])[0].lower():
                names += [name for each in EMBEDDED.findall(token.string) for name in NAME.findall(each)]
            before = token.string
    except (tokenize.TokenError, SyntaxError):  # it is part of a statement
        pass
    return names


def _is_readable(name: str, value: Any) -> bool:
    """Return whether a value says something of an error and may be read, as by `inspect`."""
    kind = type(value)
    if issubclass(kind, ModuleType | BuiltinFunctionType):
        return False
    if issubclass(kind, type | FunctionType) and getattr(value, "__module__", "") != "__main__":
        return False
    try:
        look_up(name, {name: value})
    except PianoError:
        return False
    return True
