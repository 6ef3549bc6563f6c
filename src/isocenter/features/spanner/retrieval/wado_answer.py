"""The objects of a WADO-RS answer (PS3.18 §10.4.3), each poured into a sink while it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.message import Message

from isocenter.dimse.net.service import StoreSink
from isocenter.features.spanner.failures import Ended, SourceFailed
from isocenter.features.spanner.retrieval.keeping import Landing
from isocenter.kit.multipart import MalformedMultipart, MultipartReader, PartBegins, PartData, PartEnds

_PARTS_MAX = 1_000_000


async def take_objects(content_type: str, body: AsyncIterator[bytes], landing: Landing) -> None:
    """Several as parts, or one alone. Raises SourceFailed where it is something else, or breaks off."""
    said = Message()
    said["content-type"] = content_type
    match said.get_content_type():
        case "multipart/related":
            await _parts(str(said.get_param("boundary", "")), body, landing)
        case "application/dicom":
            await _alone(body, landing)
        case _:
            raise SourceFailed(Ended.FAILED, "it answered with something that is no DICOM object")


async def _alone(body: AsyncIterator[bytes], landing: Landing) -> None:
    sink = landing.receive(None, "")
    try:
        async for piece in body:
            await _pour(sink, piece)
    except BaseException:
        await sink.abort()
        raise
    await sink.finish()


async def _parts(boundary: str, body: AsyncIterator[bytes], landing: Landing) -> None:
    sink: StoreSink | None = None
    try:
        reader = MultipartReader(boundary, parts_max=_PARTS_MAX)
        async for piece in body:
            for event in reader.feed(piece):
                match event:
                    case PartBegins():
                        sink = landing.receive(None, "")
                    case PartData(data):
                        assert sink is not None
                        await _pour(sink, data)
                    case PartEnds():
                        assert sink is not None
                        whole, sink = sink, None
                        await whole.finish()
        reader.finish()
    except MalformedMultipart as error:
        detail = "its answer broke off, or has broken parts"
        raise SourceFailed(Ended.FAILED, detail, worth_retrying=True) from error
    finally:
        if sink is not None:
            await sink.abort()


async def _pour(sink: StoreSink, data: bytes | memoryview) -> None:
    """As fast as the sink takes it."""
    waiting = sink.write(memoryview(data))
    if waiting is not None:
        await waiting
