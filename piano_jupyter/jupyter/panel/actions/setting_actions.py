"""What a page asks about settings: show, change and test them; and what an empty panel offers to ask."""

from collections.abc import Mapping
from typing import Any

from traitlets import TraitError

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.jupyter.panel.actions.action_panel import Panel
from piano_jupyter.jupyter.panel.actions.agent_actions import answering_agents, model_shown
from piano_jupyter.jupyter.panel.actions.page_request import PageRequest

CHOICES: Mapping[str, list[str]] = {"embedded": ["auto", "never", "only"]}
NUMBERS = ("max_demand",)
CHANGEABLE = ("base_url", "default_model", *CHOICES, *NUMBERS)  # in the order in which they are shown


async def settings(panel: Panel, _request: PageRequest) -> dict[str, Any]:
    """Return the settings that the page can change, who answers on which server, and the layers of the sandbox."""
    config, status = panel.piano.config, await panel.piano.status()
    [agent, *_] = await answering_agents(panel)
    rows = [
        {
            "name": name,
            "value": str(getattr(config, name)),
            "about": PianoConfig.class_traits()[name].help,
            "choices": CHOICES.get(name, []),
            "isNumber": name in NUMBERS,
        }
        for name in CHANGEABLE
    ]
    return {
        "settings": rows,
        "server": status.server,
        "models": [model.name for model in status.models],
        "agent": agent.name,
        "model": model_shown(panel, agent),
        "layers": status.layers,
        "keep": "\n".join(f"c.PianoConfig.{name} = {getattr(config, name)!r}" for name in (*CHANGEABLE, "mode")),
    }


async def set_setting(panel: Panel, request: PageRequest) -> None:
    """Change a setting of this kernel."""
    name, value = request.text(), request.text("value").strip()
    if name not in CHANGEABLE:
        raise NotFoundError.among("setting to change here", name, CHANGEABLE)
    if not value:
        raise PianoError(f"{name} needs a value")
    if name in NUMBERS and not value.isdecimal():
        raise PianoError(f"{name} takes a whole number, not {value!r}")
    try:
        setattr(panel.piano.config, name, int(value) if name in NUMBERS else value)
    except TraitError as error:
        raise PianoError(str(error)) from error


async def check_model(panel: Panel, _request: PageRequest) -> str:
    """Ask the model that answers for one word; return a sentence with the result."""
    [agent, *_] = await answering_agents(panel)
    try:
        return await panel.piano.check_model(agent.model)
    finally:
        panel.tell("model")


async def check_sandbox(panel: Panel, _request: PageRequest) -> str:
    """Run a command in the sandbox; return a sentence with the result."""
    return await panel.piano.check_sandbox()


async def questions(panel: Panel, _request: PageRequest) -> list[str]:
    """Return what an empty panel offers to ask."""
    return panel.questions()


ACTIONS = {
    "settings": settings,
    "set_setting": set_setting,
    "check_model": check_model,
    "check_sandbox": check_sandbox,
    "questions": questions,
}
