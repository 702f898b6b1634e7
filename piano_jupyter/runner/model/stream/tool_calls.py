"""The tool calls of a reply, put together from pieces that carry an index, an id, both, or neither. Pure."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from piano_jupyter.runner.model.protocol import RequestedCall
from piano_jupyter.runner.model.stream.lenient_json import is_whole, read_arguments

MOST_LOOKS = 50  #: times that it is looked whether a call is whole: a name that is still repeated then means nothing


@dataclass(slots=True)
class _PartialCall:
    index: Any
    id: str
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    looks: int = 0

    def whole(self) -> bool:
        if not self.arguments or self.looks >= MOST_LOOKS or not self.arguments[-1].rstrip().endswith("}"):
            return False
        self.looks += 1
        return is_whole("".join(self.arguments))

    def take(self, function: Mapping[str, Any], *, named: bool) -> None:
        name, arguments = function.get("name") or "", function.get("arguments")
        if name and name != self.name and not self.arguments and not named:
            self.name += name
        if isinstance(arguments, str):
            if arguments:
                self.arguments.append(arguments)
        elif arguments is not None:
            self.arguments = [json.dumps(arguments, ensure_ascii=False)]

    def requested(self, *, cut: bool) -> RequestedCall:
        read = read_arguments(joined(self.arguments), cut=cut)
        return RequestedCall(name=joined([self.name]), **read._asdict())


class ToolCallAssembler:
    """Takes the pieces of calls as they come. `names` are those of the tools that may be called."""

    def __init__(self, names: Collection[str] = ()) -> None:
        self._names = frozenset(names)
        self._calls: list[_PartialCall] = []
        self._by_index: dict[Any, _PartialCall] = {}
        self._by_id: dict[str, _PartialCall] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, piece: Mapping[str, Any]) -> None:
        """Take a piece. Raises AttributeError or TypeError for one that is none."""
        function = piece.get("function") or {}
        name, index, identity = function.get("name") or "", piece.get("index"), str(piece.get("id") or "")
        if not isinstance(name, str):
            raise TypeError("a name that is no text")
        call, arguments = self._known(index, identity, name), function.get("arguments")
        if call is None or self._begins_another(call, index, identity, name, arguments):
            call = _PartialCall(index, identity)
            self._calls.append(call)
        call.id = call.id or identity
        if call.index is None:
            call.index = index
        if index is not None:
            self._by_index[index] = call
        if identity:
            self._by_id[identity] = call
        call.take(function, named=call.name in self._names and name in self._names)

    def requested(self, *, cut: bool) -> tuple[RequestedCall, ...]:
        """Return the calls. `cut`: the answer ended before its end, so the last one may be incomplete."""
        last = len(self._calls) - 1
        return tuple(call.requested(cut=cut and at == last) for at, call in enumerate(self._calls))

    def _known(self, index: Any, identity: str, name: str) -> _PartialCall | None:
        """Find the call that a piece goes on with: by index, else by id, else the last one."""
        last = self._calls[-1] if self._calls else None
        if index is not None:
            if index in self._by_index:
                return self._by_index[index]
            goes_on = last is not None and last.index is None and identity in {"", last.id}
            return last if goes_on else None
        if not identity:
            return last
        if identity in self._by_id:
            return self._by_id[identity]
        goes_on = last is not None and not name and bool(last.name) and not last.whole()
        return last if goes_on else None  # a server may give each piece an id of its own

    def _begins_another(self, call: _PartialCall, index: Any, identity: str, name: str, arguments: Any) -> bool:
        """Return whether a piece does not go on with a call, but begins the next one."""
        if not name or not call.name:
            return False
        if index is not None and identity in {"", call.id} and call.index == index:
            return _begins_an_object(arguments) and call.whole()  # a server may give all calls one index
        other = name != call.name
        if not call.arguments:
            return other and name in self._names and call.name in self._names
        return (other or bool(arguments) or identity not in {"", call.id}) and call.whole()


def _begins_an_object(arguments: Any) -> bool:
    return arguments.lstrip().startswith("{") if isinstance(arguments, str) else bool(arguments)


def joined(pieces: list[str]) -> str:
    """Join pieces; a character of two surrogates may have been cut between two of them."""
    text = "".join(pieces)
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def whole_characters(text: str) -> str:
    """Return a text without halves of characters, which can be neither shown nor kept."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
