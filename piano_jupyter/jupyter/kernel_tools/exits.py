"""Refuses to end the kernel when an agent's code asks for it; the user still can.

In an agent's code `exit()` works like `sys.exit()`: it ends the code, and the agent is told. What ends the process
without IPython, such as `os._exit()`, cannot be refused: `run_python` shows the user the code before it runs.
"""

import contextlib
from typing import Any

from piano_jupyter import agent_code

EXIT_REFUSED = "an agent's code cannot end the kernel"
EXIT_NOW = "exit_now"  #: the trait that ends a kernel: `exit()` and a shutdown set it


def refuse_exits_of_agents(shell: Any, cleanup: contextlib.ExitStack) -> None:
    """Refuse exits that an agent's code asks for, until `cleanup` is closed."""
    ask_exit = getattr(shell, "ask_exit", None)
    if ask_exit is not None:  # kernels and terminals have it; `exit` and `quit` call it

        def checked_exit() -> None:
            _refuse_if_agent_code()
            ask_exit()

        shell.ask_exit = checked_exit
        cleanup.callback(vars(shell).pop, "ask_exit", None)
    shell._register_validator(_validated, (EXIT_NOW,))  # noqa: SLF001  Like `@validate`, for one instance.
    cleanup.callback(shell._trait_validators.pop, EXIT_NOW, None)  # noqa: SLF001


def _validated(_shell: Any, proposal: Any) -> Any:
    if proposal["value"]:
        _refuse_if_agent_code()
    return proposal["value"]


def _refuse_if_agent_code() -> None:
    if agent_code.call_has_ended():
        raise RuntimeError(EXIT_REFUSED)  # a SystemExit would end the event loop that this task runs on
    if agent_code.in_agent_code():
        raise SystemExit(EXIT_REFUSED)
