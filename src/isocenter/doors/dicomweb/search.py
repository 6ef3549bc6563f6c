"""QIDO-RS (PS3.18 §10.6): searching for studies, series and instances."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from starlette.requests import Request
from starlette.responses import Response

from isocenter.dicom.dictionary import keyword_of
from isocenter.doors.dicomweb.addresses import Addresses
from isocenter.doors.dicomweb.answers import accepted, json_media_type, json_response, json_stream
from isocenter.doors.dicomweb.search_request import search_request, unsupported_warning
from isocenter.doors.dicomweb.witness import tell
from isocenter.doors.http.services import HttpServices
from isocenter.features.archive.attributes import Level
from isocenter.features.archive.query import Match, Page, Search

_PIECE = 250  # matches joined at once: a millisecond of the event loop
_STUDY_UID = 0x0020000D
_SERIES_UID = 0x0020000E


class SearchTransaction:
    """The endpoints; one method for each kind of path in PS3.18 Table 10.6.1-2."""

    def __init__(self, services: HttpServices, addresses: Addresses) -> None:
        self._services = services
        self._addresses = addresses

    async def studies(self, request: Request) -> Response:
        return await self._search(request, Level.STUDY, ())

    async def series(self, request: Request) -> Response:
        above = () if "study" in request.path_params else (Level.STUDY,)
        return await self._search(request, Level.SERIES, above)

    async def instances(self, request: Request) -> Response:
        path = request.path_params
        above = (
            () if "series" in path else (Level.SERIES,) if "study" in path else (Level.STUDY, Level.SERIES)
        )
        return await self._search(request, Level.INSTANCE, above)

    async def _search(self, request: Request, level: Level, above: Sequence[Level]) -> Response:
        media_type = json_media_type(accepted(request))
        path = request.path_params
        fixed = {
            tag: path[name] for tag, name in ((_STUDY_UID, "study"), (_SERIES_UID, "series")) if name in path
        }
        asked = search_request(
            request.query_params.multi_items(),
            level,
            fixed,
            above=above,
            limit_max=self._services.limits.search_results_max,
        )
        search = Search(self._services.database, request.state.subject.organization_id, asked.query)
        warnings = asked.warnings
        if search.unsupported:
            warnings.append(unsupported_warning(map(_name, search.unsupported)))
        page = await search.page()
        tell(request, {"answers": len(page.matches)})
        headers = self._headers(request, warnings, page, asked.query.limit)
        retrieve_line = self._addresses.retrieve_lines(request)
        if len(page.matches) <= _PIECE:
            # An empty list with 200, as CP-2473 has it and PS3.18-2013 had it (204 in between).
            body = "[" + ",".join([_object(match, retrieve_line(match)) for match in page.matches]) + "]"
            return json_response(request, body.encode(), media_type, headers)

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(page.matches), _PIECE):
                some = page.matches[start : start + _PIECE]
                text = ",".join([_object(match, retrieve_line(match)) for match in some])
                yield (("," if start else "[") + text).encode()
                await asyncio.sleep(0)  # let others have their turn
            yield b"]"

        return json_stream(request, pieces(), media_type, headers)

    def _headers(self, request: Request, warnings: list[str], page: Page, limit: int) -> dict[str, str]:
        if page.more and limit == self._services.limits.search_results_max:
            # PS3.18 §8.3.4.4 has these words.
            warnings.append(
                f"The number of results exceeded the maximum supported by the server ({limit})."
                " Additional results can be requested."
            )
        if not warnings:
            return {}
        service = self._addresses.base(request)
        return {"warning": ", ".join(f'299 {service} "{text}"' for text in warnings)}


def _object(match: Match, retrieve_line: str) -> str:
    match.lines.append(retrieve_line)
    return match.json()


def _name(tag: int) -> str:
    return keyword_of(tag) or f"{tag:08X}"
