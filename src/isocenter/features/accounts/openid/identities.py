"""Identities bound to accounts: seen, bound by an administrator, unbound."""

from __future__ import annotations

from collections.abc import Callable

from isocenter.features.accounts import queries as account_queries
from isocenter.features.accounts.joining import account_id_of
from isocenter.features.accounts.openid import queries
from isocenter.features.accounts.openid.admission import bind
from isocenter.features.accounts.openid.entries import Identity, Provider
from isocenter.features.accounts.openid.errors import InvalidProvider
from isocenter.features.accounts.openid.id_tokens import SUBJECT_CHARACTERS_MAX
from isocenter.features.accounts.openid.providers import found_provider
from isocenter.features.accounts.people import managed_account
from isocenter.features.accounts.proof import proven_recently
from isocenter.features.accounts.rows import found_account
from isocenter.kit.clock import Clock, now_us
from isocenter.kit.errors import Conflict, NotFound
from isocenter.platform.db import Database, Row, Work
from isocenter.platform.security import Action, Recorder, Subject, event_of


class Identities:
    """Each method works in the subject's organisation. ``on_change`` is called when logins have ended."""

    def __init__(
        self, database: Database, clock: Clock, recorder: Recorder, *, on_change: Callable[[], None]
    ) -> None:
        self._database = database
        self._clock = clock
        self._recorder = recorder
        self._on_change = on_change

    async def of(self, subject: Subject, account_id: int) -> list[Identity]:
        """Raises NotFound."""
        return await self._database.read(_of, subject.organization_id, account_id)

    async def own(self, subject: Subject) -> list[Identity]:
        """Raises NotFound for whoever is no person."""
        return await self.of(subject, account_id_of(subject))

    async def bind(
        self, subject: Subject, account_id: int, provider_name: str, identity: str
    ) -> list[Identity]:
        """``identity`` is the ``sub`` that the provider knows the person by; all that the account has then.

        Raises NotFound, Forbidden, Conflict, InvalidInput.
        """
        if not 0 < len(identity) <= SUBJECT_CHARACTERS_MAX or not identity.isprintable():
            raise InvalidProvider(
                f"A subject has 1 to {SUBJECT_CHARACTERS_MAX} printable characters.",
                remedy="It is the claim 'sub': the audit trail names it where somebody was refused.",
            )
        provider = await self._database.read(found_provider, subject.organization_id, provider_name)
        await self._database.write(
            _bind,
            subject.organization_id,
            subject,
            account_id,
            provider,
            identity=identity,
            at_us=now_us(self._clock),
        )
        await self._tell(subject, account_id, f"identity of {provider.name} bound")
        return await self.of(subject, account_id)

    async def unbind(self, subject: Subject, account_id: int, identity_id: int) -> None:
        """The logins by providers of that account end. Raises NotFound, Forbidden."""
        await self._database.write(
            _unbind, subject.organization_id, subject, account_id, identity_id, at_us=now_us(self._clock)
        )
        await self._unbound(subject, account_id)

    async def unbind_own(self, subject: Subject, identity_id: int) -> None:
        """Raises NotFound, Forbidden without a recent proof, Conflict for the last way in."""
        account_id = account_id_of(subject)
        await self._database.write(
            _unbind_own, subject.organization_id, subject, identity_id, at_us=now_us(self._clock)
        )
        await self._unbound(subject, account_id)

    async def _unbound(self, subject: Subject, account_id: int) -> None:
        self._on_change()
        await self._tell(subject, account_id, "identity unbound")

    async def _tell(self, subject: Subject, account_id: int, what: str) -> None:
        self._recorder.record(
            event_of(
                subject,
                Action.PERMISSION_CHANGE,
                resource_kind="user",
                resource_id=str(account_id),
                details={"what": what},
            )
        )
        await self._recorder.settled()


def _identity_of(row: Row) -> Identity:
    return Identity(
        row["id"],
        row["account_id"],
        row["issuer"],
        row["subject"],
        row["created_at_us"],
        row["last_login_at_us"],
    )


def _of(organization_id: int, account_id: int) -> Work[list[Identity]]:
    yield from found_account(organization_id, account_id)
    rows = yield queries.LIST_IDENTITIES(organization_id=organization_id, account_id=account_id)
    return [_identity_of(row) for row in rows]


def _bind(
    organization_id: int, subject: Subject, account_id: int, provider: Provider, *, identity: str, at_us: int
) -> Work[None]:
    account = yield from managed_account(organization_id, subject, account_id)
    yield from bind(organization_id, provider.issuer, identity, account, at_us=at_us)


def _unbind(
    organization_id: int, subject: Subject, account_id: int, identity_id: int, *, at_us: int
) -> Work[None]:
    yield from managed_account(organization_id, subject, account_id)
    yield from _remove(organization_id, account_id, identity_id, at_us)


def _unbind_own(organization_id: int, subject: Subject, identity_id: int, *, at_us: int) -> Work[None]:
    account_id = account_id_of(subject)
    yield from proven_recently(organization_id, subject, at_us)
    yield from _remove(organization_id, account_id, identity_id, at_us)
    left = yield queries.LIST_IDENTITIES(organization_id=organization_id, account_id=account_id)
    rows = yield account_queries.FIND_ACCOUNT(organization_id=organization_id, account_id=account_id)
    if not left and not rows[0]["password_hash"] and not rows[0]["passkeys"]:
        raise Conflict(
            "Without this identity you could not log in any longer.",
            code="last-way-in",
            remedy="Let an administrator give you a password first.",
        )


def _remove(organization_id: int, account_id: int, identity_id: int, at_us: int) -> Work[None]:
    rows = yield queries.REMOVE_IDENTITY(
        organization_id=organization_id, account_id=account_id, identity_id=identity_id
    )
    if not rows:
        raise NotFound("There is no such identity.", code="no-such-identity")
    yield queries.END_SESSIONS_OF_ACCOUNT(
        organization_id=organization_id, account_id=account_id, now_us=at_us
    )
