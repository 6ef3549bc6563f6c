"""Metadata (PS3.18 §10.4.1.1.4): objects without their large values, which have addresses of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from hashlib import blake2b

import orjson
from starlette.requests import Request
from starlette.responses import Response

from isocenter.dicom.native_model import DICOM_XML, native_xml
from isocenter.doors.dicomweb.addresses import Addresses
from isocenter.doors.dicomweb.answers import accepted, json_media_type, json_stream, primed
from isocenter.doors.dicomweb.conditional import answer, not_modified, weak
from isocenter.doors.dicomweb.finding import InstanceFinder, addressed
from isocenter.doors.dicomweb.media_types import DICOM_JSON, JSON, MULTIPART_RELATED, parse_accept
from isocenter.doors.dicomweb.multipart import MultipartWriter, Part
from isocenter.doors.dicomweb.witness import tell
from isocenter.doors.http.refusals import NotAcceptable
from isocenter.doors.http.services import HttpServices
from isocenter.features.archive.retrieve import StoredInstance
from isocenter.features.archive.series_metadata import EDITION, data_sets, with_base


class MetadataTransaction:
    """``GET …/metadata`` at three levels."""

    def __init__(self, services: HttpServices, addresses: Addresses, finder: InstanceFinder) -> None:
        self._services = services
        self._finder = finder
        self._addresses = addresses
        self._metadata = services.series_metadata_or_new()

    async def metadata(self, request: Request) -> Response:
        media_type = _media_type(accepted(request))
        instances = await addressed(self._finder, request)
        tell(request, {"part": "metadata", "objects": len(instances)})
        etag = weak(_tag(instances, self._addresses.base(request)))
        if media_type == DICOM_XML:
            writer = MultipartWriter(iter((etag,)), DICOM_XML)
            headers = {"content-type": writer.content_type}
            return await answer(request, etag, headers, lambda: self._xml(request, instances, writer))
        if not_modified(request, etag):
            return Response(None, 304, headers={"etag": etag})
        pieces = await primed(self._json(request, instances))
        return json_stream(request, pieces, media_type, {"etag": etag})

    async def _json(self, request: Request, instances: Sequence[StoredInstance]) -> AsyncIterator[bytes]:
        """The JSON array: of one instance out of its object, else out of what is kept of each series."""
        base = self._addresses.base(request)
        if request.path_params.get("instance"):
            pieces = self._data_sets(base, instances)
        else:
            pieces = self._metadata.json(request.state.subject.organization_id, instances, base)
        opening = b"["
        async for piece in pieces:
            yield opening + piece
            opening = b""
        yield b"]"

    async def _xml(
        self, request: Request, instances: Sequence[StoredInstance], writer: MultipartWriter
    ) -> AsyncIterator[bytes]:
        """A part an object."""
        async for data_set in self._data_sets(self._addresses.base(request), instances):
            document = await asyncio.to_thread(lambda text: native_xml(orjson.loads(text)), data_set)
            yield writer.before(Part(DICOM_XML, len(document))) + document + writer.after
        yield writer.end

    async def _data_sets(self, base: str, instances: Sequence[StoredInstance]) -> AsyncIterator[bytes]:
        async for data_set in data_sets(self._services.store, instances):
            yield with_base(data_set, base)


def _media_type(accept: str) -> str:
    """Raises NotAcceptable."""
    for one in parse_accept(accept):
        if one.covers(DICOM_JSON) or one.type == JSON:
            break
        wanted = one.parameters.get("type", "").lower()
        if one.type == DICOM_XML or (one.type == MULTIPART_RELATED and wanted == DICOM_XML):
            return DICOM_XML
    else:
        raise NotAcceptable(
            f"Metadata is available as {DICOM_JSON}, and as {DICOM_XML} in parts.",
            remedy=f"Send 'Accept: {DICOM_JSON}', or 'Accept: multipart/related; type=\"{DICOM_XML}\"'.",
        )
    return json_media_type(accept)


def _tag(instances: Sequence[StoredInstance], base: str) -> str:
    """What the metadata is made of: objects, and the addresses of their values."""
    digest = blake2b(f"{EDITION} {base}\n".encode(), digest_size=16)
    for instance in instances:
        digest.update(f"{instance.object_key} {instance.series_instance_uid}\n".encode())
    return digest.hexdigest()
