"""SharedStore: what a store that several processes share does beside what every store does."""

# mypy: disable-error-code="empty-body"
# An operation is declared without a body: `operations` gives it one.

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import GenericAlias
from typing import Any, get_type_hints

from piano_jupyter.store.base import Backend, Store, operations
from piano_jupyter.store.server.packing import Packing


@dataclass(frozen=True, kw_only=True, slots=True)
class Client:
    """A process that shares the store."""

    owner: str  #: as which it runs jobs
    label: str  #: its notebook, for people
    pid: int


@operations
class SharedStore(Store):
    """A store that several processes share."""

    async def clients(self) -> list[Client]:
        """Return who shares the store now, the caller too."""


class Operation:
    """An operation of the store: how its arguments and its result are packed, by its annotations."""

    def __init__(self, name: str) -> None:
        declaration = getattr(SharedStore, name)
        self.name = name
        self._signature = inspect.signature(declaration)
        hints = get_type_hints(declaration)
        kinds = [
            GenericAlias(tuple, (hints[each.name], ...)) if each.kind is each.VAR_POSITIONAL else hints[each.name]
            for each in list(self._signature.parameters.values())[1:]
        ]
        self._arguments = Packing[Sequence[Any]](GenericAlias(tuple, tuple(kinds)))
        self.result = Packing[Any](hints["return"])

    def pack_arguments(self, arguments: Sequence[Any], options: Mapping[str, Any]) -> bytes:
        """Raise TypeError for arguments that the operation does not take."""
        bound = self._signature.bind(None, *arguments, **options)
        bound.apply_defaults()
        return self._arguments.pack(tuple(bound.arguments.values())[1:])

    def unpack_arguments(self, data: bytes) -> inspect.BoundArguments:
        """Return the arguments as they are passed on to a store; the first stands for the store itself."""
        names = list(self._signature.parameters)
        values = (None, *self._arguments.unpack(data))
        return inspect.BoundArguments(self._signature, dict(zip(names, values, strict=True)))


OPERATIONS: Mapping[str, Operation] = {
    name: Operation(name)
    for name, each in inspect.getmembers(SharedStore, inspect.iscoroutinefunction)
    if name not in vars(Backend)
}
