"""Piano's loggers: their records hold no secrets, nothing that steers a terminal, and do not land in notebook cells.

`logging.basicConfig()` sends the records of all libraries to the cell that runs. In a notebook, Piano's own, and those
that libraries make in Piano's service (an HTTP request, a Markdown text), go to log files and to handlers on the logger
`piano_jupyter`, but not to a cell. The libraries' records of the user's own work are not affected.
"""

import logging
import sys
from collections.abc import Callable

from piano_jupyter.secrets.redactor import redact
from piano_jupyter.text.invisible import terminal_text

PACKAGE = "piano_jupyter"
LIBRARIES = ("asyncio", "httpcore", "httpx", "markdown_it")  # that log what they do for Piano
PASSED_OVER = {*LIBRARIES, "anyio", "concurrent", "contextlib", "logging"}  # between a library's record and its caller
FIELDS = ("agent", "model", "what", "detail")  # texts that a record may have as `extra`


class LogMask(logging.Filter):
    """Masks the secrets in log records: those that the open Pianos know, or what looks like one."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[Callable[[str], str]] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask a record."""
        record.msg, record.args = self._masked(record.getMessage()), ()
        for name in FIELDS:
            if isinstance(text := getattr(record, name, None), str):
                setattr(record, name, self._masked(text))
        if record.exc_info and record.exc_info[0] is not None:
            trace = logging.Formatter().formatException(record.exc_info)
            record.exc_text = self._masked(trace)
            if record.exc_text != trace:
                record.exc_info = None  # a handler that formats it again would show the secret
        return True

    def _masked(self, text: str) -> str:
        for mask in self.masks or [redact]:
            text = mask(text)
        return terminal_text(text)


LOGS = LogMask()


def logger(name: str) -> logging.Logger:
    """Return a module's logger."""
    log = logging.getLogger(name)
    log.addFilter(LOGS)
    return log


class _PassOn(logging.Handler):
    """Passes records on to the root logger's handlers; Piano's own, and those made for it, not to those of cells."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Pass a record on, as `propagate` would."""
        for_cells = record.name.partition(".")[0] != PACKAGE and not _called_by_piano()
        for handler in logging.getLogger().handlers:
            if record.levelno >= handler.level and (for_cells or not _writes_to_cell(handler)):
                handler.handle(record)
        return True


_pass_on = _PassOn()


def keep_out_of_cells() -> None:
    """Keep Piano's records, and those made in its service, out of the output of cells."""
    for name in (PACKAGE, *LIBRARIES):
        log = logging.getLogger(name)
        if log.propagate:
            log.propagate = False
            log.addHandler(_pass_on)


def let_into_cells() -> None:
    """Undo `keep_out_of_cells`."""
    for name in (PACKAGE, *LIBRARIES):
        log = logging.getLogger(name)
        if _pass_on in log.handlers:
            log.removeHandler(_pass_on)
            log.propagate = True


def _writes_to_cell(handler: logging.Handler) -> bool:
    """Return whether a handler writes to a standard stream, which in a kernel is the output of the cell that runs."""
    stream = getattr(handler, "stream", None)
    return isinstance(handler, logging.StreamHandler) and (
        stream in (sys.stdout, sys.stderr) or type(stream).__module__.partition(".")[0] in {"ipykernel", PACKAGE}
    )


def in_notebook() -> bool:
    """Return whether this process is a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


def _called_by_piano() -> bool:
    """Return whether the library that logs right now was called by Piano, and not by the user's code (a tool, say)."""
    frame = sys._getframe(1)  # noqa: SLF001  The stack is the one thing that all records of a library have in common.
    while (caller := frame.f_back) is not None:
        frame = caller
        module = str(frame.f_globals.get("__name__", ""))
        package = module.partition(".")[0]
        if module != __name__ and package not in PASSED_OVER:
            return package == PACKAGE
    return False
