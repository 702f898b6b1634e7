"""ShownValues: values that the running cell has displayed already, so that its result is not shown twice."""

from typing import Any


class ShownValues:
    """Keeps a shell from showing some values a second time, until they are forgotten."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._values: list[Any] = []
        self._before: dict[type, Any] = {}  # the former printers of these types

    def add(self, value: Any) -> None:
        """Mark a value as shown."""
        printers, kind = self._printers(), type(value)
        if kind not in self._before:
            self._before[kind] = printers.get(kind)
            printers[kind] = self._show
        self._values.append(value)

    def forget(self) -> None:
        """Let all values be shown again."""
        printers = self._printers() if self._before else {}
        for kind, before in self._before.items():
            del printers[kind]
            if before is not None:
                printers[kind] = before
        self._before.clear()
        self._values.clear()

    def _printers(self) -> dict[type, Any]:
        printers: dict[type, Any] = self._shell.display_formatter.ipython_display_formatter.type_printers
        return printers

    def _show(self, value: Any) -> None:
        if any(value is each for each in self._values):
            return
        by_itself = self._before.get(type(value)) or getattr(type(value), "_ipython_display_", None)
        if by_itself is None:
            raise NotImplementedError  # IPython then tries the other formats
        by_itself(value)
