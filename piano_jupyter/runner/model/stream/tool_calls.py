"""Assembles a reply's tool calls from pieces that have an index, an id, both, or neither. Pure.

Some servers send a call again as a whole, or its arguments so far with each piece: neither is a second call.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from piano_jupyter.runner.model.protocol import RequestedCall
from piano_jupyter.runner.model.stream.lenient_json import CUT_OFF, is_complete, read_arguments, read_object

MAX_REPEATS = 20  #: of one call's arguments; more is an error
MAX_CHECKS = 50  #: per call; after that, a repeated name does not start a new call


@dataclass(slots=True)
class _PartialCall:
    index: Any
    id: str
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    checks: int = 0

    def is_complete(self) -> bool:
        if not self.arguments or self.checks >= MAX_CHECKS or not self.arguments[-1].rstrip().endswith("}"):
            return False
        self.checks += 1
        return is_complete("".join(self.arguments))

    def add(self, function: Mapping[str, Any], *, named: bool) -> None:
        name, arguments = function.get("name") or "", function.get("arguments")
        if name and name != self.name and not self.arguments and not named:
            self.name += name
        if isinstance(arguments, str):
            if arguments:
                self.arguments.append(arguments)
        elif arguments is not None:
            self.arguments = [json.dumps(arguments, ensure_ascii=False)]

    @property
    def key(self) -> tuple[Any, str, str]:
        return self.index, self.id, self.name

    def requested(self, *, cut_off: bool) -> RequestedCall:
        read = read_arguments(join_pieces(self.arguments), cut_off=cut_off)
        if read.problem and (whole := _last_snapshot(self.arguments) or _only_object(join_pieces(self.arguments))):
            read = read_arguments(whole, cut_off=cut_off)
        return RequestedCall(name=join_pieces([self.name]), **read._asdict())

    def repeats(self, whole: "_PartialCall | None", requested: RequestedCall) -> bool:
        """Return whether this call, read without arguments, is the empty or the cut-off form of a whole one."""
        if whole is None or requested.problem is None:
            return whole is not None
        return requested.problem == CUT_OFF and join_pieces(whole.arguments).startswith(join_pieces(self.arguments))


class ToolCallAssembler:
    """Assembles calls from their pieces. `names` are the tools that may be called."""

    def __init__(self, names: Collection[str] = ()) -> None:
        self._names = frozenset(names)
        self._calls: list[_PartialCall] = []
        self._by_index: dict[Any, _PartialCall] = {}
        self._by_id: dict[str, _PartialCall] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, piece: Mapping[str, Any]) -> None:
        """Add a piece. Raises AttributeError or TypeError if it is malformed."""
        function = piece.get("function") or {}
        name, index, identity = function.get("name") or "", piece.get("index"), str(piece.get("id") or "")
        if not isinstance(name, str):
            raise TypeError("the name is not a string")
        call, arguments = self._find_call(index, identity, name), function.get("arguments")
        if call is None or self._starts_new_call(call, index, identity, name, arguments):
            call = _PartialCall(index, identity)
            self._calls.append(call)
        call.id = call.id or identity
        if call.index is None:
            call.index = index
        if index is not None:
            self._by_index[index] = call
        if identity:
            self._by_id[identity] = call
        call.add(function, named=call.name in self._names and name in self._names)

    def requested(self, *, cut_off: bool) -> tuple[RequestedCall, ...]:
        """Return the calls, without repeats. `cut_off`: the answer is incomplete, so the last call may be, too."""
        last = len(self._calls) - 1
        found: list[tuple[_PartialCall, RequestedCall]] = []
        sent: set[tuple[Any, ...]] = set()
        for at, call in enumerate(self._calls):
            if not (call.name or "".join(call.arguments).strip() or cut_off):  # LM Studio, for what it cannot read
                continue
            requested = call.requested(cut_off=cut_off and at == last)
            mark = (*call.key, json.dumps(requested.arguments, sort_keys=True))
            if requested.problem or not call.id or mark not in sent:
                found.append((call, requested))
            sent.add(mark)
        with_arguments = {call.key: call for call, requested in found if requested.arguments}
        return tuple(
            requested
            for call, requested in found
            if requested.arguments or not call.id or not call.repeats(with_arguments.get(call.key), requested)
        )

    def _find_call(self, index: Any, identity: str, name: str) -> _PartialCall | None:
        """Find the call that a piece belongs to: by index, else by id, else the last one."""
        last = self._calls[-1] if self._calls else None
        if index is not None:
            if index in self._by_index:
                return self._by_index[index]
            continues = last is not None and last.index is None and identity in {"", last.id}
            return last if continues else None
        if not identity:
            return last
        if identity in self._by_id:
            return self._by_id[identity]
        continues = last is not None and not name and bool(last.name) and not last.is_complete()
        return last if continues else None  # some servers give each piece its own id

    def _starts_new_call(self, call: _PartialCall, index: Any, identity: str, name: str, arguments: Any) -> bool:
        """Return whether a piece starts the next call instead of continuing this one."""
        if not name or not call.name:
            return False
        if index is not None and identity in {"", call.id} and call.index == index:
            return _starts_object(arguments) and call.is_complete()  # some servers give all calls the same index
        other = name != call.name
        if not call.arguments:
            return other and name in self._names and call.name in self._names
        return (other or bool(arguments) or identity not in {"", call.id}) and call.is_complete()


def _starts_object(arguments: Any) -> bool:
    return arguments.lstrip().startswith("{") if isinstance(arguments, str) else bool(arguments)


def _last_snapshot(pieces: list[str]) -> str:
    """Return the last piece if it is a whole object that each piece before it is the start of; else ""."""
    last = pieces[-1] if len(pieces) > 1 else ""
    is_last = last.startswith("{") and is_complete(last) and all(map(last.startswith, pieces))
    return last if is_last else ""


def _only_object(text: str) -> str:
    """Return the object that a text repeats, or that follows an empty one; "" if there are several, or none."""
    only: dict[str, Any] = {}
    written = ""
    for _ in range(MAX_REPEATS):
        value, end = read_object(text, 0)
        if value is None or (only and value and value != only):
            return ""
        if value or not only:
            only, written = value, text[:end]
        text = text[end:].lstrip()
        if not text:
            return written
    return ""


def join_pieces(pieces: list[str]) -> str:
    """Join pieces; a surrogate pair may be split between two of them."""
    text = "".join(pieces)
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def replace_lone_surrogates(text: str) -> str:
    """Replace lone surrogates, which can be neither shown nor stored."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
