"""Which second factors an account has, and the recovery codes, each of which works once in place of any."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass

from isocenter.features.accounts import queries_second_factor as queries
from isocenter.features.accounts.secret_words import hash_of
from isocenter.platform.db import Work

RECOVERY_CODES = 10
_BYTES = 10  # 80 random bits: nothing to guess, so a plain hash will do


@dataclass(frozen=True, slots=True)
class Factors:
    """What is asked for after the password. Revoked passkeys still ask: then recovery codes alone answer."""

    totp: bool
    passkeys: int
    passkeys_revoked: int = 0

    @property
    def any(self) -> bool:
        return self.totp or bool(self.passkeys + self.passkeys_revoked)

    @property
    def names(self) -> list[str]:
        """For programs, by what they can ask the person for."""
        offered = (("totp", self.totp), ("passkey", self.passkeys > 0), ("recovery-code", self.any))
        return [name for name, there in offered if there]


def new_codes() -> list[str]:
    return [base64.b32encode(secrets.token_bytes(_BYTES)).decode().lower() for _ in range(RECOVERY_CODES)]


def for_people(code: str) -> str:
    return "-".join(code[at : at + 4] for at in range(0, len(code), 4))


def as_made(code: str) -> str:
    """Whatever somebody wrote between its characters."""
    return "".join(character for character in code.lower() if character.isalnum())


def locked_factors_of(organization_id: int, account_id: int) -> Work[Factors]:
    """For whoever is about to change them: of two at once the second sees what the first has done."""
    yield queries.LOCK_ACCOUNT(organization_id=organization_id, account_id=account_id)
    return (yield from factors_of(organization_id, account_id))


def factors_of(organization_id: int, account_id: int) -> Work[Factors]:
    rows = yield queries.FIND_FACTORS(organization_id=organization_id, account_id=account_id)
    if not rows:
        return Factors(totp=False, passkeys=0)
    row = rows[0]
    return Factors(bool(row["totp_confirmed"]), row["passkeys"], row["passkeys_revoked"])


def put_codes(organization_id: int, account_id: int, codes: list[str]) -> Work[None]:
    """The earlier ones work no longer."""
    yield queries.FORGET_RECOVERY_CODES(organization_id=organization_id, account_id=account_id)
    yield queries.PUT_RECOVERY_CODE.many(
        [
            {"organization_id": organization_id, "account_id": account_id, "code_hash": hash_of(code)}
            for code in codes
        ]
    )


def forget_codes_after_the_last_factor(organization_id: int, account_id: int) -> Work[None]:
    factors = yield from factors_of(organization_id, account_id)
    if not factors.any:
        yield queries.FORGET_RECOVERY_CODES(organization_id=organization_id, account_id=account_id)


def use_code(organization_id: int, account_id: int, code: str, at_us: int) -> Work[bool]:
    rows = yield queries.USE_RECOVERY_CODE(
        organization_id=organization_id,
        account_id=account_id,
        code_hash=hash_of(as_made(code)),
        now_us=at_us,
    )
    return bool(rows)
