"""The filter of system calls: no call or program can set setuid bits, and ordinary programs still work.

The filters for other processors, which this kernel cannot run, are run by a small interpreter here.
"""

import errno
import json
import os
import platform
import shlex
import socket
import struct
from pathlib import Path

import pytest
from sandboxing import run_in

from piano_jupyter.runner.tools.bash.seccomp import (
    ALLOW,
    ARCHITECTURES,
    ERRNO,
    KILL,
    MODE_CALLS,
    OPEN_CALLS,
    X32_CALLS_START,
    filter_program,
)

CREAT_AND_WRITE, TMPFILE, BITS = 0o101, 0o20200002, (0o4755, 0o2755, 0o6755)
#: Tries each call with each mode; prints which ones set the mode, and which failed with what error.
TRY = """
import ctypes, errno, json, os, stat, sys
calls, modes = json.loads(sys.argv[1])
os.umask(0)
call = ctypes.CDLL(None, use_errno=True).syscall
set_, failed = [], {}
for name, number in calls.items():
    for mode in modes:
        file, folder, path = f"{name}-{mode:o}", -100, f"{name}-{mode:o}".encode()
        made = stat.S_IFREG | mode
        if name.startswith(("chmod", "fchmod")):
            open(file, "w").close()
        held = os.open(file, os.O_RDONLY) if name == "fchmod" else -1
        how = (ctypes.c_uint64 * 3)(0o101, mode, 0)
        words = {"chmod": (path, mode), "fchmod": (held, mode), "fchmodat": (folder, path, mode),
                 "fchmodat2": (folder, path, mode, 0), "creat": (path, mode), "mknod": (path, made, 0),
                 "mknodat": (folder, path, made, 0), "open": (path, 0o101, mode), "openat": (folder, path, 0o101, mode),
                 "openat2": (folder, path, ctypes.byref(how), 24), "mkdir": (path, mode),
                 "mkdirat": (folder, path, mode)}[name]
        words = [ctypes.c_long(each) if isinstance(each, int) else each for each in words]
        if call(ctypes.c_long(number), *words) < 0:
            failed[file] = errno.errorcode[ctypes.get_errno()]
        elif os.stat(file).st_mode & 0o7777 == mode:
            set_.append(file)
print(json.dumps([sorted(set_), failed]))
"""
FILTERED = {name: numbers for table in (MODE_CALLS, OPEN_CALLS) for name, (numbers, _) in table.items()}
NUMBERS = FILTERED | {"openat2": (437, 437), "mkdir": (83, None), "mkdirat": (258, 34)}
COLUMN = ARCHITECTURES[platform.machine()].column if platform.machine() in ARCHITECTURES else None
PLAIN = 0o755


def tried(spec, launcher, names, modes, **options):
    """Return which calls set which modes, and which failed with what error."""
    words = json.dumps([{name: NUMBERS[name][COLUMN] for name in names}, modes])
    code, said = run_in(spec, f"cd {spec.workspace} && python3 - '{words}' <<'E'\n{TRY}\nE", launcher, **options)
    assert code == 0, said
    return json.loads(said)


def all_of(names, modes):
    return sorted(f"{name}-{mode:o}" for name in names for mode in modes)


@pytest.fixture
def calls():
    if COLUMN is None:
        pytest.skip("there is no filter for this processor")
    known = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 6)
    return [name for name, each in FILTERED.items() if each[COLUMN] is not None and (known or name != "fchmodat2")]


def test_no_system_call_sets_setuid_bits_and_each_sets_ordinary_modes(spec, launcher, calls):
    set_, failed = tried(spec, launcher, calls, BITS)

    assert set_ == []
    assert failed == dict.fromkeys(all_of(calls, BITS), "EPERM")
    assert tried(spec, launcher, calls, [PLAIN])[0] == all_of(calls, [PLAIN])


def test_without_the_filter_each_of_these_system_calls_sets_them(spec, launcher, calls):
    assert tried(spec, launcher, calls, BITS, seccomp=False)[0] == all_of(calls, BITS)


def test_openat2_whose_mode_a_filter_cannot_see_seems_not_to_exist(spec, launcher, calls):
    assert tried(spec, launcher, ["openat2"], BITS)[1] == dict.fromkeys(all_of(["openat2"], BITS), "ENOSYS")


def test_a_new_folder_has_the_bits_only_if_it_inherits_them(spec, launcher, calls):
    makes = [name for name in ("mkdir", "mkdirat") if NUMBERS[name][COLUMN] is not None]

    assert tried(spec, launcher, makes, BITS) == [[], {}]
    Path(spec.workspace).chmod(0o2777)
    assert run_in(spec, f"cd {spec.workspace} && mkdir e && cp -r e f && stat -c %A e f", launcher)[1].count("s") == 2


@pytest.mark.parametrize(
    "command",
    [
        "chmod u+s f",
        "chmod 2755 f",
        "cp -p t/f g",
        "cp -a t g",
        "install -m 4755 /usr/bin/true f",
        "tar -xpf a.tar",
        "python3 -c 'import os; os.chmod(\"f\", 0o4755)'",
        "perl -e 'chmod(04755, \"f\") or die $!'",
        "perl -MFcntl -e 'umask 0; sysopen(F, \"g\", O_CREAT | O_WRONLY, 04755) or die $!'",
    ],
)
def test_no_program_sets_them(spec, launcher, command):
    prepare = f"cd {spec.workspace} && touch f && "
    made = "mkdir t && cp /usr/bin/true t/f && chmod u+s t/f && tar -C t -cf a.tar f"
    assert run_in(spec, prepare + made, launcher, seccomp=False) == (0, "")

    held = run_in(spec, prepare + command, launcher)
    found = [each.name for each in Path(spec.workspace).rglob("*") if each.stat().st_mode & 0o6000 and each.is_file()]
    weak = run_in(spec, f"cd {spec.workspace} && rm -rf f g && touch f && {command}", launcher, seccomp=False)

    assert held[0] != 0
    assert found == ["f"]  # t/f, which was there before
    assert weak == (0, "")


@pytest.mark.parametrize(
    "command",
    [
        "touch f && chmod 755 f && chmod +x f && mkdir d && chmod 1777 d && cp -p f g && cp -a f h",
        "touch f && install -m 755 f g && install -d d && mkdir -p -m 700 e/f",
        "mkdir d && touch d/f && tar -cpf a.tar d && rm -r d && tar -xpf a.tar && [ -f d/f ]",
        "git init -q . && touch f && git add f && git -c user.name=a -c user.email=a@b.c commit -q -m f && git gc -q",
        "python3 -m venv --without-pip v && v/bin/python -c 'import tempfile; tempfile.TemporaryFile()'",
        'python3 -c \'import os, shutil; os.makedirs("a/b"); shutil.copytree("a", "c")\'',
    ],
)
def test_ordinary_programs_still_work(spec, launcher, command):
    assert run_in(spec, f"cd {spec.workspace} && {command}", launcher)[0] == 0


def answer(code, audit, number, *arguments):
    """Return the result of a filter for a system call, run like in the kernel."""
    data = struct.pack("<iIQ6Q", number, audit, 0, *(*arguments, *[0] * (6 - len(arguments))))
    steps, at, loaded = [struct.unpack_from("<HBBI", code, 8 * i) for i in range(len(code) // 8)], 0, 0
    while True:
        what, yes, no, value = steps[at]
        at += 1
        if what == 0x06:
            return value
        if what == 0x20:
            loaded = struct.unpack_from("<I", data, value)[0]
        else:
            passed = {0x15: loaded == value, 0x35: loaded >= value, 0x45: loaded & value != 0}[what]
            at += yes if passed else no


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_of_each_processor_forbids_only_the_bits_in_these_calls(machine):
    code, audit, column = filter_program(machine), ARCHITECTURES[machine].audit, ARCHITECTURES[machine].column
    refused = ERRNO | errno.EPERM

    for numbers, mode in MODE_CALLS.values():
        for bits, wanted in ((0o4755, refused), (0o2755, refused), (0o1777, ALLOW), (0o100644, ALLOW)):
            if numbers[column] is not None:
                assert answer(code, audit, numbers[column], *[1 << 32] * mode, bits | 1 << 40) == wanted
    for numbers, mode in OPEN_CALLS.values():
        for flags, bits, wanted in (
            (CREAT_AND_WRITE, 0o4755, refused),
            (TMPFILE, 0o2755, refused),
            (CREAT_AND_WRITE, 0o1755, ALLOW),
            (0, 0o6000, ALLOW),  # without creation, the mode is ignored
        ):
            if numbers[column] is not None:
                assert answer(code, audit, numbers[column], *[0] * (mode - 1), flags, bits) == wanted


def test_the_system_calls_of_other_architectures_are_all_forbidden():
    code, audit = filter_program("x86_64"), ARCHITECTURES["x86_64"].audit
    i386, chmod_of_i386, chmod_of_x32 = 0x40000003, 15, X32_CALLS_START | 90

    assert answer(code, i386, chmod_of_i386, 0, 0o755) == KILL
    assert answer(code, audit, chmod_of_x32, 0, 0o755) == ERRNO | errno.EPERM


@pytest.mark.parametrize("kind", ["SOCK_DGRAM", "SOCK_DGRAM | socket.SOCK_CLOEXEC"])
def test_k7_with_its_control_a_pair_of_sockets_cannot_be_connected_to_a_socket_of_the_machine(spec, launcher, kind):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs:
        theirs.bind(f"{spec.workspace}/socket")
        Path(spec.workspace, "socket").chmod(0o777)
        theirs.settimeout(10)
        code = f"import socket; a, b = socket.socketpair(type=socket.{kind}); a.connect('socket'); a.send(b'evil')"
        attack = f"cd {spec.workspace} && python3 -c {shlex.quote(code)}"

        held = run_in(spec, attack, launcher)
        weak = run_in(spec, attack, launcher, seccomp=False)

        assert "PermissionError" in held[1]
        assert weak == (0, "")
        assert theirs.recv(4) == b"evil"


def test_pairs_of_stream_sockets_work_as_before(spec, launcher):
    assert run_in(spec, "python3 -c 'import socket; socket.socketpair()'", launcher) == (0, "")
