"""The one door into the archive (DESIGN §4): every object takes this road, whoever brings it.

1. ``receive``: bytes arrive and are kept in memory or spooled (``spool.py``).
2. ``Reception.finish``: the header is read (``reading.py``), judged (MISSION A5), and the object put into the
   store under its content address. A crash from here on leaves at most an unreferenced object.
3. ``commit``: the index learns of it (``committer.py``); only after that may the sender hear success.
"""

from __future__ import annotations

import asyncio
import hashlib
import mmap
from collections.abc import AsyncIterable, Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path

from isocenter.dicom import tags
from isocenter.dicom.part10 import PREAMBLE, PREFIX, encode_file_meta, is_part10
from isocenter.dicom.scan_limits import DEFLATE_BOMB, TOO_LARGE_HEADER, ScanLimits
from isocenter.dicom.scanner import Scan, ScanError, scan
from isocenter.dicom.uids import uid_problem
from isocenter.features.archive.committer import GroupCommitter
from isocenter.features.archive.entry import (
    Declared,
    Entry,
    Outcome,
    Received,
    Source,
    StoredObject,
    issued_by,
)
from isocenter.features.archive.judging import judge, unreadable
from isocenter.features.archive.measures import IngestMeasures
from isocenter.features.archive.policies import Policies, PolicyBook
from isocenter.features.archive.reading import WANTED, HeaderReader, frame_offsets
from isocenter.features.archive.spool import Spool, SpooledBytes
from isocenter.kit.errors import Busy, IsocenterError, TooLarge
from isocenter.kit.sizes import format_bytes
from isocenter.platform.storage.interface import Buffer, InMemory, ObjectStore, OnDisk, PutOutcome

_HASH_INLINE_BYTES = 1 << 20
"""Larger objects are hashed in a thread: half a millisecond is what the event loop may be held up."""

_LIMITS = ScanLimits(inflated_bytes_max=32 << 20)
"""What a deflated header may become in memory; several may be read at once."""

_INLINE_LIMITS = ScanLimits(elements_max=20_000, fragments_max=20_000, inflated_bytes_max=1 << 20)
"""What a header may need to be read on the event loop, some milliseconds; more is read in a thread."""

_LARGE_HEADERS_AT_ONCE = 2
"""What goes beyond those limits is hostile, or rare: many senders together must not take the memory."""

_OVER_LIMITS = frozenset({TOO_LARGE_HEADER, DEFLATE_BOMB})

_READ_BYTES = 1 << 20

_PUT_TRUSTED_US = 10 * 60 * 1_000_000
"""Later the marks of a sweep, kept three times longer, do not alone tell whether it came upon the object."""


@dataclass(slots=True)
class _Examined:
    """What one look over an object's bytes told."""

    scan: Scan | None
    error: ScanError | None
    prefix: bytes
    """Preamble and file meta to put before bytes that came without (PS3.10 §7.1)."""
    header_size: int
    header_digest: str
    sha256: str


class Ingest:
    """Receives objects and files them. One for the process; close it after the doors."""

    def __init__(
        self,
        store: ObjectStore,
        spool: Spool,
        committer: GroupCommitter,
        policies: PolicyBook,
        *,
        object_bytes_max: int | None = None,
    ) -> None:
        self.store = store
        self.spool = spool
        self.committer = committer
        self.policies = policies
        self.reader = HeaderReader()
        self.reading_large_headers = asyncio.Semaphore(_LARGE_HEADERS_AT_ONCE)
        self.object_bytes_max = object_bytes_max
        self.measures = IngestMeasures()

    def receive(
        self,
        organization_id: int,
        source: Source,
        declared: Declared | None = None,
        policies: Policies | None = None,
    ) -> Reception:
        """Begin an object: a Part-10 file or data set as it lies on disk, or, with ``declared``, the bare
        data set of a C-STORE, to which a file header is added. ``policies`` instead of the organisation's."""
        return Reception(self, organization_id, source, declared, policies)

    async def receive_all(
        self,
        organization_id: int,
        source: Source,
        pieces: AsyncIterable[Buffer],
        policies: Policies | None = None,
    ) -> Received:
        """An object that is at hand, in pieces: judged and stored, not yet filed. As `receive` and
        `Reception`; raises what they raise and what ``pieces`` raises, and nothing remains then."""
        reception = self.receive(organization_id, source, policies=policies)
        try:
            async for piece in pieces:
                waiting = reception.write(piece)
                if waiting is not None:
                    await waiting
            return await reception.finish()
        except BaseException:
            await reception.abort()
            raise

    async def commit(
        self, organization_id: int, received: Sequence[Received], policies: Policies | None = None
    ) -> list[Outcome]:
        """File finished objects in one transaction; returns when that is durable, one outcome each, in order.

        ``policies`` instead of the organisation's.
        Raises Unavailable, OutOfSpace, QuotaReached, Busy or BatchRefused; none of the objects is visible
        then.
        """
        try:
            policies = policies or await self.policies.of(organization_id)
            await self._check_still_there(received)
            outcomes = await self.committer.submit(organization_id, received, policies)
        except IsocenterError as error:
            self.measures.failed(error.code, len(received))
            raise
        self.measures.filed(received, outcomes)
        return outcomes

    async def _check_still_there(self, received: Sequence[Received]) -> None:
        """A batch may gather for hours; a sweep may have taken its first objects for orphans by then."""
        now_us = self.committer.now_us()
        for one in received:
            if now_us - one.put_at_us > _PUT_TRUSTED_US and await self.store.stat(one.stored.key) is None:
                raise Busy("The object waited too long to be filed; send it again.", retry_after_s=1)


class Reception:
    """One object on its way in. End it with ``finish`` or ``abort``."""

    def __init__(
        self,
        ingest: Ingest,
        organization_id: int,
        source: Source,
        declared: Declared | None,
        policies: Policies | None,
    ) -> None:
        self._ingest = ingest
        self._policies = policies
        self._organization_id = organization_id
        self._source = source
        self._declared = declared
        self._header = b""
        self._sha256 = hashlib.sha256()
        if declared is not None:
            self._header = encode_file_meta(
                sop_class_uid=declared.sop_class_uid,
                sop_instance_uid=declared.sop_instance_uid,
                transfer_syntax_uid=declared.transfer_syntax_uid,
                source_ae_title=source.peer,
            )
        self._bytes = SpooledBytes(ingest.spool, self._header)

    @property
    def size(self) -> int:
        return self._bytes.size

    def write(self, fragment: Buffer) -> Awaitable[None] | None:
        """Keep a copy of the bytes; await what is returned, if anything, before the next call.

        Raises TooLarge, OutOfSpace, Unavailable; call ``abort`` then.
        """
        limit = self._ingest.object_bytes_max
        if limit is not None and self._bytes.size + len(fragment) > limit:
            self._ingest.measures.failed(TooLarge.default_code)
            raise TooLarge(
                f"The object is larger than the {format_bytes(limit)} allowed here.",
                remedy="Raise --max-object-size if such objects are wanted.",
            )
        if self._declared is not None:
            self._sha256.update(fragment)
        waiting = self._bytes.append(fragment)
        return None if waiting is None else self._spooled(waiting)

    async def _spooled(self, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except IsocenterError as error:
            self._ingest.measures.failed(error.code)
            raise

    async def finish(self) -> Received:
        """Read, judge and store the object. Raises OutOfSpace or Unavailable; nothing remains then."""
        try:
            await self._bytes.finish()
            self._ingest.spool.check_room()
            policies = self._policies or await self._ingest.policies.of(self._organization_id)
            if self._declared is not None and self._bytes.in_memory:
                received = await self._examine_while_putting(policies)
            else:
                examined = await self._examine()
                received = self._received(examined, policies)
                await self._find_room(policies, received.stored.size, examined.sha256)
                received.put_existed = await self._put(received.stored.key, examined.prefix)
            received.put_at_us = self._ingest.committer.now_us()
            return received
        except IsocenterError as error:
            self._ingest.measures.failed(error.code)
            raise
        finally:
            await self._bytes.discard()

    async def abort(self) -> None:
        """The sender went away: leave no trace."""
        await self._bytes.discard()

    async def _examine_while_putting(self, policies: Policies) -> Received:
        """The disk works while the header is read: with its last byte a C-STORE's object has its address, and
        whatever the header tells, it is kept (filed or in quarantine)."""
        sha256 = self._sha256.hexdigest()
        await self._find_room(policies, self._bytes.size, sha256)
        key = self._key(sha256, _digest_of_header(self._header))
        putting = asyncio.create_task(self._put(key, b""))
        try:
            await asyncio.sleep(0)  # lets the task hand its work to a thread
            received = self._received(await self._examine(), policies)
        except BaseException:
            putting.cancel()
            await asyncio.gather(putting, return_exceptions=True)  # it reads our memory
            raise
        received.put_existed = await putting
        return received

    async def _find_room(self, policies: Policies, size: int, sha256: str) -> None:
        """Raises QuotaReached."""
        if policies.quota_bytes is not None:
            quotas = self._ingest.committer.quotas
            await quotas.find_room(self._organization_id, policies.quota_bytes, size, sha256)

    # --- examining ---------------------------------------------------------------------------------------

    async def _examine(self) -> _Examined:
        content = self._bytes
        if not content.in_memory:
            return await content.in_thread(self._examine_file)
        data = memoryview(content.memory)
        if self._declared is not None or content.size <= _HASH_INLINE_BYTES:
            found, error = _scan(data, _INLINE_LIMITS)
            if error is None or error.code not in _OVER_LIMITS:
                return self._examined_buffer(data, found, error)
            async with self._ingest.reading_large_headers:
                return await content.in_thread(self._examine_buffer, data)
        return await content.in_thread(self._examine_buffer, data)

    def _examine_buffer(self, data: memoryview) -> _Examined:
        return self._examined_buffer(data, *_scan(data))

    def _examined_buffer(self, data: memoryview, found: Scan | None, error: ScanError | None) -> _Examined:
        header_size = self._header_size(found)
        if self._declared is None:
            self._sha256.update(data[header_size:])
        return self._examined(found, error, bytes(data[:header_size]))

    def _examine_file(self) -> _Examined:
        path = self._bytes.path
        assert path is not None
        with path.open("rb", buffering=0) as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            found, error = _scan(data)
            header = bytes(data[: self._header_size(found)])
            if self._declared is None:
                # Read rather than mapped: mapped pages would count as this process's memory.
                file.seek(len(header))
                while piece := file.read(_READ_BYTES):
                    self._sha256.update(piece)
        examined = self._examined(found, error, header)
        if examined.prefix:
            self._bytes.path = _with_prefix(path, examined.prefix, self._ingest.spool.new_path())
        return examined

    def _header_size(self, found: Scan | None) -> int:
        if self._declared is not None:
            return len(self._header)
        return found.header_size if found is not None else 0

    def _examined(self, found: Scan | None, error: ScanError | None, header: bytes) -> _Examined:
        prefix = _missing_prefix(found, header) if found is not None else b""
        header = prefix + header
        digest = _digest_of_header(header)
        return _Examined(found, error, prefix, len(header), digest, self._sha256.hexdigest())

    # --- judging and storing -----------------------------------------------------------------------------

    def _received(self, examined: _Examined, policies: Policies) -> Received:
        found = examined.scan
        declared_syntax = self._declared.transfer_syntax_uid if self._declared else ""
        stored = StoredObject(
            key=self._key(examined.sha256, examined.header_digest),
            size=self._bytes.size + len(examined.prefix),
            header_size=examined.header_size,
            sha256=examined.sha256,
            transfer_syntax_uid=_uid_or_nothing(found.transfer_syntax_uid if found else declared_syntax),
        )
        if found is None:
            assert examined.error is not None
            return unreadable(stored, self._source, examined.error, self._declared)
        header = self._ingest.reader.read(found)
        levels = issued_by(header.levels, self._source.issuer)
        entry = Entry(stored, self._source, levels, header.instance)
        if found.pixel_data is not None and not found.deflated:
            entry.pixel_offset = found.pixel_data.offset + len(examined.prefix)
            entry.pixel_length = found.pixel_data.length
            frames = header.instance.columns["number_of_frames"]
            entry.frame_offsets = frame_offsets(found, int(frames or 1))
        return judge(entry, found, policies, self._declared)

    def _key(self, sha256: str, header_digest: str) -> str:
        return f"{self._organization_id}/{sha256[:2]}/{sha256}.{header_digest}"

    async def _put(self, key: str, prefix: bytes) -> bool:
        content = self._bytes
        if content.path is not None:
            outcome = await self._ingest.store.put(key, OnDisk(content.path))
        else:
            outcome = await self._ingest.store.put(key, InMemory([prefix, content.memory]))
        return outcome is PutOutcome.EXISTED


def _scan(data: memoryview | mmap.mmap, limits: ScanLimits = _LIMITS) -> tuple[Scan | None, ScanError | None]:
    try:
        return scan(data, WANTED, limits=limits), None
    except ScanError as error:
        # Its frames hold what was inflated, and outlive the object until the garbage collector comes by.
        return None, error.with_traceback(None)


def _digest_of_header(header: bytes) -> str:
    return hashlib.blake2b(header, digest_size=4).hexdigest()


def _missing_prefix(found: Scan, header: bytes) -> bytes:
    """What turns the bytes into a DICOM file: nothing, the preamble, or a whole header (PS3.10 §7.1)."""
    if is_part10(header):
        return b""
    if header:
        return PREAMBLE + PREFIX
    return encode_file_meta(
        sop_class_uid=_uid(found, tags.SOP_CLASS_UID),
        sop_instance_uid=_uid(found, tags.SOP_INSTANCE_UID),
        transfer_syntax_uid=found.transfer_syntax_uid,
    )


def _uid(found: Scan, tag: int) -> str:
    raw = found.elements.get(tag)
    return _uid_or_nothing(raw.value.decode("latin-1").rstrip("\0 ")) if raw else ""


def _uid_or_nothing(text: str) -> str:
    """What is no UID is left out of headers and columns; judging says what is wrong with it."""
    return text if uid_problem(text) is None else ""


def _with_prefix(path: Path, prefix: bytes, target: Path) -> Path:
    """A copy of the file with ``prefix`` before it; the original is gone."""
    try:
        with path.open("rb") as source, target.open("xb") as copy:
            copy.write(prefix)
            while piece := source.read(_READ_BYTES):
                copy.write(piece)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    path.unlink()
    return target
