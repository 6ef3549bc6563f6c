"""Whether what an administrator enters can work: each refusal says what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import urlsplit

from isocenter.dicom.ae_title import checked_title
from isocenter.dicom.character_sets import named
from isocenter.dicom.dictionary import tag_of
from isocenter.features.spanner.entries import (
    Authentication,
    Configuration,
    Limits,
    Quirks,
    Source,
    SourceType,
)
from isocenter.kit.errors import InvalidInput
from isocenter.kit.hosts import checked_host_name

TIMEOUT_S_MAX = 300.0
RETRIES_MAX = 10
CACHE_S_MAX = 3600
PRIORITY_MAX = 1000
NAME_CHARACTERS_MAX = 64
_TEXT_CHARACTERS_MAX = 500
_URL_CHARACTERS_MAX = 1000
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", re.ASCII)  # RFC 9110 §5.6.2
_SECRET = re.compile(r"[\x21-\x7e]{1,4000}", re.ASCII)
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept"})


def checked_source(wanted: Source) -> Source:
    """In canonical form, without what its type has no use for. Raises InvalidInput."""
    common = replace(
        wanted,
        name=_checked_name(wanted.name),
        description=_checked_text("description", wanted.description),
        issuer=_checked_text("issuer", wanted.issuer),
        limits=_checked_limits(wanted.limits),
        quirks=_checked_quirks(wanted.quirks),
    )
    match wanted.type:
        case SourceType.DIMSE | SourceType.MODALITY:
            return replace(
                common,
                ae_title=checked_title(wanted.ae_title),
                calling_ae_title=checked_title(wanted.calling_ae_title) if wanted.calling_ae_title else "",
                host=checked_host_name(wanted.host),
                port=_between("port", wanted.port, 1, 65535),
                tls_name=_checked_text("tls_name", wanted.tls_name),
                url="",
                authentication=Authentication.NONE,
                user="",
                secret="",
            )
        case SourceType.DICOMWEB:
            return replace(
                common,
                ae_title="",
                calling_ae_title="",
                host="",
                port=0,
                tls=False,
                tls_name="",
                url=_checked_url(wanted.url),
                user=_checked_user(wanted),
                secret=_checked_secret(wanted),
            )
        case SourceType.LOCAL:
            return replace(
                Source(common.id, common.name, SourceType.LOCAL),
                enabled=common.enabled,
                description=common.description,
                issuer=common.issuer,
                limits=common.limits,
            )


def checked_configuration(wanted: Configuration) -> Configuration:
    """Raises InvalidInput."""
    return replace(
        wanted,
        name=_checked_name(wanted.name),
        description=_checked_text("description", wanted.description),
        max_concurrent_sources=_between("max_concurrent_sources", wanted.max_concurrent_sources, 0, 1000),
        timeout_seconds=checked_timeout("timeout_seconds", wanted.timeout_seconds),
        retry_attempts=_between("retry_attempts", wanted.retry_attempts, 0, RETRIES_MAX),
        ae_title=checked_title(wanted.ae_title) if wanted.ae_title else "",
        cache_seconds=_between("cache_seconds", wanted.cache_seconds, 0, CACHE_S_MAX),
    )


def checked_timeout(name: str, seconds: float) -> float:
    if not 0.1 <= seconds <= TIMEOUT_S_MAX:
        raise _invalid(f"{name} is {seconds:g}", f"It is between 0.1 and {TIMEOUT_S_MAX:g} seconds.")
    return round(seconds, 3)


def checked_priority(priority: int) -> int:
    return _between("priority", priority, 1, PRIORITY_MAX)


def _checked_name(name: str) -> str:
    name = name.strip()
    if not 0 < len(name) <= NAME_CHARACTERS_MAX or not name.isprintable():
        raise _invalid("the name is empty, too long or not printable", "Give 1 to 64 printable characters.")
    return name


def _checked_text(name: str, text: str) -> str:
    text = text.strip()
    if len(text) > _TEXT_CHARACTERS_MAX or not (text.isprintable() or not text):
        raise _invalid(
            f"{name} is too long or not printable", f"Give up to {_TEXT_CHARACTERS_MAX} printable characters."
        )
    return text


def _checked_url(url: str) -> str:
    url = url.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        sound = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        sound, parts = False, urlsplit("")
    if (
        not sound
        or parts.scheme not in {"http", "https"}
        or parts.username is not None
        or parts.query
        or parts.fragment
        or len(url) > _URL_CHARACTERS_MAX
        or not url.isascii()
        or any(character <= " " for character in url)
    ):
        raise InvalidInput(
            "That is no address of a DICOMweb service.",
            code="invalid-url",
            remedy="Write https://pacs.example/dicom-web: it ends where /studies begins.",
        )
    return url


def _checked_user(wanted: Source) -> str:
    user = wanted.user.strip()
    match wanted.authentication:
        case Authentication.NONE | Authentication.BEARER:
            return ""
        case Authentication.BASIC:
            if not user or ":" in user or not user.isprintable():
                raise _invalid(
                    "the user name is empty or has a colon", "Give the name in user (RFC 7617 §2)."
                )
            return user
        case Authentication.HEADER:
            if not _HEADER.fullmatch(user) or user.lower() in _OURS:
                raise _invalid("user is no header's name", "Give one such as X-Api-Key.")
            return user


def _checked_secret(wanted: Source) -> str:
    if wanted.authentication is Authentication.NONE:
        return ""
    if wanted.authentication is Authentication.BASIC:
        if not 0 < len(wanted.secret) <= 4000 or not wanted.secret.isprintable():
            raise _invalid("the password is empty or not printable", "Give it in secret.")
        return wanted.secret
    if not _SECRET.fullmatch(wanted.secret):
        raise _invalid("the token is empty or not printable ASCII", "Give it in secret, without blanks.")
    return wanted.secret


def _checked_limits(limits: Limits) -> Limits:
    return Limits(
        _between("limits.at_once", limits.at_once, 1, 1000),
        _between("limits.waiting", limits.waiting, 0, 100_000),
        _between("limits.per_second", limits.per_second, 0, 100_000),
    )


def _checked_quirks(quirks: Quirks) -> Quirks:
    terms = [term.strip() for term in quirks.character_set.split("\\")] if quirks.character_set else []
    if any(named(term) is None for term in terms if term):
        raise _invalid(
            f"{quirks.character_set[:60]!r} is no character set", "Give a defined term such as ISO_IR 100."
        )
    _check_keywords([keyword for keywords in quirks.needs.values() for keyword in keywords])
    _check_keywords(quirks.unreturned)
    return replace(quirks, results_max=_between("quirks.results_max", quirks.results_max, 0, 1_000_000))


def _check_keywords(keywords: Iterable[str]) -> None:
    for keyword in keywords:
        tag_of(keyword)  # raises


def _between(name: str, value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise _invalid(f"{name} is {value}", f"It is between {least} and {most}.")
    return value


def _invalid(what: str, remedy: str) -> InvalidInput:
    return InvalidInput(f"{what[0].upper()}{what[1:]}.", code="invalid-source", remedy=remedy)
