"""Wire: the frames that a kernel and the store process exchange: a length, then a MessagePack array.

What a frame carries of records is packed by the operation that it belongs to (`packing.py`). The first frames, `Hello`
and its replies, stay readable for every version of Piano: fields are only ever added at their end.
"""

import asyncio
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar

import msgspec

from piano_jupyter.errors import PianoError, StoreError
from piano_jupyter.records import Job
from piano_jupyter.store.server.packing import Packing

PROTOCOL = 1  #: goes up when frames or the meaning of operations change
LENGTH_BYTES = 4
MAX_FRAME_BYTES = 128 * 2**20

Frame = TypeVar("Frame")


class Hello(msgspec.Struct, array_like=True, tag="hello", frozen=True):
    """The first frame of a kernel."""

    protocol: int
    version: str  #: of Piano
    pid: int
    owner: str  #: as which it runs jobs
    label: str  #: its notebook, for people
    max_attempts: int = 3  #: how many times a job is claimed before it fails


class Welcome(msgspec.Struct, array_like=True, tag="welcome", frozen=True):
    """The kernel may send requests."""

    pid: int
    database: str = ""  #: the id of the database


class Refused(msgspec.Struct, array_like=True, tag="refused", frozen=True):
    """The kernel cannot use this store process."""

    sentence: str


class Leaving(msgspec.Struct, array_like=True, tag="leaving", frozen=True):
    """The store process is closing the database; after that, another one can be started."""


class Call(msgspec.Struct, array_like=True, tag="call", frozen=True):
    """A request to do an operation."""

    id: int
    operation: str
    arguments: bytes


class Cancel(msgspec.Struct, array_like=True, tag="cancel", frozen=True):
    """Nobody waits for this request's result any more."""

    id: int


class Publish(msgspec.Struct, array_like=True, tag="publish", frozen=True):
    """An event for the other kernels; an empty one tells that some were left out."""

    event: bytes


class Goodbye(msgspec.Struct, array_like=True, tag="goodbye", frozen=True):
    """The kernel has finished; the connection is closed once its requests are done."""

    leave: bool = False  #: the store process is to end at once if no other kernel is connected


class Result(msgspec.Struct, array_like=True, tag="result", frozen=True):
    """What an operation returned."""

    id: int
    value: bytes


class Failure(msgspec.Struct, array_like=True, tag="failure", frozen=True):
    """What an operation raised."""

    id: int
    error: bytes


class RelayedEvent(msgspec.Struct, array_like=True, tag="event", frozen=True):
    """An event that another kernel published."""

    event: bytes


class Recovered(msgspec.Struct, array_like=True, tag="recovered", frozen=True):
    """Jobs that a kernel which is gone had been running, as they now are."""

    jobs: bytes


class Stir(msgspec.Struct, array_like=True, tag="stir", frozen=True):
    """Something may be there to claim now."""


class State(msgspec.Struct, array_like=True, tag="state", frozen=True):
    """How it stands: told after the welcome, and whenever it changes."""

    name: str  #: the path of the file in use
    problem: str  #: why nothing can be stored at present, "" if nothing
    others: list[str]  #: the other kernels, by their notebooks, sorted


class Notice(msgspec.Struct, array_like=True, tag="notice", frozen=True):
    """What the user of every kernel should know."""

    sentence: str


class Gap(msgspec.Struct, array_like=True, tag="gap", frozen=True):
    """Another kernel may have stored something and not told it: its connection broke, or it had too much to tell."""


FirstReply = Welcome | Refused | Leaving
Request = Call | Cancel | Publish | Goodbye
Reply = Result | Failure | RelayedEvent | Recovered | Stir | State | Notice | Gap

ERROR = Packing[PianoError](PianoError)
JOBS = Packing[list[Job]](list[Job])
HELLO = msgspec.msgpack.Decoder(Hello)
FIRST_REPLY: msgspec.msgpack.Decoder[FirstReply] = msgspec.msgpack.Decoder(FirstReply)
STATE = msgspec.msgpack.Decoder(State)
REQUEST: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
REPLY: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)
ENCODER = msgspec.msgpack.Encoder()


class ConnectionBrokenError(StoreError):
    """The connection ended, or what came over it is no frame."""


def frame(content: msgspec.Struct) -> bytes:
    """Return the bytes to send. Raises StoreError for what is too large to be sent at once."""
    body = ENCODER.encode(content)
    if len(body) > MAX_FRAME_BYTES:
        raise StoreError(
            f"{len(body) / 1e6:,.0f} MB are too much to exchange with the store process at once, which is limited to "
            f"{MAX_FRAME_BYTES / 1e6:,.0f} MB; ask for fewer rows, or set PianoConfig.share to False"
        )
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


async def read_frame(reader: asyncio.StreamReader, decoder: msgspec.msgpack.Decoder[Frame]) -> Frame:
    """Raise ConnectionBrokenError where no (whole) frame of this kind comes."""
    try:
        size = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
        if size > MAX_FRAME_BYTES:
            raise ConnectionBrokenError(f"a frame of {size:,} bytes is announced, more than can be exchanged")
        return decoder.decode(await reader.readexactly(size))
    except (OSError, EOFError, msgspec.MsgspecError) as error:
        raise ConnectionBrokenError(f"the connection to the store process ended: {error}") from error


def own_version() -> str:
    """Return the version of this Piano."""
    try:
        return version("piano_jupyter")
    except PackageNotFoundError:
        return "0"
