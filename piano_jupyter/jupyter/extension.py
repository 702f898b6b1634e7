"""%load_ext: opens one Piano for the kernel, closes it at unload or exit.

Loading opens nothing, runs nothing and imports little. The first use opens the database; what an earlier kernel left
goes on when the user first sends something, opens a panel or says %piano resume.
"""

import atexit
from typing import Any

from piano_jupyter import agent_code, logs
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
    logs.keep_out_of_cells()
    session = Session(shell, _magic, _kernel_tools)
    undo = session.unloading.callback  # of what is done here, in reverse; the session closes last
    undo(logs.let_into_cells)
    atexit.register(session.close)
    undo(session.close)
    undo(atexit.unregister, session.close)
    exits.hold_back(shell, session.unloading)
    undo(completion.register(shell, session.peek, session.variables))
    formatters.register(shell, session)
    if shell.user_ns.get(NAME) is None:
        shell.push({NAME: session.in_cell}, interactive=False)
    undo(shell.drop_by_id, {NAME: session.in_cell})
    shell.input_transformers_cleanup.append(questions)
    undo(shell.input_transformers_cleanup.remove, questions)
    shell.configurables.append(session.config)
    undo(shell.configurables.remove, session.config)
    hooks = {"pre_run_cell": [session.begin_cell], "post_run_cell": [session.adopt_tools, session.end_cell]}
    for event, handlers in hooks.items():
        for handler in handlers:
            shell.events.register(event, handler)
            undo(shell.events.unregister, event, handler)
    shell.register_magic_function(session.magic, "line_cell", NAME)
    for kind in ("line", "cell"):
        undo(shell.magics_manager.magics[kind].pop, NAME, None)


def unload(shell: Any) -> None:
    """End the session of this shell."""
    session = _session_of(shell)
    if session is not None:
        session.unloading.close()


def _magic(session: Session, line: str, cell: str | None) -> Any:
    from piano_jupyter.jupyter.magic.dispatch import run_magic  # noqa: PLC0415  All else waits until it is used.

    return run_magic(session, line, cell)


def _kernel_tools(session: Session) -> list[Tool]:
    from piano_jupyter.jupyter.kernel_tools.toolset import KernelTools  # noqa: PLC0415

    return KernelTools(session).all()


def _session_of(shell: Any) -> Session | None:
    session = getattr(shell.magics_manager.magics["line"].get(NAME), "__self__", None)
    return session if isinstance(session, Session) else None
