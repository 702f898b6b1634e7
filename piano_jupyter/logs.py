"""Loggers whose records hold no secrets and nothing that steers a terminal: neither words nor tracebacks."""

import logging
from collections.abc import Callable

from piano_jupyter.secrets.redactor import redact
from piano_jupyter.text.invisible import terminal_text


class LogMask(logging.Filter):
    """Masks what is logged, with what each open Piano knows, or else by the secrets' shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[Callable[[str], str]] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask a record."""
        record.msg, record.args = self._masked(record.getMessage()), ()
        if record.exc_info and record.exc_info[0] is not None:
            trace = logging.Formatter().formatException(record.exc_info)
            record.exc_text = self._masked(trace)
            if record.exc_text != trace:
                record.exc_info = None  # who formats it anew would show what was taken out
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
