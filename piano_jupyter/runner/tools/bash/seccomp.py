"""A seccomp filter for the sandbox: which system calls fail there, as a BPF program for the kernel.

It forbids what namespaces leave open: sockets other than the Internet's (a Unix socket reaches the host's docker,
keyring or X server; one of a pair of datagram sockets can be connected to it, too), new namespaces and mounts, other
processes' memory, kernel keys, writing to a terminal's input, and the set-user-id and set-group-id bits (whoever runs
such a file later does so with the user's rights). `clone3`, `openat2` and io_uring fail as if they did not exist,
because a filter cannot see their arguments; programs then use the older calls. mkdir is not filtered: there the kernel
ignores these bits, and folders inherit set-group-id anyway.
"""

import errno
import os
import platform
import struct
import sys
from typing import NamedTuple

ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000  # what a filter may return
LOAD, EQUAL, AT_LEAST, ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06  # opcodes of classic BPF
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; an argument has 8 bytes, the low 4 first

SOCKET_FAMILIES = (2, 10, 16)  #: AF_INET, AF_INET6, AF_NETLINK, which are harmless in an empty network namespace
NAMESPACE_FLAGS = 0x7E020000  #: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
TERMINAL_INPUT_REQUESTS = (0x5412, 0x541C)  #: TIOCSTI, TIOCLINUX: they put characters into a terminal's input
SETUID_SETGID_BITS = 0o6000  #: S_ISUID, S_ISGID
CREATE_FLAGS = 0o20000100  #: O_CREAT, __O_TMPFILE: without them the mode of an open call is ignored
X32_CALLS_START = 0x40000000  #: the first number of the x32 calls (x86_64 with 32-bit pointers)

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
CLONE, IOCTL, SOCKET, SOCKETPAIR = (56, 220), (16, 29), (41, 198), (53, 199)
SOCKET_TYPES, DATAGRAM = 0xF, 2  # SOCK_TYPE_MASK, SOCK_DGRAM
#: Calls that set a file's mode: their numbers (None where there is no such call), and which argument is the mode.
MODE_CALLS: dict[str, tuple[tuple[int, int | None], int]] = {
    "chmod": ((90, None), 1),
    "creat": ((85, None), 1),
    "fchmod": ((91, 52), 1),
    "fchmodat": ((268, 53), 2),
    "fchmodat2": ((452, 452), 2),
    "mknod": ((133, None), 1),
    "mknodat": ((259, 33), 2),
}
#: Calls that set it if they create the file; the flags are the argument before the mode.
OPEN_CALLS: dict[str, tuple[tuple[int, int | None], int]] = {"open": ((2, None), 2), "openat": ((257, 56), 3)}


class Architecture(NamedTuple):
    """What differs between processors: the kernel's number for it, and its column in the tables of calls."""

    audit: int
    column: int


ARCHITECTURES = {"x86_64": Architecture(0xC000003E, 0), "aarch64": Architecture(0xC00000B7, 1)}


def filter_program(machine: str) -> bytes | None:
    """Return the filter for a processor as `struct sock_filter[]`, None if there is none for it."""
    if machine not in ARCHITECTURES or sys.byteorder != "little":
        return None
    audit, column = ARCHITECTURES[machine]
    forbid = _return(ERRNO | errno.EPERM)
    code = _load(ARCHITECTURE) + _if_not(EQUAL, audit, _return(KILL)) + _load(NUMBER)
    if machine == "x86_64":
        code += _if(AT_LEAST, X32_CALLS_START, forbid)
    for numbers in ABSENT.values():
        code += _if(EQUAL, numbers[column], _return(ERRNO | errno.ENOSYS))
    for numbers in FORBIDDEN.values():
        code += _if(EQUAL, numbers[column], forbid)
    allow = _return(ALLOW)
    allow_families = b"".join(_if(EQUAL, family, allow) for family in SOCKET_FAMILIES)
    forbid_terminal_input = b"".join(_if(EQUAL, request, forbid) for request in TERMINAL_INPUT_REQUESTS)
    forbid_namespaces = _if(ANY_BIT, NAMESPACE_FLAGS, forbid)
    forbid_setuid_bits = _if(ANY_BIT, SETUID_SETGID_BITS, forbid)
    code += _if(EQUAL, SOCKET[column], _load_argument(0) + allow_families + forbid)
    forbid_datagrams = _instruction(AND, SOCKET_TYPES) + _if(EQUAL, DATAGRAM, forbid) + allow
    code += _if(EQUAL, SOCKETPAIR[column], _load_argument(1) + forbid_datagrams)
    code += _if(EQUAL, CLONE[column], _load_argument(0) + forbid_namespaces + allow)
    code += _if(EQUAL, IOCTL[column], _load_argument(1) + forbid_terminal_input + allow)
    for numbers_of_call, mode in MODE_CALLS.values():
        if (number := numbers_of_call[column]) is not None:
            code += _if(EQUAL, number, _load_argument(mode) + forbid_setuid_bits + allow)
    for numbers_of_call, mode in OPEN_CALLS.values():
        if (number := numbers_of_call[column]) is not None:
            check_if_creating = _if(ANY_BIT, CREATE_FLAGS, _load_argument(mode) + forbid_setuid_bits + allow)
            code += _if(EQUAL, number, _load_argument(mode - 1) + check_if_creating + allow)
    return code + allow


def filter_file() -> int | None:
    """Return a descriptor of a new in-memory file with the filter for this processor, for `bwrap --seccomp`."""
    code = filter_program(platform.machine())
    if code is None:
        return None
    file = os.memfd_create("piano-seccomp")
    os.write(file, code)
    os.lseek(file, 0, os.SEEK_SET)
    return file


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)


def _load(offset: int) -> bytes:
    return _instruction(LOAD, offset)


def _load_argument(at: int) -> bytes:
    return _load(ARGUMENTS + 8 * at)


def _return(value: int) -> bytes:
    return _instruction(RETURN, value)


def _if(test: int, value: int, then: bytes) -> bytes:
    """Run the instructions `then`, which end in a return, if the loaded value passes the test."""
    return _instruction(test, value, if_false=len(then) // 8) + then


def _if_not(test: int, value: int, then: bytes) -> bytes:
    return _instruction(test, value, if_true=len(then) // 8) + then
