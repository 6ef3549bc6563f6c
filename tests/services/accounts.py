"""Accounts over a database of their own, with the HTTP application in front, and what they told the trail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
from fastapi import FastAPI

from isocenter.doors.http.account_routes import account_routers
from isocenter.doors.http.application import create_app
from isocenter.doors.http.gate import Gate
from isocenter.doors.http.services import HttpServices
from isocenter.features.accounts.ceremonies import RelyingParty
from isocenter.features.accounts.openid.fetching import Fetcher
from isocenter.features.accounts.opening import Accounts, open_accounts
from isocenter.features.accounts.passwords import Costs, PasswordHashes
from isocenter.features.archive.holdings import Holdings
from isocenter.kit.clock import ManualClock
from isocenter.platform.db import Database, composed, open_database
from isocenter.platform.security import AuditEvent, Permission, Role, Subject, SubjectKind
from isocenter.platform.security.installation_key import InstallationKey

PASSWORD = "quartz-umbrella-Tahiti-09"
OTHER_PASSWORD = "violet-anchor-Bergamo-77"
KEY = InstallationKey("0123456789abcdef" * 4)
OURS = 1
_CHEAP = Costs(time=1, memory_kib=32, lanes=1)
"""What real costs cost is not what most tests are about."""

RELYING_PARTY = RelyingParty("localhost", ("http://localhost:8080",))


def command_line(organization_id: int = OURS) -> Subject:
    """Who sits at the machine may do everything, in one organisation at a time."""
    return Subject(
        SubjectKind.SERVICE, "command-line", organization_id, frozenset(Permission), "command line"
    )


@dataclass
class Trail:
    """A recorder that keeps what it is told in memory."""

    events: list[AuditEvent] = field(default_factory=list)
    settled_events: int = 0

    def record(self, event: AuditEvent) -> None:
        self.events.append(event)

    async def settled(self) -> None:
        self.settled_events = len(self.events)

    def told(self) -> list[tuple[str, str, str]]:
        """Action, outcome and kind of resource of each event."""
        return [(event.action, event.outcome, event.resource_kind) for event in self.events]


@dataclass
class TestAccounts:
    """The accounts, a clock to turn, the trail, and a client that comes from ``127.0.0.1``."""

    __test__ = False

    accounts: Accounts
    database: Database
    clock: ManualClock
    trail: Trail
    app: FastAPI
    client: httpx2.AsyncClient

    async def rows(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        def work() -> Any:
            return (yield composed(statement)(**values))

        return [dict(row) for row in await self.database.read_across(work)]

    async def post(
        self, path: str, json: Any = None, *, authorization: str = "", **more: Any
    ) -> httpx2.Response:
        return await self.ask("POST", path, json, authorization=authorization, **more)

    async def ask(
        self, method: str, path: str, json: Any = None, *, authorization: str = "", **more: Any
    ) -> httpx2.Response:
        headers = {"Authorization": authorization} if authorization else {}
        return await self.client.request(method, f"/api/v1{path}", json=json, headers=headers, **more)

    async def admin(
        self, login: str = "admin", *, operator: bool = False, organization_id: int = OURS
    ) -> str:
        """Make an administrator and log in; the ``Authorization`` to send."""
        await self.accounts.people.create(
            command_line(organization_id), login, "", Role.ADMIN, PASSWORD, operator=operator
        )
        return await self.logged_in(login)

    async def logged_in(self, login: str, password: str = PASSWORD) -> str:
        answer = await self.post("/auth/login", {"login": login, "password": password})
        assert answer.status_code == 200, answer.text
        return f"Bearer {answer.json()['access_token']}"

    def from_address(self, address: str) -> httpx2.AsyncClient:
        """Another client, who comes from there."""
        transport = httpx2.ASGITransport(app=self.app, raise_app_exceptions=False, client=(address, 1))
        return httpx2.AsyncClient(transport=transport, base_url="http://isocenter")


@asynccontextmanager
async def opened_accounts(
    url: str,
    *,
    relying_party: RelyingParty | None = RELYING_PARTY,
    clock: ManualClock | None = None,
    fetcher: Fetcher | None = None,
) -> AsyncIterator[TestAccounts]:
    database = await open_database(url)
    clock, trail = clock or ManualClock(), Trail()
    accounts = open_accounts(
        database,
        clock,
        KEY,
        trail,
        relying_party=relying_party,
        public_url="http://isocenter",
        fetcher=fetcher,
        hashes=PasswordHashes(_CHEAP),
    )
    gate = Gate(accounts.authentication, recorder=trail)
    # The other doors are not in this application: whoever asked them for anything would notice.
    services = HttpServices(database, None, None, gate, clock=clock)  # type: ignore[arg-type]
    app = create_app(services, routers=account_routers(accounts, gate, Holdings(database, clock)))
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    try:
        async with httpx2.AsyncClient(transport=transport, base_url="http://isocenter") as client:
            yield TestAccounts(accounts, database, clock, trail, app, client)
    finally:
        await accounts.close()
        await database.close()
