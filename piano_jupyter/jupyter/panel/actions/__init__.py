"""What a page can ask of the panel: each action by the name that the page sends.

An action gets the panel and the request, and returns what the page is told with "done" (None, or what JSON
can say). What it raises as a PianoError is shown in the panel.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from piano_jupyter.jupyter.panel.actions import (
    agent_actions,
    batch_actions,
    compose_actions,
    message_actions,
    model_actions,
    page_actions,
    setting_actions,
    thread_actions,
)
from piano_jupyter.jupyter.panel.actions.action_panel import Panel
from piano_jupyter.jupyter.panel.actions.page_request import PageRequest

Action = Callable[[Panel, PageRequest], Awaitable[Any]]

ACTIONS: Mapping[str, Action] = {
    **page_actions.ACTIONS,
    **message_actions.ACTIONS,
    **thread_actions.ACTIONS,
    **compose_actions.ACTIONS,
    **agent_actions.ACTIONS,
    **model_actions.ACTIONS,
    **setting_actions.ACTIONS,
    **batch_actions.ACTIONS,
}
