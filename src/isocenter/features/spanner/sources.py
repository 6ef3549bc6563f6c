"""The sources of an organisation, as its administrators manage them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from isocenter.features.spanner import queries
from isocenter.features.spanner.checking import checked_source
from isocenter.features.spanner.entries import Authentication, Source, SourceType
from isocenter.features.spanner.written import limits_text, quirks_text, read_limits, read_quirks
from isocenter.kit.clock import Clock, now_us
from isocenter.kit.errors import Conflict, NotFound
from isocenter.platform.db import Database, Row, Work
from isocenter.platform.security.sealed_words import SealedWords


class Sources:
    """To an organisation, another one's sources do not exist."""

    def __init__(self, database: Database, clock: Clock, seal: SealedWords) -> None:
        self._database = database
        self._clock = clock
        self._seal = seal

    async def all(self, organization_id: int) -> list[Source]:
        """By name."""
        return await self._database.read(_all, organization_id)

    async def get(self, organization_id: int, source_id: int) -> Source:
        """Raises NotFound."""
        return await self._database.read(found_source, organization_id, source_id)

    async def add(self, organization_id: int, wanted: Source) -> Source:
        """``wanted.secret`` is in the clear. Raises InvalidInput, Conflict."""
        checked = checked_source(replace(wanted, created_at_us=now_us(self._clock)))
        return await self._database.write(_add, organization_id, checked, self._seal)

    async def change(self, organization_id: int, wanted: Source, *, keep_secret: bool) -> Source:
        """The one of that id becomes this. ``keep_secret``: its secret stays; where it is called elsewhere
        from now on, that is refused: another server would be shown it. Raises InvalidInput, NotFound,
        Conflict."""
        before = await self.get(organization_id, wanted.id)
        if keep_secret:
            wanted = replace(wanted, secret=self.secret_of(organization_id, before))
            if (
                before.secret
                and wanted.authentication is not Authentication.NONE
                and wanted.url != before.url
            ):
                raise Conflict(
                    "Another address would be shown the secret of the present one.",
                    code="secret-for-elsewhere",
                    remedy="Give the secret for the new address along with it.",
                )
        return await self._database.write(_change, organization_id, checked_source(wanted), self._seal)

    async def remove(self, organization_id: int, source_id: int) -> None:
        """Raises NotFound, and Conflict while a configuration asks it."""
        await self._database.write(_remove, organization_id, source_id)

    def secret_of(self, organization_id: int, source: Source) -> str:
        """In the clear; empty where it has none. Raises InternalError."""
        if not source.secret:
            return ""
        return self._seal.opened(
            source.secret,
            _bound_to(organization_id, source.id),
            what=f"The secret of the source {source.name}",
            remedy="Bring back that key, or enter the secret again.",
        )


def found_source(organization_id: int, source_id: int) -> Work[Source]:
    rows = yield queries.FIND_SOURCE(organization_id=organization_id, id=source_id)
    if not rows:
        raise NotFound("There is no such source.", code="no-such-source")
    return source_of(rows[0])


def _all(organization_id: int) -> Work[list[Source]]:
    rows = yield queries.LIST_SOURCES(organization_id=organization_id)
    return [source_of(row) for row in rows]


def _add(organization_id: int, wanted: Source, seal: SealedWords) -> Work[Source]:
    yield from _check_name(organization_id, wanted)
    rows = yield queries.ADD_SOURCE(
        organization_id=organization_id, **_values(wanted), created_at_us=wanted.created_at_us
    )
    source_id: int = rows[0]["id"]
    yield from _keep_secret(organization_id, source_id, wanted.secret, seal)
    return (yield from found_source(organization_id, source_id))


def _change(organization_id: int, wanted: Source, seal: SealedWords) -> Work[Source]:
    yield from _check_name(organization_id, wanted)
    yield queries.CHANGE_SOURCE(organization_id=organization_id, id=wanted.id, **_values(wanted))
    yield from _keep_secret(organization_id, wanted.id, wanted.secret, seal)
    return (yield from found_source(organization_id, wanted.id))


def _keep_secret(organization_id: int, source_id: int, secret: str, seal: SealedWords) -> Work[None]:
    """Bound to its row: copied into another one it opens nothing."""
    sealed = seal.sealed(secret, _bound_to(organization_id, source_id)) if secret else ""
    yield queries.KEEP_SECRET(organization_id=organization_id, id=source_id, secret=sealed)


def _check_name(organization_id: int, wanted: Source) -> Work[None]:
    rows = yield queries.FIND_SOURCE_NAMED(organization_id=organization_id, name=wanted.name)
    if rows and rows[0]["id"] != wanted.id:
        raise Conflict(
            f"There is a source {wanted.name} already.", code="name-taken", remedy="Choose another name."
        )


def _remove(organization_id: int, source_id: int) -> Work[None]:
    yield from found_source(organization_id, source_id)
    rows = yield queries.FIND_CONFIGS_OF_SOURCE(organization_id=organization_id, id=source_id)
    if rows:
        raise Conflict(
            f"It is asked by {', '.join(row['name'] for row in rows[:5])}.",
            code="source-in-use",
            remedy="Take it out of these configurations first, or switch it off.",
        )
    yield queries.REMOVE_SOURCE(organization_id=organization_id, id=source_id)


def _bound_to(organization_id: int, source_id: int) -> str:
    return f"source {organization_id} {source_id}"


def _values(source: Source) -> dict[str, Any]:
    return {
        "name": source.name,
        "type": source.type.value,
        "enabled": int(source.enabled),
        "description": source.description,
        "issuer": source.issuer,
        "ae_title": source.ae_title,
        "calling_ae_title": source.calling_ae_title,
        "host": source.host,
        "port": source.port,
        "tls": int(source.tls),
        "tls_name": source.tls_name,
        "url": source.url,
        "authentication": source.authentication.value,
        "user_name": source.user,
        "limits": limits_text(source.limits),
        "quirks": quirks_text(source.quirks),
    }


def source_of(row: Row) -> Source:
    return Source(
        id=row["id"],
        name=row["name"],
        type=SourceType(row["type"]),
        enabled=bool(row["enabled"]),
        description=row["description"],
        issuer=row["issuer"],
        ae_title=row["ae_title"],
        calling_ae_title=row["calling_ae_title"],
        host=row["host"],
        port=row["port"],
        tls=bool(row["tls"]),
        tls_name=row["tls_name"],
        url=row["url"],
        authentication=Authentication(row["authentication"]),
        user=row["user_name"],
        secret=row["secret"],
        limits=read_limits(row["limits"]),
        quirks=read_quirks(row["quirks"]),
        version=row["version"],
        created_at_us=row["created_at_us"],
    )
