"""What was last heard of a server's models."""

from collections.abc import Callable, Iterable

from piano_jupyter.records import Model, ModelState
from piano_jupyter.runner.model.server.model_list import ModelListUpdate, States

REMEMBERED = 0.05  # seconds that what was heard is good for: a small model is swapped in a tenth of a second


class ModelStateCache:
    """What one server has said of its models; `forget` when it is another's turn."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.forget("")

    def forget(self, url: str) -> None:
        """Begin anew, with another server."""
        self.url = url
        self.models: dict[str, Model] = {}
        self.aliases: dict[str, str] = {}  #: alias to name
        self.hidden: frozenset[str] = frozenset()  #: models that it serves, but does not list
        self.events_due = 0.0  #: when the events may be asked for the aliases
        self.states: States | None = None  #: None: it was not heard to swap
        self.good_until = 0.0  #: when the states must be asked anew

    def known(self) -> list[str]:
        """Return all names and aliases."""
        return list(dict.fromkeys((*self.models, *self.aliases)))

    def own_name(self, name: str) -> str:
        """Return the name of the model that an alias stands for; any other name as it is."""
        return self.aliases.get(name, name)

    def serves(self, own_name: str) -> bool:
        """Return whether it has a model of this name."""
        return own_name in self.models or own_name in self.hidden

    def here(self, name: str) -> bool:
        """Return whether a model is loaded, or already on its way."""
        return (self.states or {}).get(self.own_name(name)) in {ModelState.LOADED, ModelState.LOADING}

    def hear_models(self, models: Iterable[Model]) -> None:
        """Take the server's list of models."""
        self.models = {model.name: model for model in models}
        self.aliases |= {alias: model.name for model in self.models.values() for alias in model.aliases}

    def hear(self, news: ModelListUpdate) -> None:
        """Take what an event tells."""
        self.hidden = news.hidden
        self.aliases |= {alias: model.name for model in news.models for alias in model.aliases}
        for model in news.models:
            if model.name not in news.hidden:
                self.models.setdefault(model.name, model)
        self.hear_states(news.states(), REMEMBERED)

    def hear_states(self, states: States | None, good_for: float) -> None:
        """Take the states, good for so many seconds; None: the server does not swap."""
        self.states, self.good_until = states, self._now() + good_for
