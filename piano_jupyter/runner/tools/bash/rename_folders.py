"""Runs inside the sandbox, as the parent of bash: lets programs rename folders of the workspace.

The workspace is an overlay, and an overlay cannot rename a folder that was there before: `rename` fails with EXDEV, as
between disks. `mv` then copies, but `git mv` and most programs give up. So the kernel hands each call that renames to
this program (a seccomp filter with a listener, see seccomp_unotify(2)). It lets calls about files go on. A folder it
renames itself, or where the overlay cannot, copies to the new name and removes the old one.

It has no rights that the command does not have: a command that deceives or kills it can only hurt itself. It is given
to Python as text, because the package itself may not be visible in the sandbox, so it imports nothing of it.

python -c THIS PROGRAM [ARGUMENT …]
"""

# Modules that are quick to import, because each command waits for them: `_socket` and `_signal` are what `socket` and
# `signal` are made of, and take a tenth of the time; shutil is imported where a folder is copied.
import _signal  # type: ignore[import-not-found]
import _socket
import ctypes
import errno
import os
import select
import struct
import sys
from fcntl import ioctl

#: For each processor: the number of the call seccomp, and of rename, renameat and renameat2, None where it is missing.
CALLS = {"x86_64": (317, (82, 264, 316)), "aarch64": (277, (None, 38, 276))}
SET_MODE_FILTER, NEW_LISTENER = 1, 1 << 3
WAIT_KILLABLE = 1 << 5  #: a signal does not interrupt a call that is being answered, since Linux 5.19
ALLOW, NOTIFY = 0x7FFF0000, 0x7FC00000  # what a filter may return
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # opcodes of classic BPF
RECEIVE, SEND = 0xC0502100, 0xC0182101  # requests of ioctl to a listener
NOTIFICATION = struct.Struct("=QIIiIQ6Q")  # struct seccomp_notif
RESPONSE = struct.Struct("=QqiI")  # struct seccomp_notif_resp
CONTINUE = 1  #: the kernel carries on with the call itself
CURRENT_FOLDER = -100  # AT_FDCWD
NO_REPLACE = 1  # RENAME_NOREPLACE
MAX_PATH_BYTES = 4096


class FilterProgram(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def main() -> int:
    """Run a program and serve its renames until it ends; return its exit code."""
    ours, theirs = _socket.socketpair()
    child = os.fork()
    if not child:
        ours.close()
        listener = listen()
        for each in (_signal.SIGPIPE, _signal.SIGXFSZ):  # which Python ignores
            _signal.signal(each, _signal.SIG_DFL)
        descriptors = [] if listener is None else [struct.pack("i", listener)]
        theirs.sendmsg([b"."], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, each) for each in descriptors])
        os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606  bash, which is what is to be run here
    for each in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP):
        _signal.signal(each, _signal.SIG_IGN)  # they are for the command, and the exit code is its
    theirs.close()
    _, ancillary, _, _ = ours.recvmsg(1, _socket.CMSG_SPACE(4))
    ours.close()
    for _, _, data in ancillary:
        serve(struct.unpack("i", data)[0], os.pidfd_open(child))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def listen() -> "int | None":
    """Install the filter for this process and all that it starts; return its listener, None if there can be none."""
    if os.uname().machine not in CALLS:
        return None
    seccomp, numbers = CALLS[os.uname().machine]
    code = struct.pack("<HBBI", LOAD, 0, 0, 0)
    for number in filter(None, numbers):
        code += struct.pack("<HBBI", EQUAL, 0, 1, number) + struct.pack("<HBBI", RETURN, 0, 0, NOTIFY)
    code += struct.pack("<HBBI", RETURN, 0, 0, ALLOW)
    program = FilterProgram(len(code) // 8, code)
    for flags in (NEW_LISTENER | WAIT_KILLABLE, NEW_LISTENER):
        listener: int = ctypes.CDLL(None).syscall(seccomp, SET_MODE_FILTER, flags, ctypes.byref(program))
        if listener >= 0:
            return listener
    return None


def serve(listener: int, child: int) -> None:
    """Answer each notification of the listener until the child ends."""
    poll = select.poll()
    for each in (listener, child):
        poll.register(each, select.POLLIN)
    while child not in (ready := [descriptor for descriptor, _ in poll.poll()]):
        if listener in ready:
            answer(listener)


def answer(listener: int) -> None:
    """Take a notification and answer it."""
    data = bytearray(NOTIFICATION.size)
    try:
        ioctl(listener, RECEIVE, data)
        identity, process, _, number, _, _, *arguments = NOTIFICATION.unpack(data)
        error = rename(process, number, arguments)
        flags = CONTINUE if error is None else 0
        ioctl(listener, SEND, bytearray(RESPONSE.pack(identity, 0, -(error or 0), flags)))
    except OSError as failure:
        if failure.errno not in {errno.ENOENT, errno.EINTR}:  # else the process has ended, or was interrupted
            raise


def rename(process: int, number: int, arguments: "list[int]") -> "int | None":
    """Rename a folder; return the error, 0 for none, or None if it is for the kernel to do."""
    plain, at, _ = CALLS[os.uname().machine][1]
    flags = 0
    try:
        if number == plain:
            old, new = (path_of(process, CURRENT_FOLDER, each) for each in arguments[:2])
        else:
            old, new = path_of(process, *arguments[:2]), path_of(process, *arguments[2:4])
            flags = 0 if number == at else arguments[4]
        if os.path.islink(old) or not os.path.isdir(old) or flags not in {0, NO_REPLACE}:
            return None
    except (OSError, ValueError, OverflowError):  # we may not look into the process: the kernel says what is wrong
        return None
    try:
        if flags and os.path.lexists(new):
            return errno.EEXIST
        try:
            os.rename(old, new)
        except OSError as failure:
            if failure.errno != errno.EXDEV or has_mounts(old) or not is_on_one_disk(old, new):
                raise
            copy_and_remove(old, new)
    except OSError as failure:  # shutil's are among them
        return failure.errno or errno.EXDEV
    return 0


def path_of(process: int, folder: int, address: int) -> str:
    """Return a path that is valid for us, from a folder's descriptor and the address of a text in a process."""
    with open(f"/proc/{process}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        text, page = b"", 4096
        while b"\0" not in text and len(text) < MAX_PATH_BYTES:  # up to the end of a page: the next may not be there
            text += memory.read(page - (address + len(text)) % page)
    name = os.fsdecode(text.split(b"\0", 1)[0])
    folder = struct.unpack("=i", struct.pack("=Q", folder & (1 << 64) - 1)[:4])[0]
    start = "cwd" if folder == CURRENT_FOLDER else f"fd/{folder}"
    if not name:
        raise ValueError(name)
    return name if name.startswith("/") else f"/proc/{process}/{start}/{name}"


def is_on_one_disk(old: str, new: str) -> bool:
    """Return whether a folder and its new place are on one disk."""
    return os.lstat(old).st_dev == os.stat(os.path.dirname(new.rstrip("/")) or ".").st_dev


def has_mounts(folder: str) -> bool:
    """Return whether something is mounted in a folder, such as over a file that is hidden: it could not be removed."""
    beneath = os.fsencode(os.path.realpath(folder)) + b"/"
    for each in b"\\ \t\n":  # as the system writes them in the list of mounts
        beneath = beneath.replace(bytes([each]), b"\\%03o" % each)
    with open("/proc/self/mountinfo", "rb") as lines:
        return any(line.split(b" ")[4].startswith(beneath) for line in lines)


def copy_and_remove(old: str, new: str) -> None:
    """Copy a folder to its new name, whole or not at all, and remove the old one. Raises OSError."""
    import shutil  # noqa: PLC0415

    parent, name = os.path.split(new.rstrip("/"))
    copy = f"{parent}/.{name[:200]}.{os.getpid()}-{os.urandom(4).hex()}"
    try:
        shutil.copytree(old, copy, symlinks=True)
    except OSError as failure:  # The program may do better, as it would between disks.
        remove(copy)
        raise OSError(errno.EXDEV, "it cannot be copied") from failure
    try:
        os.rename(copy, new)
    except OSError:
        remove(copy)
        raise
    remove(old)


def remove(folder: str) -> None:
    """Remove a folder, also one with folders that are read-only. Raises OSError."""
    import shutil  # noqa: PLC0415

    for each, _, _ in os.walk(folder):
        if not os.access(each, os.W_OK):
            os.chmod(each, 0o700)
    shutil.rmtree(folder)


sys.setrecursionlimit(10_000)  # shutil calls itself for each folder in a folder
sys.exit(main())
