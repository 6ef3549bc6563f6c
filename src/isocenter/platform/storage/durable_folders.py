"""Folders that are made once, are durable from then on, and stay open.

An object's name is linked into an open folder, and the same open folder is synced: nobody walks its path
again, and what is synced is the folder that the name went into, whatever has become of the path meanwhile.
"""
# ruff: noqa: PTH102, PTH112, PTH120

from __future__ import annotations

import errno
import os
from contextlib import suppress

FOLDER_MODE = 0o750
_OPEN_MAX = 256  # one for each beginning of a SHA-256: those of one organisation all stay open
_DURABLE_MAX = 100_000  # what is forgotten beyond that is only made sure of once more


class OpenFolder:
    """A descriptor that is closed when the last thread has let go of it."""

    __slots__ = ("_descriptor",)

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def link(self, path: str, name: str) -> None:
        """``path`` may be ``/proc/self/fd/N``, which leads to a file that has no name yet."""
        os.link(path, name, dst_dir_fd=self._descriptor, follow_symlinks=True)

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def __del__(self) -> None:
        with suppress(AttributeError):  # opening it failed
            os.close(self._descriptor)


class DurableFolders:
    """The folders under ``root``; used by several threads at once. Raises plain OSErrors."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._durable: set[str] = set()
        self._open: dict[str, OpenFolder] = {}

    def open(self, folder: str) -> OpenFolder:
        """The folder, made with its parents where it is missing. Raises NotADirectoryError: it is a file."""
        found = self._open.get(folder)
        if found is None:
            self._make(folder)
            found = OpenFolder(folder)
            if len(self._open) >= _OPEN_MAX:
                self._open.clear()
            self._open[folder] = found
        return found

    def forget(self, folder: str) -> None:
        """Somebody removed it, or put another disk there, behind our back."""
        while folder != self._root:
            self._durable.discard(folder)
            self._open.pop(folder, None)
            folder = os.path.dirname(folder)

    def _make(self, folder: str) -> None:
        """This process fsyncs each name before anything relies on it.

        A folder that is already there gets it too, once: who made it may not have come to its fsync yet.
        """
        if folder == self._root or folder in self._durable:
            return
        parent = os.path.dirname(folder)
        self._make(parent)
        try:
            os.mkdir(folder, FOLDER_MODE)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder) from None
        sync_folder(parent)
        if len(self._durable) >= _DURABLE_MAX:
            self._durable.clear()
        self._durable.add(folder)


def sync_folder(path: str) -> None:
    OpenFolder(path).sync()
