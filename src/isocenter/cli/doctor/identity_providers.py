"""Would a login at the identity providers succeed?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from isocenter.cli.doctor.findings import Finding, Verdict
from isocenter.kit.errors import IsocenterError
from isocenter.platform.settings import Settings

if TYPE_CHECKING:
    from isocenter.features.accounts.openid.entries import Provider
    from isocenter.features.accounts.openid.examining import ProviderFinding
    from isocenter.platform.db import Database

_VERDICTS = {True: Verdict.GOOD, False: Verdict.BAD, None: Verdict.UNKNOWN}


def identity_providers(settings: Settings) -> Iterator[Finding]:
    """Of those that are switched on: what a login would trip over; nothing where there is no database yet."""
    url = settings.database_url_or_default
    if not settings.installation_key.get_secret_value() and not _key_file(settings).exists():
        return  # no provider's secret was ever kept here, and the doctor makes no key
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        return
    try:
        examined = asyncio.run(_examined(settings, url))
    except IsocenterError:
        return  # the database's own check says why
    for provider, findings in examined:
        for found in findings:
            yield Finding(f"login by {provider.address}", _VERDICTS[found.ok], found.says, found.remedy)


def _key_file(settings: Settings) -> Path:
    from isocenter.platform.security.installation_key import FILE_NAME

    return settings.data_folder / "secrets" / FILE_NAME


async def _examined(settings: Settings, url: str) -> list[tuple[Provider, list[ProviderFinding]]]:
    from isocenter.platform.db import migrations, open_database

    if (await migrations.state(url)).behind:
        return []
    database = await open_database(url, migrate=False)
    try:
        return await _of_all(settings, database)
    finally:
        await database.close()


async def _of_all(settings: Settings, database: Database) -> list[tuple[Provider, list[ProviderFinding]]]:
    from isocenter.app.archive import installation_key_of
    from isocenter.cli.witness import operator
    from isocenter.features.accounts.joining import FIRST_ORGANIZATION
    from isocenter.features.accounts.opening import open_accounts
    from isocenter.kit.clock import SystemClock
    from isocenter.platform.security import NoRecorder, Permission

    accounts = open_accounts(
        database,
        SystemClock(),
        installation_key_of(settings),
        NoRecorder(),
        public_url=settings.public_url_or_default,
    )
    everything = frozenset(Permission)
    try:
        organizations = await accounts.organizations.list(operator(FIRST_ORGANIZATION, everything))
        providers = [
            provider
            for organization in organizations
            for provider in await accounts.openid.providers.all(operator(organization.id, everything))
            if provider.enabled
        ]
        examined = await asyncio.gather(*map(accounts.openid.examination.of, providers))
        return list(zip(providers, examined, strict=True))
    finally:
        await accounts.close()
