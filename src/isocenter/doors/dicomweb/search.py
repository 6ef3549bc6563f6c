"""QIDO-RS (PS3.18 §10.6): searching for patients, studies, series and instances; counting them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from isocenter.dicom.dictionary import keyword_of
from isocenter.dicom.element import BulkRange
from isocenter.dicom.json_dataset import BulkPath
from isocenter.dicom.levels import Level
from isocenter.dicom.native_model import DICOM_XML, native_xml
from isocenter.doors.dicomweb.addresses import Addresses
from isocenter.doors.dicomweb.answers import accepted, json_response, json_stream
from isocenter.doors.dicomweb.media_types import DICOM_JSON, JSON, MULTIPART_RELATED, parse_accept
from isocenter.doors.dicomweb.multipart import MultipartWriter, Part
from isocenter.doors.dicomweb.search_defaults import RETRIEVE_AE_TITLE
from isocenter.doors.dicomweb.search_request import (
    SearchRequest,
    name_of_path,
    search_request,
    unsupported_warning,
)
from isocenter.doors.dicomweb.witness import tell
from isocenter.doors.http.refusals import NotAcceptable
from isocenter.doors.http.services import HttpServices
from isocenter.features.archive.query import Match, Page, Search
from isocenter.features.archive.query_objects import ObjectAttributes

_PIECE = 250  # matches joined at once: a millisecond of the event loop
_XML_PIECE = 20
_STUDY_UID = 0x0020000D
_SERIES_UID = 0x0020000E


class SearchTransaction:
    """The endpoints; one method for each kind of path in PS3.18 Table 10.6.1-2, and one for patients."""

    def __init__(self, services: HttpServices, addresses: Addresses) -> None:
        self._services = services
        self._addresses = addresses
        self._objects = ObjectAttributes(services.database, services.store)
        title = orjson.dumps(services.retrieve_ae_title).decode()
        self._ae_title_line = f'"{RETRIEVE_AE_TITLE:08X}":{{"vr":"AE","Value":[{title}]}}'

    async def patients(self, request: Request) -> Response:
        return await self._search(request, Level.PATIENT, ())

    async def studies(self, request: Request) -> Response:
        return await self._search(request, Level.STUDY, ())

    async def series(self, request: Request) -> Response:
        return await self._search(request, Level.SERIES, _levels_above(request, Level.SERIES))

    async def instances(self, request: Request) -> Response:
        return await self._search(request, Level.INSTANCE, _levels_above(request, Level.INSTANCE))

    async def patient_count(self, request: Request) -> Response:
        return await self._count(request, Level.PATIENT)

    async def study_count(self, request: Request) -> Response:
        return await self._count(request, Level.STUDY)

    async def series_count(self, request: Request) -> Response:
        return await self._count(request, Level.SERIES)

    async def instance_count(self, request: Request) -> Response:
        return await self._count(request, Level.INSTANCE)

    # --- one search --------------------------------------------------------------------------------------

    def _asked(self, request: Request, level: Level, above: Sequence[Level]) -> tuple[SearchRequest, Search]:
        path = request.path_params
        fixed = {
            tag: path[name] for tag, name in ((_STUDY_UID, "study"), (_SERIES_UID, "series")) if name in path
        }
        asked = search_request(
            request.query_params.multi_items(), level, fixed, above=above, limits=self._services.limits
        )
        search = Search(self._services.database, request.state.subject.organization_id, asked.query)
        if search.unsupported or search.unsupported_items:
            paths = [*((tag,) for tag in search.unsupported), *search.unsupported_items]
            asked.warnings.append(unsupported_warning(map(name_of_path, paths)))
        return asked, search

    async def _search(self, request: Request, level: Level, above: Sequence[Level]) -> Response:
        media_type = _media_type(accepted(request))
        asked, search = self._asked(request, level, above)
        page = await search.page(with_total=asked.count)
        tell(request, {"answers": len(page.matches)})
        if asked.from_objects and page.matches:
            await self._add_from_objects(request, asked, page)
        if RETRIEVE_AE_TITLE in asked.query.returned and self._services.retrieve_ae_title:
            for match in page.matches:
                match.lines.append(self._ae_title_line)
        if level is not Level.PATIENT:
            retrieve_line = self._addresses.retrieve_lines(request)
            for match in page.matches:
                match.lines.append(retrieve_line(match))
        headers = self._headers(request, asked, page)
        if media_type == MULTIPART_RELATED:
            return _xml_answer(page.matches, headers)
        return _json_answer(request, page.matches, media_type, headers)

    async def _count(self, request: Request, level: Level) -> Response:
        if not any(one.covers(JSON) or one.type == DICOM_JSON for one in parse_accept(accepted(request))):
            raise NotAcceptable(f"Counts are available as {JSON}.", remedy=f"Send 'Accept: {JSON}'.")
        asked, search = self._asked(request, level, ())
        count = await search.count()
        tell(request, {"count": count})
        headers = self._warning_header(request, asked.warnings)
        return Response(orjson.dumps({"count": count}), headers=headers, media_type=JSON)

    async def _add_from_objects(self, request: Request, asked: SearchRequest, page: Page) -> None:
        names = ", ".join(keyword_of(tag) or f"{tag:08X}" for tag in sorted(asked.from_objects))
        most = self._services.limits.search_objects_max
        if len(page.matches) > most:
            asked.warnings.append(
                f"Only the objects tell these, which are read for up to {most} matches: {names}."
                f" They were left out; ask with limit={most}."
            )
            return

        def bulk_uri(match: Match) -> Callable[[BulkPath, BulkRange | bytes], str]:
            base = self._addresses.instance(
                request, match.study_instance_uid, match.series_instance_uid, match.sop_instance_uid
            )
            return self._addresses.bulk_data(base)

        unread = await self._objects.add(
            request.state.subject.organization_id, page.matches, asked.from_objects, bulk_uri
        )
        if unread:
            asked.warnings.append(f"{unread} objects could not be read for: {names}.")

    def _headers(self, request: Request, asked: SearchRequest, page: Page) -> dict[str, str]:
        most = self._services.limits.search_results_max
        if page.more and asked.query.limit == most:
            # PS3.18 §8.3.4.4 has these words.
            asked.warnings.append(
                f"The number of results exceeded the maximum supported by the server ({most})."
                " Additional results can be requested."
            )
        headers = self._warning_header(request, asked.warnings)
        if page.total is not None:
            headers["x-total-count"] = str(page.total)
        return headers

    def _warning_header(self, request: Request, warnings: Sequence[str]) -> dict[str, str]:
        if not warnings:
            return {}
        service = self._addresses.base(request)
        return {"warning": ", ".join(f'299 {service} "{text}"' for text in warnings)}


def _levels_above(request: Request, level: Level) -> tuple[Level, ...]:
    """Those whose attributes the answers hold too, since the address does not name their entities."""
    path = request.path_params
    if level is Level.SERIES:
        return () if "study" in path else (Level.STUDY,)
    return () if "series" in path else (Level.SERIES,) if "study" in path else (Level.STUDY, Level.SERIES)


def _media_type(accept: str) -> str:
    """``application/dicom+json``, ``application/json`` for who knows only that, or ``multipart/related`` for
    XML (PS3.18 §10.6.1.3). Raises NotAcceptable."""
    if accept in {"*/*", DICOM_JSON}:
        return DICOM_JSON
    for media_range in parse_accept(accept):
        if media_range.covers(DICOM_JSON):
            return DICOM_JSON
        if media_range.type == JSON:
            return JSON
        if media_range.type == MULTIPART_RELATED and media_range.parameters.get("type", "*/*").lower() in {
            DICOM_XML,
            "*/*",
        }:
            return MULTIPART_RELATED
    raise NotAcceptable(
        f"Matches are available as {DICOM_JSON} and as multipart/related; type={DICOM_XML}.",
        remedy=f"Send 'Accept: {DICOM_JSON}'.",
    )


def _json_answer(
    request: Request, matches: Sequence[Match], media_type: str, headers: dict[str, str]
) -> Response:
    if len(matches) <= _PIECE:
        # An empty list with 200, as CP-2473 has it and PS3.18-2013 had it (204 in between).
        body = "[" + ",".join([match.json() for match in matches]) + "]"
        return json_response(request, body.encode(), media_type, headers)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(matches), _PIECE):
            text = ",".join([match.json() for match in matches[start : start + _PIECE]])
            yield (("," if start else "[") + text).encode()
            await asyncio.sleep(0)  # let others have their turn
        yield b"]"

    return json_stream(request, pieces(), media_type, headers)


def _xml_answer(matches: Sequence[Match], headers: dict[str, str]) -> Response:
    """A part for each match, in the Native DICOM Model (PS3.19 A.1)."""
    identity = (
        f"{match.study_instance_uid} {match.series_instance_uid} {match.sop_instance_uid} {len(match.lines)}"
        for match in matches
    )
    writer = MultipartWriter(identity, DICOM_XML)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(matches), _XML_PIECE):
            some = []
            for match in matches[start : start + _XML_PIECE]:
                document = native_xml(orjson.loads(match.json()))
                some += [writer.before(Part(DICOM_XML, len(document))), document, writer.after]
            yield b"".join(some)
            await asyncio.sleep(0)
        yield writer.end

    return StreamingResponse(pieces(), headers={**headers, "content-type": writer.content_type})
