"""A seccomp filter for what runs in the sandbox: which system calls fail there, as the kernel's own BPF program.

It takes away what a namespace leaves open: sockets other than the Internet's (a Unix socket reaches the host's docker,
keyring or X server), new namespaces and mounts, other processes' memory, kernel keys, typing into terminals, and the
set-user-id and set-group-id bits: who runs such a file later does so with the user's rights. `clone3`, `openat2` and
io_uring seem not to exist, since a filter cannot see what they are asked; programs then use the older calls. mkdir is
not among those that set a mode: the kernel drops these bits there, and folders inherit set-group-id by themselves.
"""

import errno
import os
import platform
import struct
import sys
from typing import NamedTuple

ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000  # what a filter may answer
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # codes of classic BPF
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; an argument has 8 bytes, the low 4 first

SOCKETS = (2, 10, 16)  #: AF_INET, AF_INET6, AF_NETLINK: what the empty network namespace makes harmless
NAMESPACES = 0x7E020000  #: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
TYPING = (0x5412, 0x541C)  #: TIOCSTI, TIOCLINUX: put characters into a terminal's input
RIGHTS_OF_OWNER = 0o6000  #: S_ISUID, S_ISGID
CREATING = 0o20000100  #: O_CREAT, __O_TMPFILE: without them the mode of an open call means nothing
X32 = 0x40000000  #: calls of x86_64 with short pointers, which have numbers of their own

#: Call names, and their numbers on x86_64 and aarch64.
ABSENT = {"clone3": (435, 435), "io_uring_setup": (425, 425), "openat2": (437, 437)}
FORBIDDEN = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "request_key": (249, 218),
    "setns": (308, 268),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}
CLONE, IOCTL, SOCKET = (56, 220), (16, 29), (41, 198)
#: Those that set the mode of a file: their numbers, None where there is no such call, and which argument is the mode.
MODES: dict[str, tuple[tuple[int, int | None], int]] = {
    "chmod": ((90, None), 1),
    "creat": ((85, None), 1),
    "fchmod": ((91, 52), 1),
    "fchmodat": ((268, 53), 2),
    "fchmodat2": ((452, 452), 2),
    "mknod": ((133, None), 1),
    "mknodat": ((259, 33), 2),
}
#: Those that do so if they create the file; their flags come before the mode.
OPENS: dict[str, tuple[tuple[int, int | None], int]] = {"open": ((2, None), 2), "openat": ((257, 56), 3)}


class Architecture(NamedTuple):
    """What differs between processors: its number for the kernel, and which column of the tables is its own."""

    audit: int
    column: int


MACHINES = {"x86_64": Architecture(0xC000003E, 0), "aarch64": Architecture(0xC00000B7, 1)}


def program(machine: str) -> bytes | None:
    """Return the filter for a processor as `struct sock_filter[]`, None where there is none for it."""
    if machine not in MACHINES or sys.byteorder != "little":
        return None
    audit, column = MACHINES[machine]
    forbid = _answer(ERRNO | errno.EPERM)
    code = _load(ARCHITECTURE) + _unless(EQUAL, audit, _answer(KILL)) + _load(NUMBER)
    if machine == "x86_64":
        code += _when(AT_LEAST, X32, forbid)
    for numbers in ABSENT.values():
        code += _when(EQUAL, numbers[column], _answer(ERRNO | errno.ENOSYS))
    for numbers in FORBIDDEN.values():
        code += _when(EQUAL, numbers[column], forbid)
    allow = _answer(ALLOW)
    families = b"".join(_when(EQUAL, family, allow) for family in SOCKETS)
    requests = b"".join(_when(EQUAL, request, forbid) for request in TYPING)
    spaces = _when(ANY_BIT, NAMESPACES, forbid)
    owner = _when(ANY_BIT, RIGHTS_OF_OWNER, forbid)
    code += _when(EQUAL, SOCKET[column], _load_argument(0) + families + forbid)
    code += _when(EQUAL, CLONE[column], _load_argument(0) + spaces + allow)
    code += _when(EQUAL, IOCTL[column], _load_argument(1) + requests + allow)
    for named, mode in MODES.values():
        if (number := named[column]) is not None:
            code += _when(EQUAL, number, _load_argument(mode) + owner + allow)
    for named, mode in OPENS.values():
        if (number := named[column]) is not None:
            creates = _when(ANY_BIT, CREATING, _load_argument(mode) + owner + allow)
            code += _when(EQUAL, number, _load_argument(mode - 1) + creates + allow)
    return code + allow


def filter_file() -> int | None:
    """Return a new descriptor of a file in memory that holds the filter for this processor, for `bwrap --seccomp`."""
    code = program(platform.machine())
    if code is None:
        return None
    file = os.memfd_create("piano-seccomp")
    os.write(file, code)
    os.lseek(file, 0, os.SEEK_SET)
    return file


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("<HBBI", code, yes, no, value)


def _load(offset: int) -> bytes:
    return _step(LOAD, offset)


def _load_argument(at: int) -> bytes:
    return _load(ARGUMENTS + 8 * at)


def _answer(value: int) -> bytes:
    return _step(RETURN, value)


def _when(test: int, value: int, then: bytes) -> bytes:
    """Do the steps of `then`, which answer in the end, where what was loaded passes the test."""
    return _step(test, value, no=len(then) // 8) + then


def _unless(test: int, value: int, then: bytes) -> bytes:
    return _step(test, value, yes=len(then) // 8) + then
