"""The use cases of this feature, put together over one database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from isocenter.features.accounts.access_tokens import AccessTokens
from isocenter.features.accounts.api_keys import ApiKeys
from isocenter.features.accounts.attempts import Attempts
from isocenter.features.accounts.authentication import Authentication
from isocenter.features.accounts.ceremonies import Ceremonies, RelyingParty
from isocenter.features.accounts.challenges import Challenges
from isocenter.features.accounts.joining import Joining
from isocenter.features.accounts.login import Login
from isocenter.features.accounts.openid.fetching import Fetcher
from isocenter.features.accounts.openid.opening import OpenId, open_openid
from isocenter.features.accounts.organizations import Organizations
from isocenter.features.accounts.passkey_checks import PasskeyChecks
from isocenter.features.accounts.passkey_login import PasskeyLogin
from isocenter.features.accounts.passkeys import Passkeys
from isocenter.features.accounts.passwords import PasswordHashes
from isocenter.features.accounts.people import People
from isocenter.features.accounts.proof import Proofs
from isocenter.features.accounts.second_factor import SecondFactor
from isocenter.features.accounts.sessions import Sessions
from isocenter.kit.clock import Clock
from isocenter.platform.cache import RedisLink
from isocenter.platform.db import Database
from isocenter.platform.security import Recorder
from isocenter.platform.security.installation_key import InstallationKey


@dataclass(frozen=True, slots=True)
class Accounts:
    organizations: Organizations
    people: People
    joining: Joining
    login: Login
    sessions: Sessions
    keys: ApiKeys
    second_factor: SecondFactor
    ceremonies: Ceremonies
    passkeys: Passkeys
    passkey_login: PasskeyLogin
    proofs: Proofs
    authentication: Authentication
    hashes: PasswordHashes
    openid: OpenId

    async def close(self) -> None:
        """Writes what waits and ends the threads."""
        await self.authentication.close()
        self.hashes.close()


def open_accounts(
    database: Database,
    clock: Clock,
    key: InstallationKey,
    recorder: Recorder,
    *,
    relying_party: RelyingParty | None = None,
    redis: RedisLink | None = None,
    on_settings_change: Callable[[int], None] = lambda _: None,
    public_url: str = "http://localhost:8080",
    fetcher: Fetcher | None = None,
    hashes: PasswordHashes | None = None,
) -> Accounts:
    """``relying_party``: whom passkeys belong to; without one there are none. ``redis``: where
    processes count attempts together. ``on_settings_change`` is told which organisation has changed its
    settings. ``public_url`` is how browsers reach this server, ``fetcher`` what asks identity providers.
    ``hashes``: whom passwords are given to, closed with the rest."""
    hashes, attempts = hashes or PasswordHashes(), Attempts(clock, redis=redis)
    access_tokens = AccessTokens(key.derived("access tokens"), clock)
    authentication = Authentication(database, clock, access_tokens)
    changed = authentication.expire
    organizations = Organizations(database, clock, recorder, on_settings_change)
    sessions = Sessions(database, clock, access_tokens, recorder, changed)
    second_factor = SecondFactor(database, clock, key.derived("second factors"), attempts, recorder)
    ceremonies = Ceremonies(relying_party)
    challenges = Challenges(database, clock, key.derived("passkey challenges"))
    checks = PasskeyChecks(database, clock, ceremonies, challenges)
    return Accounts(
        organizations=organizations,
        people=People(database, clock, hashes, recorder, changed),
        joining=Joining(
            database, clock, hashes, recorder, organizations, attempts=attempts, on_change=changed
        ),
        login=Login(
            database,
            hashes,
            attempts,
            second_factor=second_factor,
            passkeys=checks,
            sessions=sessions,
            recorder=recorder,
        ),
        sessions=sessions,
        keys=ApiKeys(database, clock, recorder, changed),
        second_factor=second_factor,
        ceremonies=ceremonies,
        passkeys=Passkeys(
            database,
            clock,
            ceremonies,
            challenges,
            key=key.derived("passkey user handles"),
            recorder=recorder,
        ),
        passkey_login=PasskeyLogin(
            ceremonies, challenges, checks, attempts, sessions=sessions, recorder=recorder
        ),
        proofs=Proofs(
            database, clock, hashes, attempts, second_factor=second_factor, checks=checks, recorder=recorder
        ),
        authentication=authentication,
        hashes=hashes,
        openid=open_openid(
            database,
            clock,
            key,
            recorder,
            organizations=organizations,
            sessions=sessions,
            second_factor=second_factor,
            checks=checks,
            login_attempts=attempts,
            redis=redis,
            public_url=public_url,
            fetcher=fetcher or Fetcher(),
            on_change=changed,
        ),
    )
