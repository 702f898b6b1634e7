"""%load_ext piano_jupyter: sets up the session of a kernel; unloading or the exit of the kernel closes it.

Loading opens nothing, runs nothing and imports little. The first use opens the database; the jobs that an earlier
kernel left resume when the user first sends something, opens a panel or runs %piano resume.
"""

import atexit
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from piano_jupyter import agent_code, logs
from piano_jupyter.jupyter.cell import formatters
from piano_jupyter.jupyter.cell.terminal_display import TerminalDisplayHook
from piano_jupyter.jupyter.kernel_tools import exits
from piano_jupyter.jupyter.magic import completion
from piano_jupyter.jupyter.magic.options import keep_question_marks, missing_percent
from piano_jupyter.jupyter.session import Session
from piano_jupyter.tool import Tool

NAME = "piano"


def load(shell: Any) -> None:
    """Start a session in this shell; loading twice has no effect."""
    if session_of(shell) is not None:
        return
    agent_code.install_proxies()
    logs.keep_out_of_cells()
    session = Session(shell, _magic, _kernel_tools)
    undo = session.unloading.callback  # undoes each step below, in reverse; the session closes last
    undo(logs.let_into_cells)
    atexit.register(session.close)
    undo(session.close)
    undo(atexit.unregister, session.close)
    exits.refuse_exits_of_agents(shell, session.unloading)
    undo(completion.register(shell, session.peek, session.variables))
    formatters.register(shell, session)
    if not session.in_notebook:
        undo(setattr, shell.display_trap, "hook", shell.display_trap.hook)
        shell.display_trap.hook = TerminalDisplayHook(shell.displayhook, session)
    session.in_cell.view_calls("map", partial(_map_in_cell, session))
    _define_variable(shell, session)
    undo(shell.drop_by_id, {NAME: session.in_cell})
    for transformer in (keep_question_marks, partial(_missing_percent, shell)):
        shell.input_transformers_cleanup.append(transformer)
        undo(shell.input_transformers_cleanup.remove, transformer)
    shell.configurables.append(session.config)
    undo(shell.configurables.remove, session.config)
    restore = partial(_restore_variable, shell, session)
    hooks: dict[str, list[Callable[..., None]]] = {
        "pre_run_cell": [session.last_error.begin, session.begin_cell, restore],
        "post_run_cell": [session.last_error.note, session.adopt_tools, session.end_cell],
    }
    for event, handlers in hooks.items():
        for handler in handlers:
            shell.events.register(event, handler)
            undo(shell.events.unregister, event, handler)
    shell.register_magic_function(session.magic, "line_cell", NAME)
    for kind in ("line", "cell"):
        undo(shell.magics_manager.magics[kind].pop, NAME, None)


def unload(shell: Any) -> None:
    """End the session of this shell."""
    session = session_of(shell)
    if session is not None:
        session.unloading.close()


def _define_variable(shell: Any, session: Session) -> None:
    if shell.user_ns.get(NAME) is None:
        shell.push({NAME: session.in_cell}, interactive=False)


def _restore_variable(shell: Any, session: Session, *_: object) -> None:
    """Define the variable again after %reset, which removes it from the hidden ones too; `del piano` does not."""
    if NAME not in shell.user_ns_hidden:
        _define_variable(shell, session)


def _missing_percent(shell: Any, lines: list[str]) -> list[str]:
    return missing_percent(lines) if NAME in shell.user_ns else lines


def _magic(session: Session, line: str, cell: str | None) -> Any:
    from piano_jupyter.jupyter.magic.dispatch import run_magic  # noqa: PLC0415  Loaded at first use.

    return run_magic(session, line, cell)


def _map_in_cell(session: Session, mapping: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
    from piano_jupyter.jupyter.cell.batch_cell import map_while_awaited  # noqa: PLC0415  Loaded at first use.

    return map_while_awaited(session, mapping)


def _kernel_tools(session: Session) -> list[Tool]:
    from piano_jupyter.jupyter.kernel_tools.toolset import KernelTools  # noqa: PLC0415

    return KernelTools(session).all()


def session_of(shell: Any) -> Session | None:
    """Return the session of a shell; None if the extension is not loaded in it."""
    session = getattr(shell.magics_manager.magics["line"].get(NAME), "__self__", None)
    return session if isinstance(session, Session) else None
