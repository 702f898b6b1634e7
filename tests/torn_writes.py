"""What a killed or powerless machine leaves of a database: each write of a recorded run cut short, laid down as files.

A run is recorded by a small library that is preloaded into its process (`torn_writes.c`, compiled where it is used).
"""

import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

PAGE_BYTES = 4096
SOURCE = Path(__file__).with_suffix(".c")
HAS_COMPILER = shutil.which("cc") is not None
HEAD = struct.Struct("<c7x4q")
MARK = b"M"


class Change(NamedTuple):
    """A change of a file: W(rite), T(runcate), U(nlink), R(ename), O(pen and empty), C(reate), S(ync); or a M(ark)."""

    kind: str
    path: str
    other: str
    offset: int
    data: bytes


def library(folder):
    """Compile the library; return its path."""
    built = Path(folder) / "torn_writes.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", built, SOURCE, "-ldl", "-lpthread"], check=True)
    return built


def mark(journal, text):
    """Write a mark into a journal, from within the recorded run."""
    data = text.encode()
    with Path(journal).open("ab", buffering=0) as file:
        file.write(HEAD.pack(MARK, 0, len(data), 0, 0) + data)


def changes(journal):
    """Return the changes of a journal; paths are seen from its folder."""
    data, at, found = Path(journal).read_bytes(), 0, []
    while at < len(data):
        kind, offset, size, path, other = HEAD.unpack_from(data, at)
        at += HEAD.size
        names = (data[at : at + path].decode(), data[at + path : at + path + other].decode())
        path, other = (os.path.relpath(name, Path(journal).parent) if name else "" for name in names)
        at += sum(len(name.encode()) for name in names)
        has_data = kind in b"WM"
        found.append(Change(kind.decode(), path, other, offset, data[at : at + size] if has_data else b""))
        at += size if has_data else 0
    return found


def pages_of(data):
    """Return data as pages: states of a file share those in which they are equal, so that they are compared quickly."""
    return tuple(data[at : at + PAGE_BYTES] for at in range(0, len(data), PAGE_BYTES))


class Files(dict):
    """Files by path, in pages, to which changes are applied."""

    def copy(self):
        return Files(self)

    def size(self, path):
        """Return the size of a file, 0 if it is not there."""
        pages = self.get(path, ())
        return (len(pages) - 1) * PAGE_BYTES + len(pages[-1]) if pages else 0

    def content(self, path):
        """Return what is in a file."""
        return b"".join(self[path])

    def apply(self, change, length=None):
        """Apply a change; of a write, only the first `length` bytes."""
        kind, path, other, offset, data = change
        if kind == "W":
            self._write(path, offset, data if length is None else data[:length])
        elif kind == "T":
            self._write(path, self.size(path), bytes(max(offset - self.size(path), 0)))
            self[path] = pages_of(self.content(path)[:offset])
        elif kind == "U":
            self.pop(path, None)
        elif kind == "R" and path in self:
            self[other] = self.pop(path)
        elif kind == "O":
            self[path] = ()
        elif kind == "C":
            self.setdefault(path, ())

    def _write(self, path, offset, data):
        if (gap := offset - self.size(path)) > 0:
            self._write(path, offset - gap, bytes(gap))
        pages = self.get(path, ())
        first, end = offset // PAGE_BYTES, -(-(offset + len(data)) // PAGE_BYTES)
        old, start = b"".join(pages[first:end]), offset - first * PAGE_BYTES
        new = pages_of(old[:start] + data + old[start + len(data) :])
        self[path] = (*pages[:first], *new, *pages[end:])

    def lay_down(self, folder):
        """Write the files into an emptied folder."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for path, pages in self.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(b"".join(pages))
