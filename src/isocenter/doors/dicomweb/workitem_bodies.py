"""Workitems on the wire: DICOM JSON and the Native DICOM Model, one data set a body (PS3.18 §11.1.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from isocenter.dicom.native_model import DICOM_XML, native_xml
from isocenter.dicom.native_model_reader import read_native_xml
from isocenter.doors.dicomweb.answers import accepted, json_response
from isocenter.doors.dicomweb.media_types import (
    DICOM_JSON,
    JSON,
    MULTIPART_RELATED,
    parse_accept,
    parse_media_type,
)
from isocenter.doors.http.refusals import NotAcceptable, UnsupportedMediaType
from isocenter.features.worklist.datasets import DataSet, checked
from isocenter.kit.errors import InvalidInput

_BOUNDARY = "isocenter-workitems"


async def read_data_set(request: Request, *, optional: bool = False) -> DataSet:
    """What was sent; empty where nothing was and that is allowed.

    Raises UnsupportedMediaType, InvalidInput with the place that breaks a rule.
    """
    body = await request.body()
    if optional and not body.strip():
        return {}
    content_type = parse_media_type(request.headers.get("content-type", ""))
    if content_type.type in {DICOM_JSON, JSON}:
        return checked(_only(body))
    if content_type.type == DICOM_XML:
        return checked(read_native_xml(body))
    raise UnsupportedMediaType(
        "A workitem comes as DICOM JSON or as Native DICOM Model.",
        remedy=f"Send 'Content-Type: {DICOM_JSON}' or '{DICOM_XML}'.",
    )


def _only(body: bytes) -> object:
    """The one data set of an array, or the one that comes without its array."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidInput("The body is not JSON.", code="invalid-dicom-json") from None
    if isinstance(found, list):
        if len(found) != 1:
            raise InvalidInput(
                f"The body has {len(found)} data sets.", code="invalid-dicom-json", remedy="Send exactly one."
            )
        found = found[0]
    return found


def answer_with(
    request: Request, found: Sequence[DataSet], *, single: bool, headers: dict[str, str] | None = None
) -> Response:
    """In the best form that the client takes: JSON, or XML (several of them as parts). Raises
    NotAcceptable."""
    media_type = _chosen(accepted(request), single=single)
    if media_type in {DICOM_JSON, JSON}:
        return json_response(request, orjson.dumps(list(found)), media_type, headers)
    if media_type == DICOM_XML:
        return Response(native_xml(found[0]), media_type=DICOM_XML, headers=headers)
    parts = [
        b"--%s\r\nContent-Type: %s\r\n\r\n%s\r\n" % (_BOUNDARY.encode(), DICOM_XML.encode(), native_xml(one))
        for one in found
    ]
    body = b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode()
    content_type = f'{MULTIPART_RELATED}; type="{DICOM_XML}"; boundary={_BOUNDARY}'
    return Response(body, headers=(headers or {}) | {"content-type": content_type})


def _chosen(accept: str, *, single: bool) -> str:
    for media_range in parse_accept(accept):
        if media_range.covers(DICOM_JSON):
            return DICOM_JSON
        if media_range.type == JSON:
            return JSON
        if media_range.type == DICOM_XML and single:
            return DICOM_XML
        if media_range.type == MULTIPART_RELATED and media_range.parameters.get("type") == DICOM_XML:
            return MULTIPART_RELATED
    raise NotAcceptable(
        f"Workitems are available as {DICOM_JSON} and {DICOM_XML}.", remedy=f"Send 'Accept: {DICOM_JSON}'."
    )


def one_value(data_set: dict[str, Any], name: str) -> str:
    values = data_set.get(name, {}).get("Value") or [""]
    return str(values[0] or "").strip()
