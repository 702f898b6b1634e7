"""The last known models of a server and their states."""

from collections.abc import Callable, Iterable

from piano_jupyter.records import Model, ModelState
from piano_jupyter.runner.model.server.model_list import ModelListUpdate, States

STATES_MAX_AGE_S = 0.05  #: short, as a small model is swapped within a tenth of a second


class ModelStateCache:
    """The last known models of one server, with their states and aliases; `reset` when the server changes."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.reset("")

    def reset(self, url: str) -> None:
        """Start over with another server."""
        self.url = url
        self.models: dict[str, Model] = {}
        self.aliases: dict[str, str] = {}  #: alias to name
        self.only_model = ""  #: answers by any name; "" where each name has its own model
        self.hidden: frozenset[str] = frozenset()  #: served, but not listed
        self.aliases_due_at = 0.0  #: when to ask the events for aliases
        self.states: States | None = None  #: None: not known to be llama-swap
        self.states_expire_at = 0.0  #: when to ask for the states again

    def known(self) -> list[str]:
        """Return all names and aliases; the name of a model that is not listed, if it has an alias."""
        return list(dict.fromkeys((*self.models, *self.aliases.values(), *self.aliases)))

    def resolve_alias(self, name: str) -> str:
        """Return the model that an alias stands for; any other name unchanged."""
        return self.aliases.get(name, name)

    def serves(self, name: str) -> bool:
        """Return whether the server has a model of this name (not alias)."""
        return name in self.models or name in self.hidden

    def active(self) -> frozenset[str] | None:
        """Return the names and aliases of the models that are loaded or loading; None if no states are known."""
        if self.states is None:
            return None
        active = {name for name, state in self.states.items() if state in {ModelState.LOADED, ModelState.LOADING}}
        return frozenset(active | {alias for alias, name in self.aliases.items() if name in active})

    def update_models(self, models: Iterable[Model], only_model: str) -> None:
        """Update from the server's list of models."""
        self.only_model = only_model
        self.models = {model.name: model for model in models}
        self.aliases |= {alias: model.name for model in self.models.values() for alias in model.aliases}

    def update(self, event: ModelListUpdate) -> None:
        """Update from one of llama-swap's events."""
        self.hidden = event.hidden
        self.aliases |= {alias: model.name for model in event.models for alias in model.aliases}
        for model in event.models:
            if model.name not in event.hidden:
                self.models.setdefault(model.name, model)
        self.update_states(event.states(), STATES_MAX_AGE_S)

    def update_states(self, states: States | None, max_age_s: float) -> None:
        """Set the states, valid for `max_age_s`; None: the server is not llama-swap."""
        self.states, self.states_expire_at = states, self._now() + max_age_s
