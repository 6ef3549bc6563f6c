"""A study, series or instance as one ZIP archive (PS3.18 §8.7.3.1), whose every byte is known in advance.

A member's CRC-32 stands before its contents, so an object is read twice unless it fits into memory; what was
computed is remembered, so that a download that is resumed reads only what is missing.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from hashlib import blake2b

from starlette.requests import Request
from starlette.responses import Response

from isocenter.doors.dicomweb.conditional import answer_in_parts, strong
from isocenter.doors.dicomweb.media_types import ZIP
from isocenter.doors.http.filenames import attachment
from isocenter.features.archive.retrieve import StoredInstance, read_bytes, stream_bytes
from isocenter.kit.zip_plan import Contents, Directory, Header, Slice, ZipMember, ZipPlan
from isocenter.platform.storage.interface import ObjectStore

_WHOLE_BYTES_MAX = 4 << 20
_REMEMBERED = 200_000
_INLINE_BYTES_MAX = 64 << 10


class Checksums:
    """CRC-32 of objects by their keys: contents never change. 20 MB at most."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, int] = OrderedDict()

    async def of(self, store: ObjectStore, instance: StoredInstance) -> int:
        known = self._known.get(instance.object_key)
        if known is None:
            known = 0
            async for piece in stream_bytes(store, instance):
                known = await _crc32(piece, known)
            self.keep(instance, known)
        return known

    async def of_content(self, instance: StoredInstance, content: bytes) -> int:
        known = self._known.get(instance.object_key)
        if known is None:
            known = await _crc32(content, 0)
            self.keep(instance, known)
        return known

    def keep(self, instance: StoredInstance, crc32: int) -> None:
        self._known[instance.object_key] = crc32
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


async def _crc32(content: bytes, before: int) -> int:
    if len(content) <= _INLINE_BYTES_MAX:
        return zlib.crc32(content, before)
    return await asyncio.to_thread(zlib.crc32, content, before)


async def zip_answer(
    request: Request, store: ObjectStore, checksums: Checksums, instances: Sequence[StoredInstance]
) -> Response:
    """The objects as they are stored; a range of the archive where one is asked for."""
    plan = ZipPlan([ZipMember(_name(instance), instance.size) for instance in instances])
    digest = blake2b(digest_size=16)
    for instance in instances:
        digest.update(f"{_name(instance)} {instance.object_key}\n".encode())
    uid = next(
        request.path_params[level]
        for level in ("instance", "series", "study")
        if level in request.path_params
    )
    headers = {"content-type": ZIP, "content-disposition": attachment(f"{uid}.zip")}
    return await answer_in_parts(
        request,
        strong(digest.hexdigest()),
        headers,
        plan.size,
        lambda start, length: _pieces(store, checksums, instances, plan.slices(start, length), plan),
    )


async def _pieces(
    store: ObjectStore,
    checksums: Checksums,
    instances: Sequence[StoredInstance],
    slices: Iterator[Slice],
    plan: ZipPlan,
) -> AsyncIterator[bytes]:
    whole = b""  # the small object whose header was just written
    for what, begin, count in slices:
        match what:
            case Header(number):
                instance = instances[number]
                if instance.size <= _WHOLE_BYTES_MAX:
                    whole = await read_bytes(store, instance, 0, instance.size)
                    crc32 = await checksums.of_content(instance, whole)
                else:
                    crc32 = await checksums.of(store, instance)
                yield plan.header(number, crc32)[begin : begin + count]
            case Contents(number, begin, count):
                if whole:
                    yield whole[begin : begin + count]
                    whole = b""
                    continue
                async for piece in stream_bytes(store, instances[number], begin, count):
                    yield piece
            case Directory():
                crc32s = [await checksums.of(store, instance) for instance in instances]
                yield plan.directory(crc32s)[begin : begin + count]


def _name(instance: StoredInstance) -> str:
    """A folder a series, a file an instance: UIDs, which tell nobody's name and never change."""
    return f"{_safe(instance.series_instance_uid)}/{_safe(instance.sop_instance_uid)}.dcm"


def _safe(uid: str) -> str:
    """A lenient archive may hold UIDs that are none."""
    kept = "".join(char if char.isascii() and (char.isalnum() or char in ".-_") else "_" for char in uid[:64])
    return kept.strip(".") or "_"
