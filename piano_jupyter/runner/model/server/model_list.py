"""What a server says of its models: from its JSON to `Model`s. Pure.

`GET /v1/models` is every server's; llama-swap adds `GET /running` and, as events, the state of all its models with
their aliases. Its versions differ in what they tell (a `status` since autumn 2025, aliases only in the events), so that
each is read as far as it goes.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from piano_jupyter.errors import ModelError, ModelNotServedError, NotFoundError, PianoError
from piano_jupyter.records import Model, ModelState
from piano_jupyter.text.json_text import mapping

STATES = {
    "ready": ModelState.LOADED,
    "loaded": ModelState.LOADED,
    "starting": ModelState.LOADING,
    "loading": ModelState.LOADING,
    "stopping": ModelState.UNLOADING,
}

SIZES = ("max_model_len", "context_window", "max_context_length")  #: more names for the size of a window
LARGEST = 1 << 40  #: tokens; what is more is no window

States = Mapping[str, ModelState]  #: by the model's own name; those that are not there are unloaded


@dataclass(frozen=True, slots=True)
class ModelListUpdate:
    """The models that an event of llama-swap tells of."""

    models: tuple[Model, ...]
    hidden: frozenset[str]  #: those that it serves, but does not list

    def states(self) -> dict[str, ModelState]:
        """Return the state of each model that is not unloaded."""
        return {model.name: model.state for model in self.models if model.state is not ModelState.UNLOADED}


def listed(body: Any, running: States | None) -> list[Model]:
    """Read `GET /v1/models`, with the states that `GET /running` tells where there is one. Raises ModelError."""
    records = body.get("data") if isinstance(body, dict) else body
    if not isinstance(records, list):
        raise ModelError("the server's list of models is none that Piano can read (is /v1 missing in base_url?)")
    return [_listed(record, running) for record in records if isinstance(record, dict) and _text(record.get("id"))]


def running(body: Any) -> dict[str, ModelState] | None:
    """Read `GET /running`; None where it is not llama-swap that answered."""
    records = body.get("running") if isinstance(body, dict) else None
    if not isinstance(records, list):
        return None
    return {
        _text(record.get("model")): _state(record.get("state"))
        for record in records
        if isinstance(record, dict) and _state(record.get("state")) is not ModelState.UNLOADED
    }


def told(data: str) -> ModelListUpdate | None:
    """Read the data of one event of `GET /api/events`; None if it is not about the models' states."""
    try:
        envelope = json.loads(data)
        if not isinstance(envelope, dict) or envelope.get("type") != "modelStatus":
            return None
        records = [record for record in json.loads(envelope["data"]) if _text(record.get("id"))]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    return ModelListUpdate(
        models=tuple(
            _model(record, ModelState.LOADED if record.get("peerID") else _state(record.get("state")))
            for record in records
        ),
        hidden=frozenset(record["id"] for record in records if record.get("unlisted")),
    )


def with_aliases(models: Iterable[Model], known: Mapping[str, str]) -> list[Model]:
    """Give the models their aliases (alias to name), and leave out the entries that are only an alias."""
    models = list(models)
    names = {model.name for model in models}
    aliases = {name: [alias for alias, own in known.items() if own == name] for name in names}
    return [
        replace(model, aliases=tuple(dict.fromkeys((*model.aliases, *aliases[model.name]))))
        for model in models
        if known.get(model.name) not in names
    ]


def not_served(name: str, known: Iterable[str]) -> ModelNotServedError:
    """Return the error for a model that the server does not have, with those that it has."""
    there = str(NotFoundError.among("model", name, known)).partition("known: ")[2]
    return ModelNotServedError(
        f"the server does not serve {name!r}; known: {there}. Give the agent one of them: %piano agent NAME --model M"
    )


def not_swapped(url: str) -> PianoError:
    """Return the error for a server whose models are there all the time."""
    return PianoError(f"the server at {url} is not llama-swap: Piano cannot load or unload its models")


def loading_note(name: str, states: States) -> str | None:
    """Say in a few words why a model does not answer yet; None if it is loaded, and only thinks."""
    if states.get(name) is ModelState.LOADED:
        return None
    leaving = [other for other, state in states.items() if state is ModelState.UNLOADING]
    if leaving and states.get(name) is not ModelState.LOADING:
        return f"{name} is loading; {', '.join(leaving)} makes room for it"
    if states.get(name) is ModelState.LOADING:
        return f"{name} is loading"
    return f"{name} waits for {', '.join(states)}" if states else f"{name} is about to be loaded"


def _listed(record: Mapping[str, Any], running: States | None) -> Model:
    name, meta = record["id"], mapping(record.get("meta"))
    own = mapping(meta.get("llamaswap"))
    status = record.get("status")
    word = status.get("value") if isinstance(status, dict) else status or record.get("state")
    if own.get("peerID") or (running is None and not word):
        state = ModelState.LOADED
    else:
        state = (running or {}).get(name) or _state(word)
    sizes = (record.get("context_length"), meta.get("n_ctx"), own.get("context_length"), *map(record.get, SIZES))
    return _model(record, state, next(filter(None, map(size_of_window, sizes)), None))


def _model(record: Mapping[str, Any], state: ModelState, context: int | None = None) -> Model:
    description = _text(record.get("description")) or _text(record.get("name"))
    return Model(name=record["id"], state=state, context=context, aliases=_aliases(record), description=description)


def size_of_window(told: Any) -> int | None:
    """Return how many tokens fit into a window, if that is what a server told."""
    return told if type(told) is int and 0 < told < LARGEST else None


def _state(word: Any) -> ModelState:
    return STATES.get(_text(word), ModelState.UNLOADED)


def _aliases(record: Mapping[str, Any]) -> tuple[str, ...]:
    given = record.get("aliases")
    names = given if isinstance(given, list) else []
    return tuple(alias for alias in dict.fromkeys(map(_text, names)) if alias and alias != record["id"])


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
