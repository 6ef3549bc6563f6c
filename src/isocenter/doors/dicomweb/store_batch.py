"""The objects of one STOW-RS request on their way in, whatever they come as."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from isocenter.doors.dicomweb.media_types import DICOM, OCTET_STREAM, parse_media_type
from isocenter.doors.dicomweb.message_parts import MessageParts
from isocenter.doors.dicomweb.metadata_instances import ComposedInstance, compose_instances
from isocenter.doors.http.refusals import UnsupportedMediaType
from isocenter.features.archive.entry import Received, Source
from isocenter.features.archive.ingest import Ingest, Reception
from isocenter.features.archive.spool import SpooledBytes
from isocenter.kit.multipart import MalformedMultipart, MultipartReader, PartBegins, PartData

_FINISHING_MAX = 4  # objects on their way to the store while the next one arrives
_PART_TYPES = frozenset({DICOM, OCTET_STREAM})  # the second one is what careless clients call it


class Body(Protocol):
    def __aiter__(self) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class Arrived:
    """One object in the store; None for a part that was empty. ``discarded``: not all that was sent has a
    place in it."""

    received: Received | None
    discarded: bool = False


class Batch:
    """``composing`` bounds how many requests' metadata is taken apart at once: that takes memory."""

    def __init__(
        self, ingest: Ingest, organization_id: int, source: Source, composing: asyncio.Semaphore
    ) -> None:
        self._ingest = ingest
        self._organization_id = organization_id
        self._source = source
        self._composing = composing
        self._reception: Reception | None = None
        self._message: SpooledBytes | None = None
        self._finishing: list[asyncio.Task[Received] | None] = []
        self._discarded: set[int] = set()

    async def take_single(self, body: Body) -> None:
        """The body is one object."""
        reception = self._begin()
        async for chunk in body:
            if chunk and (wait := reception.write(chunk)):
                await wait
        await self._end_part()

    async def take_parts(self, body: Body, reader: MultipartReader) -> None:
        """Each part of the body is one object."""
        async for chunk in body:
            for event in reader.feed(chunk):
                match event:
                    case PartData(data):
                        assert self._reception is not None
                        if wait := self._reception.write(data):
                            await wait
                    case PartBegins(headers):
                        _check_part_type(headers.get("content-type", DICOM))
                        self._begin()
                    case _:
                        await self._end_part()
        reader.finish()
        if not self._finishing:
            raise MalformedMultipart("The multipart body has no parts.", remedy="Send at least one object.")

    async def take_message(self, body: Body, reader: MultipartReader, kind: str, base: str) -> None:
        """The body is metadata of type ``kind`` and bulk data; objects are made of them when all have come.

        Raises InvalidInput, TooLarge or Unsupported for what cannot be made whole; nothing was put then.
        """
        self._message = message = SpooledBytes(self._ingest.spool)
        parts = MessageParts(kind, base)
        async for chunk in body:
            for event in reader.feed(chunk):
                match event:
                    case PartData(data):
                        if wait := message.append(data):
                            await wait
                        parts.check_size(message.size)
                    case PartBegins(headers):
                        parts.begin(headers, message.size)
                    case _:
                        parts.end(message.size)
        reader.finish()
        await message.finish()
        async with self._composing:
            composed = await message.in_thread(compose_instances, kind, parts, message.read)
        for instance in composed:
            await self._take_composed(instance, message)
        await message.discard()

    async def finish(self) -> list[Arrived]:
        """Every object in the store, in the order sent."""
        return [
            Arrived(await task if task else None, number in self._discarded)
            for number, task in enumerate(self._finishing)
        ]

    async def abort(self) -> None:
        """Leave no trace but what the sweep finds: objects that no row refers to."""
        if self._message is not None:
            await self._message.discard()
        if self._reception is not None:
            await self._reception.abort()
        tasks = [task for task in self._finishing if task]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take_composed(self, instance: ComposedInstance, message: SpooledBytes) -> None:
        if instance.discarded:
            self._discarded.add(len(self._finishing))
        reception = self._begin()
        for piece in instance.pieces:
            if isinstance(piece, bytes):
                if wait := reception.write(piece):
                    await wait
                continue
            async for content in message.stream(piece.offset, piece.length):
                if wait := reception.write(content):
                    await wait
        await self._end_part()

    def _begin(self) -> Reception:
        self._reception = self._ingest.receive(self._organization_id, self._source)
        return self._reception

    async def _end_part(self) -> None:
        reception, self._reception = self._reception, None
        assert reception is not None
        if not reception.size:
            await reception.abort()
            self._finishing.append(None)
            return
        self._finishing.append(asyncio.create_task(reception.finish()))
        # Not more than a few at a time: each may hold an object in memory.
        if len(self._finishing) >= _FINISHING_MAX and (oldest := self._finishing[-_FINISHING_MAX]):
            await asyncio.shield(oldest)


def _check_part_type(text: str) -> None:
    if parse_media_type(text).type not in _PART_TYPES:
        raise UnsupportedMediaType(
            "A part of the body is not of type application/dicom.",
            remedy='Send DICOM files; or metadata and bulk data, with type="application/dicom+json".',
        )
