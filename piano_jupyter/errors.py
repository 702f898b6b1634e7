"""What can go wrong, as a tree.

* PianoError
  x StoreError
    - StoreLockedError
  x NotFoundError
  x ModelError
    - ModelUnavailableError
    - ModelNotServedError
    - ModelRefusedError
    - ModelTimeoutError
    - ContextOverflowError
  x ToolError
  x SkillError
  x TurnLimitError

Each says in one sentence what is wrong and what to do; a face shows the sentence, without a traceback. A sentence may
quote a server or a file, so it is made fit for a terminal; a ToolError's is for the model, and stays as it is.
"""

import difflib
from collections.abc import Iterable

from piano_jupyter.text.invisible import terminal_text


class PianoError(Exception):
    """What Piano refuses or reports: one sentence that says what is wrong and what to do.

    It is the base of all errors in `piano_jupyter.errors`. A notebook shows the sentence without a traceback; with
    any other exception the traceback is shown, because that is a bug of Piano or of a tool.

    Example:
        >>> try:
        ...     await piano.ask("How many rows are there?", agent="adda")
        ... except PianoError as error:
        ...     print(error)
        no agent named 'adda'; known: Assistant
    """

    def __str__(self) -> str:
        return terminal_text(super().__str__())

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows of it: the sentence, without the traceback and what a server or DuckDB said."""
        return [terminal_text(f"{type(self).__name__}: {self}")]


class StoreError(PianoError):
    """The database refused: it is read-only, damaged, full, from a newer version, or the query is wrong."""


class StoreLockedError(StoreError):
    """Another process has the database open."""


class NotFoundError(PianoError):
    """No such agent, thread, message, job, tool or skill."""

    @classmethod
    def among(cls, kind: str, name: str, known: Iterable[str]) -> "NotFoundError":
        """Say which there are, nearest first: ``no agent named 'bob'; known: bo, ada``."""
        names = list(known)
        near = difflib.get_close_matches(name, names, n=len(names) or 1, cutoff=0.5)
        ordered = near + [each for each in names if each not in near]
        listed = ", ".join(ordered[:10]) + (f" and {len(ordered) - 10} more" if len(ordered) > 10 else "")
        return cls(f"no {kind} named {name!r}; known: {listed or 'none'}")


class ModelError(PianoError):
    """The model's server refused, broke off, or sent what is not an answer."""


class ModelUnavailableError(ModelError):
    """Nothing answers at the server's address, or it went away."""


class ModelNotServedError(ModelError):
    """The server answers, but does not have this model."""


class ModelRefusedError(ModelError):
    """The server does not take the request as it is."""


class ModelTimeoutError(ModelError):
    """The server said nothing for longer than the limit."""


class ContextOverflowError(ModelError):
    """The prompt does not fit in the model's context window; in tokens, as far as the server tells."""

    def __init__(self, message: str, *, n_ctx: int | None = None, n_prompt: int | None = None) -> None:
        super().__init__(message)
        self.n_ctx, self.n_prompt = n_ctx, n_prompt


class ToolError(PianoError):
    """A tool cannot do what was asked: its sentence is the model's answer, never the user's exception."""

    __str__ = Exception.__str__


class SkillError(PianoError):
    """A skill's file cannot be used."""


class TurnLimitError(PianoError):
    """A turn went on for more rounds than it may."""
