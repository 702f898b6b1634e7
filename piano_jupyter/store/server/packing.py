"""Packing: a value of a known type as MessagePack and back, with nothing lost.

msgspec packs what an annotation describes: records, ids, times. `Any` describes nothing, so what stands there carries
its own type: as an extension of MessagePack where MessagePack has no such type. Errors travel as the names of their
classes and what they hold.
"""

import dataclasses
import re
import types
from collections.abc import Callable, Collection, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec
from msgspec.msgpack import Ext

from piano_jupyter import errors
from piano_jupyter.errors import PianoError, StoreError
from piano_jupyter.store.server.socket_folder import CannotShareError

Value = TypeVar("Value")
Change = Callable[[Any], Any]

PLAIN, ESCAPED = b"\0", b"\1"  #: the first byte: whether texts had to be escaped
INTEGERS = range(-(2**63), 2**64)  #: what MessagePack has
PLAIN_TYPES = {type(None), bool, str, float, bytes}
UNSENDABLE = re.compile("[\0\ud800-\udfff]")  #: halves of surrogate pairs, which UTF-8 lacks, and the escape sign
ESCAPE = re.compile("\0([0-9a-f]{4})")


class Packing(Generic[Value]):
    """How values of one type are packed."""

    def __init__(self, kind: Any) -> None:
        self._mark = _marking(kind)
        self._decoder = msgspec.msgpack.Decoder(kind, dec_hook=_restored, ext_hook=_from_extension)

    def pack(self, value: Value) -> bytes:
        """Raise StoreError for what has no form in MessagePack, and none here either."""
        try:
            return PLAIN + self._packed(value)
        except UnicodeEncodeError:
            return ESCAPED + self._packed(_with_texts(value, _escaped))
        except RecursionError:
            raise StoreError(f"{value!r:.200} cannot be kept: it is nested too deeply") from None

    def unpack(self, data: bytes | memoryview) -> Value:
        """Return what was packed. Raises StoreError where it is of another type."""
        try:
            value: Value = self._decoder.decode(data[1:])
        except (msgspec.MsgspecError, ValueError) as error:
            raise StoreError(f"the store process and this kernel do not understand each other: {error}") from error
        if data[:1] == ESCAPED:
            value = _with_texts(value, _unescaped)
        return value

    def _packed(self, value: Value) -> bytes:
        return ENCODER.encode(self._mark(value) if self._mark else value)


def _marking(kind: Any) -> Change | None:  # noqa: PLR0911  One shape of a type a line.
    """Return what gives each value that stands where `Any` is declared its type; None where that is nowhere."""
    if kind is Any:
        return _marked
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in {Union, types.UnionType}:
        return _either(arguments)
    if not isinstance(origin or kind, type):  # a Literal, say
        return None
    if origin is not None and issubclass(origin, Mapping):
        return _each_value(_marking(arguments[1]))
    if origin is tuple and ... not in arguments:
        return _each_of(list(map(_marking, arguments)))
    if origin is not None and issubclass(origin, Collection):
        return _each_item(_marking(arguments[0]))
    if dataclasses.is_dataclass(kind):
        return _fields_of(get_type_hints(kind))
    if isinstance(kind, type) and issubclass(kind, tuple) and kind is not tuple:
        return _each_of(list(map(_marking, get_type_hints(kind).values())))
    return None


def _either(kinds: tuple[Any, ...]) -> Change | None:
    change = next(filter(None, map(_marking, kinds)), None)
    return (lambda value: None if value is None else change(value)) if change else None


def _each_value(change: Change | None) -> Change | None:
    if change is None:
        return None
    return lambda values: values if _is_plain(values) else {key: change(value) for key, value in values.items()}


def _each_item(change: Change | None) -> Change | None:
    return (lambda values: [change(value) for value in values]) if change else None


def _each_of(changes: list[Change | None]) -> Change | None:
    if not any(changes):
        return None
    return lambda values: [change(value) if change else value for change, value in zip(changes, values, strict=True)]


def _fields_of(hints: Mapping[str, Any]) -> Change | None:
    changes = {name: change for name, hint in hints.items() if (change := _marking(hint))}

    def change_fields(record: Any) -> Any:
        values = {}
        for name, change in changes.items():
            if (changed := change(value := getattr(record, name))) is not value:
                values[name] = changed
        return dataclasses.replace(record, **values) if values else record

    return change_fields if changes else None


def _is_plain(value: Any) -> bool:
    """Return whether MessagePack has all types in it, so that most values are packed as they are."""
    kind = type(value)
    if kind is dict:
        return all(type(key) is str and _is_plain(value[key]) for key in value)
    if kind is list:
        return all(map(_is_plain, value))
    return kind in PLAIN_TYPES or (kind is int and value in INTEGERS)


def _marked(value: Any) -> Any:  # noqa: C901, PLR0911  One line a type.
    if _is_plain(value):
        return value
    match value:
        case Enum():
            return _marked(value.value)
        case str():
            return str.__str__(value)
        case int():
            return int(value) if int(value) in INTEGERS else Ext(EXTENSIONS.index(int), str(int(value)).encode())
        case float():
            return float(value)
        case Mapping():
            if all(isinstance(key, str) for key in value):
                return {key: _marked(each) for key, each in value.items()}
            pairs = [[_marked(key), _marked(each)] for key, each in value.items()]
            return Ext(EXTENSIONS.index(dict), ENCODER.encode(pairs))
        case list():
            return [_marked(each) for each in value]
        case tuple() | set() | frozenset():
            return Ext(_code_of(value, tuple, set, frozenset), ENCODER.encode([_marked(each) for each in value]))
        case UUID() | Decimal():
            return Ext(_code_of(value, UUID, Decimal), str(value).encode())
        case datetime() | date() | time():
            return Ext(_code_of(value, datetime, date, time), value.isoformat().encode())
        case timedelta():
            return Ext(EXTENSIONS.index(timedelta), ENCODER.encode([value.days, value.seconds, value.microseconds]))
    raise StoreError(f"{value!r:.200} cannot be stored as JSON: it is of the type {type(value).__name__}")


def _code_of(value: Any, *kinds: type) -> int:
    return next(EXTENSIONS.index(kind) for kind in kinds if isinstance(value, kind))


def _from_extension(code: int, data: memoryview) -> Any:
    return READERS[EXTENSIONS[code]](bytes(data))


def _read_items(data: bytes) -> Any:
    return msgspec.msgpack.decode(data, ext_hook=_from_extension)


def _read(kind: Callable[[str], Any], data: bytes) -> Any:
    return kind(data.decode())


READERS: Mapping[type, Callable[[bytes], Any]] = {
    UUID: partial(_read, UUID),
    Decimal: partial(_read, Decimal),
    int: partial(_read, int),
    datetime: partial(_read, datetime.fromisoformat),
    date: partial(_read, date.fromisoformat),
    time: partial(_read, time.fromisoformat),
    timedelta: lambda data: timedelta(*_read_items(data)),
    tuple: lambda data: tuple(_read_items(data)),
    set: lambda data: set(_read_items(data)),
    frozenset: lambda data: frozenset(_read_items(data)),
    dict: lambda data: dict(map(tuple, _read_items(data))),
}
ERROR_KINDS = {**vars(errors), CannotShareError.__name__: CannotShareError}
EXTENSIONS = list(READERS)  #: a type's place in it is the code of its extension


def _dismantled(value: Any) -> Any:
    """Return an error as the names of its classes, nearest first, and what it holds."""
    if not isinstance(value, PianoError):
        raise StoreError(f"{value!r:.200} cannot be sent to the store process")
    names = [each.__name__ for each in type(value).__mro__ if issubclass(each, PianoError)]
    return [
        names,
        [_sendable(each) for each in value.args],
        {name: _sendable(each) for name, each in vars(value).items()},
    ]


def _sendable(value: Any) -> Any:
    try:
        return _marked(value)
    except StoreError:
        return repr(value)


def _restored(_: type, parts: Any) -> PianoError:
    names, arguments, attributes = parts
    kind = next(found for name in names if (found := ERROR_KINDS.get(name)))
    error: PianoError = kind.__new__(kind, *arguments)  # an error's own constructor may take other arguments
    error.__dict__.update(attributes)
    return error


ENCODER = msgspec.msgpack.Encoder(enc_hook=_dismantled, uuid_format="bytes")


def _escaped(text: str) -> str:
    return UNSENDABLE.sub(lambda found: f"\0{ord(found[0]):04x}", text)


def _unescaped(text: str) -> str:
    return ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)


def _with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return a value with each text in it changed."""
    again = partial(_with_texts, change=change)
    match value:
        case Enum():
            return value
        case str():
            return change(value)
        case Mapping():
            return {again(key): again(each) for key, each in value.items()}
        case tuple() if hasattr(value, "_fields"):
            return type(value)(*map(again, value))
        case list() | tuple() | set() | frozenset():
            return type(value)(map(again, value))
        case PianoError():
            changed: PianoError = type(value).__new__(type(value), *map(again, value.args))
            changed.__dict__.update(again(vars(value)))
            return changed
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: again(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
        return dataclasses.replace(value, **fields)
    return value
