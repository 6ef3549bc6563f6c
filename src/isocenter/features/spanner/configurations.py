"""Spanner configurations of an organisation (MISSION B3): which sources are asked together, and how."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from isocenter.features.spanner import queries
from isocenter.features.spanner.checking import checked_configuration, checked_priority, checked_timeout
from isocenter.features.spanner.entries import Configuration, FailureStrategy, Mapped, SourceType
from isocenter.features.spanner.sources import found_source, source_of
from isocenter.kit.clock import Clock, now_us
from isocenter.kit.errors import Conflict, InvalidInput, NotFound
from isocenter.platform.db import Database, IntegrityViolation, Row, Work


@dataclass(frozen=True, slots=True)
class SetUp:
    """All that a question to a configuration needs: the most trusted source first."""

    configuration: Configuration
    sources: tuple[Mapped, ...]


class Configurations:
    """To an organisation, another one's configurations do not exist."""

    def __init__(
        self, database: Database, clock: Clock, *, own_ae_titles: frozenset[str] = frozenset()
    ) -> None:
        """``own_ae_titles``: what this archive itself is called by."""
        self._database = database
        self._clock = clock
        self._own_ae_titles = own_ae_titles

    async def all(self, organization_id: int) -> list[Configuration]:
        """By name."""
        return await self._database.read(_all, organization_id)

    async def get(self, organization_id: int, config_id: int) -> SetUp:
        """Raises NotFound."""
        return await self._database.read(_set_up, organization_id, config_id)

    async def add(self, organization_id: int, wanted: Configuration) -> Configuration:
        """Raises InvalidInput, Conflict."""
        checked = self._checked(replace(wanted, created_at_us=now_us(self._clock)))
        return await self._database.write(_add, organization_id, checked)

    async def change(self, organization_id: int, wanted: Configuration) -> Configuration:
        """The one of that id becomes this. Raises InvalidInput, NotFound, Conflict."""
        checked = self._checked(wanted)
        try:
            return await self._database.write(_change, organization_id, checked)
        except IntegrityViolation:
            raise _title_taken(checked.ae_title) from None

    def _checked(self, wanted: Configuration) -> Configuration:
        checked = checked_configuration(wanted)
        if checked.ae_title in self._own_ae_titles:
            raise _title_taken(checked.ae_title)
        return checked

    async def remove(self, organization_id: int, config_id: int) -> None:
        """Its sources stay. Raises NotFound."""
        await self._database.write(_remove, organization_id, config_id)

    async def put_source(
        self,
        organization_id: int,
        config_id: int,
        source_id: int,
        *,
        source_type: SourceType | None = None,
        priority: int = 100,
        timeout_override: float | None = None,
    ) -> Mapped:
        """Ask that source too, or otherwise than before. ``source_type``, if given, must be its type. Raises
        InvalidInput, NotFound."""
        if timeout_override is not None:
            timeout_override = checked_timeout("timeout_override", timeout_override)
        return await self._database.write(
            _put_source,
            organization_id,
            config_id,
            source_id,
            source_type=source_type,
            priority=checked_priority(priority),
            timeout_override=timeout_override,
        )

    async def remove_source(self, organization_id: int, config_id: int, source_id: int) -> None:
        """Raises NotFound."""
        await self._database.write(_remove_source, organization_id, config_id, source_id)


def _all(organization_id: int) -> Work[list[Configuration]]:
    rows = yield queries.LIST_CONFIGS(organization_id=organization_id)
    return [_configuration(row) for row in rows]


def _found(organization_id: int, config_id: int) -> Work[Configuration]:
    rows = yield queries.FIND_CONFIG(organization_id=organization_id, id=config_id)
    if not rows:
        raise NotFound("There is no such spanner configuration.", code="no-such-spanner-config")
    return _configuration(rows[0])


def _set_up(organization_id: int, config_id: int) -> Work[SetUp]:
    configuration = yield from _found(organization_id, config_id)
    rows = yield queries.LIST_MAPPED(organization_id=organization_id, config_id=config_id)
    return SetUp(configuration, tuple(_mapped(row) for row in rows))


def _add(organization_id: int, wanted: Configuration) -> Work[Configuration]:
    yield from _check_name(organization_id, wanted)
    rows = yield queries.ADD_CONFIG(
        organization_id=organization_id, **_values(wanted), created_at_us=wanted.created_at_us
    )
    if not rows:
        raise _title_taken(wanted.ae_title)
    return (yield from _found(organization_id, rows[0]["id"]))


def _change(organization_id: int, wanted: Configuration) -> Work[Configuration]:
    yield from _found(organization_id, wanted.id)
    yield from _check_name(organization_id, wanted)
    yield queries.CHANGE_CONFIG(organization_id=organization_id, id=wanted.id, **_values(wanted))
    return (yield from _found(organization_id, wanted.id))


def _check_name(organization_id: int, wanted: Configuration) -> Work[None]:
    rows = yield queries.FIND_CONFIG_NAMED(organization_id=organization_id, name=wanted.name)
    if rows and rows[0]["id"] != wanted.id:
        raise Conflict(
            f"There is a spanner configuration {wanted.name} already.",
            code="name-taken",
            remedy="Choose another name.",
        )


def _title_taken(title: str) -> Conflict:
    return Conflict(
        f"The AE title {title} is this archive's own, or another configuration's.",
        code="ae-title-taken",
        remedy="Choose another: it is all that tells which archives a workstation asks.",
    )


def _remove(organization_id: int, config_id: int) -> Work[None]:
    yield from _found(organization_id, config_id)
    yield queries.REMOVE_ALL_MAPPED(organization_id=organization_id, config_id=config_id)
    yield queries.REMOVE_CONFIG(organization_id=organization_id, id=config_id)


def _put_source(
    organization_id: int,
    config_id: int,
    source_id: int,
    *,
    source_type: SourceType | None,
    priority: int,
    timeout_override: float | None,
) -> Work[Mapped]:
    yield from _found(organization_id, config_id)
    source = yield from found_source(organization_id, source_id)
    if source_type is not None and source_type is not source.type:
        raise InvalidInput(
            f"The source {source.name} is of type {source.type}, not {source_type}.",
            code="wrong-source-type",
            remedy="Leave source_type out, or name another source.",
        )
    yield queries.PUT_MAPPED(
        organization_id=organization_id,
        config_id=config_id,
        source_id=source_id,
        priority=priority,
        timeout_ms=None if timeout_override is None else round(timeout_override * 1000),
    )
    yield queries.TOUCH_CONFIG(organization_id=organization_id, id=config_id)
    return Mapped(source, priority, timeout_override)


def _remove_source(organization_id: int, config_id: int, source_id: int) -> Work[None]:
    yield from _found(organization_id, config_id)
    rows = yield queries.REMOVE_MAPPED(
        organization_id=organization_id, config_id=config_id, source_id=source_id
    )
    if not rows:
        raise NotFound("The configuration does not ask that source.", code="no-such-source")
    yield queries.TOUCH_CONFIG(organization_id=organization_id, id=config_id)


def _values(one: Configuration) -> dict[str, Any]:
    return {
        "name": one.name,
        "description": one.description,
        "max_concurrent_sources": one.max_concurrent_sources,
        "timeout_ms": round(one.timeout_seconds * 1000),
        "retry_attempts": one.retry_attempts,
        "failure_strategy": one.failure_strategy.value,
        "deduplication_enabled": int(one.deduplication_enabled),
        "enterprise_mode": int(one.enterprise_mode),
        "ae_title": one.ae_title or None,
        "cache_seconds": one.cache_seconds,
        "keep_retrieved": int(one.keep_retrieved),
    }


def _configuration(row: Row) -> Configuration:
    return Configuration(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        max_concurrent_sources=row["max_concurrent_sources"],
        timeout_seconds=row["timeout_ms"] / 1000,
        retry_attempts=row["retry_attempts"],
        failure_strategy=FailureStrategy(row["failure_strategy"]),
        deduplication_enabled=bool(row["deduplication_enabled"]),
        enterprise_mode=bool(row["enterprise_mode"]),
        ae_title=row["ae_title"] or "",
        cache_seconds=row["cache_seconds"],
        keep_retrieved=bool(row["keep_retrieved"]),
        version=row["version"],
        created_at_us=row["created_at_us"],
    )


def _mapped(row: Row) -> Mapped:
    timeout_ms: int | None = row["mapped_timeout_ms"]
    return Mapped(source_of(row), row["priority"], None if timeout_ms is None else timeout_ms / 1000)
