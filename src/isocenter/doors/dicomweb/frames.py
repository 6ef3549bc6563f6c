"""Frames (PS3.18 §10.4.1.1.6): each found by one range read, given as stored, uncompressed, or transcoded."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from isocenter.dicom.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.doors.dicomweb.answers import accepted
from isocenter.doors.dicomweb.conditional import answer, strong, weak
from isocenter.doors.dicomweb.finding import InstanceFinder, addressed
from isocenter.doors.dicomweb.media_types import MULTIPART_RELATED, OCTET_STREAM, parse_accept
from isocenter.doors.dicomweb.multipart import MultipartWriter, Part
from isocenter.doors.dicomweb.representations import (
    ANY_SYNTAX,
    FRAME_SYNTAXES,
    FRAME_TYPES,
    Wish,
    choose,
    default_syntax,
    frame_wishes,
)
from isocenter.doors.dicomweb.witness import tell
from isocenter.doors.http.refusals import NotAcceptable
from isocenter.doors.http.services import HttpServices
from isocenter.features.archive.images import Images
from isocenter.features.archive.pixel_access import OpenedPixels, PixelLayout
from isocenter.features.archive.retrieve import StoredInstance
from isocenter.imaging.decoding import is_native
from isocenter.imaging.encoding import encodable
from isocenter.imaging.transcoding import can_transcode, keeps_frames, transcode_frames
from isocenter.kit.errors import InvalidInput, NotFound

_LIST = re.compile(r"\d{1,9}(?:-\d{1,9})?(?:,\d{1,9}(?:-\d{1,9})?)*", re.ASCII)
_FRAMES_MAX = 100_000
_AHEAD = 3


@dataclass(frozen=True, slots=True)
class FrameSource:
    """One object's frames, by their numbers, and the form that they are wanted in."""

    instance: StoredInstance
    opened: OpenedPixels
    layout: PixelLayout
    numbers: Sequence[int]
    media_type: str
    syntax: str

    @property
    def as_stored(self) -> bool:
        return keeps_frames(self.layout.pixels.transfer_syntax_uid, self.syntax)

    @property
    def content_type(self) -> str:
        return f"{self.media_type}; transfer-syntax={self.syntax}"

    @property
    def native_bytes(self) -> int | None:
        """The length of each frame where it is known without reading it."""
        if self.as_stored and is_native(self.syntax):
            return (self.layout.pixels.frame_bits + 7) // 8
        return None


class FramesTransaction:
    """``GET …/frames/{list}``."""

    def __init__(self, services: HttpServices, images: Images, finder: InstanceFinder) -> None:
        self._services = services
        self._finder = finder
        self._images = images

    async def frames(self, request: Request) -> Response:
        path = request.path_params
        numbers = frame_numbers(path["frames"])
        (instance,) = await addressed(self._finder, request)
        tell(request, {"part": "frames", "frames": path["frames"]})
        return await self.answer(request, instance, numbers)

    async def answer(
        self, request: Request, instance: StoredInstance, numbers: Sequence[int] | None
    ) -> Response:
        """The frames of those numbers (from 1), or all. Raises NotAcceptable; NotFound for one too many."""
        container, source = await self.source(
            frame_wishes(parse_accept(accepted(request))), instance, numbers
        )
        if container == MULTIPART_RELATED:
            return await self._multipart(request, source)
        return await self._alone(request, source)

    async def source(
        self, wishes: Sequence[Wish], instance: StoredInstance, numbers: Sequence[int] | None
    ) -> tuple[str, FrameSource]:
        """The container, and the frames in the best form that the wishes allow. Raises as `answer`."""
        opened = await self._images.pixels.open(instance)
        layout = await self._images.pixels.layout(instance, opened)
        count = layout.pixels.number_of_frames
        numbers = numbers if numbers is not None else range(1, count + 1)
        if max(numbers) > count:
            raise NotFound(
                f"The object has no frame {max(numbers)}; it has {count}.",
                code="no-such-frame",
                remedy="Frames are counted from 1.",
            )
        stored = layout.pixels.transfer_syntax_uid

        def as_stored(_: str) -> str:
            return EXPLICIT_VR_LITTLE_ENDIAN if is_native(stored) else stored

        chosen = choose(wishes, [stored], lambda wish, _: _syntax(wish, stored, len(numbers)), as_stored)
        if chosen is None:
            raise _no_form(stored, len(numbers))
        ((wish, syntax),) = chosen.forms
        media_type = FRAME_TYPES[syntax] if wish.media_type == "image/*" else wish.media_type
        return chosen.container, FrameSource(instance, opened, layout, numbers, media_type, syntax)

    async def _alone(self, request: Request, source: FrameSource) -> Response:
        etag = _etag(source, _tag(source))
        headers = {"content-type": source.content_type}
        if source.native_bytes is not None:
            headers["content-length"] = str(source.native_bytes)
        return await answer(request, etag, headers, lambda: self.contents(source))

    async def _multipart(self, request: Request, source: FrameSource) -> Response:
        writer = MultipartWriter(iter((_tag(source), source.content_type)), source.media_type)
        headers = {"content-type": writer.content_type}
        if source.native_bytes is not None:
            part = Part(source.content_type, source.native_bytes)
            headers["content-length"] = str(writer.length_of(iter([part] * len(source.numbers))))
        return await answer(request, _etag(source, writer.tag), headers, lambda: self._parts(source, writer))

    async def _parts(self, source: FrameSource, writer: MultipartWriter) -> AsyncIterator[bytes]:
        async for frame in self.contents(source):
            yield writer.before(Part(source.content_type, len(frame))) + frame + writer.after
        yield writer.end

    async def contents(self, source: FrameSource) -> AsyncIterator[bytes]:
        """One after the other; what takes work is begun a few ahead."""
        if source.as_stored:
            for number in source.numbers:
                yield await self._stored_frame(source, number)
            return
        with self._images.transcoder.request():
            waiting = iter(source.numbers)
            under_way: deque[asyncio.Task[bytes]] = deque()

            def begin() -> None:
                number = next(waiting, None)
                if number is not None:
                    under_way.append(asyncio.create_task(self._made_frame(source, number)))

            try:
                for _ in range(_AHEAD):
                    begin()
                while under_way:
                    frame = await under_way.popleft()
                    begin()
                    yield frame
            finally:
                for task in under_way:
                    task.cancel()
                await asyncio.gather(*under_way, return_exceptions=True)

    async def _stored_frame(self, source: FrameSource, number: int) -> bytes:
        ((content, first_bit),) = await self._images.pixels.frames(source.opened, source.layout, number - 1)
        if source.layout.pixels.bits_allocated == 1 and is_native(source.syntax):
            return _aligned(content, first_bit, source.layout.pixels.frame_bits)
        return content

    async def _made_frame(self, source: FrameSource, number: int) -> bytes:
        frames = await self._images.pixels.frames(source.opened, source.layout, number - 1)
        _, (content,) = await self._images.workers.run(
            transcode_frames, frames, source.layout.pixels, source.syntax
        )
        return content


def frame_numbers(text: str) -> list[int]:
    """``1,3,7`` and, beyond the standard, ``1-5,7``. Raises InvalidInput."""
    if not _LIST.fullmatch(text):
        raise _no_list()
    numbers: list[int] = []
    for step in text.split(","):
        first, _, last = step.partition("-")
        begin, end = int(first), int(last or first)
        if not 0 < begin <= end or len(numbers) + end - begin >= _FRAMES_MAX:
            raise _no_list()
        numbers.extend(range(begin, end + 1))
    return numbers


def _syntax(wish: Wish, stored: str, count: int) -> str | None:
    """The transfer syntax of the frames by that wish; None where it cannot be met. Uncompressed octets are
    little endian whatever the object is (§8.7.3.3.2)."""
    if wish.container != MULTIPART_RELATED and count > 1:
        return None
    if wish.media_type == "image/*":
        return stored if stored in FRAME_TYPES else None
    syntaxes = FRAME_SYNTAXES.get(wish.media_type)
    if syntaxes is None and wish.media_type != OCTET_STREAM:
        return None
    syntax = wish.syntax
    if syntax == ANY_SYNTAX:
        syntax = stored if syntaxes is None or stored in syntaxes else syntaxes[0]
    syntax = syntax or default_syntax(wish.media_type, stored)
    if syntaxes is not None and syntax not in syntaxes:
        return None
    if is_native(syntax):
        syntax = EXPLICIT_VR_LITTLE_ENDIAN
    return syntax if can_transcode(stored, syntax) else None


def _aligned(content: bytes, first_bit: int, bits: int) -> bytes:
    """A frame of one-bit pixels that begins within a byte, from the beginning of one; its last is filled."""
    unpacked = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")
    return np.packbits(unpacked[first_bit : first_bit + bits], bitorder="little").tobytes()


def _tag(source: FrameSource) -> str:
    name = source.instance.object_key.rpartition("/")[2]
    numbers = blake2b(repr([*source.numbers]).encode(), digest_size=8).hexdigest()
    return f"{name}.frames.{numbers}.{source.syntax}"


def _etag(source: FrameSource, tag: str) -> str:
    return strong(tag) if source.as_stored else weak(tag)


def _no_form(stored: str, count: int) -> NotAcceptable:
    alone = "" if count > 1 else ", alone or"
    others = ", ".join(f"{FRAME_TYPES[uid]};{uid}" for uid in encodable() if uid in FRAME_TYPES)
    return NotAcceptable(
        f"The frames are stored in transfer syntax {stored} and cannot be given in what is asked for.",
        remedy=f"Ask for {OCTET_STREAM}{alone} as the type of multipart/related; or for one of: {others}.",
    )


def _no_list() -> InvalidInput:
    return InvalidInput(
        "The list of frames cannot be read.",
        code="invalid-frame-list",
        remedy="Write numbers from 1 separated by commas, for example frames/1,2,5 or frames/1-20.",
    )
