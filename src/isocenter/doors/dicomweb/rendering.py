"""Pictures, films and documents from stored objects, by the worker processes; what all doors to them
share."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace

from isocenter.doors.dicomweb.rendered_media_types import PDF
from isocenter.doors.http.refusals import NotAcceptable
from isocenter.features.archive.image_reading import StoredImage, open_image
from isocenter.features.archive.images import Images
from isocenter.features.archive.object_elements import find_bulk_value, read_elements
from isocenter.features.archive.retrieve import StoredInstance, read_bytes, stream_bytes
from isocenter.imaging.errors import PixelDataUnsupported
from isocenter.imaging.rendering import work
from isocenter.imaging.rendering.animation import animated
from isocenter.imaging.rendering.attributes import Attributes
from isocenter.imaging.rendering.errors import PresentationOfOthers
from isocenter.imaging.rendering.mp4 import Samples, muxed
from isocenter.imaging.rendering.request import GIF, FrameSource, PresentationState, Rendering
from isocenter.imaging.rendering.timing import frame_time_ms, representative_frame
from isocenter.platform.fonts import font_files
from isocenter.platform.storage.interface import ObjectStore

_AT_ONCE = 8
"""Frames read and waiting for a worker: each is in memory."""
_AHEAD = 3
_GROUP_FRAMES_MAX = 32
_GROUP_BYTES_MAX = 32 << 20
_FILM_BYTES_MAX = 512 << 20
_DOCUMENT_BYTES_MAX = 32 << 20

_REFERENCED_SERIES_SEQUENCE = 0x00081115
_REFERENCED_IMAGE_SEQUENCE = 0x00081140
_REFERENCED_SOP_INSTANCE_UID = 0x00081155
_SERIES_INSTANCE_UID = 0x0020000E
_ENCAPSULATED_DOCUMENT = 0x00420011
_MIME_TYPE_OF_ENCAPSULATED_DOCUMENT = 0x00420012


class Renderer:
    def __init__(self, store: ObjectStore, images: Images) -> None:
        self._store = store
        self._images = images
        self._workers = images.workers
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def open(self, instance: StoredInstance) -> StoredImage:
        return await open_image(self._store, self._images.pixels, instance)

    async def frame(self, image: StoredImage, number: int, rendering: Rendering) -> bytes:
        """One frame (from 1) as a picture's file."""
        async with self._room:
            return await self._workers.run(work.render, await image.frame(number), _lettered(rendering))

    async def representative(self, image: StoredImage, rendering: Rendering) -> bytes:
        """The frame that stands for the instance."""
        return await self.frame(image, representative(image), rendering)

    async def frames(
        self, image: StoredImage, numbers: Iterable[int], rendering: Rendering
    ) -> AsyncIterator[bytes]:
        """The pictures in order; a few are made ahead."""
        waiting = iter(numbers)
        making: deque[asyncio.Task[bytes]] = deque()
        try:
            while True:
                while len(making) < _AHEAD and (number := next(waiting, None)) is not None:
                    making.append(asyncio.create_task(self.frame(image, number, rendering)))
                if not making:
                    return
                yield await making.popleft()
        finally:
            for task in making:
                task.cancel()
            await asyncio.gather(*making, return_exceptions=True)

    def animation(
        self, image: StoredImage, numbers: Iterable[int], rendering: Rendering
    ) -> AsyncIterator[bytes]:
        """An animated GIF in pieces."""
        frames = self.frames(image, numbers, replace(rendering, media_type=GIF))
        return animated(frames, frame_time_ms(image.attributes))

    async def film(self, image: StoredImage, numbers: list[int], rendering: Rendering) -> bytes:
        """An MP4 file. Raises PixelDataUnsupported where it would be too large."""
        rendering = _lettered(rendering)
        parts: list[Samples] = []
        total = 0
        for group in _groups(numbers, image.pixels.decoded_bytes):
            async with self._room:
                sources: list[FrameSource] = [await image.frame(number) for number in group]
                width, height, configuration, frames = await self._workers.run(
                    work.render_samples, sources, rendering
                )
            parts.append(Samples(width, height, configuration, frames))
            total += sum(map(len, frames))
            if total > _FILM_BYTES_MAX:
                raise PixelDataUnsupported("its film would be too large; ask for fewer frames")
        return muxed(parts, frame_time_ms(image.attributes))

    async def report(self, instance: StoredInstance, media_type: str) -> bytes:
        """A structured report as text."""
        data_set = await self._whole(instance, "report")
        return await self._workers.run(
            work.render_document, data_set, instance.transfer_syntax_uid, media_type
        )

    async def presentation_state(self, instance: StoredInstance) -> PresentationState:
        """A presentation state to show images by. Raises NotAcceptable for one that is too long."""
        data_set = await self._whole(instance, "presentation state")
        return PresentationState(instance.object_key, data_set, instance.transfer_syntax_uid)

    async def image_of(self, instance: StoredInstance) -> tuple[str, str]:
        """Series and instance UID of the first image that a presentation state references. Raises
        PresentationOfOthers where it references none."""
        state = Attributes.of_elements(await read_elements(self._store, instance))
        for series in state.items(_REFERENCED_SERIES_SEQUENCE):
            for image in series.items(_REFERENCED_IMAGE_SEQUENCE):
                return series.word(_SERIES_INSTANCE_UID), image.word(_REFERENCED_SOP_INSTANCE_UID)
        raise PresentationOfOthers

    async def document(self, instance: StoredInstance) -> tuple[int, AsyncIterator[bytes]]:
        """An Encapsulated PDF's document as it is: its length, and its bytes. Raises NotAcceptable for other
        documents."""
        elements = {element.tag: element.value for element in await read_elements(self._store, instance)}
        said = elements.get(_MIME_TYPE_OF_ENCAPSULATED_DOCUMENT, b"")
        kind = said.decode("latin-1").strip(" \0").lower() if isinstance(said, bytes) else ""
        if kind != PDF:
            raise NotAcceptable(
                "The object holds a document of another kind than PDF, which is given with the object only.",
                code="not-renderable",
                remedy="Ask for the object itself, or for its bulk data.",
            )
        value = await find_bulk_value(self._store, instance, (_ENCAPSULATED_DOCUMENT,))
        if value.content is not None:
            return value.length, _at_once(value.content)
        return value.length, stream_bytes(self._store, instance, value.offset, value.length)

    async def _whole(self, instance: StoredInstance, what: str) -> bytes:
        length = instance.size - instance.header_size
        if length > _DOCUMENT_BYTES_MAX:
            raise NotAcceptable(
                f"The {what} is too long to be shown.",
                code="not-renderable",
                remedy="Ask for the object itself, as application/dicom.",
            )
        return await read_bytes(self._store, instance, instance.header_size, length)


def representative(image: StoredImage) -> int:
    """The frame that stands for the instance, from 1."""
    return representative_frame(image.attributes, image.number_of_frames) + 1


def _lettered(rendering: Rendering) -> Rendering:
    lettered = rendering.annotations or rendering.presentation is not None
    return replace(rendering, fonts=font_files()) if lettered else rendering


def _groups(numbers: list[int], frame_bytes: int) -> list[list[int]]:
    """Frames that are encoded together: bounded in memory, two at least, since one alone would be a still
    picture, which is coded otherwise."""
    size = min(_GROUP_FRAMES_MAX, max(2, _GROUP_BYTES_MAX // max(1, frame_bytes)))
    groups = [numbers[start : start + size] for start in range(0, len(numbers), size)]
    if len(groups) > 1 and len(groups[-1]) == 1:
        groups[-2:] = [groups[-2] + groups[-1]]
    return groups


async def _at_once(content: bytes) -> AsyncIterator[bytes]:
    yield content
