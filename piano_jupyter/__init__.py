"""Piano: a multi-agent chat that lives in a Jupyter kernel.

The path of a message, top to bottom. A part may import the parts below it, and none above or beside it (import-linter
checks that, and a test checks that this map is its contract):

    jupyter | __main__ | testing  the front ends: magics and panel, terminal | a scripted model for tests
    piano                         THE SERVICE: everything a front end can ask for, each as one verb
    wiring                        builds the parts that Piano works with
    pipeline | batch              the work: producer, consumer | one question for each row of a table
    runner | store | bus          one turn | the database | publishes events
    config                        every setting
    approval_prompt               the text of a request for approval
    progress                      the progress of a job, for people
    events | rules                what has happened | which tool calls run, ask or are denied
    tool | shipped | export | variables  functions as tools | the skills that ship | threads as files | values as text
    batch_records                 Batch, BatchAnswer
    records | cancellation | mcp_server  Agent, Thread, Message, Job | work not to stop halfway | MCP servers, as set
    attachments                   figures, images, tables and files that belong to messages and calls, made safe
    logs                          the log
    secrets | safe_files | fork_guard | own_folders  masks | opens files safely | refuses in a fork | closed to tools
    clock | errors | agent_code | pauses  time and ids | errors | which output is an agent's | before another try
    text                          reading and cutting text

Start with `%load_ext piano_jupyter` in a notebook, with `async with Piano() as piano` in Python, or with
`python -m piano_jupyter "a question"` in a terminal. The manual is docs/, one topic a file: `%piano help TOPIC`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from piano_jupyter.tool import Tool, tool  # at once: the function must win over the module of that name

if TYPE_CHECKING:
    from piano_jupyter.batch_records import Batch, BatchPlan, BatchStatus
    from piano_jupyter.config import PianoConfig
    from piano_jupyter.errors import PianoError
    from piano_jupyter.piano import Piano
    from piano_jupyter.records import Agent, Job, JobStatus, Message, Notebook, Rows, Thread, ToolCall

__all__ = [
    "Agent",
    "Batch",
    "BatchPlan",
    "BatchStatus",
    "Job",
    "JobStatus",
    "Message",
    "Notebook",
    "Piano",
    "PianoConfig",
    "PianoError",
    "Rows",
    "Thread",
    "Tool",
    "ToolCall",
    "load_ipython_extension",
    "tool",
    "unload_ipython_extension",
]

_MODULES = {
    "Piano": "piano",
    "PianoConfig": "config",
    "PianoError": "errors",
    **dict.fromkeys(("Batch", "BatchPlan", "BatchStatus"), "batch_records"),
}  # the others are in records


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `%load_ext` costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'records')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: Any) -> None:
    """Add `%piano` and `%%piano` to an IPython shell; `%load_ext piano_jupyter` calls this.

    It opens nothing and asks no server; the first use of `%piano` does.

    Args:
        shell: The IPython shell, as `get_ipython()` returns it.

    Example:
        >>> load_ipython_extension(get_ipython())
        >>> "piano" in get_ipython().magics_manager.magics["cell"]
        True
    """
    from piano_jupyter.jupyter.extension import load  # noqa: PLC0415  Jupyter is imported only when it asks.

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take `%piano` and `%%piano` away again and close everything; `%unload_ext piano_jupyter` calls this.

    Args:
        shell: The IPython shell that the extension was loaded into.

    Example:
        >>> unload_ipython_extension(get_ipython())
        >>> "piano" in get_ipython().magics_manager.magics["cell"]
        False
    """
    from piano_jupyter.jupyter.extension import unload  # noqa: PLC0415

    unload(shell)
