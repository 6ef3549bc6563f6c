"""Checks of the machine: Python, open files, folders, disk space."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from isocenter.cli.doctor.findings import Finding, bad, good, unknown
from isocenter.kit.sizes import format_bytes
from isocenter.platform.settings import Settings

PYTHON_MIN, PYTHON_END = (3, 11), (3, 14)
# An association holds its socket and perhaps a spool file; the rest is for HTTP, SQLite and the store.
FILES_PER_ASSOCIATION, FILES_BESIDE = 2, 512


def python_version(_settings: Settings) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if PYTHON_MIN <= sys.version_info < PYTHON_END:
        yield good("python", f"Python {version} fits.")
    else:
        yield bad(
            "python",
            f"Python {version} is not supported.",
            "Use Python 3.11, 3.12 or 3.13: make clean, then make setup PYTHON=python3.12",
        )


def open_files(settings: Settings) -> Iterator[Finding]:
    try:
        import resource
    except ImportError:
        yield unknown("open files", "This system does not tell how many files may be open.")
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FILES_BESIDE + FILES_PER_ASSOCIATION * settings.dimse_max_associations
    if soft == resource.RLIM_INFINITY or soft >= needed:
        yield good(
            "open files", f"{'Any number of' if soft < 0 else soft} files may be open, {needed} are needed."
        )
        return
    raise_it = (
        f"Run `ulimit -n {needed}` before starting, or LimitNOFILE={needed} in the systemd unit"
        if hard < 0 or hard >= needed
        else f"Raise the hard limit (now {hard}) in /etc/security/limits.conf or the systemd unit"
    )
    yield bad(
        "open files",
        f"Only {soft} files may be open; {settings.dimse_max_associations} associations need about {needed}.",
        f"{raise_it}, or lower dimse_max_associations.",
    )


def folders(settings: Settings) -> Iterator[Finding]:
    for name, folder in _folders(settings):
        yield folder_finding(name, folder)


def disk_space(settings: Settings) -> Iterator[Finding]:
    seen: set[int] = set()
    for name, folder in _folders(settings):
        place = nearest_existing(folder)
        try:
            device = place.stat().st_dev
            if device not in seen:
                seen.add(device)
                yield _space(name, place, settings.min_free_disk)
        except OSError as error:
            yield unknown(f"disk of the {name}", f"{place} does not tell its free space ({error.strerror}).")


def nearest_existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if _exists(place))


def _exists(place: Path) -> bool:
    try:
        return place.exists()
    except OSError:  # a folder above may not be searched
        return False


def _folders(settings: Settings) -> list[tuple[str, Path]]:
    return [("data folder", settings.data_folder), ("spool folder", settings.spool_folder)]


def folder_finding(name: str, folder: Path) -> Finding:
    """Whether the folder, or the nearest one above it that exists, can be written to."""
    place = nearest_existing(folder)
    if not place.is_dir():
        return bad(name, f"{place} is a file, not a folder.", "Choose another folder or move the file away.")
    try:
        with tempfile.TemporaryFile(dir=place) as probe:
            probe.write(b"isocenter doctor")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return bad(
            name,
            f"{place} cannot be written to ({error.strerror}).",
            f"Let the user that runs Isocenter write there (chown {_user()} {place}), or choose another.",
        )
    if place != folder:
        return good(name, f"{folder} is not there yet; it can be made.")
    return good(name, f"{folder} can be written to.")


def _space(name: str, place: Path, min_free_bytes: int) -> Finding:
    title = f"disk of the {name}"
    usage = shutil.disk_usage(place)
    free = f"{format_bytes(usage.free)} of {format_bytes(usage.total)} are free under {place}"
    if usage.total == 0:
        return unknown(title, f"{place} does not tell its free space.")
    if usage.free < min_free_bytes:
        return bad(
            title,
            f"{free}, less than min_free_disk ({format_bytes(min_free_bytes)}): senders are refused.",
            "Free some space, move the data folder to a larger disk, or lower min_free_disk.",
        )
    # A twentieth of a large disk is still a lot of room, so the floor matters too.
    if usage.free < usage.total / 20 and usage.free < 20 * min_free_bytes:
        return bad(
            title, f"{free}: nearly full.", "Free some space or move the data folder to a larger disk."
        )
    inodes = os.statvfs(place)
    if inodes.f_files and inodes.f_favail < inodes.f_files / 100:
        return bad(
            title,
            f"Only {inodes.f_favail} more files fit on the disk under {place}.",
            "Remove small files there, or move the data folder to a file system with more inodes.",
        )
    return good(title, f"{free}.")


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
