"""Errors as RFC 9457 problem documents: one total table from kinds to HTTP statuses.

A raise site never decides about the wire; it raises a typed error of ``kit.errors`` and this module
says it in HTTP. What a user reads: ``title`` (the status in words), ``detail`` (what happened), ``remedy``
(what to do), ``code`` (stable, for programs), ``trace_id`` (to find the log line), ``type`` (a page about the
code), ``errors`` (each field: a JSON pointer into the body, RFC 6901, or a parameter's name; never a value),
``accepts`` (what would do where more is asked for, such as a second factor).
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, assert_never

import orjson

from isocenter.kit.errors import IsocenterError, Kind

MEDIA_TYPE = "application/problem+json"
_TYPE_PREFIX = "/problems/"  # docs/problems, served by problem_pages.py
_RETRY_AFTER_DEFAULT_S = 5


def http_status(kind: Kind) -> int:  # noqa: PLR0911 - one line per kind, proved total by mypy
    """The HTTP status of each kind of failure (RFC 9110 §15)."""
    match kind:
        case Kind.INVALID:
            return 400
        case Kind.UNAUTHENTICATED:
            return 401
        case Kind.FORBIDDEN:
            return 403
        case Kind.NOT_FOUND:
            return 404
        case Kind.CONFLICT:
            return 409
        case Kind.TOO_LARGE:
            return 413
        case Kind.UNSUPPORTED:
            return 501
        case Kind.RATE_LIMITED:
            return 429
        case Kind.BUSY | Kind.UNAVAILABLE | Kind.OUT_OF_SPACE:
            # A full disk is 503 too (PS3.18 Table 8.5-1 knows no 507): the sender keeps what it has.
            return 503
        case Kind.INTERNAL:
            return 500
    assert_never(kind)


# RFC 9110 says more with these; the raise site names the case, this table the status. 422 is a request that
# can be read and whose contents break a rule of the domain.
_STATUS_BY_CODE = {
    "method-not-allowed": 405,
    "not-acceptable": 406,
    # As it is stored, the object is there.
    "no-content-tree": 406,
    "not-renderable": 406,
    "presentation-of-others": 406,
    "pixel-data-broken": 406,
    "pixel-data-unsupported": 406,
    "work-crashed": 406,
    "work-out-of-memory": 406,
    "work-timed-out": 406,
    "request-timeout": 408,
    "url-too-long": 414,
    "unsupported-media-type": 415,
    "correction-failed": 422,
    "range-not-satisfiable": 416,
    "upgrade-required": 426,
    "headers-too-large": 431,
    # Unlike a full disk it is no affair of this server's: asking again changes nothing before somebody acts.
    "quota-reached": 507,
}


def status_of(error: IsocenterError) -> int:
    return _STATUS_BY_CODE.get(error.code) or http_status(error.kind)


def problem(error: IsocenterError, trace_id: str, *, instance: str = "") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body that tell a user of this error."""
    status = status_of(error)
    document: dict[str, Any] = {
        "type": _TYPE_PREFIX + error.code,
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.detail,
        "code": error.code,
        "trace_id": trace_id,
    }
    if error.remedy:
        document["remedy"] = error.remedy
    if places := getattr(error, "errors", None):
        document["errors"] = places
    if accepts := getattr(error, "accepts", None):
        document["accepts"] = accepts
    if instance:
        document["instance"] = instance
    headers = {"content-type": MEDIA_TYPE}
    if status in {429, 503}:
        headers["retry-after"] = str(error.retry_after_s or _RETRY_AFTER_DEFAULT_S)
    if extra := getattr(error, "headers", None):
        headers.update(_lowered(extra))
    return status, headers, orjson.dumps(document)


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
