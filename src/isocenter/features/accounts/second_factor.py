"""The second factor: codes of an authenticator app (TOTP, RFC 6238), and recovery codes in place of any."""

from __future__ import annotations

import base64
import hmac
import io
import secrets
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from isocenter.features.accounts import queries_passkeys
from isocenter.features.accounts import queries_second_factor as queries
from isocenter.features.accounts.attempts import Attempts
from isocenter.features.accounts.factors import (
    for_people,
    forget_codes_after_the_last_factor,
    locked_factors_of,
    new_codes,
    put_codes,
    use_code,
)
from isocenter.features.accounts.joining import account_id_of
from isocenter.features.accounts.people import managed_account
from isocenter.features.accounts.proof import proven_recently
from isocenter.kit.clock import Clock, now_us
from isocenter.kit.errors import Conflict, InternalError, InvalidInput
from isocenter.platform.db import Database, Work
from isocenter.platform.security import Action, EventOutcome, Recorder, Subject, event_of

_STEP_S = 30
_NONCE_BYTES = 12
_NAME_OF_US = "Isocenter"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """``svg`` and ``png`` show ``uri`` as a QR code."""

    secret: str
    uri: str
    svg: str
    png: bytes


class WrongCode(InvalidInput):
    default_code = "wrong-code"

    def __init__(self) -> None:
        super().__init__(
            "This code does not count, or no longer.",
            remedy="Wait for the next one; the phone's clock has to be right within 30 s.",
        )


class SecondFactor:
    """``key``: 32 bytes that the secrets are encrypted with."""

    def __init__(
        self, database: Database, clock: Clock, key: bytes, attempts: Attempts, recorder: Recorder
    ) -> None:
        self._database = database
        self._clock = clock
        self._cipher = AESGCM(key)
        self._attempts = attempts
        self._recorder = recorder

    async def enrol(self, subject: Subject) -> Enrolment:
        """A new secret, which counts once it was confirmed.

        Raises Conflict while one counts, Forbidden without a recent proof, NotFound for whoever is no person.
        """
        account_id = account_id_of(subject)
        import pyotp
        import segno

        secret = pyotp.random_base32()
        await self._database.write(
            _enrol,
            subject.organization_id,
            subject,
            account_id,
            self._encrypted(account_id, secret),
            now_us(self._clock),
        )
        uri = pyotp.TOTP(secret).provisioning_uri(name=subject.name, issuer_name=_NAME_OF_US)
        code = segno.make(uri, error="m")
        png = io.BytesIO()
        code.save(png, kind="png", scale=6)
        return Enrolment(secret, uri, code.svg_inline(scale=6), png.getvalue())

    async def confirm(self, subject: Subject, code: str) -> list[str]:
        """The app shows the right code: from now on it is asked for. The recovery codes, shown this once.

        Raises InvalidInput, Conflict, RateLimited.
        """
        account_id = account_id_of(subject)
        counted = await self._attempts.begin(subject.address, subject.name)
        kept = await self._database.read(_kept, subject.organization_id, account_id)
        if not kept.secret or kept.confirmed:
            raise Conflict("There is no second factor to confirm.", remedy="Enrol one first.")
        step = self._step_of(account_id, kept, code)
        if step is None:
            raise WrongCode
        codes = new_codes()
        await self._database.write(_confirm, subject.organization_id, account_id, kept.secret, step, codes)
        await self._attempts.forgive(counted)
        await self._tell(subject, account_id, "second factor on")
        return [for_people(one) for one in codes]

    async def disable(self, subject: Subject, code: str) -> None:
        """With one of its codes, or a recovery code; passkeys stay. Raises InvalidInput, RateLimited."""
        account_id = account_id_of(subject)
        counted = await self._attempts.begin(subject.address, subject.name)
        kept = await self._database.read(_kept, subject.organization_id, account_id)
        if not kept.confirmed or not await self.fits(subject.organization_id, account_id, code):
            await self._tell(subject, account_id, "second factor off", outcome=EventOutcome.DENIED)
            raise WrongCode
        await self._database.write(_turn_off, subject.organization_id, account_id)
        await self._attempts.forgive(counted)
        await self._tell(subject, account_id, "second factor off")

    async def clear(self, subject: Subject, account_id: int) -> None:
        """For somebody who lost phone and recovery codes; passkeys go too. Raises NotFound, Forbidden."""
        await self._database.read(managed_account, subject.organization_id, subject, account_id)
        passkeys = await self._database.write(_clear, subject.organization_id, account_id)
        await self._tell(subject, account_id, f"second factor cleared, with {passkeys} passkeys")

    async def fits(self, organization_id: int, account_id: int, code: str) -> bool:
        """Whether the code counts, of the app or for recovery; it counts no second time."""
        kept = await self._database.read(_kept, organization_id, account_id)
        step = self._step_of(account_id, kept, code) if kept.secret and kept.confirmed else None
        if step is not None:
            return await self._database.write(_use_step, organization_id, account_id, step)
        return await self._database.write(use_code, organization_id, account_id, code, now_us(self._clock))

    def _step_of(self, account_id: int, kept: _Kept, code: str) -> int | None:
        """The step whose code it is, of the last, this and the next one, unless it was used."""
        import pyotp

        digits = "".join(code.split())
        if len(digits) != 6 or not digits.isascii() or not digits.isdigit():
            return None
        totp = pyotp.TOTP(self._decrypted(account_id, kept.secret))
        now = int(self._clock.now().timestamp()) // _STEP_S
        fitting = [
            step for step in (now - 1, now, now + 1) if hmac.compare_digest(totp.generate_otp(step), digits)
        ]
        return next((step for step in fitting if step > kept.step), None)

    def _encrypted(self, account_id: int, secret: str) -> str:
        """Bound to its account: copied into another row it opens nothing."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, secret.encode(), str(account_id).encode())
        return base64.b64encode(nonce + sealed).decode()

    def _decrypted(self, account_id: int, kept: str) -> str:
        raw = base64.b64decode(kept)
        try:
            return self._cipher.decrypt(
                raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], str(account_id).encode()
            ).decode()
        except InvalidTag as error:
            raise InternalError(
                "The second factor cannot be read: it was made under another installation key.",
                code="another-installation-key",
                remedy="Bring back that key, or let an administrator clear the second factor.",
            ) from error

    async def _tell(
        self,
        subject: Subject,
        account_id: int,
        what: str,
        *,
        outcome: EventOutcome = EventOutcome.SUCCESS,
    ) -> None:
        self._recorder.record(
            event_of(
                subject,
                Action.CHANGE,
                outcome=outcome,
                resource_kind="user",
                resource_id=str(account_id),
                details={"what": what},
            )
        )
        await self._recorder.settled()


@dataclass(frozen=True, slots=True)
class _Kept:
    secret: str
    confirmed: bool
    step: int


def _kept(organization_id: int, account_id: int) -> Work[_Kept]:
    rows = yield queries.FIND_SECOND_FACTOR(organization_id=organization_id, account_id=account_id)
    if not rows:
        return _Kept("", confirmed=False, step=0)
    return _Kept(rows[0]["totp_secret"], bool(rows[0]["totp_confirmed"]), rows[0]["totp_step"])


def _enrol(organization_id: int, subject: Subject, account_id: int, secret: str, at_us: int) -> Work[None]:
    yield from proven_recently(organization_id, subject, at_us)
    kept = yield from _kept(organization_id, account_id)
    if kept.confirmed:
        raise Conflict(
            "There is a second factor already.", code="second-factor-on", remedy="Turn it off first."
        )
    yield queries.SET_SECRET(
        organization_id=organization_id, account_id=account_id, secret=secret, confirmed=0, step=0
    )


def _confirm(organization_id: int, account_id: int, secret: str, step: int, codes: list[str]) -> Work[None]:
    kept = yield from _kept(organization_id, account_id)
    if kept.confirmed or kept.secret != secret:
        raise Conflict("The second factor was changed meanwhile.", remedy="Look at its state and try again.")
    yield queries.SET_SECRET(
        organization_id=organization_id, account_id=account_id, secret=secret, confirmed=1, step=step
    )
    yield from put_codes(organization_id, account_id, codes)


def _turn_off(organization_id: int, account_id: int) -> Work[None]:
    yield from locked_factors_of(organization_id, account_id)
    yield queries.SET_SECRET(
        organization_id=organization_id, account_id=account_id, secret="", confirmed=0, step=0
    )
    yield from forget_codes_after_the_last_factor(organization_id, account_id)


def _clear(organization_id: int, account_id: int) -> Work[int]:
    """How many passkeys went."""
    yield from locked_factors_of(organization_id, account_id)
    removed = yield queries_passkeys.FORGET_PASSKEYS(organization_id=organization_id, account_id=account_id)
    yield from _turn_off(organization_id, account_id)
    return len(removed)


def _use_step(organization_id: int, account_id: int, step: int) -> Work[bool]:
    rows = yield queries.USE_STEP(organization_id=organization_id, account_id=account_id, step=step)
    return bool(rows)
