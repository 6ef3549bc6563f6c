"""STOW-RS (PS3.18 §10.5): objects arrive as the parts of one request and are filed together.

Each part is hashed, checked and put into the store while the next ones still arrive; one commit makes all of
them visible. A request that breaks off, or breaks a rule of multipart, leaves nothing in the index.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from isocenter.doors.dicomweb.addresses import Addresses
from isocenter.doors.dicomweb.answers import accepted, json_media_type
from isocenter.doors.dicomweb.media_types import (
    DICOM,
    MULTIPART_RELATED,
    OCTET_STREAM,
    MediaType,
    parse_media_type,
)
from isocenter.doors.dicomweb.multipart import MalformedMultipart, MultipartReader, PartBegins, PartData
from isocenter.doors.dicomweb.store_response import StoreResponse
from isocenter.doors.dicomweb.witness import tell
from isocenter.doors.http.refusals import UnsupportedMediaType
from isocenter.doors.http.services import HttpServices
from isocenter.features.archive.committer import BatchRefused
from isocenter.features.archive.entry import Received, Source
from isocenter.features.archive.ingest import Ingest, Reception
from isocenter.features.archive.policies import BatchPolicy
from isocenter.kit.errors import InvalidInput

_FINISHING_MAX = 4  # objects on their way to the store while the next one arrives
_PART_TYPES = frozenset({DICOM, OCTET_STREAM})  # the second one is what careless clients call it


class _Body(Protocol):
    def __aiter__(self) -> AsyncIterator[bytes]: ...


class StoreTransaction:
    """``POST /studies`` and ``POST /studies/{study}``."""

    def __init__(self, services: HttpServices, addresses: Addresses) -> None:
        self._services = services
        self._addresses = addresses

    async def store(self, request: Request) -> Response:
        media_type = json_media_type(accepted(request))  # before the upload rather than after it
        content_type = _content_type(request)
        client = request.client.host if request.client else ""
        organization_id = request.state.subject.organization_id
        batch = _Batch(self._services.ingest, organization_id, Source("stow", client))
        try:
            if content_type.type == DICOM:
                await batch.take_single(request.stream())
            else:
                reader = MultipartReader(
                    content_type.parameters.get("boundary", ""),
                    parts_max=self._services.limits.parts_max,
                )
                await batch.take_parts(request.stream(), reader)
            received = await batch.finish()
        except BaseException:
            await batch.abort()
            raise
        response = StoreResponse(self._addresses, request)
        await self._file(received, request, response)
        response.log_refusals(client)
        tell(request, response.told())
        return Response(response.json(), response.status, media_type=media_type)

    async def _file(self, received: list[Received | None], request: Request, response: StoreResponse) -> None:
        """Commit what may be committed and note what became of each part."""
        study = request.path_params.get("study", "")
        organization_id = request.state.subject.organization_id
        ingest = self._services.ingest
        files = [one for one in received if one is not None and _belongs(one, study)]
        refused = len(received) - len(files)
        policies = await ingest.policies.of(organization_id)
        for one in received:
            if one is None:
                response.empty_part()
            elif not _belongs(one, study):
                response.wrong_study(one)
        if refused and policies.batch is BatchPolicy.ALL_OR_NOTHING:
            for one in files:
                response.batch_refused(one)
            return
        if not files:
            return
        try:
            outcomes = await ingest.commit(organization_id, files)
        except BatchRefused as error:
            for outcome in error.outcomes:
                response.outcome(outcome, batch_refused=True)
        else:
            for outcome in outcomes:
                response.outcome(outcome)


class _Batch:
    """The objects of one request on their way in."""

    def __init__(self, ingest: Ingest, organization_id: int, source: Source) -> None:
        self._ingest = ingest
        self._organization_id = organization_id
        self._source = source
        self._reception: Reception | None = None
        self._finishing: list[asyncio.Task[Received] | None] = []

    async def take_single(self, body: _Body) -> None:
        """The body is one object."""
        reception = self._begin()
        async for chunk in body:
            if chunk and (wait := reception.write(chunk)):
                await wait
        await self._end_part()

    async def take_parts(self, body: _Body, reader: MultipartReader) -> None:
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

    async def finish(self) -> list[Received | None]:
        """Every object in the store; None for a part that was empty."""
        return [await task if task else None for task in self._finishing]

    async def abort(self) -> None:
        """Leave no trace but what the sweep finds: objects that no row refers to."""
        if self._reception is not None:
            await self._reception.abort()
        tasks = [task for task in self._finishing if task]
        await asyncio.gather(*tasks, return_exceptions=True)

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


def _content_type(request: Request) -> MediaType:
    text = request.headers.get("content-type", "")
    try:
        content_type = parse_media_type(text)
    except InvalidInput:
        content_type = MediaType("")
    if content_type.type == DICOM:
        return content_type
    if content_type.type == MULTIPART_RELATED and content_type.parameters.get("type", DICOM).lower() == DICOM:
        return content_type
    raise UnsupportedMediaType(
        "The body's Content-Type is not one that can be stored here.",
        remedy='Send multipart/related; type="application/dicom"; boundary=…, or application/dicom.',
    )


def _check_part_type(text: str) -> None:
    if parse_media_type(text).type not in _PART_TYPES:
        raise UnsupportedMediaType(
            "A part of the body is not of type application/dicom.",
            remedy="Send DICOM files; metadata with separate bulk data is not taken here.",
        )


def _belongs(received: Received, study: str) -> bool:
    """PS3.18 §10.5.1.1.2: under a study's address only its own instances are stored."""
    return not study or not received.study_instance_uid or received.study_instance_uid == study
