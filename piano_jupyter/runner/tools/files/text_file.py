"""What is in a text file: its encoding, its lines, its text. For a file of any size, never more than is asked for."""

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from piano_jupyter.runner.tools.files.workspace import refused

LONGEST_LINE = 2_000  #: characters that are shown of a line
SAMPLE = 1 << 16  #: bytes at the beginning that tell what kind of file it is
BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
KINDS = (
    (0, b"%PDF", "a PDF document"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (0, b"PK\x03\x04", "a ZIP archive, as .xlsx, .docx and .whl are"),
    (0, b"\x1f\x8b", "compressed with gzip"),
    (0, b"PAR1", "a Parquet file; query it with DuckDB"),
    (0, b"ARROW1", "an Arrow file"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"SQLite format 3", "an SQLite database"),
    (8, b"DUCK", "a DuckDB database"),
    (0, b"\x80\x04\x95", "a Python pickle"),
    (0, b"\x80\x05\x95", "a Python pickle"),
    (0, b"\x7fELF", "a program"),
)


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file's whole text, and what it takes to write it back byte for byte."""

    text: str
    bom: bytes
    encoding: str

    def encoded(self, text: str) -> bytes:
        """Return a text in this file's encoding. Raises UnicodeEncodeError where that has no such character."""
        return self.bom + text.encode(self.encoding, "surrogateescape")


def whole(data: bytes, shown: str) -> TextFile:
    """Return a file's text. Raises ToolError for what is no text."""
    bom, encoding = _encoding(data[:SAMPLE], shown)
    try:
        return TextFile(data[len(bom) :].decode(encoding, "surrogateescape"), bom, encoding)
    except UnicodeDecodeError as error:
        raise refused("binary", f"{shown!r} says that it is {encoding}, but is not") from error


def part(file: BinaryIO, shown: str, *, size: int, offset: int, limit: int, room: int) -> str:
    """Return numbered lines from `offset` on, `limit` at most and no more than `room` bytes, and how to go on."""
    bom, encoding = _encoding(file.read(SAMPLE), shown)
    file.seek(len(bom))
    number = 0
    lines: list[str] = []
    with io.TextIOWrapper(file, encoding, errors="replace") as text:
        for number, line in enumerate(_cut_lines(text), start=1):
            if number < offset:
                continue
            lines.append(f"{number}\t{line}")
            room -= len(lines[-1].encode()) + 1
            if len(lines) > 1 and (room < 0 or len(lines) > limit):
                lines[-1] = f"[{shown!r} has {size:,} bytes and goes on; read it with offset={number}]"
                break
    if not lines and offset > 1:
        raise refused("bad_range", f"{shown!r} has {number:,} lines, none at offset {offset}")
    return "\n".join(lines) if lines else f"{shown!r} is empty"


def _cut_lines(text: io.TextIOWrapper) -> Iterator[str]:
    """Yield the lines, cut where they are too long, holding no more than one."""
    while line := text.readline(LONGEST_LINE + 1):
        rest = line
        while rest and not rest.endswith("\n"):
            rest = text.readline(SAMPLE)
        line = line.rstrip("\n")
        yield line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} [line cut at {LONGEST_LINE:,} characters]"


def _encoding(sample: bytes, shown: str) -> tuple[bytes, str]:
    """Return the byte order mark and the encoding. Raises ToolError for what is no text."""
    for start, mark, kind in KINDS:
        if sample.startswith(mark, start):
            raise refused("binary", f"{shown!r} is {kind}")
    for bom, encoding in BOMS:
        if sample.startswith(bom):
            return bom, encoding
    if b"\0" in sample:
        raise refused("binary", f"{shown!r} is not text")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)  # Takes a character that the sample cuts.
    except UnicodeDecodeError:
        return b"", "latin-1"
    return b"", "utf-8"
