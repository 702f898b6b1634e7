"""MaskingStore: the door to what is kept. Whatever is written goes in without secrets, by whichever verb it comes."""

from collections.abc import Callable
from typing import Any

from piano_jupyter.store.base import Store

AS_THEY_ARE = {"search", "sql"}  #: what is looked for is not kept


class MaskingStore(Store):
    """A store around a store that masks what is to be kept, and so what comes back of it."""

    def __init__(self, store: Store, mask: Callable[[Any], Any]) -> None:
        self._store, self._mask = store, mask

    async def open(self) -> None:
        await self._store.open()

    async def close(self) -> None:
        await self._store.close()

    def close_now(self, timeout: float) -> None:
        self._store.close_now(timeout)

    async def call(self, operation: str, /, *arguments: Any, **options: Any) -> Any:
        """Do an operation with what it is given, without secrets."""
        if operation not in AS_THEY_ARE:
            arguments, options = self._mask(arguments), self._mask(options)
        return await getattr(self._store, operation)(*arguments, **options)
