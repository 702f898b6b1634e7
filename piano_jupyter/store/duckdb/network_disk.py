"""Does a file lie on a disk that other hosts have too? Then a lock may be each host's own, and keeps nobody else out.

Linux tells by the mounts; elsewhere nothing is known, and the locks decide. Of FUSE nobody can say what is behind it:
it counts as a network disk unless its type is known to be local. That costs a local disk one sentence; the other way
round it could cost a history.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from piano_jupyter.text.words import words

MOUNTS = Path("/proc/self/mountinfo")
ESCAPED = re.compile(r"\\(\d{3})")  #: a blank, a tab, a line break and a backslash in a path

#: Disks of other machines, and folders of a host in a virtual machine.
NETWORK = words(
    """
    9p afs beegfs ceph cifs coda davfs gfs2 glusterfs gpfs lustre ncp ncpfs nfs nfs4 ocfs2 orangefs prl_fs pvfs2 smb
    smb2 smb3 smbfs vboxsf virtiofs vmhgfs wekafs
    """
)
#: What programs behind FUSE keep on a disk of this machine; `fuseblk` is a disk by itself.
LOCAL_FUSE = words(
    """
    bindfs cryfs encfs ext2 ext4 exfat fuse-overlayfs gocryptfs lxcfs mergerfs ntfs ntfs-3g overlayfs securefs
    squashfuse unionfs unionfs-fuse veracrypt zfs
    """
)


def network_disk_of(path: str) -> str:
    """Return the type and the place of the network disk that a path is on, for people; "" where it is on none."""
    try:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # not Linux
        return ""
    return network_mount(os.path.realpath(path), mounts)


def network_mount(real: str, mounts: Iterable[str]) -> str:
    """Return the same for a real path and the lines of a mountinfo."""
    disk, place = "", ""
    for line in mounts:
        before, _, after = line.partition(" - ")
        about, described = before.split(" "), after.split(" ")
        if len(about) > 4 and described[0]:
            mounted = ESCAPED.sub(lambda found: chr(int(found[1], 8)), about[4])
            if _is_beneath(real, mounted) and len(mounted) >= len(
                place
            ):  # of two at one place, the later hides the other
                disk, place = described[0], mounted
    return f"{disk} at {place}" if _is_network(disk) else ""


def _is_beneath(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def _is_network(disk: str) -> bool:
    family, _, program = disk.partition(".")
    return program not in LOCAL_FUSE if family == "fuse" else disk in NETWORK
