"""WADO-URI (PS3.18 §9): one object, named and asked for in a query string alone."""

from __future__ import annotations

from dataclasses import replace

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from isocenter.doors.dicomweb.finding import InstanceFinder, addressed
from isocenter.doors.dicomweb.media_types import DICOM, MediaType, parse_accept
from isocenter.doors.dicomweb.rendered import RenderedTransaction
from isocenter.doors.dicomweb.rendered_media_types import Kind, kind_of
from isocenter.doors.dicomweb.rendering_parameters import (
    SIDE_MAX,
    annotations_of,
    decimals,
    usable_window,
    whole_number,
)
from isocenter.doors.dicomweb.retrieve import RetrieveTransaction
from isocenter.doors.dicomweb.witness import tell
from isocenter.doors.http.refusals import InvalidParameter
from isocenter.features.archive.retrieve import StoredInstance
from isocenter.imaging.rendering.request import HTML, JPEG, PresentationState, Rendering, Viewport, Window
from isocenter.kit.errors import Unsupported

_NAMES = {"study": "studyUID", "series": "seriesUID", "instance": "objectUID"}
_OF_PICTURES_ONLY = (
    "annotation",
    "rows",
    "columns",
    "region",
    "windowCenter",
    "windowWidth",
    "frameNumber",
    "imageQuality",
    "presentationUID",
    "presentationSeriesUID",
)
_OF_PRESENTATIONS = ("region", "windowCenter", "windowWidth")
_OF_OBJECTS_ONLY = ("anonymize", "transferSyntax")
_FRAME_MAX = 1 << 24


class ParameterUnsupported(Unsupported):
    """PS3.18 lets a server leave these out; one that silently did would show something else than was
    asked."""

    default_code = "wado-uri-parameter-unsupported"

    def __init__(self, name: str, what: str, remedy: str) -> None:
        super().__init__(what, remedy=remedy)
        self.errors = [{"parameter": name, "detail": what}]


class WadoUriTransaction:
    """``GET /wado?requestType=WADO&studyUID=…&seriesUID=…&objectUID=…``"""

    def __init__(
        self, finder: InstanceFinder, retrieve: RetrieveTransaction, rendered: RenderedTransaction
    ) -> None:
        self._finder = finder
        self._retrieve = retrieve
        self._rendered = rendered

    async def retrieve(self, request: Request) -> Response:
        query = request.query_params
        if query.get("requestType") != "WADO":
            raise InvalidParameter("requestType", "requestType is WADO.")
        # In the path of the request, as every other door has it: the audit trail reads it there.
        request.scope["path_params"] = {level: _uid(query, name) for level, name in _NAMES.items()}
        (instance,) = await addressed(self._finder, request)
        ranges = _accepted(request, instance)
        if any(one.type == DICOM for one in ranges[:1]):
            return await self._object(request, query)
        tell(request, {"part": "rendered", "door": "wado-uri"})
        return await self._picture(request, query, instance, ranges)

    async def _object(self, request: Request, query: QueryParams) -> Response:
        for name in _OF_PICTURES_ONLY:
            if name in query:
                raise InvalidParameter(name, f"{name} is for pictures, not for contentType={DICOM}.")
        if query.get("anonymize") is not None:
            raise ParameterUnsupported(
                "anonymize",
                "Objects are not de-identified on their way out of this door.",
                "Leave anonymize out, and have the object de-identified by who may hand it on.",
            )
        syntax = _uid(query, "transferSyntax") if "transferSyntax" in query else "*"
        # From here on it is WADO-RS's Instance resource, with the header that says the same.
        scope = dict(request.scope)
        kept = [(name, value) for name, value in scope["headers"] if name != b"accept"]
        scope["headers"] = [*kept, (b"accept", f"{DICOM}; transfer-syntax={syntax}".encode())]
        scope["query_string"] = b""
        return await self._retrieve.objects(Request(scope, request.receive))

    async def _picture(
        self,
        request: Request,
        query: QueryParams,
        instance: StoredInstance,
        ranges: tuple[MediaType, ...],
    ) -> Response:
        for name in _OF_OBJECTS_ONLY:
            if name in query:
                raise InvalidParameter(name, f"{name} is for contentType={DICOM}.")
        rendering = _rendering_of(query)
        if "presentationUID" in query or "presentationSeriesUID" in query:
            state = await self._presentation(request, query)
            rendering = replace(rendering, presentation=state)
        frame = whole_number(query, "frameNumber", 1, _FRAME_MAX)
        if frame is not None:
            return await self._rendered.frames(request, instance, [frame], ranges, rendering)
        return await self._rendered.instance(request, instance, ranges, rendering)

    async def _presentation(self, request: Request, query: QueryParams) -> PresentationState:
        """§9.1.2.2.12: it says itself what part of the image is seen, and in which window."""
        for name in _OF_PRESENTATIONS:
            if name in query:
                raise InvalidParameter(name, f"The presentation state says what {name} would: leave one out.")
        series, uid = _uid(query, "presentationSeriesUID"), _uid(query, "presentationUID")
        (state,) = await self._finder.find(request, request.path_params["study"], series, uid)
        if kind_of(state) is not Kind.PRESENTATION:
            raise ParameterUnsupported(
                "presentationUID",
                "The object of that UID is no presentation state that this server can apply.",
                "Name a Grayscale or Color Softcopy Presentation State.",
            )
        return await self._rendered.renderer.presentation_state(state)


def _accepted(request: Request, instance: StoredInstance) -> tuple[MediaType, ...]:
    """``contentType`` outranks the header (§9.1.2.2.1); where neither names a type, the usual one for what
    the object is (§9.1.2.2.1.2)."""
    content_type = request.query_params.get("contentType")
    if content_type is not None:
        return parse_accept(content_type)
    ranges = parse_accept(request.headers.get("accept", "*/*"))
    if all(one.type == "*/*" for one in ranges):
        kind = kind_of(instance)
        usual = {Kind.IMAGE: JPEG, Kind.PRESENTATION: JPEG, Kind.REPORT: HTML}.get(kind, DICOM)
        return (MediaType(usual),)
    return ranges


def _rendering_of(query: QueryParams) -> Rendering:
    return Rendering(
        viewport=_viewport_of(query),
        window=_window_of(query),
        quality=whole_number(query, "imageQuality", 1, 100),
        annotations=annotations_of(query),
    )


def _viewport_of(query: QueryParams) -> Viewport | None:
    """``rows`` and ``columns`` bound the picture, which keeps its proportions; ``region`` is in parts of the
    image, 0 to 1 (§9.1.2.2.9)."""
    rows, columns = (whole_number(query, name, 1, SIDE_MAX) for name in ("rows", "columns"))
    region = decimals(query, "region")
    if region is None:
        return Viewport(columns, rows) if rows or columns else None
    if len(region) != 4 or not (0 <= region[0] < region[2] <= 1 and 0 <= region[1] < region[3] <= 1):
        raise InvalidParameter(
            "region", "region is left,top,right,bottom in parts of the image, from 0.0 to 1.0."
        )
    left, top, right, bottom = region
    return Viewport(columns, rows, left, top, right - left, bottom - top, relative=True)


def _window_of(query: QueryParams) -> Window | None:
    center, width = (decimals(query, name) for name in ("windowCenter", "windowWidth"))
    if center is None and width is None:
        return None
    if center is None or width is None or len(center) != 1 or len(width) != 1:
        raise InvalidParameter("windowCenter", "windowCenter and windowWidth are one number each; give both.")
    return usable_window(Window(center[0], width[0]), "windowWidth")


def _uid(query: QueryParams, name: str) -> str:
    value = query.get(name, "")
    if not value or len(value) > 64 or not value.replace(".", "").isdecimal() or not value.isascii():
        raise InvalidParameter(name, f"{name} is a UID, and is needed.", code="invalid-uid")
    return value
