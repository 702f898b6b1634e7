"""TerminalDisplayHook: shows what a cell returns in a terminal, but no empty `Out[2]:` for what was shown already."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from piano_jupyter.jupyter.session import Session


class TerminalDisplayHook:
    """IPython's display hook; a result that the cell has shown while it ran is only kept, as `_` and in `Out`."""

    def __init__(self, hook: Any, session: "Session") -> None:
        self._hook, self._session = hook, session

    def __call__(self, result: Any = None) -> None:
        """Show the result of a cell, or only keep it."""
        if not self._is_shown(result) or self._hook.quiet():
            self._hook(result)
            return
        self._hook.check_for_underscore()
        self._hook.update_user_ns(result)
        self._hook.fill_exec_result(result)

    def _is_shown(self, result: Any) -> bool:
        shown = self._session.shown
        if not shown:
            return False
        from piano_jupyter.jupyter.render.transcript import AnswerGroup  # noqa: PLC0415  An answer has loaded it.
        from piano_jupyter.records import Message  # noqa: PLC0415

        if isinstance(result, AnswerGroup):
            return all(message.id in shown for message in result)
        return isinstance(result, Message) and result.id in shown
