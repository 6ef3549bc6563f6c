"""Bulk data (PS3.18 §10.4.1.1.5): each large value of an object at its own address, whole or in part."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response

from isocenter.dicom.json_dataset import BulkPath
from isocenter.dicom.tags import PIXEL_DATA
from isocenter.dicom.value_representations import WORD_BYTES
from isocenter.doors.dicomweb.answers import accepted
from isocenter.doors.dicomweb.conditional import answer, answer_in_parts, strong
from isocenter.doors.dicomweb.finding import InstanceFinder, addressed
from isocenter.doors.dicomweb.frames import FramesTransaction
from isocenter.doors.dicomweb.media_types import MULTIPART_RELATED, OCTET_STREAM, parse_accept
from isocenter.doors.dicomweb.multipart import MultipartWriter, Part
from isocenter.doors.dicomweb.witness import tell
from isocenter.doors.http.refusals import NotAcceptable
from isocenter.doors.http.services import HttpServices
from isocenter.features.archive.images import Images
from isocenter.features.archive.object_elements import BulkValue, find_bulk_value
from isocenter.features.archive.pixel_access import swapped
from isocenter.features.archive.retrieve import StoredInstance, stream_bytes
from isocenter.kit.errors import NotFound

_PATH_PARTS_MAX = 65


class BulkDataTransaction:
    """``GET …/bulkdata/{path}``."""

    def __init__(
        self, services: HttpServices, images: Images, finder: InstanceFinder, frames: FramesTransaction
    ) -> None:
        self._services = services
        self._finder = finder
        self._images = images
        self._frames = frames

    async def bulk_data(self, request: Request) -> Response:
        path = request.path_params
        (instance,) = await addressed(self._finder, request)
        tell(request, {"part": "bulkdata", "path": path["path"]})
        where = _bulk_path(path["path"])
        value = await find_bulk_value(self._services.store, instance, where)
        if value.encapsulated and where == (PIXEL_DATA,):
            return await self._frames.answer(request, instance, None)
        word_bytes = await self.word_bytes(instance, value, where)
        tag = f"{instance.object_key.rpartition('/')[2]}.{path['path'].replace('/', '.')}"
        for one in parse_accept(accepted(request)):
            if one.type == MULTIPART_RELATED:
                if one.parameters.get("type", OCTET_STREAM).lower() in {OCTET_STREAM, "*/*"}:
                    return await self._as_part(request, instance, value, word_bytes, tag)
            elif one.covers(OCTET_STREAM):
                return await answer_in_parts(
                    request,
                    strong(tag),
                    {"content-type": OCTET_STREAM},
                    value.length,
                    lambda start, length: self.octets(instance, value, word_bytes, start, length),
                )
        raise NotAcceptable(
            f"This value is available as {OCTET_STREAM} only.", remedy=f"Send 'Accept: {OCTET_STREAM}'."
        )

    async def word_bytes(self, instance: StoredInstance, value: BulkValue, where: BulkPath) -> int:
        """What changes places in a big-endian object (§8.7.3.3 wants little endian): of pixels their width
        tells, of other values the VR."""
        if not value.big_endian:
            return 1
        if where == (PIXEL_DATA,):
            opened = await self._images.pixels.open(instance)
            return (await self._images.pixels.layout(instance, opened)).word_bytes
        return WORD_BYTES.get(value.vr, 1)

    async def octets(
        self, instance: StoredInstance, value: BulkValue, word_bytes: int, start: int, length: int
    ) -> AsyncIterator[bytes]:
        if value.content is not None:
            yield value.content[start : start + length]
            return
        # Whole words are swapped, so a little more is read than was asked for, and cut off again.
        begin = start // word_bytes * word_bytes
        end = min(-(-(start + length) // word_bytes) * word_bytes, value.length)
        skipped, left = start - begin, length
        waiting = b""
        async for piece in stream_bytes(self._services.store, instance, value.offset + begin, end - begin):
            waiting += piece
            whole = len(waiting) // word_bytes * word_bytes
            content, waiting = swapped(waiting[:whole], word_bytes)[skipped : skipped + left], waiting[whole:]
            skipped, left = max(0, skipped - whole), left - len(content)
            if content:
                yield content
        if waiting and left:
            yield waiting[skipped : skipped + left]

    async def _as_part(
        self, request: Request, instance: StoredInstance, value: BulkValue, word_bytes: int, tag: str
    ) -> Response:
        writer = MultipartWriter(iter((tag,)), OCTET_STREAM)
        part = Part(OCTET_STREAM, value.length)

        async def pieces() -> AsyncIterator[bytes]:
            yield writer.before(part)
            async for piece in self.octets(instance, value, word_bytes, 0, value.length):
                yield piece
            yield writer.after + writer.end

        headers = {
            "content-length": str(writer.length_of(iter((part,)))),
            "content-type": writer.content_type,
        }
        return await answer(request, strong(writer.tag), headers, pieces)


def _bulk_path(text: str) -> BulkPath:
    steps = text.split("/")
    try:
        if len(steps) % 2 == 0 or len(steps) > _PATH_PARTS_MAX:
            raise ValueError
        path = tuple(int(step, 10 if depth % 2 else 16) for depth, step in enumerate(steps))
    except ValueError:
        path = ()
    if not path or min(path) < 0:
        raise NotFound("The instance has no bulk data of that address.", code="no-such-bulk-data")
    return path
