"""A person's passkeys: made, listed, named, taken away."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from isocenter.features.accounts import queries_passkeys as queries
from isocenter.features.accounts.ceremonies import Ceremonies, Descriptor, NewCredential, Unverified
from isocenter.features.accounts.challenges import ChallengePurpose, Challenges
from isocenter.features.accounts.entries import Account, Passkey
from isocenter.features.accounts.factors import (
    for_people,
    forget_codes_after_the_last_factor,
    locked_factors_of,
    new_codes,
    put_codes,
)
from isocenter.features.accounts.identifiers import new_id
from isocenter.features.accounts.joining import account_id_of
from isocenter.features.accounts.passkey_checks import NoSuchPasskey, usable_passkeys
from isocenter.features.accounts.proof import proven_recently
from isocenter.features.accounts.rows import found_account, passkey_of
from isocenter.features.accounts.words import checked_name
from isocenter.kit.clock import Clock, now_us
from isocenter.kit.errors import Conflict, InvalidInput
from isocenter.platform.db import Database, Work
from isocenter.platform.security import Action, EventOutcome, Recorder, Subject, event_of

PASSKEYS_MAX = 20
_UNNAMED = "Passkey"


class PasskeyNotMade(InvalidInput):
    default_code = "passkey-not-made"

    def __init__(self) -> None:
        super().__init__(
            "The new passkey could not be verified, or it took longer than five minutes.",
            remedy="Begin again; if it fails once more, try another device or browser.",
        )


@dataclass(frozen=True, slots=True)
class Added:
    """``recovery_codes``: shown this once, where this is the account's first second factor."""

    passkey: Passkey
    recovery_codes: list[str]


class Passkeys:
    """Each method is about the subject's own; NotFound for whoever is no person. ``key``: 32 bytes that user
    handles are made with."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        ceremonies: Ceremonies,
        challenges: Challenges,
        *,
        key: bytes,
        recorder: Recorder,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ceremonies = ceremonies
        self._challenges = challenges
        self._key = key
        self._recorder = recorder

    async def options(self, subject: Subject) -> dict[str, Any]:
        """What a page gives its browser to make one.

        Raises Forbidden without a recent proof, Conflict for too many, Unsupported.
        """
        account_id = account_id_of(subject)
        self._ceremonies.check_available()
        account, known = await self._database.read(
            _prepare, subject.organization_id, subject, account_id, now_us(self._clock)
        )
        return self._ceremonies.creation_options(
            self._challenges.make(ChallengePurpose.REGISTRATION, subject.organization_id, account_id),
            user_handle=self._handle(subject.organization_id, account_id),
            login=account.login,
            name=account.display_name,
            known=known,
        )

    async def add(self, subject: Subject, credential: Mapping[str, Any], name: str) -> Added:
        """Raises InvalidInput, Forbidden for a foreign page, Conflict."""
        account_id, organization_id = account_id_of(subject), subject.organization_id
        name = checked_name(name) or _UNNAMED
        try:
            challenge = self._ceremonies.challenge_in(credential, creating=True)
            fresh = await self._challenges.use(
                challenge, ChallengePurpose.REGISTRATION, organization_id, account_id
            )
            made = self._ceremonies.created(credential, challenge)
            if not fresh:
                raise Unverified("challenge of another kind, too old or used")
        except Unverified as error:
            await self._tell(subject, "passkey made", why=error.why)
            raise PasskeyNotMade from error
        codes = new_codes()
        passkey, first = await self._database.write(
            _add,
            organization_id,
            account_id,
            made,
            name,
            codes,
            handle=self._handle(organization_id, account_id),
            at_us=now_us(self._clock),
        )
        await self._tell(subject, "passkey made", passkey_id=passkey.id)
        return Added(passkey, [for_people(one) for one in codes] if first else [])

    async def list(self, subject: Subject) -> list[Passkey]:
        return await self._database.read(_list, subject.organization_id, account_id_of(subject))

    async def rename(self, subject: Subject, passkey_id: int, name: str) -> Passkey:
        """Raises NotFound, InvalidInput."""
        name = checked_name(name) or _UNNAMED
        passkey = await self._database.write(
            _rename, subject.organization_id, account_id_of(subject), passkey_id, name
        )
        await self._tell(subject, "passkey renamed", passkey_id=passkey_id)
        return passkey

    async def remove(self, subject: Subject, passkey_id: int) -> None:
        """Raises NotFound, Forbidden without a recent proof."""
        account_id = account_id_of(subject)
        await self._database.write(
            _remove, subject.organization_id, subject, account_id, passkey_id, now_us(self._clock)
        )
        await self._tell(subject, "passkey removed", passkey_id=passkey_id)

    def _handle(self, organization_id: int, account_id: int) -> bytes:
        """The same for all passkeys of an account, and telling nothing (WebAuthn §14.6.1)."""
        return hmac.digest(self._key, f"{organization_id} {account_id}".encode(), hashlib.sha256)

    async def _tell(
        self, subject: Subject, what: str, *, passkey_id: int | None = None, why: str = ""
    ) -> None:
        self._recorder.record(
            event_of(
                subject,
                Action.CHANGE,
                outcome=EventOutcome.DENIED if why else EventOutcome.SUCCESS,
                resource_kind="user",
                resource_id=subject.id,
                details={"what": what} | ({"why": why} if why else {"passkey": passkey_id}),
            )
        )
        await self._recorder.settled()


def _prepare(
    organization_id: int, subject: Subject, account_id: int, at_us: int
) -> Work[tuple[Account, list[Descriptor]]]:
    yield from proven_recently(organization_id, subject, at_us)
    account = yield from found_account(organization_id, account_id)
    known = yield from usable_passkeys(organization_id, account_id)
    _check_number(len(known))
    return account, known


def _check_number(there: int) -> None:
    if there >= PASSKEYS_MAX:
        raise Conflict(
            f"There are {PASSKEYS_MAX} passkeys already.",
            code="too-many-passkeys",
            remedy="Remove one that is no longer used.",
        )


def _add(
    organization_id: int,
    account_id: int,
    made: NewCredential,
    name: str,
    codes: list[str],
    *,
    handle: bytes,
    at_us: int,
) -> Work[tuple[Passkey, bool]]:
    """And whether it is the account's first second factor, which the recovery codes are kept for."""
    factors = yield from locked_factors_of(organization_id, account_id)
    _check_number(factors.passkeys + factors.passkeys_revoked)
    rows = yield queries.PUT_PASSKEY(
        id=new_id(),
        organization_id=organization_id,
        account_id=account_id,
        credential_id=made.credential_id,
        public_key=base64.b64encode(made.public_key).decode(),
        user_handle=base64.b64encode(handle).decode(),
        sign_count=made.sign_count,
        transports=orjson.dumps(made.transports).decode(),
        name=name,
        backup_eligible=int(made.backup_eligible),
        backed_up=int(made.backed_up),
        now_us=at_us,
    )
    if not rows:
        raise Conflict(
            "This passkey is known already.", code="passkey-known", remedy="Use it, or make another one."
        )
    if not factors.any:
        yield from put_codes(organization_id, account_id, codes)
    return passkey_of(rows[0]), not factors.any


def _list(organization_id: int, account_id: int) -> Work[list[Passkey]]:
    rows = yield queries.LIST_PASSKEYS(organization_id=organization_id, account_id=account_id)
    return [passkey_of(row) for row in rows]


def _rename(organization_id: int, account_id: int, passkey_id: int, name: str) -> Work[Passkey]:
    rows = yield queries.RENAME_PASSKEY(
        organization_id=organization_id, account_id=account_id, passkey_id=passkey_id, name=name
    )
    if not rows:
        raise NoSuchPasskey
    return passkey_of(rows[0])


def _remove(
    organization_id: int, subject: Subject, account_id: int, passkey_id: int, at_us: int
) -> Work[None]:
    yield from proven_recently(organization_id, subject, at_us)
    yield from locked_factors_of(organization_id, account_id)
    rows = yield queries.FORGET_PASSKEY(
        organization_id=organization_id, account_id=account_id, passkey_id=passkey_id
    )
    if not rows:
        raise NoSuchPasskey
    yield from forget_codes_after_the_last_factor(organization_id, account_id)
