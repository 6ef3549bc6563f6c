"""An organisation's identity providers, as its administrators manage them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from isocenter.features.accounts.openid import queries, queries_providers
from isocenter.features.accounts.openid.addresses import checked_issuer, is_loopback
from isocenter.features.accounts.openid.entries import Provider
from isocenter.features.accounts.openid.errors import InvalidProvider, NoSuchProvider
from isocenter.features.accounts.openid.settings import ProviderSettings
from isocenter.features.accounts.organizations import Organizations
from isocenter.features.accounts.people import check_grant
from isocenter.features.accounts.words import checked_name, checked_slug
from isocenter.kit.clock import Clock, now_us
from isocenter.kit.errors import Conflict, Forbidden, InvalidInput, NotFound
from isocenter.platform.db import Database, Row, Work
from isocenter.platform.security import PERMISSIONS_OF_ROLE, Action, Permission, Recorder, Subject, event_of
from isocenter.platform.security.sealed_words import SealedWords

_CLIENT_ID_CHARACTERS_MAX = 500
_SECRET_CHARACTERS_MAX = 2000


@dataclass(frozen=True, slots=True)
class ProviderChanges:
    """None leaves it as it is. ``client_secret`` empty: a client without one (PKCE alone)."""

    title: str | None = None
    issuer: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    enabled: bool | None = None
    settings: dict[str, Any] | None = None

    @property
    def names(self) -> list[str]:
        """Of what changes; never a value."""
        plain = ("title", "issuer", "client_id", "client_secret", "enabled")
        return [name for name in plain if getattr(self, name) is not None] + sorted(self.settings or ())


class Providers:
    """Each method works in the subject's organisation; to it, another one's providers do not exist.

    Nobody lets people in, by mapping or default, who may do more than they themselves. ``on_change`` is
    called when logins may have ended.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        recorder: Recorder,
        organizations: Organizations,
        seal: SealedWords,
        *,
        on_change: Callable[[], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._recorder = recorder
        self._organizations = organizations
        self._seal = seal
        self._on_change = on_change

    async def all(self, subject: Subject) -> list[Provider]:
        return await self._database.read(_list, subject.organization_id)

    async def get(self, subject: Subject, name: str) -> Provider:
        """Raises NotFound."""
        return await self._database.read(found_provider, subject.organization_id, name)

    async def offered(self, slug: str) -> list[Provider]:
        """Those that people of the organisation may choose from; none where there is no such organisation."""
        try:
            organization, _ = await self._organizations.by_slug(slug)
        except NotFound:
            return []
        found = await self._database.read(_list, organization.id)
        return [provider for provider in found if provider.enabled]

    async def at(self, address: str) -> Provider:
        """The one that people log in at. Raises NotFound, also for one that is switched off."""
        slug, _, name = address.partition(".")
        try:
            organization, _ = await self._organizations.by_slug(slug)
        except NotFound:
            raise NoSuchProvider from None
        provider = await self._database.read(found_provider, organization.id, name)
        if not provider.enabled:
            raise NoSuchProvider
        return provider

    def secret_of(self, provider: Provider) -> str:
        """Empty for a client without one. Raises InternalError."""
        if not provider.kept_secret:
            return ""
        return self._seal.opened(
            provider.kept_secret,
            _bound_to(provider.organization_id, provider.name),
            what="The client secret of an identity provider",
            remedy="Bring back that key, or set it again: isocenter idp change NAME --client-secret-stdin",
        )

    async def add(
        self,
        subject: Subject,
        name: str,
        *,
        issuer: str,
        client_id: str,
        client_secret: str = "",
        title: str = "",
        settings: dict[str, Any] | None = None,
    ) -> Provider:
        """Raises InvalidInput, Forbidden, Conflict."""
        name = _checked_provider_name(name)
        chosen = ProviderSettings().changed(settings or {})
        _check_powers(subject, checked_issuer(issuer), chosen)
        await self._database.write(
            _add,
            subject.organization_id,
            name,
            title=checked_name(title),
            issuer=issuer,
            client_id=_checked_client_id(client_id),
            client_secret=self._sealed(subject.organization_id, name, client_secret),
            settings=chosen.written(),
            at_us=now_us(self._clock),
        )
        await self._tell(subject, name, "made")
        return await self.get(subject, name)

    async def change(self, subject: Subject, name: str, changes: ProviderChanges) -> Provider:
        """Switched off, its logins end. Raises NotFound, InvalidInput, Forbidden."""
        before = await self.get(subject, name)
        chosen = before.settings.changed(changes.settings or {})
        issuer = before.issuer if changes.issuer is None else checked_issuer(changes.issuer)
        _check_powers(subject, issuer, chosen)
        secret = before.kept_secret
        if changes.client_secret is not None:
            secret = self._sealed(subject.organization_id, name, changes.client_secret)
        elif issuer != before.issuer and secret:
            raise InvalidProvider(
                "Another issuer would be shown the secret of the present one.",
                remedy="Give the client secret for the new issuer along with it.",
            )
        enabled = before.enabled if changes.enabled is None else changes.enabled
        client_id = before.client_id if changes.client_id is None else _checked_client_id(changes.client_id)
        await self._database.write(
            _change,
            subject.organization_id,
            before,
            title=before.title if changes.title is None else checked_name(changes.title),
            issuer=issuer,
            client_id=client_id,
            client_secret=secret,
            enabled=enabled,
            settings=chosen.written(),
            at_us=now_us(self._clock),
        )
        self._on_change()
        await self._tell(subject, name, f"changed: {', '.join(changes.names) or 'nothing'}")
        return await self.get(subject, name)

    async def remove(self, subject: Subject, name: str) -> None:
        """Its logins end; accounts and the identities bound to them stay. Raises NotFound."""
        provider = await self.get(subject, name)
        await self._database.write(_remove, subject.organization_id, provider, now_us(self._clock))
        self._on_change()
        await self._tell(subject, name, "removed")

    def _sealed(self, organization_id: int, name: str, secret: str) -> str:
        if len(secret) > _SECRET_CHARACTERS_MAX or not secret.isprintable():
            raise InvalidProvider(
                f"A client secret has at most {_SECRET_CHARACTERS_MAX} printable characters."
            )
        return self._seal.sealed(secret, _bound_to(organization_id, name)) if secret else ""

    async def _tell(self, subject: Subject, name: str, what: str) -> None:
        self._recorder.record(
            event_of(
                subject,
                Action.PERMISSION_CHANGE,
                resource_kind="identity-provider",
                resource_id=name,
                details={"what": what},
            )
        )
        await self._recorder.settled()


def _check_powers(subject: Subject, issuer: str, settings: ProviderSettings) -> None:
    for role in settings.granted_roles:
        check_grant(subject, PERMISSIONS_OF_ROLE[role])
    if is_loopback(issuer) and not subject.may(Permission.ORGANIZATIONS_MANAGE):
        raise Forbidden(
            "Only an operator sets up a provider on this machine itself.",
            code="more-than-yours",
            remedy="Use the provider's name in the network, or ask an operator.",
        )


def _checked_provider_name(name: str) -> str:
    try:
        return checked_slug(name)
    except InvalidInput:
        raise InvalidProvider(
            "A provider's name has 1 to 63 lower-case letters, digits and hyphens.",
            remedy="Such as 'keycloak': it becomes part of the address that is registered at the provider.",
        ) from None


def _checked_client_id(client_id: str) -> str:
    if not 0 < len(client_id) <= _CLIENT_ID_CHARACTERS_MAX or not client_id.isprintable():
        raise InvalidProvider(f"A client id has 1 to {_CLIENT_ID_CHARACTERS_MAX} printable characters.")
    return client_id


def _bound_to(organization_id: int, name: str) -> str:
    return f"{organization_id} {name}"


def _provider_of(row: Row) -> Provider:
    return Provider(
        row["id"],
        row["organization_id"],
        row["slug"],
        row["name"],
        row["title"],
        row["issuer"],
        row["client_id"],
        row["client_secret"],
        bool(row["enabled"]),
        ProviderSettings.read(row["settings"]),
        row["created_at_us"],
    )


def _list(organization_id: int) -> Work[list[Provider]]:
    rows = yield queries_providers.LIST_PROVIDERS(organization_id=organization_id)
    return [_provider_of(row) for row in rows]


def found_provider(organization_id: int, name: str) -> Work[Provider]:
    rows = yield queries_providers.FIND_PROVIDER(organization_id=organization_id, name=name)
    if not rows:
        raise NoSuchProvider
    return _provider_of(rows[0])


def _add(
    organization_id: int,
    name: str,
    *,
    title: str,
    issuer: str,
    client_id: str,
    client_secret: str,
    settings: str,
    at_us: int,
) -> Work[None]:
    rows = yield queries_providers.PUT_PROVIDER(
        organization_id=organization_id,
        name=name,
        title=title,
        issuer=issuer,
        client_id=client_id,
        client_secret=client_secret,
        settings=settings,
        now_us=at_us,
    )
    if not rows:
        raise Conflict(
            f"There is an identity provider {name} already.",
            code="identity-provider-exists",
            remedy="Change it, or choose another name.",
        )


def _change(
    organization_id: int,
    before: Provider,
    *,
    title: str,
    issuer: str,
    client_id: str,
    client_secret: str,
    enabled: bool,
    settings: str,
    at_us: int,
) -> Work[None]:
    """Logins under way were begun for what it was before; they end, and with another issuer or switched off
    those that it let in do too."""
    yield queries_providers.SET_PROVIDER(
        organization_id=organization_id,
        name=before.name,
        title=title,
        issuer=issuer,
        client_id=client_id,
        client_secret=client_secret,
        enabled=int(enabled),
        settings=settings,
    )
    if not enabled or (issuer, client_id) != (before.issuer, before.client_id):
        yield queries_providers.REMOVE_LOGINS(organization_id=organization_id, provider_id=before.id)
        yield queries.END_SESSIONS_OF_PROVIDER(
            organization_id=organization_id, provider_id=before.id, now_us=at_us
        )


def _remove(organization_id: int, provider: Provider, at_us: int) -> Work[None]:
    yield queries.END_SESSIONS_OF_PROVIDER(
        organization_id=organization_id, provider_id=provider.id, now_us=at_us
    )
    yield queries_providers.REMOVE_LOGINS(organization_id=organization_id, provider_id=provider.id)
    yield queries_providers.REMOVE_SESSIONS(organization_id=organization_id, provider_id=provider.id)
    yield queries_providers.REMOVE_PROVIDER(organization_id=organization_id, provider_id=provider.id)
