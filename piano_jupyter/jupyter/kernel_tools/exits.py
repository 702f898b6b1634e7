"""The ways in which code ends its kernel: open to the user, held back where an agent runs the code.

There `exit()` does what `sys.exit()` does: it ends the code, and the agent is told. What ends the process without
asking IPython, such as `os._exit()`, cannot be held back: `run_python` shows the user the code before it runs.
"""

import contextlib
from typing import Any

from piano_jupyter import agent_code

EXIT_REFUSED = "code that an agent runs does not end the kernel"
EXIT_NOW = "exit_now"  #: the trait that ends a kernel: `exit()` and a shutdown set it


def refuse_exits_of_agents(shell: Any, until: contextlib.ExitStack) -> None:
    """Until that is closed, end the shell only where the user wants it."""
    ask_exit = getattr(shell, "ask_exit", None)
    if ask_exit is not None:  # of a kernel and of a terminal; `exit` and `quit` call it

        def held() -> None:
            _refuse_if_agent_code()
            ask_exit()

        shell.ask_exit = held
        until.callback(vars(shell).pop, "ask_exit", None)
    shell._register_validator(_validated, (EXIT_NOW,))  # noqa: SLF001  What `@validate` does, for an instance.
    until.callback(shell._trait_validators.pop, EXIT_NOW, None)  # noqa: SLF001


def _validated(_shell: Any, proposal: Any) -> Any:
    if proposal["value"]:
        _refuse_if_agent_code()
    return proposal["value"]


def _refuse_if_agent_code() -> None:
    if agent_code.left_behind():
        raise RuntimeError(EXIT_REFUSED)  # a SystemExit would end the event loop that this task runs on
    if agent_code.runs_here():
        raise SystemExit(EXIT_REFUSED)
