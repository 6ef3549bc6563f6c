"""The use cases of OpenID Connect, put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from isocenter.features.accounts.attempts import Attempts
from isocenter.features.accounts.openid.beginning import Beginning
from isocenter.features.accounts.openid.discovery import Discovery
from isocenter.features.accounts.openid.examining import Examination
from isocenter.features.accounts.openid.fetching import Fetcher
from isocenter.features.accounts.openid.finishing import Finishing
from isocenter.features.accounts.openid.identities import Identities
from isocenter.features.accounts.openid.providers import Providers
from isocenter.features.accounts.openid.proving import Proof
from isocenter.features.accounts.openid.second_step import SecondStep
from isocenter.features.accounts.organizations import Organizations
from isocenter.features.accounts.passkey_checks import PasskeyChecks
from isocenter.features.accounts.second_factor import SecondFactor
from isocenter.features.accounts.sessions import Sessions
from isocenter.kit.clock import Clock
from isocenter.platform.cache import RedisLink
from isocenter.platform.db import Database
from isocenter.platform.security import Recorder
from isocenter.platform.security.installation_key import InstallationKey
from isocenter.platform.security.sealed_words import SealedWords

# A ward behind one address begins and ends more logins than it mistypes passwords.
_ATTEMPTS_MAX = 60


@dataclass(frozen=True, slots=True)
class OpenId:
    providers: Providers
    beginning: Beginning
    finishing: Finishing
    identities: Identities
    examination: Examination
    public_url: str


def open_openid(
    database: Database,
    clock: Clock,
    key: InstallationKey,
    recorder: Recorder,
    *,
    organizations: Organizations,
    sessions: Sessions,
    second_factor: SecondFactor,
    checks: PasskeyChecks,
    login_attempts: Attempts,
    redis: RedisLink | None,
    public_url: str,
    fetcher: Fetcher,
    on_change: Callable[[], None],
) -> OpenId:
    seal, login_key = SealedWords(key.derived("identity providers")), key.derived("logins at providers")
    providers = Providers(database, clock, recorder, organizations, seal, on_change=on_change)
    discovery = Discovery(fetcher, clock)
    return OpenId(
        providers=providers,
        beginning=Beginning(
            database,
            clock,
            providers,
            discovery,
            attempts=Attempts(clock, attempts_max=_ATTEMPTS_MAX, scope="oidc-start ", redis=redis),
            key=login_key,
            public_url=public_url,
        ),
        finishing=Finishing(
            database,
            clock,
            recorder,
            providers,
            discovery,
            proof=Proof(providers, discovery, fetcher, clock, public_url=public_url),
            sessions=sessions,
            second_step=SecondStep(
                database, clock, login_attempts, second_factor=second_factor, checks=checks
            ),
            attempts=Attempts(clock, attempts_max=_ATTEMPTS_MAX, scope="oidc-end ", redis=redis),
            key=login_key,
            on_change=on_change,
        ),
        identities=Identities(database, clock, recorder, on_change=on_change),
        examination=Examination(providers, discovery, fetcher, public_url),
        public_url=public_url,
    )
