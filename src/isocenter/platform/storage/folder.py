"""Objects as files of one folder: the blocking half of :class:`~isocenter.platform.storage.local.LocalStore`.

::

    {root}/{key}         an object, complete and durable from the moment its name exists
    {root}/.incoming/    files that are being written; after a crash they are rubbish
    {root}/.health/      probes
    {root}/.lock         held shared while an object is renewed, exclusively while an old one is deleted

A new object is written to a file without a name (``O_TMPFILE``; where the file system has none, to one in
``.incoming``), fdatasynced, and only then given its name, by ``link``: unlike ``rename`` it refuses to
replace, without the ``renameat2`` that NFS lacks. The fsync of the folder makes the name durable. Each call
costs more than its microseconds, since Python gives up its lock for it and waits to get it back: so few.
Every function raises plain OSErrors, apart from
:class:`~isocenter.kit.errors.Conflict` where a key is taken by something else and
:class:`~isocenter.kit.errors.NotFound` where there is nothing to read.
"""
# Names are strings here: making a Path for each object costs more than linking it.
# ruff: noqa: PTH100, PTH102, PTH103, PTH108, PTH116, PTH123

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import secrets
import shutil
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from isocenter.kit.errors import Conflict, InternalError, NotFound
from isocenter.platform.storage.durable_folders import FOLDER_MODE, DurableFolders, OpenFolder, sync_folder
from isocenter.platform.storage.interface import Buffer, ObjectInfo, PutOutcome

FILE_MODE = 0o640
BUFFERS_PER_WRITE_MAX = 1024  # IOV_MAX of Linux
LINK_ATTEMPTS_MAX = 4  # each failure needs somebody who deletes that name or folder at that very moment


class Folder:
    def __init__(self, root: Path) -> None:
        self.root = os.path.abspath(root)
        self.incoming = f"{self.root}/.incoming"
        self._probes = f"{self.root}/.health"
        self._lock_path = f"{self.root}/.lock"
        self._folders = DurableFolders(self.root)
        self._nameless = False
        self._names = itertools.count()
        self._name_prefix = f"{os.getpid()}-{secrets.token_hex(4)}"

    def prepare(self) -> None:
        """Makes the root and what belongs to the store itself.

        Only when a store is made: a root that is empty later is most likely the mount point of a disk that
        is gone, and new objects must not be hidden underneath it.
        """
        os.makedirs(self.root, FOLDER_MODE, exist_ok=True)
        for folder in (self.incoming, self._probes):
            with suppress(FileExistsError):
                os.mkdir(folder, FOLDER_MODE)
        os.close(os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
        self._nameless = self._can_link_nameless_files()

    def check_mounted(self) -> None:
        """Raises FileNotFoundError when the root is not there: then nothing can be said about any object."""
        os.stat(self.incoming)

    # --- writing ------------------------------------------------------------------------------

    def place_buffers(self, key: str, buffers: Sequence[Buffer]) -> PutOutcome:
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        size = sum(view.nbytes for view in views)
        if self._renew(key, size):
            return PutOutcome.EXISTED
        with self._new_file() as (descriptor, path):
            _write_all(descriptor, views)
            return self._finish(descriptor, path, key, size)

    def place_file(self, key: str, source: str) -> PutOutcome:
        """Takes ``source`` over; it is gone afterwards, unless this raises."""
        try:
            spooled = open(source, "rb", buffering=0)  # noqa: SIM115
        except FileNotFoundError as error:
            raise InternalError(
                "the spooled file of an object has disappeared", code="spool-file-missing"
            ) from error
        with spooled:
            size = os.fstat(spooled.fileno()).st_size
            if self._renew(key, size):
                outcome = PutOutcome.EXISTED
            else:
                os.utime(
                    spooled.fileno()
                )  # it may have waited long in a batch, and age is what a sweep goes by
                os.fchmod(spooled.fileno(), FILE_MODE)
                outcome = self._place_open_file(spooled.fileno(), source, key, size)
        os.unlink(source)
        return outcome

    def _place_open_file(self, descriptor: int, source: str, key: str, size: int) -> PutOutcome:
        try:
            return self._finish(descriptor, source, key, size)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        with self._new_file() as (copy, path):
            _copy_all(descriptor, copy, size)
            return self._finish(copy, path, key, size)

    def _finish(self, descriptor: int, path: str, key: str, size: int) -> PutOutcome:
        """Makes the contents durable, then the name."""
        os.fdatasync(descriptor)
        folder, name = self._locate(key)
        for attempt in range(LINK_ATTEMPTS_MAX):
            try:
                target = self._folders.open(folder)
                target.link(path, name)
            except FileExistsError:
                if self._renew(key, size):  # false: deleted since, so its name is free again
                    return PutOutcome.EXISTED
            except FileNotFoundError:
                self._folders.forget(folder)  # somebody removed it behind our back
            except NotADirectoryError as error:
                raise _folder_taken(key) from error
            except OSError as error:
                if error.errno != errno.EXDEV or attempt:
                    raise
                self._folders.forget(folder)  # open since before another disk was mounted here, perhaps
            else:
                target.sync()
                return PutOutcome.CREATED
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder)

    def _renew(self, key: str, size: int) -> bool:
        """Whether the object is there; if so it is fresh for sweeps, and durable, when this returns."""
        folder, name = self._locate(key)
        final = f"{folder}/{name}"
        try:
            present = os.stat(final, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except NotADirectoryError as error:
            raise _folder_taken(key) from error
        if not _is_file(present):
            raise _folder_taken(key)
        with self._locked(fcntl.LOCK_SH):
            try:
                os.utime(final)
            except FileNotFoundError:
                return False
        if present.st_size != size:
            raise Conflict(
                f"{key} is taken by an object of {present.st_size} bytes, not {size}",
                code="object-size-differs",
                remedy="Run `isocenter storage check`: the stored file may have been damaged.",
            )
        sync_folder(folder)  # whoever linked it may still be about to
        return True

    def remove(self, key: str, unmodified_since: datetime | None) -> bool:
        final = self._path(key)
        with self._locked(fcntl.LOCK_EX):
            try:
                if unmodified_since is not None and _modified_at(os.lstat(final)) > unmodified_since:
                    return False
                os.unlink(final)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                self.check_mounted()
                return False
        return True

    # --- reading ------------------------------------------------------------------------------

    def read_range(self, key: str, start: int, length: int | None) -> bytes:
        """Raises NotFound when there is no such object."""
        try:
            file = open(self._path(key), "rb", buffering=0)  # noqa: SIM115
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            self.check_mounted()
            raise NotFound(f"no object is stored as {key}", code="object-not-found") from error
        with file:
            if start == 0 and length is None:
                return file.readall()
            size = os.fstat(file.fileno()).st_size
            stop = size if length is None else min(size, start + length)
            return _read_exactly(file.fileno(), start, stop)

    def stat(self, key: str) -> ObjectInfo | None:
        try:
            found = os.lstat(self._path(key))
        except (FileNotFoundError, NotADirectoryError):
            self.check_mounted()
            return None
        return _info(key, found) if _is_file(found) else None

    def walk(self, prefix: str) -> Generator[ObjectInfo]:
        """Depth first; holds one open folder a level. What vanishes meanwhile is left out."""
        self.check_mounted()
        try:
            entries = os.scandir(f"{self.root}/{prefix}")
        except (FileNotFoundError, NotADirectoryError):
            return
        with entries:
            for entry in entries:
                key = f"{prefix}/{entry.name}" if prefix else entry.name
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from self.walk(key)
                elif entry.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):
                        yield _info(key, entry.stat(follow_symlinks=False))

    # --- upkeep -------------------------------------------------------------------------------

    def clear_incoming(self, older_than: datetime) -> int:
        """Removes what a crash left half-written, when it was last written before ``older_than``."""
        removed = 0
        for folder in (self.incoming, self._probes):
            with os.scandir(folder) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        if _modified_at(entry.stat(follow_symlinks=False)) < older_than:
                            os.unlink(entry.path)
                            removed += 1
        return removed

    def probe(self) -> int:
        """Goes the way of a real object once; the free bytes that are left for us."""
        with self._new_file() as (descriptor, path):
            _write_all(descriptor, [memoryview(b"probe")])
            os.fdatasync(descriptor)
            folder, name = OpenFolder(self._probes), self._new_name()
            folder.link(path, name)
            try:
                folder.sync()
                with open(f"{self._probes}/{name}", "rb", buffering=0) as file:
                    if file.readall() != b"probe":
                        raise OSError(errno.EIO, os.strerror(errno.EIO))
            finally:
                os.unlink(f"{self._probes}/{name}")
        return shutil.disk_usage(self.root).free

    # --- the parts ----------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"

    def _locate(self, key: str) -> tuple[str, str]:
        """The object's folder, and its name there."""
        folder, _, name = key.rpartition("/")
        return f"{self.root}/{folder}" if folder else self.root, name

    @contextmanager
    def _new_file(self) -> Iterator[tuple[int, str]]:
        """A file to write, and what it is linked by. It is gone afterwards, unless it was linked."""
        if self._nameless:
            descriptor = os.open(self.incoming, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, FILE_MODE)
            try:
                yield descriptor, f"/proc/self/fd/{descriptor}"
            finally:
                os.close(descriptor)
            return
        path = f"{self.incoming}/{self._new_name()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(path, flags, FILE_MODE)
        try:
            yield descriptor, path
        finally:
            os.close(descriptor)
            with suppress(FileNotFoundError):
                os.unlink(path)

    def _new_name(self) -> str:
        return f"{self._name_prefix}-{next(self._names)}"

    def _can_link_nameless_files(self) -> bool:
        """NFS and some others cannot, and a container may lack /proc."""
        if not hasattr(os, "O_TMPFILE"):
            return False
        self._nameless = True
        name = self._new_name()
        try:
            with self._new_file() as (_, path):
                OpenFolder(self.incoming).link(path, name)
        except OSError:
            return False
        os.unlink(f"{self.incoming}/{name}")
        return True

    @contextmanager
    def _locked(self, mode: int) -> Iterator[None]:
        """Between processes too. The renewal of an object and the deletion of an old one never interleave."""
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, mode)
            yield
        finally:
            os.close(descriptor)


def _write_all(descriptor: int, views: list[memoryview]) -> None:
    pending = [view for view in views if view.nbytes]
    while pending:
        written = os.writev(descriptor, pending[:BUFFERS_PER_WRITE_MAX])
        done = 0
        while done < len(pending) and written >= pending[done].nbytes:
            written -= pending[done].nbytes
            done += 1
        del pending[:done]
        if written:
            pending[0] = pending[0][written:]


def _copy_all(source: int, target: int, size: int) -> None:
    offset = 0
    while offset < size:
        copied = os.sendfile(target, source, offset, size - offset)
        if copied == 0:
            raise OSError(errno.EIO, "the spooled file became shorter while it was read")
        offset += copied


def _read_exactly(descriptor: int, start: int, stop: int) -> bytes:
    pieces: list[bytes] = []
    while start < stop:
        piece = os.pread(descriptor, stop - start, start)
        if not piece:
            break
        pieces.append(piece)
        start += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _is_file(found: os.stat_result) -> bool:
    return (found.st_mode & 0o170000) == 0o100000


def _modified_at(found: os.stat_result) -> datetime:
    return datetime.fromtimestamp(found.st_mtime, UTC)


def _info(key: str, found: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, found.st_size, _modified_at(found))


def _folder_taken(key: str) -> Conflict:
    return Conflict(
        f"{key} cannot be stored: a part of its name is an object already",
        code="object-key-is-folder",
        remedy="No object's key may be the folder of another object.",
    )
