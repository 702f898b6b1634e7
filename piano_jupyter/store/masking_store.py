"""MaskingStore: removes secrets from everything that is written to the store, whichever operation writes it."""

from collections.abc import Callable
from typing import Any

from piano_jupyter.store.base import Store

UNMASKED = {"search", "sql"}  #: a search is not stored


class MaskingStore(Store):
    """A store around a store that masks what is written, and so what is read back."""

    def __init__(self, store: Store, mask: Callable[[Any], Any]) -> None:
        self._store, self._mask = store, mask

    async def open(self) -> None:
        await self._store.open()

    async def close(self) -> None:
        await self._store.close()

    def close_now(self, timeout: float) -> None:
        self._store.close_now(timeout)

    async def call(self, operation: str, /, *arguments: Any, **options: Any) -> Any:
        """Run an operation with its arguments masked."""
        if operation not in UNMASKED:
            arguments, options = self._mask(arguments), self._mask(options)
        return await getattr(self._store, operation)(*arguments, **options)
