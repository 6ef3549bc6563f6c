"""Access tokens: short JWTs (HS256) that say whose login it is, and nothing else of weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from isocenter.kit.clock import Clock
from isocenter.platform.security import Role

LIFETIME_S = 3600
LEEWAY_S = 60  # clocks of several servers differ
_CHARACTERS_MAX = 2048
_ISSUER = "isocenter"
_ALGORITHMS = ["HS256"]


@dataclass(frozen=True, slots=True)
class Claims:
    """``version`` is the account's when the token was made; a later one there ends the token."""

    account_id: int
    organization_id: int
    session_id: int
    role: Role
    version: int
    expires_s: int


class AccessTokens:
    def __init__(self, key: bytes, clock: Clock) -> None:
        self._key = OctKey.import_key(key)
        self._clock = clock

    def make(self, account_id: int, organization_id: int, session_id: int, role: Role, version: int) -> str:
        now_s = int(self._clock.now().timestamp())
        claims = {
            "iss": _ISSUER,
            "sub": str(account_id),
            "org": organization_id,
            "role": str(role),
            "sid": str(session_id),
            "ver": version,
            "iat": now_s,
            "exp": now_s + LIFETIME_S,
        }
        return jwt.encode({"alg": "HS256"}, claims, self._key, algorithms=_ALGORITHMS)

    def read(self, token: str) -> Claims | None:
        """None for whatever is no token of ours, or no longer."""
        if len(token) > _CHARACTERS_MAX or not token.isascii():
            return None
        try:
            return self._checked(jwt.decode(token, self._key, algorithms=_ALGORITHMS).claims)
        except (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            # What the library raises for hostile bytes depends on where they break it.
            return None

    def _checked(self, claims: dict[str, Any]) -> Claims | None:
        now_s = self._clock.now().timestamp()
        if claims["iss"] != _ISSUER or claims["exp"] + LEEWAY_S <= now_s or claims["iat"] - LEEWAY_S > now_s:
            return None
        return Claims(
            int(claims["sub"]),
            int(claims["org"]),
            int(claims["sid"]),
            Role(claims["role"]),
            int(claims["ver"]),
            int(claims["exp"]) + LEEWAY_S,
        )
