"""STOW-RS (PS3.18 §10.5): objects arrive as the parts of one request and are filed together.

Each part is hashed, checked and put into the store while the next ones still arrive; one commit makes all of
them visible. A request that breaks off, or breaks a rule of multipart, leaves nothing in the index.
"""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from isocenter.dicom.native_model import DICOM_XML
from isocenter.doors.dicomweb.addresses import Addresses
from isocenter.doors.dicomweb.answers import accepted
from isocenter.doors.dicomweb.content_coding import decoded
from isocenter.doors.dicomweb.media_types import (
    DICOM,
    DICOM_JSON,
    JSON,
    MULTIPART_RELATED,
    MediaType,
    parse_accept,
    parse_media_type,
)
from isocenter.doors.dicomweb.message_parts import METADATA_TYPES
from isocenter.doors.dicomweb.store_batch import Arrived, Batch
from isocenter.doors.dicomweb.store_response import StoreResponse
from isocenter.doors.dicomweb.witness import tell
from isocenter.doors.http.refusals import NotAcceptable, UnsupportedMediaType
from isocenter.doors.http.services import HttpServices
from isocenter.features.archive.committer import BatchRefused
from isocenter.features.archive.entry import Received, Source
from isocenter.features.archive.policies import BatchPolicy
from isocenter.kit.errors import InvalidInput
from isocenter.kit.multipart import MultipartReader

_COMPOSING_MAX = 2


class StoreTransaction:
    """``POST /studies`` and ``POST /studies/{study}``; ``PUT`` and ``POST`` of an instance at its address."""

    def __init__(self, services: HttpServices, addresses: Addresses) -> None:
        self._services = services
        self._addresses = addresses
        self._composing = asyncio.Semaphore(_COMPOSING_MAX)

    async def store(self, request: Request) -> Response:
        media_type = _answer_type(accepted(request))  # before the upload rather than after it
        content_type = _content_type(request)
        client = request.client.host if request.client else ""
        organization_id = request.state.subject.organization_id
        batch = Batch(self._services.ingest, organization_id, Source("stow", client), self._composing)
        try:
            await self._take(request, content_type, batch)
            arrived = await batch.finish()
        except BaseException:
            await batch.abort()
            raise
        response = StoreResponse(self._addresses, request)
        await self._file(arrived, request, response)
        response.log_refusals(client)
        tell(request, response.told())
        body = response.xml() if media_type == DICOM_XML else response.json()
        return Response(body, response.status, media_type=media_type)

    async def _take(self, request: Request, content_type: MediaType, batch: Batch) -> None:
        limits = self._services.limits
        body = decoded(request.stream(), request.headers.get("content-encoding", ""), limits)
        if content_type.type == DICOM:
            await batch.take_single(body)
            return
        reader = MultipartReader(content_type.parameters.get("boundary", ""), parts_max=limits.parts_max)
        kind = content_type.parameters.get("type", DICOM).lower()
        if kind == DICOM:
            await batch.take_parts(body, reader)
        else:
            await batch.take_message(body, reader, kind, self._addresses.base(request) + "/")

    async def _file(self, arrived: list[Arrived], request: Request, response: StoreResponse) -> None:
        """Commit what may be committed and note what became of each part."""
        organization_id = request.state.subject.organization_id
        ingest = self._services.ingest
        place = request.path_params
        files = [one for one in arrived if one.received is not None and _belongs(one.received, place)]
        refused = len(arrived) - len(files)
        policies = await ingest.policies.of(organization_id)
        for one in arrived:
            if one.received is None:
                response.empty_part()
            elif not _belongs(one.received, place):
                response.wrong_place(one.received)
        received = [one.received for one in files if one.received is not None]
        if refused and policies.batch is BatchPolicy.ALL_OR_NOTHING:
            for file in received:
                response.batch_refused(file)
            return
        if not received:
            return
        try:
            outcomes = await ingest.commit(organization_id, received)
        except BatchRefused as error:
            for outcome in error.outcomes:
                response.outcome(outcome, batch_refused=True)
        else:
            for outcome, one in zip(outcomes, files, strict=True):
                response.outcome(outcome, discarded=one.discarded)


def _content_type(request: Request) -> MediaType:
    text = request.headers.get("content-type", "")
    try:
        content_type = parse_media_type(text)
    except InvalidInput:
        content_type = MediaType("")
    if content_type.type == DICOM:
        return content_type
    if content_type.type == MULTIPART_RELATED:
        kind = content_type.parameters.get("type", DICOM).lower()
        if kind == DICOM or kind in METADATA_TYPES:
            return content_type
    raise UnsupportedMediaType(
        "The body's Content-Type is not one that can be stored here.",
        remedy='Send multipart/related; type="application/dicom"; boundary=…, or application/dicom; or '
        'metadata and bulk data, with type="application/dicom+json" or "application/dicom+xml".',
    )


def _answer_type(accept: str) -> str:
    """Raises NotAcceptable."""
    for media_range in parse_accept(accept):
        if media_range.covers(DICOM_JSON):
            return DICOM_JSON
        if media_range.type in {DICOM_XML, JSON}:
            return media_range.type
    raise NotAcceptable(
        f"The answer is available as {DICOM_JSON} and {DICOM_XML}.",
        remedy=f"Send 'Accept: {DICOM_JSON}' or 'Accept: {DICOM_XML}'.",
    )


def _belongs(received: Received, place: dict[str, str]) -> bool:
    """PS3.18 §10.5.1: under the address of a study, or of an instance, only what is of it is stored. What
    cannot be read belongs nowhere, and waits in quarantine wherever it was sent."""
    pairs = (
        (place.get("study"), received.study_instance_uid),
        (place.get("series"), received.series_instance_uid),
        (place.get("instance"), received.sop_instance_uid),
    )
    return all(not wanted or not told or wanted == told for wanted, told in pairs)
