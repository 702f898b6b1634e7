"""%load_ext: opens one Piano for the kernel, closes it at unload or exit.

Loading opens nothing, runs nothing and imports little. The first use opens the database; what an earlier kernel left
goes on when the user first sends something, opens a panel or says %piano resume.
"""

import atexit
from collections.abc import Callable
from typing import Any

from piano_jupyter import agent_code
from piano_jupyter.jupyter.cell import formatters
from piano_jupyter.jupyter.kernel_tools import exits
from piano_jupyter.jupyter.magic import completion
from piano_jupyter.jupyter.magic.options import questions
from piano_jupyter.jupyter.session import Session
from piano_jupyter.tool import Tool

NAME = "piano"


def load(shell: Any) -> None:
    """Begin a session in this shell; a second load has no effect."""
    if _session_of(shell) is not None:
        return
    agent_code.install()
    session = Session(shell, _magic, _kernel_tools)
    shell.configurables.append(session.config)
    shell.register_magic_function(session.magic, "line_cell", NAME)
    for event, handler in _hooks(session):
        shell.events.register(event, handler)
    shell.input_transformers_cleanup.append(questions)
    if shell.user_ns.get(NAME) is None:
        shell.push({NAME: session.in_cell}, interactive=False)
    formatters.register(shell, session)
    completion.register(shell, session.peek, session.variables)
    exits.hold_back(shell)
    atexit.register(session.close)


def unload(shell: Any) -> None:
    """End the session of this shell."""
    session = _session_of(shell)
    if session is None:
        return
    for event, handler in _hooks(session):
        shell.events.unregister(event, handler)
    shell.configurables.remove(session.config)
    shell.input_transformers_cleanup.remove(questions)
    if shell.user_ns.get(NAME) is session.in_cell:
        shell.drop_by_id({NAME: session.in_cell})
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop(NAME, None)
    formatters.unregister(shell, session)
    completion.unregister(shell)
    exits.let_go(shell)
    atexit.unregister(session.close)
    session.close()


def _hooks(session: Session) -> list[tuple[str, Callable[..., None]]]:
    return [
        ("pre_run_cell", session.begin_cell),
        ("post_run_cell", session.adopt_tools),
        ("post_run_cell", session.end_cell),
    ]


def _magic(session: Session, line: str, cell: str | None) -> Any:
    from piano_jupyter.jupyter.magic.dispatch import run_magic  # noqa: PLC0415  All else waits until it is used.

    return run_magic(session, line, cell)


def _kernel_tools(session: Session) -> list[Tool]:
    from piano_jupyter.jupyter.kernel_tools.toolset import KernelTools  # noqa: PLC0415

    return KernelTools(session).all()


def _session_of(shell: Any) -> Session | None:
    session = getattr(shell.magics_manager.magics["line"].get(NAME), "__self__", None)
    return session if isinstance(session, Session) else None
