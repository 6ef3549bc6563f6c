"""All bulk data, or all pixel data, of a study, a series or an instance in one answer (PS3.18 §10.4.1.1.5):
a part for each value or frame, which says by Content-Location which it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from hashlib import blake2b

from starlette.requests import Request
from starlette.responses import Response

from isocenter.dicom.element import BulkRange, Element
from isocenter.dicom.json_dataset import BulkPath
from isocenter.dicom.tags import PIXEL_DATA
from isocenter.doors.dicomweb.addresses import Addresses
from isocenter.doors.dicomweb.answers import accepted
from isocenter.doors.dicomweb.bulk_data import BulkDataTransaction
from isocenter.doors.dicomweb.conditional import answer, weak
from isocenter.doors.dicomweb.finding import InstanceFinder, addressed
from isocenter.doors.dicomweb.frames import FramesTransaction
from isocenter.doors.dicomweb.media_types import MULTIPART_RELATED, OCTET_STREAM, parse_accept
from isocenter.doors.dicomweb.multipart import MultipartWriter, Part
from isocenter.doors.dicomweb.representations import ANY_SYNTAX, Wish, frame_wishes
from isocenter.doors.dicomweb.witness import tell
from isocenter.doors.http.refusals import NotAcceptable
from isocenter.doors.http.services import HttpServices
from isocenter.features.archive.object_elements import BULK_THRESHOLD_BYTES, find_bulk_value, read_elements
from isocenter.features.archive.retrieve import StoredInstance
from isocenter.imaging.errors import PixelDataBroken, PixelDataUnsupported
from isocenter.platform.workers.errors import WorkFailed

_AS_STORED = Wish(MULTIPART_RELATED, OCTET_STREAM, ANY_SYNTAX, 1.0)


class BulkCollections:
    """``GET …/bulkdata`` and ``GET …/pixeldata`` at three levels."""

    def __init__(
        self,
        services: HttpServices,
        addresses: Addresses,
        finder: InstanceFinder,
        frames: FramesTransaction,
        bulk_data: BulkDataTransaction,
    ) -> None:
        self._services = services
        self._addresses = addresses
        self._finder = finder
        self._frames = frames
        self._bulk_data = bulk_data

    async def bulk_data(self, request: Request) -> Response:
        """Every value that metadata leaves out; compressed pixels a frame a part."""
        return await self._answer(request, "bulkdata", pixels_only=False)

    async def pixel_data(self, request: Request) -> Response:
        return await self._answer(request, "pixeldata", pixels_only=True)

    async def _answer(self, request: Request, part: str, *, pixels_only: bool) -> Response:
        wishes = [
            wish
            for wish in frame_wishes(parse_accept(accepted(request)))
            if wish.container == MULTIPART_RELATED
        ]
        if not wishes or not (pixels_only or any(wish.media_type == OCTET_STREAM for wish in wishes)):
            raise NotAcceptable(
                f"This is available in parts only, of the type {OCTET_STREAM}.",
                remedy=f"Send 'Accept: multipart/related; type=\"{OCTET_STREAM}\"'.",
            )
        instances = await addressed(self._finder, request)
        tell(request, {"part": part, "objects": len(instances)})
        digest = blake2b(f"{part} {wishes} {self._addresses.base(request)}".encode(), digest_size=16)
        for instance in instances:
            digest.update(instance.object_key.encode())
        writer = MultipartWriter(iter((digest.hexdigest(),)), wishes[0].media_type)
        return await answer(
            request,
            weak(writer.tag),
            {"content-type": writer.content_type},
            lambda: self._parts(request, instances, wishes, writer, pixels_only=pixels_only),
        )

    async def _parts(
        self,
        request: Request,
        instances: Sequence[StoredInstance],
        wishes: Sequence[Wish],
        writer: MultipartWriter,
        *,
        pixels_only: bool,
    ) -> AsyncIterator[bytes]:
        for instance in instances:
            address = self._addresses.instance(
                request, instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid
            )
            elements = await read_elements(self._services.store, instance)
            pixels = next((one.value for one in elements if one.tag == PIXEL_DATA), None)
            compressed = isinstance(pixels, BulkRange) and pixels.encapsulated
            if not pixels_only:
                async for piece in self._values(instance, bulk_paths(elements), address, writer):
                    yield piece
            if compressed or (pixels is not None and pixels_only):
                lenient = len(instances) > 1
                async for piece in self._pixels(instance, address, wishes, writer, lenient=lenient):
                    yield piece
        yield writer.end

    async def _values(
        self, instance: StoredInstance, paths: Iterable[BulkPath], address: str, writer: MultipartWriter
    ) -> AsyncIterator[bytes]:
        uri = self._addresses.bulk_data(address)
        store = self._services.store
        for path in paths:
            value = await find_bulk_value(store, instance, path)
            word_bytes = await self._bulk_data.word_bytes(instance, value, path)
            yield writer.before(Part(OCTET_STREAM, value.length, uri(path, b"")))
            async for piece in self._bulk_data.octets(instance, value, word_bytes, 0, value.length):
                yield piece
            yield writer.after

    async def _pixels(
        self,
        instance: StoredInstance,
        address: str,
        wishes: Sequence[Wish],
        writer: MultipartWriter,
        *,
        lenient: bool,
    ) -> AsyncIterator[bytes]:
        """A part a frame. One of several objects whose pixels cannot be given so comes as it is stored; it is
        left out where nothing tells its frames apart."""
        try:
            _, source = await self._frames.source(wishes, instance, None)
        except (NotAcceptable, PixelDataBroken, PixelDataUnsupported):
            if not lenient:
                raise
            return
        given = 0
        try:
            async for frame in self._frames.contents(source):
                given += 1
                part = Part(source.content_type, len(frame), f"{address}/frames/{given}")
                yield writer.before(part) + frame + writer.after
        except (PixelDataBroken, PixelDataUnsupported, WorkFailed):
            if not lenient:
                raise
            rest = range(given + 1, source.layout.pixels.number_of_frames + 1)
            _, source = await self._frames.source([_AS_STORED], instance, rest)
            async for frame in self._frames.contents(source):
                given += 1
                part = Part(source.content_type, len(frame), f"{address}/frames/{given}")
                yield writer.before(part) + frame + writer.after


def bulk_paths(elements: Sequence[Element], before: BulkPath = ()) -> Iterator[BulkPath]:
    """Where the values are that metadata leaves out, but for compressed pixels."""
    for element in elements:
        path = (*before, element.tag)
        if isinstance(element.value, list):
            for number, item in enumerate(element.value):
                yield from bulk_paths(item, (*path, number))
        elif isinstance(element.value, BulkRange):
            if path != (PIXEL_DATA,) or not element.value.encapsulated:
                yield path
        elif len(element.value) > BULK_THRESHOLD_BYTES:
            yield path
