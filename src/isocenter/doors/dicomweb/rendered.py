"""WADO-RS Rendered resources (PS3.18 §10.4.1.1.3): what an object looks like, in a type that any program
shows."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from isocenter.doors.dicomweb.answers import accepted, primed
from isocenter.doors.dicomweb.conditional import headers_alone, not_modified
from isocenter.doors.dicomweb.finding import InstanceFinder, addressed
from isocenter.doors.dicomweb.frames import frame_numbers
from isocenter.doors.dicomweb.media_types import MediaType, parse_accept
from isocenter.doors.dicomweb.multipart import MultipartWriter, Part
from isocenter.doors.dicomweb.rendered_media_types import (
    FILMS,
    PICTURES,
    Choice,
    Kind,
    choose,
    kind_of,
    not_acceptable,
    offers,
)
from isocenter.doors.dicomweb.rendering import Renderer
from isocenter.doors.dicomweb.rendering_parameters import rendering_of
from isocenter.doors.dicomweb.resource_headers import headers_of, known_before, unchanged
from isocenter.doors.dicomweb.witness import tell
from isocenter.doors.http.problems import MEDIA_TYPE as PROBLEM
from isocenter.doors.http.problems import problem
from isocenter.features.archive.image_reading import StoredImage
from isocenter.features.archive.retrieve import StoredInstance
from isocenter.imaging.rendering.request import GIF, HTML, MP4, PLAIN, Rendering
from isocenter.kit.errors import Busy, IsocenterError, Unavailable

_AHEAD = 3


class RenderedTransaction:
    """``GET …/rendered`` of a study, a series, an instance, of frames."""

    def __init__(self, finder: InstanceFinder, renderer: Renderer) -> None:
        self._finder = finder
        self.renderer = renderer

    async def rendered(self, request: Request) -> Response:
        rendering = rendering_of(request.query_params)
        ranges = parse_accept(accepted(request))
        path = request.path_params
        tell(request, {"part": "rendered", "annotation": ",".join(rendering.annotations)})
        if "instance" in path:
            (instance,) = await addressed(self._finder, request)
            if "frames" in path:
                return await self.frames(request, instance, frame_numbers(path["frames"]), ranges, rendering)
            return await self.instance(request, instance, ranges, rendering)
        return await self._several(request, ranges, rendering)

    async def instance(
        self,
        request: Request,
        instance: StoredInstance,
        ranges: tuple[MediaType, ...],
        rendering: Rendering,
    ) -> Response:
        """The best of what is accepted. Raises NotAcceptable."""
        kind = kind_of(instance)
        if kind is Kind.PRESENTATION:
            return await self._presented(request, instance, ranges, rendering)
        parts = PICTURES if kind is Kind.IMAGE else ()
        alone = offers(kind, instance.number_of_frames)
        choice = choose(ranges, alone, parts)
        if choice is None:
            raise not_acceptable(kind, alone, parts)
        if kind is Kind.DOCUMENT:
            return await self._document(request, instance, choice.media_type)
        rendering = replace(rendering, media_type=choice.media_type)
        headers = headers_of(instance.object_key, repr(choice), rendering)
        if (known := known_before(request, headers, _content_type(choice, headers))) is not None:
            return known
        if kind is Kind.REPORT:
            return _body(await self.renderer.report(instance, choice.media_type), choice, headers)
        image = await self.renderer.open(instance)
        if choice.multipart or (choice.media_type in FILMS and image.number_of_frames > 1):
            every = [*range(1, image.number_of_frames + 1)]
            return await self._series_of_frames(
                request, image, every, choice=choice, rendering=rendering, headers=headers
            )
        picture = await self.renderer.representative(image, rendering)
        return _body(picture, choice, headers)

    async def _presented(
        self,
        request: Request,
        state: StoredInstance,
        ranges: tuple[MediaType, ...],
        rendering: Rendering,
    ) -> Response:
        """A presentation state is shown on the first image that it is for."""
        series, image = await self.renderer.image_of(state)
        (instance,) = await self._finder.find(request, state.study_instance_uid, series, image)
        rendering = replace(rendering, presentation=await self.renderer.presentation_state(state))
        return await self.instance(request, instance, ranges, rendering)

    async def frames(
        self,
        request: Request,
        instance: StoredInstance,
        numbers: list[int],
        ranges: tuple[MediaType, ...],
        rendering: Rendering,
    ) -> Response:
        """One frame as a picture; several as an animation, a film, or a part each."""
        kind = kind_of(instance)
        if kind is not Kind.IMAGE:
            raise not_acceptable(kind, ())
        alone = PICTURES if len(numbers) == 1 else FILMS
        # Whoever leaves it open gets each frame for itself rather than a film.
        pictures_first = len(numbers) > 1 and any(one.type == "*/*" for one in ranges[:1])
        choice = choose(ranges, () if pictures_first else alone, PICTURES)
        if choice is None:
            raise not_acceptable(kind, alone, PICTURES)
        rendering = replace(rendering, media_type=choice.media_type)
        headers = headers_of(instance.object_key, f"{choice}{numbers}", rendering)
        image = await self.renderer.open(instance)
        for number in (min(numbers), max(numbers)):
            image.check_frame(number)
        if (known := known_before(request, headers, _content_type(choice, headers))) is not None:
            return known
        if choice.multipart or len(numbers) > 1:
            return await self._series_of_frames(
                request, image, numbers, choice=choice, rendering=rendering, headers=headers
            )
        return _body(await self.renderer.frame(image, numbers[0], rendering), choice, headers)

    async def _several(
        self, request: Request, ranges: tuple[MediaType, ...], rendering: Rendering
    ) -> Response:
        """Of a study or series: one that stands for it, or all, a part each frame."""
        path = request.path_params
        chosen = await self._finder.representative(request, path["study"], path.get("series", ""))
        kind = kind_of(chosen)
        choice = choose(ranges, offers(kind, chosen.number_of_frames), PICTURES)
        if choice is None or not choice.multipart:
            return await self.instance(request, chosen, ranges, rendering)
        instances = [one for one in await addressed(self._finder, request) if kind_of(one) is Kind.IMAGE]
        if not instances:
            raise not_acceptable(kind, offers(kind, chosen.number_of_frames))
        rendering = replace(rendering, media_type=choice.media_type)
        keys = "\n".join(one.object_key for one in instances)
        headers = headers_of(keys, repr(choice), rendering)
        if (known := known_before(request, headers, _content_type(choice, headers))) is not None:
            return known
        tell(request, {"objects": len(instances)})
        return await self._parts(request, self._pictures(request, instances, rendering), choice, headers)

    async def _pictures(
        self, request: Request, instances: list[StoredInstance], rendering: Rendering
    ) -> AsyncIterator[tuple[str, bytes]]:
        """Each frame of each instance. What cannot be rendered is a problem document in its place."""
        waiting = iter(instances)
        opening: deque[asyncio.Task[StoredImage]] = deque()
        try:
            while True:
                while len(opening) < _AHEAD and (instance := next(waiting, None)) is not None:
                    opening.append(asyncio.create_task(self.renderer.open(instance)))
                if not opening:
                    return
                try:
                    image = await opening.popleft()
                    every = range(1, image.number_of_frames + 1)
                    async for picture in self.renderer.frames(image, every, rendering):
                        yield rendering.media_type, picture
                except (Busy, Unavailable):
                    raise
                except IsocenterError as error:
                    yield PROBLEM, problem(error, request.state.trace_id)[2]
        finally:
            for task in opening:
                task.cancel()
            await asyncio.gather(*opening, return_exceptions=True)

    async def _series_of_frames(
        self,
        request: Request,
        image: StoredImage,
        numbers: list[int],
        *,
        choice: Choice,
        rendering: Rendering,
        headers: dict[str, str],
    ) -> Response:
        if choice.multipart:

            async def parts() -> AsyncIterator[tuple[str, bytes]]:
                async for picture in self.renderer.frames(image, numbers, rendering):
                    yield rendering.media_type, picture

            return await self._parts(request, parts(), choice, headers)
        if choice.media_type == MP4:
            return _body(await self.renderer.film(image, numbers, rendering), choice, headers)
        assert choice.media_type == GIF
        pieces = await primed(self.renderer.animation(image, numbers, rendering))
        return StreamingResponse(pieces, headers=headers, media_type=GIF)

    async def _parts(
        self,
        request: Request,
        parts: AsyncIterator[tuple[str, bytes]],
        choice: Choice,
        headers: dict[str, str],
    ) -> Response:
        writer = _writer(choice, headers)

        async def pieces() -> AsyncIterator[bytes]:
            async for media_type, content in parts:
                yield writer.before(Part(media_type, len(content))) + content + writer.after
            yield writer.end

        return StreamingResponse(
            await primed(pieces()), headers={**headers, "content-type": writer.content_type}
        )

    async def _document(self, request: Request, instance: StoredInstance, media_type: str) -> Response:
        headers = headers_of(instance.object_key, media_type, Rendering())
        if not_modified(request, headers["etag"]):
            return unchanged(headers)
        length, pieces = await self.renderer.document(instance)
        headers["content-length"] = str(length)
        if request.method == "HEAD":
            return headers_alone({**headers, "content-type": media_type})
        return StreamingResponse(await primed(pieces), headers=headers, media_type=media_type)


def _body(content: bytes, choice: Choice, headers: dict[str, str]) -> Response:
    return Response(content, headers={**headers, "content-type": _content_type(choice, headers)})


def _content_type(choice: Choice, headers: dict[str, str]) -> str:
    if choice.multipart:
        return _writer(choice, headers).content_type
    return choice.media_type + ("; charset=utf-8" if choice.media_type in {HTML, PLAIN} else "")


def _writer(choice: Choice, headers: dict[str, str]) -> MultipartWriter:
    """The boundary is of the tag: the same request, the same bytes."""
    return MultipartWriter(iter((headers["etag"],)), choice.media_type)
