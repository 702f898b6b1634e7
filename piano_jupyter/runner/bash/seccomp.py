"""A seccomp filter for what runs in the sandbox: which system calls fail there, as the kernel's own BPF program.

It takes away what a namespace leaves open: sockets other than the Internet's (a Unix socket reaches the host's docker,
keyring or X server), new namespaces and mounts, other processes' memory, kernel keys, typing into terminals. `clone3`
and io_uring seem not to exist, since a filter cannot see what they are asked.
"""

import errno
import os
import platform
import struct
import sys
from dataclasses import dataclass

ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000  # what a filter may answer
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # codes of classic BPF
NUMBER, ARCHITECTURE, FIRST_ARGUMENT, SECOND_ARGUMENT = 0, 4, 16, 24  # offsets in struct seccomp_data

SOCKETS = (2, 10, 16)  #: AF_INET, AF_INET6, AF_NETLINK: what the empty network namespace makes harmless
NAMESPACES = 0x7E020000  #: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
TYPING = (0x5412, 0x541C)  #: TIOCSTI, TIOCLINUX: put characters into a terminal's input
X32 = 0x40000000  #: calls of x86_64 with short pointers, which have numbers of their own

#: Call names, and their numbers on x86_64 and aarch64.
ABSENT = {"clone3": (435, 435), "io_uring_setup": (425, 425)}
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


@dataclass(frozen=True, slots=True)
class Machine:
    """What differs between processors: its number for the kernel, and which column of the tables is its own."""

    audit: int
    column: int


MACHINES = {"x86_64": Machine(0xC000003E, 0), "aarch64": Machine(0xC00000B7, 1)}


def program(machine: str) -> bytes | None:
    """Return the filter for a processor as `struct sock_filter[]`, None where there is none for it."""
    if machine not in MACHINES or sys.byteorder != "little":
        return None
    audit, column = MACHINES[machine].audit, MACHINES[machine].column
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
    code += _when(EQUAL, SOCKET[column], _load(FIRST_ARGUMENT) + families + forbid)
    code += _when(EQUAL, CLONE[column], _load(FIRST_ARGUMENT) + spaces + allow)
    code += _when(EQUAL, IOCTL[column], _load(SECOND_ARGUMENT) + requests + allow)
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


def _answer(value: int) -> bytes:
    return _step(RETURN, value)


def _when(test: int, value: int, then: bytes) -> bytes:
    """Do the steps of `then`, which answer in the end, where what was loaded passes the test."""
    return _step(test, value, no=len(then) // 8) + then


def _unless(test: int, value: int, then: bytes) -> bytes:
    return _step(test, value, yes=len(then) // 8) + then
