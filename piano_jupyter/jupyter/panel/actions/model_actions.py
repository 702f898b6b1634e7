"""What a page asks about the model that answers and about the mode of the tools: show, load, unload, change."""

from typing import Any, cast

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.jupyter.panel.actions.action_panel import Panel
from piano_jupyter.jupyter.panel.actions.agent_actions import answering_agents
from piano_jupyter.jupyter.panel.actions.page_request import PageRequest
from piano_jupyter.records import Mode

MODE_NOTES = {
    "read": "Tools may look at files and variables. Nothing is changed.",
    "write": "Tools may change files in the workspace. Commands run in the sandbox, without the network.",
    "full": "Tools may do anything that you may do, also outside the workspace and on the network.",
}


async def model(panel: Panel, _request: PageRequest) -> dict[str, Any]:
    """Return the state of each model that answers the next question."""
    models = dict.fromkeys(agent.model for agent in await answering_agents(panel))
    found = [await panel.piano.model_status(each) for each in models]
    fields = ("model", "answering_model", "server", "state", "swaps", "note")
    return {"models": [{name: getattr(each, name) for name in fields} for each in found]}


async def load_model(panel: Panel, request: PageRequest) -> None:
    """Have the server load a model, and wait until it has."""
    try:
        await panel.piano.load_model(request.text())
    finally:
        panel.tell("model")


async def unload_model(panel: Panel, request: PageRequest) -> None:
    """Have the server unload a model."""
    try:
        await panel.piano.unload_model(request.text())
    finally:
        panel.tell("model")


async def mode(panel: Panel, _request: PageRequest) -> dict[str, Any]:
    """Return what tools may do, and the modes that there are, each with a sentence."""
    return {"mode": panel.piano.config.mode, "modes": MODE_NOTES}


async def set_mode(panel: Panel, request: PageRequest) -> None:
    """Change what tools may do in this kernel; everything ("full") only when the user has said so twice."""
    wanted = request.text()
    if wanted not in MODE_NOTES:
        raise NotFoundError.among("mode", wanted, MODE_NOTES)
    if wanted == "full" and request.content.get("sure") is not True:
        raise PianoError("the mode full was not confirmed")
    panel.piano.config.mode = cast(Mode, wanted)


ACTIONS = {
    "model": model,
    "load_model": load_model,
    "unload_model": unload_model,
    "mode": mode,
    "set_mode": set_mode,
}
