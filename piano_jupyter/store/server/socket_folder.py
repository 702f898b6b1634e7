"""Where the socket of a store process is: in a folder that only its user can enter, under a name made of the path."""

import hashlib
import os
import socket
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from piano_jupyter.errors import StoreError
from piano_jupyter.own_folders import possible_socket_folders

FOLDER_MODE = 0o700
SOCKET_MODE = 0o600
MAX_PATH_BYTES = 103  #: of a socket: 107 on Linux, 103 on macOS
NOT_SHARED = "set PianoConfig.share to False to have the database for this notebook alone"
CREDENTIALS = struct.Struct("3i")  #: what SO_PEERCRED gives: process, user, group


class CannotShareError(StoreError):
    """This system, or this user, can have no store process; the database itself may be all right."""


class ServerFiles(NamedTuple):
    """The files of the store process of one database; all are in the folder."""

    socket: Path
    start_lock: Path  #: whoever has it may start the process
    log: Path  #: what the process wrote to its standard error


def server_files(database: str) -> ServerFiles:
    """Return the files for a database; their folder is made. Raises CannotShareError where there can be none."""
    name = hashlib.sha256(os.fsencode(os.path.realpath(database))).hexdigest()[:16]
    folder = private_folder(len(f"/{name}.{os.getpid()}.new"))
    return ServerFiles(folder / f"{name}.sock", folder / f"{name}.start", folder / f"{name}.log")


def private_folder(name_bytes: int = 0) -> Path:
    """Return the first possible folder in which a socket's name of so many bytes has room. Raises CannotShareError."""
    if not hasattr(socket, "AF_UNIX"):
        raise CannotShareError(f"notebooks cannot share a database here: this system has no unix sockets; {NOT_SHARED}")
    reasons = []
    for folder in possible_socket_folders():
        if len(os.fsencode(folder)) + name_bytes > MAX_PATH_BYTES:
            reasons.append(f"the path {folder} is too long for a socket")
        elif reason := _make_private(folder):
            reasons.append(reason)
        else:
            return folder
    raise CannotShareError(f"notebooks cannot share a database here: {'; '.join(reasons)}; {NOT_SHARED}")


def _make_private(folder: Path) -> str:
    """Make a folder that nobody else can enter; return why that cannot be, "" if it is."""
    try:
        with suppress(FileExistsError):
            folder.mkdir(FOLDER_MODE)
        about = folder.lstat()
    except OSError as error:
        return f"{folder} cannot be made ({error.strerror})"
    if not stat.S_ISDIR(about.st_mode):
        return f"{folder} is no folder"
    if about.st_uid != os.getuid():
        return f"{folder} belongs to another user"
    if stat.S_IMODE(about.st_mode) & 0o077:
        return f"{folder} is open to other users"
    return ""


def listening_socket(path: Path) -> socket.socket:
    """Return a socket that listens at a path, where an old one may be left. Raises CannotShareError."""
    fresh = path.with_suffix(f".{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(fresh))
        fresh.chmod(SOCKET_MODE)
        listening.listen(100)
        fresh.rename(path)
    except OSError as error:
        listening.close()
        fresh.unlink(missing_ok=True)
        raise CannotShareError(f"the store process cannot listen at {path} ({error.strerror}); {NOT_SHARED}") from error
    return listening


def is_same_user(connection: socket.socket) -> bool:
    """Return whether the other end belongs to our user, where the system tells."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the folder keeps others out
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    return bool(CREDENTIALS.unpack(data)[1] == os.getuid())
