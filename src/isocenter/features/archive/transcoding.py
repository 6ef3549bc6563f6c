"""An object in another transfer syntax, for whoever asks: WADO-RS, C-MOVE, C-GET.

    given = await transcoder.given(instance, JPEG_2000_LOSSLESS)
    async for piece in given.stream():  # a DICOM file (PS3.10); its data set begins at given.header_size
        ...

Frames are decoded and encoded in worker processes, some at a time and a few ahead, so that memory does not
grow with the object. The first are done before ``given`` returns: what cannot be converted is told then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass

from isocenter.dicom.dataset import is_deflated
from isocenter.dicom.part10 import encode_file_meta
from isocenter.features.archive.deflating import deflated
from isocenter.features.archive.retrieve import StoredInstance, stream_bytes
from isocenter.features.archive.transcode_cache import TranscodeCache
from isocenter.features.archive.transcoded_pieces import TranscodedPieces
from isocenter.imaging.errors import PixelDataUnsupported
from isocenter.imaging.transcoding import can_transcode, data_set_syntax
from isocenter.kit.errors import Busy
from isocenter.platform.storage.interface import ObjectStore

_AT_ONCE_BYTES = 8 << 20
"""An object that is no larger is made whole before any of it is given: its size is known then."""
_REQUESTS_MAX = 32


@dataclass(frozen=True, slots=True)
class GivenObject:
    """A DICOM file: ``header_size`` bytes of preamble and file meta information, then the data set. ``size``
    is None where only the end will tell."""

    instance: StoredInstance
    transfer_syntax_uid: str
    size: int | None
    header_size: int
    _stream: Callable[[], AsyncIterator[bytes]]

    def stream(self) -> AsyncIterator[bytes]:
        """All of it, once. Raises Unavailable, InternalError, and what `Transcoder.given` raises."""
        return self._stream()


class Transcoder:
    def __init__(
        self, store: ObjectStore, pieces: TranscodedPieces, cache: TranscodeCache | None = None
    ) -> None:
        self._store = store
        self._pieces = pieces
        self._cache = cache
        self._requests = 0
        self._keeping: set[asyncio.Task[None]] = set()

    def possible(self, instance: StoredInstance, transfer_syntax_uid: str) -> bool:
        """Whether objects of its kind can be given in that transfer syntax. (This very one may still be
        broken, or have too many bits for it.)"""
        return not _has_pixels(instance) or can_transcode(instance.transfer_syntax_uid, transfer_syntax_uid)

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Around all transcoding for one request. Raises Busy when there are too many."""
        if self._requests >= _REQUESTS_MAX:
            raise Busy(
                "Too many requests for objects in other transfer syntaxes are being answered.",
                remedy="Ask again in a few seconds, or for objects as they are stored (transfer-syntax=*).",
                retry_after_s=5,
            )
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    def tag(self, instance: StoredInstance, transfer_syntax_uid: str) -> str:
        """What tells these bytes from all others: as stored they are exactly those; else their meaning."""
        name = instance.object_key.rpartition("/")[2]
        return (
            name if transfer_syntax_uid == instance.transfer_syntax_uid else f"{name}.{transfer_syntax_uid}"
        )

    def as_stored(self, instance: StoredInstance) -> GivenObject:
        return GivenObject(
            instance,
            instance.transfer_syntax_uid,
            instance.size,
            instance.header_size,
            lambda: stream_bytes(self._store, instance),
        )

    async def given(self, instance: StoredInstance, transfer_syntax_uid: str) -> GivenObject:
        """The object in that transfer syntax. One without pixels has nothing to compress: it is given in
        Explicit VR Little Endian where a compressed transfer syntax is asked for.

        Raises PixelDataBroken, PixelDataUnsupported, WorkFailed where it cannot be; InternalError where the
        object is lost; Unavailable.
        """
        target = data_set_syntax(transfer_syntax_uid, has_pixels=_has_pixels(instance))
        if target == instance.transfer_syntax_uid:
            return self.as_stored(instance)
        if not self.possible(instance, target):
            raise PixelDataUnsupported(f"from {instance.transfer_syntax_uid} to {target} leads no way here")
        cache = self._cache
        if cache is not None and (cached := await cache.find(instance.object_key, target)) is not None:
            return GivenObject(
                instance, target, cached.size, cached.header_size, lambda: cache.stream(cached)
            )
        return await self._made(instance, target)

    async def settled(self) -> None:
        """Until what was made so far is kept."""
        await asyncio.gather(*self._keeping, return_exceptions=True)

    async def expire(self) -> int:
        """Forget copies that are a day old; how many went."""
        return await self._cache.expire() if self._cache is not None else 0

    async def close(self) -> None:
        await self.settled()
        if self._cache is not None:
            await self._cache.close()

    async def _made(self, instance: StoredInstance, target: str) -> GivenObject:
        target, data_set = await self._pieces.of(instance, target)
        header = encode_file_meta(
            sop_class_uid=instance.sop_class_uid,
            sop_instance_uid=instance.sop_instance_uid,
            transfer_syntax_uid=target,
        )
        if is_deflated(target):
            data_set = deflated(data_set)
        beginning, size = [header], len(header)
        async for piece in data_set:
            beginning.append(piece)
            size += len(piece)
            if size > _AT_ONCE_BYTES:
                break
        else:
            self._keep(instance, target, beginning)
            return GivenObject(instance, target, size, len(header), lambda: _each(beginning))
        pieces = self._noted(instance, target, beginning, data_set)
        return GivenObject(instance, target, None, len(header), lambda: pieces)

    async def _noted(
        self, instance: StoredInstance, target: str, beginning: list[bytes], rest: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """All pieces; kept when they were given to the end and are not too many."""
        most = self._cache.object_bytes_max if self._cache is not None else 0
        kept: list[bytes] | None = []
        size = 0
        async with contextlib.aclosing(_chained(beginning, rest)) as pieces:
            async for piece in pieces:
                yield piece
                size += len(piece)
                if kept is not None:
                    kept.append(piece)
                    if size > most:
                        kept = None
        if kept is not None:
            self._keep(instance, target, kept)

    def _keep(self, instance: StoredInstance, target: str, pieces: list[bytes]) -> None:
        if self._cache is None or len(self._keeping) >= _REQUESTS_MAX:
            return
        task = asyncio.create_task(self._cache.put(instance.object_key, target, pieces))
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)


def _has_pixels(instance: StoredInstance) -> bool:
    """As far as the index knows: of deflated objects it does not."""
    return instance.pixel_offset is not None or is_deflated(instance.transfer_syntax_uid)


async def _each(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def _chained(beginning: list[bytes], rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    for piece in beginning:
        yield piece
    async for piece in rest:
        yield piece
