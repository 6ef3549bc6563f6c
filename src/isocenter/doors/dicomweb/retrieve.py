"""WADO-RS (PS3.18 §10.4): objects as they were stored, streamed, a study at a time or one alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from isocenter.doors.dicomweb.answers import accepted, primed
from isocenter.doors.dicomweb.media_types import DICOM, MULTIPART_RELATED, MediaType, parse_accept
from isocenter.doors.dicomweb.multipart import MultipartWriter, Part
from isocenter.doors.dicomweb.witness import tell
from isocenter.doors.http.refusals import NotAcceptable
from isocenter.doors.http.services import HttpServices
from isocenter.features.archive.retrieve import StoredInstance, find_instances, stream_bytes

_ANY_SYNTAX = "*"


class RetrieveTransaction:
    """``GET`` of a study, a series, an instance."""

    def __init__(self, services: HttpServices) -> None:
        self._services = services

    async def objects(self, request: Request) -> Response:
        path = request.path_params
        ranges = parse_accept(accepted(request))
        if not any(_is_ours(media_range) for media_range in ranges):
            raise _not_acceptable()
        instances = await find_instances(
            self._services.database,
            request.state.subject.organization_id,
            path["study"],
            path.get("series", ""),
            path.get("instance", ""),
        )
        tell(request, {"part": "objects", "objects": len(instances)})
        chosen = _choose(ranges, instances)
        if chosen.type == DICOM:
            return await self._alone(request, instances[0])
        return await self._multipart(request, instances)

    async def _alone(self, request: Request, instance: StoredInstance) -> Response:
        headers = {
            "content-length": str(instance.size),
            "etag": f'"{instance.object_key.rpartition("/")[2]}"',
            "content-type": _part_type(instance),
        }
        pieces = stream_bytes(self._services.store, instance)
        return await _answer(request, pieces, headers)

    async def _multipart(self, request: Request, instances: list[StoredInstance]) -> Response:
        writer = MultipartWriter((instance.object_key for instance in instances), DICOM)
        headers = {
            "content-length": str(writer.length_of(_part(instance) for instance in instances)),
            "content-type": writer.content_type,
            "etag": f'"{writer.tag}"',
        }
        return await _answer(request, self._parts(writer, instances), headers)

    async def _parts(self, writer: MultipartWriter, instances: list[StoredInstance]) -> AsyncIterator[bytes]:
        before = b""
        for instance in instances:
            before += writer.before(_part(instance))
            async for piece in stream_bytes(self._services.store, instance):
                if before:
                    yield before
                    before = b""
                yield piece
            before = writer.after
        yield before + writer.end


async def _answer(request: Request, pieces: AsyncIterator[bytes], headers: dict[str, str]) -> Response:
    if headers["etag"] in (tag.strip() for tag in request.headers.get("if-none-match", "").split(",")):
        return Response(None, 304, headers={"etag": headers["etag"]})
    if request.method == "HEAD":
        return Response(None, headers=headers)
    # The first piece is fetched before the status is sent: a lost object is an error, not an empty answer.
    return StreamingResponse(await primed(pieces), headers=headers)


def _part(instance: StoredInstance) -> Part:
    return Part(_part_type(instance), instance.size)


def _part_type(instance: StoredInstance) -> str:
    return f"{DICOM}; transfer-syntax={instance.transfer_syntax_uid}"


def _is_ours(media_range: MediaType) -> bool:
    if media_range.type == MULTIPART_RELATED:
        return media_range.parameters.get("type", DICOM).lower() in {DICOM, "*/*"}
    return media_range.covers(DICOM) or media_range.covers(MULTIPART_RELATED)


def _choose(ranges: tuple[MediaType, ...], instances: list[StoredInstance]) -> MediaType:
    """The best range that can be met. Objects are given as they are stored (no transcoding here), which is
    also what a range without transfer syntax gets, instead of PS3.18 §8.7.3's Explicit VR Little Endian."""
    syntaxes = {instance.transfer_syntax_uid for instance in instances}
    for media_range in filter(_is_ours, ranges):
        if media_range.type == DICOM and len(instances) > 1:
            continue
        wanted = media_range.parameters.get("transfer-syntax", _ANY_SYNTAX)
        if wanted == _ANY_SYNTAX or {wanted} == syntaxes:
            return media_range
    if len(instances) > 1 and all(media_range.type == DICOM for media_range in ranges):
        raise NotAcceptable(
            "Several instances do not fit into one application/dicom answer.",
            remedy="Send 'Accept: multipart/related; type=\"application/dicom\"'.",
        )
    raise NotAcceptable(
        "The objects are stored in another transfer syntax and are given as they are stored.",
        remedy=f"Ask for transfer-syntax=*, or one of: {', '.join(sorted(syntaxes))}.",
    )


def _not_acceptable() -> NotAcceptable:
    return NotAcceptable(
        "Objects are available as application/dicom only.",
        remedy="Send 'Accept: multipart/related; type=\"application/dicom\"; transfer-syntax=*'.",
    )
