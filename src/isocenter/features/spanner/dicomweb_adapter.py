"""A server that is asked by QIDO-RS (PS3.18 §10.6)."""

from __future__ import annotations

import base64
import contextlib
import re
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx2
import orjson

from isocenter.dicom.dictionary import keyword_of, vr_of
from isocenter.dicom.levels import Level
from isocenter.dicom.matching import WILDCARD_VRS
from isocenter.dicom.tags import SERIES_INSTANCE_UID, STUDY_INSTANCE_UID
from isocenter.features.spanner.adapters import Reached, Rows
from isocenter.features.spanner.entries import Authentication, Source
from isocenter.features.spanner.failures import Ended, SourceFailed, of_status
from isocenter.features.spanner.keys import understood
from isocenter.features.spanner.question import UNIQUE_KEYS, Question
from isocenter.features.spanner.retrieval.keeping import Landing
from isocenter.features.spanner.retrieval.orders import Order
from isocenter.features.spanner.retrieval.wado_answer import take_objects
from isocenter.features.spanner.rows import first_value, row_of_json, strings_attribute

ANSWER_BYTES_MAX = 64 << 20
_CONNECT_S = 5.0
_KEPT_S = 30.0
_RESOURCES = {
    Level.PATIENT: "patients",
    Level.STUDY: "studies",
    Level.SERIES: "series",
    Level.INSTANCE: "instances",
}
_AS_STORED = (
    'multipart/related; type="application/dicom"; transfer-syntax=*',
    'multipart/related; type="application/dicom"',  # of servers that do not know the asterisk
)
_ESCAPED = re.compile(r"[^A-Za-z0-9._~*?,:=\\-]")
_ALWAYS_RETURNED = frozenset({0x00080005, 0x00081190})


class DicomwebAdapter:
    """Keeps its connections; ``at_once`` of them at most."""

    def __init__(self, source: Source, secret: str, tls: ssl.SSLContext | None) -> None:
        """``tls``: what we show and trust, for an https address."""
        self._base = source.url.rstrip("/")
        self._quirks = source.quirks
        connections = source.limits.at_once + 1
        self._client = httpx2.AsyncClient(
            headers={"Accept": "application/dicom+json", **_credentials(source, secret)},
            verify=tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            trust_env=False,
            follow_redirects=False,
            # Whoever asks says how long it may take.
            timeout=httpx2.Timeout(None, connect=_CONNECT_S),
            limits=httpx2.Limits(
                max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=_KEPT_S
            ),
        )

    async def ask(self, question: Question) -> Rows:
        path, given = _path_of(question)
        rows_max = question.rows_max + 1  # so that it is seen where there are more
        if self._quirks.results_max:
            rows_max = min(rows_max, self._quirks.results_max)
        parameters = self._parameters(question, given)
        answer = await self._get(f"{path}?{_query_string([*parameters, ('limit', str(rows_max))])}")
        fixed = {tag: strings_attribute("UI", [uid]) for tag, uid in given.items()}
        rows = []
        for match in _matches(answer):
            row = row_of_json(match)
            row.update((tag, uid) for tag, uid in fixed.items() if not first_value(row, tag))
            rows.append(row)
        if rows:
            yield rows

    def _parameters(self, question: Question, given: Mapping[int, str]) -> list[tuple[str, str]]:
        keys = {tag: self._key(tag, text) for tag, text in question.matches.items() if tag not in given}
        wanted = sorted(question.wanted - _ALWAYS_RETURNED - {*UNIQUE_KEYS[question.level]})
        return [
            *((_name(tag), text.replace("\\", ",")) for tag, text in keys.items() if text),
            *(("includefield", _name(tag)) for tag in wanted),
        ]

    def _key(self, tag: int, text: str) -> str:
        text = understood(self._quirks, tag, text)
        if not self._quirks.escapes and vr_of(tag) in WILDCARD_VRS:
            return _ESCAPED.sub("?", text)
        return text

    async def fetch(self, order: Order, landing: Landing) -> None:
        """By WADO-RS (PS3.18 §10.4), as it has the objects; instances one after the other."""
        base = f"/studies/{order.study_uid}"
        paths = [f"{base}/series/{series_uid}" for series_uid in order.series_uids] or [base]
        if order.instance_uids:
            [series] = paths
            paths = [f"{series}/instances/{uid}" for uid in order.instance_uids]
        for path in paths:
            try:
                await self._retrieve(path, landing)
            except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
                raise _unreached(error) from error

    async def _retrieve(self, path: str, landing: Landing) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for accept in _AS_STORED:
                request = self._client.stream("GET", self._base + path, headers={"Accept": accept})
                answer = await stack.enter_async_context(request)
                if answer.status_code not in {400, 406}:
                    break
            if answer.status_code not in {200, 206}:
                raise of_status(answer.status_code)
            await take_objects(answer.headers.get("content-type", ""), answer.aiter_bytes(), landing)

    async def reach(self) -> Reached:
        """A search for one study: a server has nothing smaller that all of them answer."""
        begun_s = time.monotonic()
        _matches(await self._get("/studies?limit=1"))
        return Reached(time.monotonic() - begun_s, ("qido",))

    async def _get(self, path: str) -> bytes:
        try:
            async with self._client.stream("GET", self._base + path) as answer:
                if answer.status_code == 204:
                    return b"[]"
                if answer.status_code != 200:
                    raise of_status(answer.status_code)
                return await _bounded(answer)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise _unreached(error) from error

    async def close(self) -> None:
        await self._client.aclose()


def _credentials(source: Source, secret: str) -> dict[str, str]:
    match source.authentication:
        case Authentication.NONE:
            return {}
        case Authentication.BASIC:
            word = base64.b64encode(f"{source.user}:{secret}".encode()).decode()
            return {"Authorization": f"Basic {word}"}
        case Authentication.BEARER:
            return {"Authorization": f"Bearer {secret}"}
        case Authentication.HEADER:
            return {source.user: secret}


def _path_of(question: Question) -> tuple[str, dict[int, str]]:
    """The narrowest resource (Table 10.6.1-2), and the UIDs that its address says."""
    resource = _RESOURCES[question.level]
    study_uid = question.matches.get(STUDY_INSTANCE_UID, "")
    series_uid = question.matches.get(SERIES_INSTANCE_UID, "")
    if question.level in {Level.PATIENT, Level.STUDY} or not _is_one(study_uid):
        return f"/{resource}", {}
    if question.level is Level.INSTANCE and _is_one(series_uid):
        both = {STUDY_INSTANCE_UID: study_uid, SERIES_INSTANCE_UID: series_uid}
        return f"/studies/{study_uid}/series/{series_uid}/{resource}", both
    return f"/studies/{study_uid}/{resource}", {STUDY_INSTANCE_UID: study_uid}


def _is_one(uid: str) -> bool:
    return bool(uid) and all(character in "0123456789." for character in uid)


def _query_string(parameters: Sequence[tuple[str, str]]) -> str:
    """Wild cards and what separates UIDs stay as they are (RFC 3986 §3.4 allows it): Orthanc 1.10 does not
    know them when they are escaped."""
    return "&".join(f"{name}={quote(value, safe='*?,:=')}" for name, value in parameters)


def _name(tag: int) -> str:
    return keyword_of(tag) or f"{tag:08X}"


async def _bounded(answer: httpx2.Response) -> bytes:
    """Decoded on the way, so that neither a large body nor a small one that grows takes the memory."""
    found = bytearray()
    async for piece in answer.aiter_bytes():
        found += piece
        if len(found) > ANSWER_BYTES_MAX:
            raise SourceFailed(Ended.FAILED, f"it answers with more than {ANSWER_BYTES_MAX >> 20} MB")
    return bytes(found)


def _matches(body: bytes) -> list[dict[str, Any]]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise SourceFailed(
            Ended.FAILED,
            "it answered with something that is no DICOM JSON",
            remedy="Correct its address: it ends where /studies begins.",
        )
    return found


def _unreached(error: Exception) -> SourceFailed:
    """In words of ours: messages of libraries hold addresses and values."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return SourceFailed(
                Ended.REFUSED, f"it shows a certificate that is not trusted here ({cause.verify_message})"
            )
        if isinstance(cause, ssl.SSLError):
            return SourceFailed(Ended.FAILED, "TLS could not be agreed with it")
        cause = cause.__cause__
    if isinstance(error, httpx2.ConnectTimeout):
        return SourceFailed(Ended.TIMED_OUT, "it takes no connection")
    if isinstance(error, httpx2.ConnectError):
        return SourceFailed(Ended.FAILED, "nobody answers at its address", worth_retrying=True)
    if isinstance(error, httpx2.TimeoutException):
        return SourceFailed(Ended.TIMED_OUT, "it did not answer in time")
    return SourceFailed(Ended.FAILED, "it broke off or does not speak HTTP", worth_retrying=True)
