"""DuckDB's file and log as version 2.0 writes them: headers, blocks, log records and their checksums. Pure.

A checksum is an XOR over words, each times a constant. So a single changed byte can often be found and put right: each
word has one value that fits the checksum, and where only one word gets there by changing one byte, it is that byte.
(The upper bytes of a word say too little for that: a change of those fits many words.)
"""

import re
import struct
from collections.abc import Iterator
from functools import reduce
from itertools import islice
from operator import xor
from typing import NamedTuple

MAGIC = b"DUCK"
FILE_VERSION = 999  #: in the main header
STORAGE_VERSION = 69  #: in both database headers
HEADER_BYTES = 4096
HEADERS = (0, 4096, 8192)  #: where the main header and the two database headers are
BLOCKS_START = 12288
BLOCK_BYTES = 262144
VECTOR_ROWS = 2048  #: rows that are read together
HEADER_USED_BYTES, MAIN_HEADER_USED_BYTES = 64, 140  #: what follows in a header is empty
CHECKSUM_BYTES = 8
LOG_SUFFIXES = (".wal", ".wal.checkpoint", ".wal.recovery")  #: what belongs to a file: the last two, to a checkpoint

_SEED = 5381
_WORD_FACTOR = 0xBF58476D1CE4E5B9
_WORD_INVERSE = pow(_WORD_FACTOR, -1, 1 << 64)
_MASK = (1 << 64) - 1

LOG_HEADER = re.compile(
    rb"\x64\x00\x62\x65\x00.\x66\x00\x10(?:[\x80-\xff][\x00-\x7f]|[\x00-\x7f]){16}\x67\x00[\x80-\xff]*[\x00-\x7f]\xff\xff",
    re.DOTALL,
)
FRAME = struct.Struct("<QQ")  #: before each record of a log: its size and its checksum
_CHECKPOINT, _COMMIT = b"\x64\x00\x63", b"\x64\x00\x64"  #: how the records begin that mark a checkpoint and a commit
_COMMIT_RECORD = b"\x64\x00\x64\xff\xff"


def checksum(data: bytes) -> int:
    """Return DuckDB's checksum of a block (its bytes after the first eight) or of a log record."""
    words = struct.unpack_from(f"<{len(data) // 8}Q", data)
    whole = reduce(xor, map(_WORD_FACTOR.__mul__, words), _SEED) & _MASK
    return whole ^ _hash(data[len(data) // 8 * 8 :])


def block_size(at: int) -> int:
    """Return the size of the header or block at this place of a file."""
    return HEADER_BYTES if at < BLOCKS_START else BLOCK_BYTES


def with_checksum(data: bytes) -> bytes:
    """Return a block with the checksum that fits the rest of it."""
    return struct.pack("<Q", checksum(data[CHECKSUM_BYTES:])) + data[CHECKSUM_BYTES:]


def is_valid(block: bytes) -> bool:
    """Return whether a block (or a header) fits its checksum."""
    return block[:CHECKSUM_BYTES] == struct.pack("<Q", checksum(block[CHECKSUM_BYTES:]))


def corrected_block(block: bytes) -> bytes | None:
    """Return a block with its one changed byte put right; None if that byte cannot be told, or more has changed."""
    (stored,) = struct.unpack_from("<Q", block)
    data = corrected(block[CHECKSUM_BYTES:], stored)
    return None if data is None else with_checksum(block[:CHECKSUM_BYTES] + data)


def corrections(block: bytes) -> Iterator[bytes]:
    """Yield what a damaged block may have been if one byte of a word that is not zero now has changed."""
    (stored,) = struct.unpack_from("<Q", block)
    data = block[CHECKSUM_BYTES:]
    for each in _corrections(data, stored, is_sparse=True):
        yield with_checksum(block) if each == data else block[:CHECKSUM_BYTES] + each


def corrected(data: bytes, stored: int) -> bytes | None:
    """Return data with its one changed byte put right so that it fits a checksum; None if that cannot be told."""
    found = list(islice(_corrections(data, stored), 2))
    return found[0] if len(found) == 1 else None


def _corrections(data: bytes, stored: int, *, is_sparse: bool = False) -> Iterator[bytes]:
    """Yield each way to fit a checksum by changing one byte of the data, or one of the checksum.

    In sparse data, words that are zero are taken for right.
    """
    difference = stored ^ checksum(data)
    if _is_one_byte(difference):
        yield data
    for at, word in enumerate(struct.unpack_from(f"<{len(data) // 8}Q", data)):
        if is_sparse and not word:
            continue
        right = (word * _WORD_FACTOR ^ difference) * _WORD_INVERSE & _MASK
        if _is_one_byte(right ^ word):
            yield data[: at * 8] + struct.pack("<Q", right) + data[at * 8 + 8 :]
    start = len(data) // 8 * 8
    tail = data[start:]
    wanted = _hash(tail) ^ difference
    for at in range(len(tail)):
        for value in range(256):
            changed = tail[:at] + bytes((value,)) + tail[at + 1 :]
            if _hash(changed) == wanted:
                yield data[:start] + changed


class Headers(NamedTuple):
    """What a file's headers say."""

    live: int  #: where the newer database header is
    iteration: int  #: how often the file was checkpointed
    identifier: bytes  #: 16 random bytes, which the log repeats


def read_headers(head: bytes) -> Headers | None:
    """Return what the first three pages of a file say; None if they are not valid ones of this storage version."""
    pages = [head[at : at + HEADER_BYTES] for at in HEADERS]
    if len(head) < BLOCKS_START or not all(is_valid(page) and _is_header(page, n) for n, page in enumerate(pages)):
        return None
    main, *databases = pages
    iterations = [struct.unpack_from("<Q", page, 8)[0] for page in databases]
    newer = int(iterations[1] > iterations[0])
    return Headers(HEADERS[1 + newer], iterations[newer], main[124:140])


def is_beginning(head: bytes) -> bool:
    """Return whether this is the beginning of a file that DuckDB was creating when the machine stopped."""
    return head[8:12] == MAGIC or not any(head)


def corrected_head(head: bytes) -> bytes | None:
    """Return the first three pages with their damage put right; None if this is no file of this version.

    A database header whose damage cannot be told is replaced by the other one.
    """
    if len(head) < BLOCKS_START:
        return None
    main, *databases = (head[at : at + HEADER_BYTES] for at in HEADERS)
    first, second = (page if is_valid(page) else _corrected_header(page) for page in databases)
    known = first or second
    if known is None or not _is_header(known, 1) or (is_valid(main) and not _is_header(main, 0)):
        return None
    if not is_valid(main):  # all that it says is known, but for which program made it, and for random bytes
        main = main[:8] + MAGIC + struct.pack("<Q", FILE_VERSION) + bytes(32) + main[52:MAIN_HEADER_USED_BYTES]
        main = with_checksum(main.ljust(HEADER_BYTES, b"\0"))
    return main + (first or _earlier(known)) + (second or _earlier(known))


def _corrected_header(page: bytes) -> bytes | None:
    """Return a damaged database header as it was; None if that cannot be told."""
    emptied = page[:HEADER_USED_BYTES].ljust(HEADER_BYTES, b"\0")
    if is_valid(emptied):
        return emptied
    (stored,) = struct.unpack_from("<Q", page)
    options = [with_checksum(page[:CHECKSUM_BYTES] + each) for each in _corrections(page[CHECKSUM_BYTES:], stored)]
    fits = [each for each in options if _is_header(each, 1) and not any(each[HEADER_USED_BYTES:])]
    return fits[0] if len(fits) == 1 else None


def _is_header(page: bytes, number: int) -> bool:
    """Return whether this is what a main header (number 0) or a database header of this version says."""
    if number == 0:
        return page[8:12] == MAGIC and struct.unpack_from("<Q", page, 12)[0] == FILE_VERSION
    iteration, *pointers, blocks, block_bytes, vector_rows, version = struct.unpack_from("<7Q", page, 8)
    return (
        (block_bytes, vector_rows, version) == (BLOCK_BYTES, VECTOR_ROWS, STORAGE_VERSION)
        and iteration < 1 << 40
        and all(each == _MASK or (each & (1 << 56) - 1 < max(blocks, 1) and each >> 56 < 64) for each in pointers)
    )


def _earlier(page: bytes) -> bytes:
    """Return a database header that says the same, but is the older of the two."""
    (iteration,) = struct.unpack_from("<Q", page, 8)
    return with_checksum(page[:8] + struct.pack("<Q", max(iteration - 1, 0)) + page[16:])


class LogRecord(NamedTuple):
    """A record of a log: where it starts, and its content."""

    start: int
    stored: int  #: its checksum
    data: bytes

    @property
    def end(self) -> int:
        return self.start + FRAME.size + len(self.data)


def log_start(log: bytes) -> int | None:
    """Return where the records of a log begin; None if its header is damaged."""
    found = LOG_HEADER.match(log)
    return found.end() if found else None


def log_header(headers: Headers) -> bytes:
    """Return how a log of this file begins."""
    identifier = b"".join(map(_varint, headers.identifier))
    return b"\x64\x00\x62\x65\x00\x02\x66\x00\x10" + identifier + b"\x67\x00" + _varint(headers.iteration) + b"\xff\xff"


def log_records(log: bytes, start: int) -> Iterator[LogRecord]:
    """Yield the records of a log as far as their sizes lead."""
    while start + FRAME.size <= len(log):
        size, stored = FRAME.unpack_from(log, start)
        if start + FRAME.size + size > len(log):
            return
        record = LogRecord(start, stored, log[start + FRAME.size : start + FRAME.size + size])
        yield record
        start = record.end


def commits_from(log: bytes, start: int) -> int:
    """Return how many commits a log holds from here on, whatever lies between them."""
    return log.count(FRAME.pack(len(_COMMIT_RECORD), checksum(_COMMIT_RECORD)) + _COMMIT_RECORD, start)


def ends_with_checkpoint(log: bytes) -> bool:
    """Return whether a log ends with a checkpoint that was begun: its header may not be the file's yet."""
    start = log_start(log)
    last = [each.data[:3] for each in log_records(log, start)][-2:] if start is not None else []
    return last == [_CHECKPOINT, _COMMIT]


def broken_at(log: bytes) -> int | None:
    """Return where a log breaks off although commits follow; None if it is complete, or cut off at its end.

    DuckDB itself takes a record of a wrong size for the end of the log.
    """
    start = log_start(log)
    if start is None:
        return 0 if commits_from(log, 0) else None
    end = start
    for record in log_records(log, start):
        end = record.end
    return end if end < len(log) and commits_from(log, end) else None


def _hash(tail: bytes) -> int:
    """Return the hash (MurmurHash64A) of the last bytes, fewer than eight."""
    if not tail:
        return 0
    factor = 0xC6A4A7935BD1E995
    value = 0xE17A1465 ^ len(tail) * factor & _MASK ^ int.from_bytes(tail, "little")
    value = value * factor & _MASK
    value = (value ^ value >> 47) * factor & _MASK
    return value ^ value >> 47


def _is_one_byte(difference: int) -> bool:
    """Return whether two words that differ so differ in exactly one byte."""
    return difference != 0 and difference >> ((difference & -difference).bit_length() - 1) // 8 * 8 < 256


def _varint(value: int) -> bytes:
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])
