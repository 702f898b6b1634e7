"""Parses a server's JSON about its models into `Model` records. Pure.

Every server has `GET /v1/models`; llama-swap adds `GET /running` and events with the state and aliases of all its
models. Its versions send different fields (`status` since autumn 2025, aliases only in events), so every field is
optional here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from piano_jupyter.errors import ModelError, ModelNotServedError, NotFoundError, PianoError
from piano_jupyter.records import Model, ModelState
from piano_jupyter.text.json_text import mapping, parse_json

GIVE_AGENT_ANOTHER = "Give the agent one of them: %piano agent NAME --model M"
ASK_ANOTHER = "Ask again with one of them: --model M"
STATE_WORDS = {
    "ready": ModelState.LOADED,
    "loaded": ModelState.LOADED,
    "starting": ModelState.LOADING,
    "loading": ModelState.LOADING,
    "stopping": ModelState.UNLOADING,
}
#: servers that have one model, which answers whatever name it is asked by, as their lists of models call them
ONE_MODEL_SERVERS = frozenset({"llamacpp", "koboldcpp"})
GOOGLE_PREFIX, OLLAMA_TAG = "models/", ":latest"  #: parts of listed names that may be left out in a request
WINDOW_KEYS = ("max_model_len", "context_window", "max_context_length")  #: more names for a context window's size
MAX_WINDOW_TOKENS = 1 << 40  #: a larger number is not a context window

States = Mapping[str, ModelState]  #: by model name, not alias; a model that is missing is unloaded


@dataclass(frozen=True, slots=True)
class ModelListUpdate:
    """The models in one of llama-swap's events."""

    models: tuple[Model, ...]
    hidden: frozenset[str]  #: served, but not listed

    def states(self) -> dict[str, ModelState]:
        """Return the state of each model that is not unloaded."""
        return {model.name: model.state for model in self.models if model.state is not ModelState.UNLOADED}


def parse_models(body: Any, running: States | None) -> list[Model]:
    """Parse `GET /v1/models`, with the states from `GET /running` if there is one. Raises ModelError."""
    records = body.get("data") if isinstance(body, dict) else body
    if not isinstance(records, list):
        raise ModelError("Piano cannot read the server's list of models (is /v1 missing in base_url?)")
    return [
        _parse_listed_model(record, running)
        for record in records
        if isinstance(record, dict) and _text(record.get("id"))
    ]


def only_model(body: Any) -> str:
    """Return the name of the model that answers by any name, from `GET /v1/models`; "" where it does not say so."""
    records = mapping(body).get("data")
    record = mapping(records[0]) if isinstance(records, list) and len(records) == 1 else {}
    swaps = "status" in record  # llama.cpp's router, which has one model so far
    return _text(record.get("id")) if record.get("owned_by") in ONE_MODEL_SERVERS and not swaps else ""


def parse_running(body: Any) -> dict[str, ModelState] | None:
    """Parse `GET /running`; None if the server is not llama-swap."""
    records = body.get("running") if isinstance(body, dict) else None
    if not isinstance(records, list):
        return None
    return {
        _text(record.get("model")): _state(record.get("state"))
        for record in records
        if isinstance(record, dict) and _state(record.get("state")) is not ModelState.UNLOADED
    }


def loaded_window(body: Any, name: str) -> int | None:
    """Return the context window that a model was loaded with, from Ollama's `GET /api/ps`.

    None if the server has no such list. Raises ModelError if the model is not in it: it is not loaded now.
    """
    records = mapping(body).get("models")
    if not isinstance(records, list):
        return None
    for record in map(mapping, records):
        if _short_name(name) in {_short_name(_text(record.get(key))) for key in ("name", "model")}:
            return window_size(record.get("context_length"))
    raise ModelError(f"{name} is not loaded, so its context is not known")


def parse_event(data: str) -> ModelListUpdate | None:
    """Parse the data of one event of `GET /api/events`; None if it is not about the models' states."""
    try:
        envelope = parse_json(data)
        if not isinstance(envelope, dict) or envelope.get("type") != "modelStatus":
            return None
        records = [record for record in parse_json(envelope["data"]) if _text(record.get("id"))]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return ModelListUpdate(
        models=tuple(
            _model(record, ModelState.LOADED if record.get("peerID") else _state(record.get("state")))
            for record in records
        ),
        hidden=frozenset(record["id"] for record in records if record.get("unlisted")),
    )


def with_aliases(models: Iterable[Model], known: Mapping[str, str]) -> list[Model]:
    """Add aliases (`known`: alias to name) to the models, and drop the entries that are only an alias."""
    models = list(models)
    names = {model.name for model in models}
    aliases = {name: [alias for alias, target in known.items() if target == name] for name in names}
    return [
        replace(model, aliases=tuple(dict.fromkeys((*model.aliases, *aliases[model.name]))))
        for model in models
        if known.get(model.name) not in names
    ]


def not_served_error(name: str, known: Iterable[str]) -> ModelNotServedError:
    """Return the error for a model that the server does not have; it lists those that it has."""
    served = str(NotFoundError.among("model", name, known)).partition("known: ")[2]
    return ModelNotServedError(f"the server does not serve {name!r}; known: {served}. {GIVE_AGENT_ANOTHER}")


def cannot_swap_error(url: str) -> PianoError:
    """Return the error for a server that cannot load or unload models."""
    return PianoError(f"the server at {url} is not llama-swap: Piano cannot load or unload its models")


def loading_note(name: str, states: States) -> str | None:
    """Say in a few words why a model does not answer yet; None if it is loaded and just thinking."""
    if states.get(name) is ModelState.LOADED:
        return None
    unloading = [other for other, state in states.items() if state is ModelState.UNLOADING]
    if unloading and states.get(name) is not ModelState.LOADING:
        return f"{name} is loading; unloading {', '.join(unloading)} first"
    if states.get(name) is ModelState.LOADING:
        return f"{name} is loading"
    return f"{name} waits for {', '.join(states)}" if states else f"{name} is about to be loaded"


def _parse_listed_model(record: Mapping[str, Any], running: States | None) -> Model:
    name, meta = record["id"], mapping(record.get("meta"))
    llama_swap = mapping(meta.get("llamaswap"))
    status = record.get("status")
    word = status.get("value") if isinstance(status, dict) else status or record.get("state")
    says_nothing = running is None and not word  # as most servers, whose models are ready
    is_ready = says_nothing or llama_swap.get("peerID")
    state = ModelState.LOADED if is_ready else (running or {}).get(name) or _state(word)
    sizes = (
        record.get("context_length"),
        meta.get("n_ctx"),
        llama_swap.get("context_length"),
        *map(record.get, WINDOW_KEYS),
    )
    model = _model(record, state, next(filter(None, map(window_size, sizes)), None))
    short = _short_name(name)
    return replace(model, aliases=(*model.aliases, short)) if says_nothing and short != name else model


def _model(record: Mapping[str, Any], state: ModelState, context: int | None = None) -> Model:
    description = _text(record.get("description")) or _text(record.get("name"))
    return Model(name=record["id"], state=state, context=context, aliases=_aliases(record), description=description)


def _short_name(name: str) -> str:
    """Return the name without what the server adds to it: Google and Ollama take it with that and without."""
    return name.removeprefix(GOOGLE_PREFIX).removesuffix(OLLAMA_TAG)


def window_size(value: Any) -> int | None:
    """Return the value a server sent if it is a plausible context window in tokens."""
    return value if type(value) is int and 0 < value < MAX_WINDOW_TOKENS else None


def _state(word: Any) -> ModelState:
    return STATE_WORDS.get(_text(word), ModelState.UNLOADED)


def _aliases(record: Mapping[str, Any]) -> tuple[str, ...]:
    given = record.get("aliases")
    names = given if isinstance(given, list) else []
    return tuple(alias for alias in dict.fromkeys(map(_text, names)) if alias and alias != record["id"])


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
