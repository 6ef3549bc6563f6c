"""Organisations: made, listed, renamed, and what each has decided for itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from isocenter.features.accounts import queries
from isocenter.features.accounts.entries import Organization
from isocenter.features.accounts.organization_settings import OrganizationSettings
from isocenter.features.accounts.rows import organization_of
from isocenter.features.accounts.words import checked_name, checked_slug
from isocenter.kit.clock import Clock, now_us
from isocenter.kit.errors import Conflict, NotFound
from isocenter.platform.db import Database, Work
from isocenter.platform.security import Action, Permission, Recorder, Subject, event_of

Decided = tuple[Organization, OrganizationSettings]


class NoSuchOrganization(NotFound):
    default_code = "no-such-organization"

    def __init__(self) -> None:
        super().__init__(
            "There is no such organisation.", remedy="'isocenter org list' shows those that there are."
        )


class Organizations:
    """``on_change`` is told the id of an organisation whose settings were changed."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        recorder: Recorder,
        on_change: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._recorder = recorder
        self._on_change = on_change

    async def create(self, subject: Subject, slug: str, name: str) -> Organization:
        """Raises Forbidden, InvalidInput, Conflict."""
        subject.require(Permission.ORGANIZATIONS_MANAGE)
        made = await self._database.write_across(
            _create, checked_slug(slug), checked_name(name), now_us(self._clock)
        )
        await self._tell(subject, made.id, {"made": made.slug})
        return made

    async def list(self, subject: Subject) -> list[Organization]:
        """All of them, for operators. Raises Forbidden."""
        subject.require(Permission.ORGANIZATIONS_MANAGE)
        return await self._database.read_across(_list)

    async def find(self, organization_id: int) -> Decided:
        """Raises NotFound."""
        return await self._database.read(_find, organization_id)

    async def by_slug(self, slug: str) -> Decided:
        """Raises NotFound."""
        return await self._database.read_across(_by_slug, slug)

    async def change(
        self,
        subject: Subject,
        organization_id: int,
        *,
        name: str | None = None,
        settings: dict[str, Any] | None = None,
    ) -> Decided:
        """Rename it, change some of its settings (None: follow the server's). For its own administrators and
        for operators; to others it does not exist. Its quota binds its administrators too, so that it is the
        operators' alone. Raises NotFound, Forbidden, InvalidInput."""
        own = subject.organization_id == organization_id and subject.may(Permission.ORGANIZATION_MANAGE)
        if not own and not subject.may(Permission.ORGANIZATIONS_MANAGE):
            raise NoSuchOrganization
        if "quota_bytes" in (settings or {}):
            subject.require(Permission.ORGANIZATIONS_MANAGE)
        name = None if name is None else checked_name(name)
        changed = await self._database.write(_change, organization_id, name, settings or {})
        self._on_change(organization_id)
        await self._tell(subject, organization_id, {"changed": ", ".join(sorted(settings or ())) or "name"})
        return changed

    async def _tell(self, subject: Subject, organization_id: int, details: dict[str, str]) -> None:
        self._recorder.record(
            event_of(
                subject,
                Action.CHANGE,
                resource_kind="organization",
                resource_id=str(organization_id),
                details=details,
            )
        )
        await self._recorder.settled()


def _create(slug: str, name: str, at_us: int) -> Work[Organization]:
    rows = yield queries.PUT_ORGANIZATION(slug=slug, name=name or slug, now_us=at_us)
    if not rows:
        raise Conflict(
            f"There is an organisation {slug} already.", code="organization-exists", remedy="Choose another."
        )
    return organization_of(rows[0])


def _list() -> Work[list[Organization]]:
    rows = yield queries.LIST_ORGANIZATIONS()
    return [organization_of(row) for row in rows]


def _find(organization_id: int) -> Work[Decided]:
    rows = yield queries.FIND_ORGANIZATION(organization_id=organization_id)
    if not rows:
        raise NoSuchOrganization
    return organization_of(rows[0]), OrganizationSettings.read(rows[0]["settings"])


def _by_slug(slug: str) -> Work[Decided]:
    rows = yield queries.FIND_ORGANIZATION_BY_SLUG(slug=slug)
    if not rows:
        raise NoSuchOrganization
    return organization_of(rows[0]), OrganizationSettings.read(rows[0]["settings"])


def _change(organization_id: int, name: str | None, changes: dict[str, Any]) -> Work[Decided]:
    yield queries.LOCK_ORGANIZATION(organization_id=organization_id)
    rows = yield queries.FIND_ORGANIZATION(organization_id=organization_id)
    if not rows:
        raise NoSuchOrganization
    kept = rows[0]["settings"]
    settings = OrganizationSettings.read(kept).changed(changes)
    rows = yield queries.SET_ORGANIZATION(
        organization_id=organization_id,
        name=rows[0]["name"] if name is None else name,
        settings=settings.written_over(kept),
    )
    return organization_of(rows[0]), settings
