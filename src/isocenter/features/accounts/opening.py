"""The use cases of this feature, put together over one database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from isocenter.features.accounts.access_tokens import AccessTokens
from isocenter.features.accounts.api_keys import ApiKeys
from isocenter.features.accounts.attempts import Attempts
from isocenter.features.accounts.authentication import Authentication
from isocenter.features.accounts.installation_key import InstallationKey
from isocenter.features.accounts.joining import Joining
from isocenter.features.accounts.login import Login
from isocenter.features.accounts.organizations import Organizations
from isocenter.features.accounts.passwords import PasswordHashes
from isocenter.features.accounts.people import People
from isocenter.features.accounts.second_factor import SecondFactor
from isocenter.features.accounts.sessions import Sessions
from isocenter.kit.clock import Clock
from isocenter.platform.db import Database
from isocenter.platform.security import Recorder


@dataclass(frozen=True, slots=True)
class Accounts:
    organizations: Organizations
    people: People
    joining: Joining
    login: Login
    sessions: Sessions
    keys: ApiKeys
    second_factor: SecondFactor
    authentication: Authentication
    hashes: PasswordHashes

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
    on_settings_change: Callable[[int], None] = lambda _: None,
) -> Accounts:
    """``on_settings_change`` is told which organisation has changed its settings."""
    hashes, attempts = PasswordHashes(), Attempts(clock)
    access_tokens = AccessTokens(key.derived("access tokens"), clock)
    authentication = Authentication(database, clock, access_tokens)
    changed = authentication.expire
    organizations = Organizations(database, clock, recorder, on_settings_change)
    sessions = Sessions(database, clock, access_tokens, recorder, changed)
    second_factor = SecondFactor(database, clock, key.derived("second factors"), attempts, recorder)
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
            sessions=sessions,
            recorder=recorder,
        ),
        sessions=sessions,
        keys=ApiKeys(database, clock, recorder, changed),
        second_factor=second_factor,
        authentication=authentication,
        hashes=hashes,
    )
