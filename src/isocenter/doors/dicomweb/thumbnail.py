"""WADO-RS Thumbnail resources (PS3.18 §10.4.1.1.5): a small picture of whatever there is, an icon where it
has none."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from isocenter.doors.dicomweb.answers import accepted
from isocenter.doors.dicomweb.finding import InstanceFinder, addressed
from isocenter.doors.dicomweb.frames import frame_numbers
from isocenter.doors.dicomweb.media_types import parse_accept
from isocenter.doors.dicomweb.rendered_media_types import THUMBNAILS, Kind, choose, kind_of, not_acceptable
from isocenter.doors.dicomweb.rendering import Renderer
from isocenter.doors.dicomweb.rendering_parameters import viewport_of
from isocenter.doors.dicomweb.resource_headers import headers_of, known_before
from isocenter.doors.dicomweb.witness import tell
from isocenter.doors.http.refusals import InvalidParameter
from isocenter.doors.http.services import HttpServices
from isocenter.features.archive.image_reading import NoSuchFrame
from isocenter.features.archive.retrieve import StoredInstance
from isocenter.features.archive.thumbnails import RENDERING, Thumbnails
from isocenter.imaging.rendering import work
from isocenter.imaging.rendering.request import Rendering
from isocenter.kit.errors import Busy, IsocenterError, Unavailable
from isocenter.platform.telemetry import get_logger

log = get_logger(__name__)

_SIDE_MAX = 2048
_ICONS_KEPT = 64
_ICONS = {
    Kind.REPORT: "report",
    Kind.DOCUMENT: "document",
    Kind.WAVEFORM: "waveform",
    Kind.AUDIO: "audio",
    Kind.VIDEO: "video",
    Kind.OTHER: "other",
    Kind.PRESENTATION: "other",
    Kind.IMAGE: "broken",  # an image has an icon only where it cannot be shown
}


class ThumbnailTransaction:
    """``GET …/thumbnail`` of a study, a series, an instance, a frame."""

    def __init__(
        self, services: HttpServices, finder: InstanceFinder, renderer: Renderer, thumbnails: Thumbnails
    ) -> None:
        self._services = services
        self._finder = finder
        self._renderer = renderer
        self._thumbnails = thumbnails
        self._icons: OrderedDict[tuple[str, Rendering], bytes] = OrderedDict()

    async def thumbnail(self, request: Request) -> Response:
        rendering = _rendering_of(request)
        path = request.path_params
        tell(request, {"part": "thumbnail"})
        instance = await self._instance(request)
        frame = _frame_of(path["frames"]) if "frames" in path else None
        choice = choose(parse_accept(accepted(request)), THUMBNAILS, ())
        if choice is None:
            raise not_acceptable(kind_of(instance), THUMBNAILS)
        rendering = replace(rendering, media_type=choice.media_type)
        headers = headers_of(instance.object_key, f"thumbnail {frame}", rendering)
        if request.method == "HEAD" and frame is not None and frame > instance.number_of_frames:
            raise NoSuchFrame(instance.number_of_frames)
        if (known := known_before(request, headers, choice.media_type)) is not None:
            return known
        kept = "instance" not in path and rendering == RENDERING
        picture = await self._picture(request, instance, rendering, frame, kept=kept)
        return Response(picture, headers={**headers, "content-type": choice.media_type})

    async def _instance(self, request: Request) -> StoredInstance:
        path = request.path_params
        if "instance" in path:
            (found,) = await addressed(self._finder, request)
            return found
        return await self._finder.representative(request, path["study"], path.get("series", ""))

    async def _picture(
        self,
        request: Request,
        instance: StoredInstance,
        rendering: Rendering,
        frame: int | None,
        *,
        kept: bool,
    ) -> bytes:
        """The picture, or the icon of what has none: a wall of thumbnails has no holes."""
        kind = kind_of(instance)
        if kind is not Kind.IMAGE:
            return await self._icon(kind, rendering)
        try:
            if kept:
                return await self._thumbnails.of_series(request.state.subject.organization_id, instance)
            image = await self._renderer.open(instance)
            if frame is None:
                return await self._renderer.representative(image, rendering)
            return await self._renderer.frame(image, frame, rendering)
        except (Busy, Unavailable, NoSuchFrame):
            raise
        except IsocenterError as error:
            log.info("No thumbnail", instance=instance.sop_instance_uid, code=error.code)
            return await self._icon(kind, rendering)

    async def _icon(self, kind: Kind, rendering: Rendering) -> bytes:
        key = (_ICONS[kind], rendering)
        if key not in self._icons:
            viewport = rendering.viewport
            assert viewport is not None
            self._icons[key] = await self._services.workers.run(
                work.draw_icon, _ICONS[kind], rendering.media_type, viewport.width, viewport.height
            )
            if len(self._icons) > _ICONS_KEPT:
                self._icons.popitem(last=False)
        return self._icons[key]


def _rendering_of(request: Request) -> Rendering:
    viewport = viewport_of(request.query_params, region=False)
    if viewport is None:
        return RENDERING
    if max(viewport.width or 0, viewport.height or 0) > _SIDE_MAX:
        raise InvalidParameter("viewport", f"A thumbnail's sides are at most {_SIDE_MAX} pixels long.")
    return replace(RENDERING, viewport=viewport)


def _frame_of(text: str) -> int:
    """A thumbnail is one picture: of several frames, that of the first."""
    return frame_numbers(text)[0]
