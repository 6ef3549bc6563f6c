"""WADO-RS (PS3.18 §10.4): a study, a series, an instance, in the transfer syntax that the client accepts."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from isocenter.dicom.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.doors.dicomweb.answers import accepted, primed
from isocenter.doors.dicomweb.conditional import (
    answer,
    answer_in_parts,
    not_modified,
    strong,
    weak,
    without_body,
)
from isocenter.doors.dicomweb.finding import InstanceFinder, addressed
from isocenter.doors.dicomweb.media_types import DICOM, MULTIPART_RELATED, ZIP, parse_accept
from isocenter.doors.dicomweb.multipart import MultipartWriter, Part
from isocenter.doors.dicomweb.representations import ANY_SYNTAX, Wish, choose, object_wishes
from isocenter.doors.dicomweb.witness import tell
from isocenter.doors.dicomweb.zipping import Checksums, zip_answer
from isocenter.doors.http.refusals import NotAcceptable
from isocenter.doors.http.services import HttpServices
from isocenter.features.archive.images import Images
from isocenter.features.archive.reading_ahead import read_ahead
from isocenter.features.archive.retrieve import StoredInstance, stream_bytes
from isocenter.features.archive.transcoding import GivenObject, Transcoder
from isocenter.imaging.encoding import encodable
from isocenter.imaging.errors import PixelDataBroken, PixelDataUnsupported
from isocenter.platform.workers.errors import WorkFailed

_AHEAD = 2  # objects made while the one before is sent

Form = tuple[Wish, str]

_Streamed = AsyncGenerator[tuple[GivenObject, AsyncIterator[bytes]], None]


class RetrieveTransaction:
    """``GET`` of a study, a series, an instance."""

    def __init__(self, services: HttpServices, images: Images, finder: InstanceFinder) -> None:
        self._services = services
        self._finder = finder
        self._transcoder = images.transcoder
        self._checksums = Checksums()

    async def objects(self, request: Request) -> Response:
        wishes = object_wishes(parse_accept(accepted(request)))
        if not any(wish.media_type in {DICOM, ZIP} for wish in wishes):
            raise _not_dicom()
        instances = await addressed(self._finder, request)
        chosen = choose(
            wishes,
            instances,
            lambda wish, one: self._syntax(wish, one, len(instances)),
            lambda one: one.transfer_syntax_uid,
        )
        if chosen is None:
            raise _no_form(wishes, instances)
        tell(request, {"part": "objects", "objects": len(instances), **_told(instances, chosen.forms)})
        if chosen.container == ZIP:
            return await zip_answer(request, self._services.store, self._checksums, instances)
        if chosen.container == DICOM:
            return await self._alone(request, instances[0], chosen.forms[0])
        return await self._multipart(request, instances, chosen.forms)

    def _syntax(self, wish: Wish, instance: StoredInstance, count: int) -> str | None:
        """The transfer syntax that the instance would get by that wish; None where it cannot be met."""
        stored = instance.transfer_syntax_uid
        if wish.media_type not in {DICOM, ZIP} or (wish.container == DICOM and count > 1):
            return None
        if wish.syntax in {ANY_SYNTAX, stored} or (wish.container == ZIP and not wish.syntax):
            return stored
        if wish.container == ZIP:
            return None  # it is planned in advance: as stored, or not at all
        target = wish.syntax or EXPLICIT_VR_LITTLE_ENDIAN
        if self._transcoder.possible(instance, target):
            return target
        return None if wish.syntax else stored

    async def _alone(self, request: Request, instance: StoredInstance, form: Form) -> Response:
        wish, syntax = form
        if syntax == instance.transfer_syntax_uid:
            return await answer_in_parts(
                request,
                strong(self._transcoder.tag(instance, syntax)),
                {"content-type": _type(syntax)},
                instance.size,
                lambda start, length: stream_bytes(self._services.store, instance, start, length),
            )
        etag = weak(self._transcoder.tag(instance, syntax))
        if request.method == "HEAD" or not_modified(request, etag):
            return without_body(request, etag, {"content-type": _type(syntax)})
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._transcoder.request())
            given = await _given(self._transcoder, instance, syntax, lenient=not wish.syntax)
            headers = {"content-type": _type(given.transfer_syntax_uid)}
            if given.size is not None:
                headers["content-length"] = str(given.size)
            held = stack.pop_all()
            return await answer(request, etag, headers, lambda: _held(held, given.stream()))

    async def _multipart(
        self, request: Request, instances: Sequence[StoredInstance], forms: Sequence[Form]
    ) -> Response:
        wanted = list(zip(instances, forms, strict=True))
        tags = (self._transcoder.tag(instance, syntax) for instance, (_, syntax) in wanted)
        writer = MultipartWriter(tags, DICOM)
        headers = {"content-type": writer.content_type}
        if all(syntax == instance.transfer_syntax_uid for instance, (_, syntax) in wanted):
            stored = (Part(_type(syntax), instance.size) for instance, (_, syntax) in wanted)
            headers["content-length"] = str(writer.length_of(stored))
            given = self._as_stored(instances)
            return await answer(request, strong(writer.tag), headers, lambda: _parts(writer, given))
        if request.method == "HEAD" or not_modified(request, weak(writer.tag)):
            return without_body(request, weak(writer.tag), headers)
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._transcoder.request())
            given = self._transcoded(wanted)
            held = stack.pop_all()
            return await answer(
                request, weak(writer.tag), headers, lambda: _held(held, _parts(writer, given))
            )

    async def arriving(
        self, wishes: Sequence[Wish], instances: AsyncGenerator[StoredInstance, None]
    ) -> Response:
        """Objects as they come from elsewhere, in parts. Each in the best form that it can be given in, else
        as it is stored, which its part says. Raises what ``instances`` raises before the first; later that
        breaks the answer off: one that looked whole would be worse."""
        # Nobody who has sent one of the objects can know the boundary.
        writer = MultipartWriter(iter((secrets.token_hex(),)), DICOM)
        pieces = await primed(_parts(writer, self._as_they_come(wishes, instances)))
        return StreamingResponse(pieces, headers={"content-type": writer.content_type})

    async def _as_they_come(
        self, wishes: Sequence[Wish], instances: AsyncGenerator[StoredInstance, None]
    ) -> _Streamed:
        several = 2  # so that none is taken for one that is to be given alone
        with contextlib.ExitStack() as converting:
            is_converting = False
            async with contextlib.aclosing(instances):
                async for one in instances:
                    stored = one.transfer_syntax_uid
                    form = choose(
                        wishes,
                        [one],
                        lambda wish, one: self._syntax(wish, one, several),
                        lambda one: one.transfer_syntax_uid,
                    )
                    syntax = stored if form is None else form.forms[0][1]
                    if syntax != stored and not is_converting:
                        converting.enter_context(self._transcoder.request())
                        is_converting = True
                    given = await _given(self._transcoder, one, syntax, lenient=True)
                    yield given, given.stream()

    async def _as_stored(self, instances: Sequence[StoredInstance]) -> _Streamed:
        objects = [self._transcoder.as_stored(instance) for instance in instances]
        waiting = iter(objects)
        async with contextlib.aclosing(read_ahead(given.stream for given in objects)) as streams:
            async for pieces in streams:
                yield next(waiting), pieces

    async def _transcoded(self, wanted: Sequence[tuple[StoredInstance, Form]]) -> _Streamed:
        """One after the other, a few of them made ahead. One of several that cannot be converted after all is
        given as it is stored, which its part says: the others are no worse for it."""
        waiting = iter(wanted)
        under_way: deque[asyncio.Task[GivenObject]] = deque()

        def begin() -> None:
            following = next(waiting, None)
            if following is not None:
                instance, (wish, syntax) = following
                lenient = not wish.syntax or len(wanted) > 1
                work = _given(self._transcoder, instance, syntax, lenient=lenient)
                under_way.append(asyncio.create_task(work))

        try:
            for _ in range(_AHEAD):
                begin()
            while under_way:
                given = await under_way.popleft()
                begin()
                yield given, given.stream()
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)


async def _given(
    transcoder: Transcoder, instance: StoredInstance, syntax: str, *, lenient: bool
) -> GivenObject:
    try:
        return await transcoder.given(instance, syntax)
    except (PixelDataBroken, PixelDataUnsupported, WorkFailed):
        if not lenient:
            raise
        return transcoder.as_stored(instance)


async def _parts(writer: MultipartWriter, objects: _Streamed) -> AsyncIterator[bytes]:
    before = b""
    async with contextlib.aclosing(objects):
        async for given, pieces in objects:
            before += writer.before(Part(_type(given.transfer_syntax_uid), given.size))
            async for piece in pieces:
                if before:
                    yield before
                    before = b""
                yield piece
            before = writer.after
    yield before + writer.end


async def _held(held: contextlib.ExitStack, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces, with the request's place kept until the last."""
    with held:
        async for piece in pieces:
            yield piece


def _type(transfer_syntax_uid: str) -> str:
    return f"{DICOM}; transfer-syntax={transfer_syntax_uid}"


def _told(instances: Sequence[StoredInstance], forms: Sequence[Form]) -> dict[str, str]:
    """Into what objects are converted, where any is."""
    converted = {
        syntax
        for instance, (_, syntax) in zip(instances, forms, strict=True)
        if syntax != instance.transfer_syntax_uid
    }
    return {"transfer_syntaxes": "\\".join(sorted(converted))} if converted else {}


def _no_form(wishes: Sequence[Wish], instances: Sequence[StoredInstance]) -> NotAcceptable:
    if len(instances) > 1 and all(wish.container == DICOM for wish in wishes):
        return NotAcceptable(
            "Several instances do not fit into one application/dicom answer.",
            remedy="Send 'Accept: multipart/related; type=\"application/dicom\"'.",
        )
    stored = ", ".join(sorted({instance.transfer_syntax_uid for instance in instances}))
    return NotAcceptable(
        f"The objects are stored in transfer syntax {stored} and cannot be given in what is asked for.",
        remedy=f"Ask for transfer-syntax=* (as stored), or one of: {', '.join(encodable())}.",
    )


def _not_dicom() -> NotAcceptable:
    return NotAcceptable(
        f"Objects are available as {DICOM}, multipart or alone, and as {ZIP}.",
        remedy=f"Send 'Accept: {MULTIPART_RELATED}; type=\"{DICOM}\"; transfer-syntax=*'.",
    )
