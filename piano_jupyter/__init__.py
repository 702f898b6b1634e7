"""Piano: a multi-agent chat that lives in a Jupyter kernel.

The way of a message, top to bottom; what stands left or above may import what stands right or below, never the other
way (import-linter holds it, and a test holds this map equal to its contract):

    jupyter | __main__           the front ends: magics, panel, terminal
    piano                        THE SERVICE: every verb, said once
    wiring                       builds what Piano works with
    pipeline                     the work: producer, consumer
    runner | store | bus         one turn | the memory | who hears of it
    config                       every setting
    approval_prompt              how a call that waits for approval is put
    progress                     what has become of a job
    events | rules               what has happened | what the user lets tools do
    tool | shipped | export      a function becomes a tool | the skills that ship | a thread as a file, and back
    records                      the nouns: Agent, Thread, Message, ToolCall, Job
    logs                         the log
    secrets | safe_files | fork_guard  no secret is kept or shown | files opened by name | no verb in a fork
    clock | errors | agent_code  time and ids | what can go wrong | whose output is whose
    text                         what a text says

Start with `%load_ext piano_jupyter` in a notebook, with `async with Piano() as piano` in Python, or with
`python -m piano_jupyter "a question"` in a terminal. The manual is docs/, one topic a file: `%piano help TOPIC`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from piano_jupyter.tool import Tool, tool  # now: the name of the function must win over that of its module

if TYPE_CHECKING:
    from piano_jupyter.config import PianoConfig
    from piano_jupyter.errors import PianoError
    from piano_jupyter.piano import Piano
    from piano_jupyter.records import Agent, Job, JobStatus, Message, Rows, Thread, ToolCall

__all__ = [
    "Agent",
    "Job",
    "JobStatus",
    "Message",
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

_HOMES = {"Piano": "piano", "PianoConfig": "config", "PianoError": "errors"}  # the others are records


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `%load_ext` costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'records')}"), name)


def load_ipython_extension(shell: Any) -> None:
    """Add `%piano` and `%%piano` to an IPython shell."""
    from piano_jupyter.jupyter.extension import load  # noqa: PLC0415  Jupyter is imported only when it asks.

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take them away again and close everything."""
    from piano_jupyter.jupyter.extension import unload  # noqa: PLC0415

    unload(shell)
