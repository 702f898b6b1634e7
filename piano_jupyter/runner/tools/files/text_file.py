"""Reads text files: their encoding, lines and text. Of a large file, never more than requested is kept in memory."""

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from piano_jupyter.runner.tools.files.workspace import tool_error

MAX_LINE_CHARS = 2_000  #: a longer line is cut
SAMPLE_BYTES = 1 << 16  #: at the beginning of a file, to detect its kind and encoding
BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
FILE_SIGNATURES = (
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
    """A file's text, and what is needed to write it back byte for byte."""

    text: str
    bom: bytes
    encoding: str

    def encoded(self, text: str) -> bytes:
        """Return a text in this file's encoding. Raises UnicodeEncodeError for a character that the encoding lacks."""
        return self.bom + text.encode(self.encoding, "surrogateescape")


def decode_text(data: bytes, shown: str) -> TextFile:
    """Return a file's text. Raises ToolError if it is not text."""
    bom, encoding = _detect_encoding(data[:SAMPLE_BYTES], shown)
    try:
        return TextFile(data[len(bom) :].decode(encoding, "surrogateescape"), bom, encoding)
    except UnicodeDecodeError as error:
        raise tool_error("binary", f"{shown!r} is marked as {encoding}, but is not valid") from error


def numbered_lines(file: BinaryIO, shown: str, *, size: int, offset: int, limit: int, max_bytes: int) -> str:
    """Return at most `limit` numbered lines from `offset` on, within `max_bytes`, and how to continue."""
    bom, encoding = _detect_encoding(file.read(SAMPLE_BYTES), shown)
    file.seek(len(bom))
    number, remaining_bytes = 0, max_bytes
    lines: list[str] = []
    with io.TextIOWrapper(file, encoding, errors="replace") as text:
        for number, line in enumerate(_cut_lines(text), start=1):
            if number < offset:
                continue
            lines.append(f"{number}\t{line}")
            remaining_bytes -= len(lines[-1].encode()) + 1
            if len(lines) > 1 and (remaining_bytes < 0 or len(lines) > limit):
                lines[-1] = f"[{shown!r} has {size:,} bytes and continues; read it with offset={number}]"
                break
    if not lines and offset > 1:
        raise tool_error("bad_range", f"{shown!r} has only {number:,} lines, so none at offset {offset}")
    return "\n".join(lines) if lines else f"{shown!r} is empty"


def _cut_lines(text: io.TextIOWrapper) -> Iterator[str]:
    """Yield the lines, long ones cut, keeping only one in memory."""
    while line := text.readline(MAX_LINE_CHARS + 1):
        chunk = line
        while chunk and not chunk.endswith("\n"):
            chunk = text.readline(SAMPLE_BYTES)
        line = line.rstrip("\n")
        yield (
            line
            if len(line) <= MAX_LINE_CHARS
            else f"{line[:MAX_LINE_CHARS]} [line cut at {MAX_LINE_CHARS:,} characters]"
        )


def _detect_encoding(sample: bytes, shown: str) -> tuple[bytes, str]:
    """Return the byte order mark and the encoding. Raises ToolError if it is not text."""
    for position, signature, kind in FILE_SIGNATURES:
        if sample.startswith(signature, position):
            raise tool_error("binary", f"{shown!r} is {kind}")
    for bom, encoding in BOMS:
        if sample.startswith(bom):
            return bom, encoding
    if b"\0" in sample:
        raise tool_error("binary", f"{shown!r} is not text")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)  # Accepts an incomplete last character.
    except UnicodeDecodeError:
        return b"", "latin-1"
    return b"", "utf-8"
