"""What a killed or powerless machine leaves of a database: each write of a recorded run cut short, laid down as files.

A run is recorded by a small library that is preloaded into its process (`torn_writes.c`, compiled where it is used).
"""

import shutil
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

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
    """Return the changes of a journal."""
    data, at, found = Path(journal).read_bytes(), 0, []
    while at < len(data):
        kind, offset, size, path, other = HEAD.unpack_from(data, at)
        at += HEAD.size
        names = data[at : at + path].decode(), data[at + path : at + path + other].decode()
        at += path + other
        has_data = kind in b"WM"
        found.append(Change(kind.decode(), *names, offset, data[at : at + size] if has_data else b""))
        at += size if has_data else 0
    return found


class Files(dict):
    """Files by path, as bytes, to which changes are applied."""

    def copy(self):
        return Files(self)

    def apply(self, change, length=None):
        """Apply a change; of a write, only the first `length` bytes."""
        kind, path, other, offset, data = change
        if kind == "W":
            data = data if length is None else data[:length]
            old = self.get(path, b"").ljust(offset, b"\0")
            self[path] = old[:offset] + data + old[offset + len(data) :]
        elif kind == "T":
            self[path] = self.get(path, b"")[:offset].ljust(offset, b"\0")
        elif kind == "U":
            self.pop(path, None)
        elif kind == "R" and path in self:
            self[other] = self.pop(path)
        elif kind == "O":
            self[path] = b""
        elif kind == "C":
            self.setdefault(path, b"")

    def lay_down(self, folder):
        """Write the files into an emptied folder."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for path, data in self.items():
            (folder / Path(path).name).write_bytes(data)
