"""What the operating system's refusals mean to somebody who runs an archive."""

from __future__ import annotations

import errno

from isocenter.kit.errors import IsocenterError, OutOfSpace, Unavailable

_FULL = {
    errno.ENOSPC: "Free space on that disk or move the archive to a larger one; `df -i` shows the inodes.",
    errno.EDQUOT: "Raise the disk quota of the user that Isocenter runs as, or free space.",
}
_REFUSED = {
    errno.EROFS: "The file system is read-only: look for disk faults in `dmesg`, then mount it writable.",
    errno.EACCES: "Give the user that Isocenter runs as read and write permission on the folder.",
    errno.EPERM: "The file system refuses hard links, or the folder is protected: "
    "use a local file system or NFS, and give Isocenter's user the right to write there.",
    errno.EOPNOTSUPP: "The file system has no hard links: use a local file system or NFS for the archive.",
    errno.EIO: "The disk reports faults: look at `dmesg`, check the disk, restore what it has lost.",
    errno.ENOTCONN: "The network file system is gone: mount it again.",
    errno.ESTALE: "The network file system was unmounted on its server: mount it again.",
    errno.EMFILE: "Too many open files: raise the limit (`ulimit -n`, systemd: LimitNOFILE=65536).",
    errno.ENFILE: "The machine has too many open files: raise `fs.file-max`.",
    errno.ENOENT: "The archive's folder has disappeared: mount its disk again. "
    "If it is meant to start empty, restart Isocenter.",
}


def storage_error(error: OSError, doing: str) -> IsocenterError:
    """The typed error for an OSError; ``doing`` is a phrase such as ``"writing an object"``."""
    number = error.errno or 0
    detail = f"{doing} failed: {error.strerror or type(error).__name__}"
    if number in _FULL:
        return OutOfSpace(detail, remedy=_FULL[number])
    return Unavailable(
        detail,
        code="storage-unavailable",
        remedy=_REFUSED.get(number, "Look at the machine's log (`dmesg`) and at the archive's folder."),
    )
