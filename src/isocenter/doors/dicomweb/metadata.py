"""Metadata and bulk data (PS3.18 §10.4.1.1): an object without its large values, and each of those."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from itertools import islice, pairwise

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from isocenter.dicom.element import BulkRange
from isocenter.dicom.json_dataset import BulkPath, dataset_json
from isocenter.dicom.tags import PIXEL_DATA
from isocenter.dicom.value_representations import swap_bytes
from isocenter.doors.dicomweb.addresses import Addresses
from isocenter.doors.dicomweb.answers import accepted, json_media_type, json_stream, primed
from isocenter.doors.dicomweb.media_types import MULTIPART_RELATED, OCTET_STREAM, MediaType, parse_accept
from isocenter.doors.dicomweb.multipart import MultipartWriter, Part
from isocenter.doors.dicomweb.witness import tell
from isocenter.doors.http.refusals import NotAcceptable
from isocenter.doors.http.services import HttpServices
from isocenter.features.archive.frames import read_frame
from isocenter.features.archive.object_elements import (
    BULK_THRESHOLD_BYTES,
    BulkValue,
    find_bulk_value,
    read_elements,
)
from isocenter.features.archive.retrieve import StoredInstance, find_instances, stream_bytes
from isocenter.kit.errors import NotFound

_AHEAD = 4  # headers read while the one before is written
_PATH_PARTS_MAX = 65

# PS3.18 Table 8.7.3-5: what compressed frames are called outside of DICOM.
_FRAME_TYPES = {
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.92": "image/jpx",
    "1.2.840.10008.1.2.4.93": "image/jpx",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
}


class MetadataTransaction:
    """``GET …/metadata`` at three levels and ``GET …/bulkdata/{path}``."""

    def __init__(self, services: HttpServices, addresses: Addresses) -> None:
        self._services = services
        self._addresses = addresses

    async def metadata(self, request: Request) -> Response:
        media_type = json_media_type(accepted(request))
        instances = await self._find(request)
        tell(request, {"part": "metadata", "objects": len(instances)})
        pieces = await primed(self._objects(request, instances))
        return json_stream(request, pieces, media_type)

    async def bulk_data(self, request: Request) -> Response:
        path = request.path_params
        (instance,) = await self._find(request)
        tell(request, {"part": "bulkdata", "path": path["path"]})
        where = _bulk_path(path["path"])
        value = await find_bulk_value(self._services.store, instance, where)
        ranges = parse_accept(accepted(request))
        if value.encapsulated and where == (PIXEL_DATA,):
            return await self._frames(instance, ranges)
        for media_range in ranges:
            if media_range.covers(OCTET_STREAM):
                headers = {"content-length": str(value.length), "content-type": OCTET_STREAM}
                return StreamingResponse(await primed(self._octets(instance, value)), headers=headers)
            if _is_multipart_of(media_range, OCTET_STREAM):
                return await self._octets_as_part(instance, value)
        raise NotAcceptable(
            f"This value is available as {OCTET_STREAM} only.", remedy=f"Send 'Accept: {OCTET_STREAM}'."
        )

    async def _find(self, request: Request) -> list[StoredInstance]:
        path = request.path_params
        return await find_instances(
            self._services.database,
            request.state.subject.organization_id,
            path["study"],
            path.get("series", ""),
            path.get("instance", ""),
        )

    async def _objects(self, request: Request, instances: list[StoredInstance]) -> AsyncIterator[bytes]:
        """The JSON array, object by object; a few headers are read ahead."""
        store = self._services.store
        waiting = iter(instances)
        reading = deque(
            (instance, asyncio.ensure_future(read_elements(store, instance)))
            for instance in islice(waiting, _AHEAD)
        )
        separator = b"["
        try:
            while reading:
                instance, task = reading.popleft()
                elements = await task
                if (following := next(waiting, None)) is not None:
                    reading.append((following, asyncio.ensure_future(read_elements(store, following))))
                uri = self._bulk_uri(request, instance)
                yield separator + dataset_json(
                    elements, bulk_uri=uri, inline_limit_bytes=BULK_THRESHOLD_BYTES
                )
                separator = b","
            yield b"]"
        finally:
            for _, task in reading:
                task.cancel()
            await asyncio.gather(*(task for _, task in reading), return_exceptions=True)

    def _bulk_uri(
        self, request: Request, instance: StoredInstance
    ) -> Callable[[BulkPath, BulkRange | bytes], str]:
        return self._addresses.bulk_data(
            self._addresses.instance(
                request, instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid
            )
        )

    async def _octets(self, instance: StoredInstance, value: BulkValue) -> AsyncIterator[bytes]:
        """Little endian, as application/octet-stream has it (PS3.18 §8.7.3.3)."""
        if value.content is not None:
            yield value.content
            return
        async for piece in stream_bytes(self._services.store, instance, value.offset, value.length):
            yield swap_bytes(piece, value.vr) if value.big_endian else piece

    async def _octets_as_part(self, instance: StoredInstance, value: BulkValue) -> Response:
        writer = MultipartWriter(iter((instance.object_key, str(value.offset))), OCTET_STREAM)
        part = Part(OCTET_STREAM, value.length)

        async def pieces() -> AsyncIterator[bytes]:
            yield writer.before(part)
            async for piece in self._octets(instance, value):
                yield piece
            yield writer.after + writer.end

        headers = {
            "content-length": str(writer.length_of(iter((part,)))),
            "content-type": writer.content_type,
        }
        return StreamingResponse(await primed(pieces()), headers=headers)

    async def _frames(self, instance: StoredInstance, ranges: tuple[MediaType, ...]) -> Response:
        """Compressed Pixel Data: a frame a part, as it is (PS3.18 §8.7.3.3.2)."""
        media_type = _FRAME_TYPES.get(instance.transfer_syntax_uid, OCTET_STREAM)
        if not any(r.covers(MULTIPART_RELATED) or _is_multipart_of(r, media_type) for r in ranges):
            raise NotAcceptable(
                "The pixels are compressed and given as they are stored, a frame a part.",
                remedy=f"Send 'Accept: multipart/related; type=\"{media_type}\"'.",
            )
        starts = [int(offset) for offset in instance.frame_offsets.split()]
        if not starts or instance.pixel_length is None:
            raise NotFound("Nothing tells the frames of this instance apart.", code="no-such-bulk-data")
        writer = MultipartWriter(iter((instance.object_key, "frames")), media_type)
        content_type = f"{media_type}; transfer-syntax={instance.transfer_syntax_uid}"

        async def pieces() -> AsyncIterator[bytes]:
            for start, end in pairwise([*starts, instance.pixel_length or 0]):
                frame = await read_frame(self._services.store, instance, start, end)
                yield writer.before(Part(content_type, len(frame))) + frame + writer.after
            yield writer.end

        return StreamingResponse(await primed(pieces()), headers={"content-type": writer.content_type})


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


def _is_multipart_of(media_range: MediaType, media_type: str) -> bool:
    return media_range.type == MULTIPART_RELATED and media_range.parameters.get("type", media_type) in {
        media_type,
        "*/*",
    }
