"""Piano's exceptions, as a tree.

* PianoError
  x StoreError
    - StoreLockedError
    - StaleThreadError
  x NotFoundError
  x ModelError
    - ModelUnavailableError
    - ModelNotServedError
    - KeyRejectedError
    - ModelRefusedError
      * ToolsRefusedError
    - ModelTimeoutError
    - ImagesRefusedError
    - UnreadableReplyError
    - ContextOverflowError
  x ToolError
  x SkillError
  x TurnLimitError

Each says in one sentence what is wrong and what to do; it is shown without a traceback. A message may quote a server or
a file, so control characters in it are escaped; a ToolError's is for the model, and stays as it is.
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
        """Return what IPython shows: the message, without tracebacks, also without those of its causes."""
        return [terminal_text(f"{type(self).__name__}: {self}")]


class StoreError(PianoError):
    """The database is read-only, damaged, full or from a newer version, or a query is wrong."""


class StoreLockedError(StoreError):
    """Another process has the database open."""


class StaleThreadError(StoreError):
    """The thread has a newer question than the one that was to be followed: another notebook asked it meanwhile."""


class NotFoundError(PianoError):
    """No such agent, thread, message, job, tool or skill."""

    @classmethod
    def among(cls, kind: str, name: str, known: Iterable[str]) -> "NotFoundError":
        """Make an error that lists the known names, nearest first: ``no agent named 'bob'; known: bo, ada``."""
        names = list(known)
        near = difflib.get_close_matches(name, names, n=len(names) or 1, cutoff=0.5)
        ordered = near + [each for each in names if each not in near]
        listed = ", ".join(ordered[:10]) + (f" and {len(ordered) - 10} more" if len(ordered) > 10 else "")
        return cls(f"no {kind} named {name!r}; known: {listed or 'none'}")


class ModelError(PianoError):
    """The model's server refused a request, broke off its answer, or sent something that is no answer."""


class ModelUnavailableError(ModelError):
    """No server answers at `base_url`, or it stopped."""


class ModelNotServedError(ModelError):
    """The server answers, but does not have this model."""


class KeyRejectedError(ModelError):
    """The server does not take the API key, or the account that it belongs to cannot pay."""


class ModelRefusedError(ModelError):
    """The server refuses the request."""


class ToolsRefusedError(ModelRefusedError):
    """The server cannot give the model tools."""


class ModelTimeoutError(ModelError):
    """The server sent nothing for longer than a timeout."""


class ImagesRefusedError(ModelError):
    """The model does not see images."""


class UnreadableReplyError(ModelError):
    """The server could not read what the model wrote, such as a broken tool call."""


class ContextOverflowError(ModelError):
    """The prompt does not fit in the model's context window; `n_ctx` and `n_prompt` are in tokens, if known."""

    def __init__(self, message: str, *, n_ctx: int | None = None, n_prompt: int | None = None) -> None:
        super().__init__(message)
        self.n_ctx, self.n_prompt = n_ctx, n_prompt


class ToolError(PianoError):
    """A tool call failed: the message is the result that the model reads, never an exception for the user."""

    __str__ = Exception.__str__


class SkillError(PianoError):
    """The file of a skill is invalid."""


class TurnLimitError(PianoError):
    """A turn reached one of its limits: rounds, tool calls, tokens or seconds."""
