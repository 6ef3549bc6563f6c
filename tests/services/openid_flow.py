"""A login by an identity provider, as a browser and as a program go through it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2

from isocenter.kit.clock import ManualClock
from services.accounts import OURS, TestAccounts, command_line
from services.openid_provider import CLIENT_ID, CLIENT_SECRET, OpenIdProvider
from services.processes import Process, can_connect, free_ports

BROWSER = {"Accept": "text/html,application/xhtml+xml"}
PROGRAM = {"Accept": "application/json"}
PLACE = "/api/v1/auth/oidc/default.idp"
CREATES = {"people": "create", "default_role": "clinician"}


def clock_of_today() -> ManualClock:
    """Real providers sign with today's date."""
    return ManualClock(datetime.now(UTC))


async def added(
    house: TestAccounts, issuer: str, name: str = "idp", *, to: int = OURS, **settings: Any
) -> None:
    """A provider, by whoever sits at the machine."""
    await house.accounts.openid.providers.add(
        command_line(to),
        name,
        issuer=issuer,
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        settings=settings,
    )


async def started(client: httpx2.AsyncClient, return_to: str = "/studies", place: str = PLACE) -> str:
    """The address at the provider that the browser is sent to."""
    answer = await client.get(f"{place}/start", params={"return_to": return_to})
    assert answer.status_code == 302, answer.text
    return str(answer.headers["location"])


async def logged_in_at(
    house: TestAccounts,
    provider: OpenIdProvider,
    *,
    client: httpx2.AsyncClient | None = None,
    headers: dict[str, str] = PROGRAM,
    place: str = PLACE,
) -> httpx2.Response:
    """What the callback answers in the end."""
    client = client or house.client
    back = provider.sign_in(await started(client, place=place))
    return await client.get(back, headers=headers)


async def me(house: TestAccounts, answer: httpx2.Response) -> dict[str, Any]:
    """Who the tokens of an answer belong to."""
    authorization = f"Bearer {answer.json()['access_token']}"
    found: dict[str, Any] = (await house.ask("GET", "/me", authorization=authorization)).json()
    return found


def whys(house: TestAccounts) -> list[str]:
    """Why logins were refused, as the audit trail tells it."""
    return [str(one.details["why"]) for one in house.trail.events if "why" in one.details]


@contextmanager
def openid_provider(**options: Any) -> Iterator[OpenIdProvider]:
    provider = OpenIdProvider(**options)
    try:
        yield provider
    finally:
        provider.stop()


class ProviderMock:
    """``oidc-provider-mock``: another author's OpenID provider, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        self.issuer = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock"]
        self._process = Process(
            [*command, "--port", str(self.port), "--require-nonce", "true"],
            log=folder / "oidc-provider-mock.log",
        )
        self._process.wait_until(lambda: can_connect(self.port), "connection")

    def stop(self) -> None:
        self._process.stop()

    def put_user(self, subject: str, claims: dict[str, Any]) -> None:
        answer = httpx2.put(f"{self.issuer}/users/{quote(subject)}", json=claims)
        assert answer.status_code == 204, answer.text

    def sign_in(self, authorization_url: str, subject: str, *, deny: bool = False) -> str:
        """Fill in its form; where the browser is sent back to."""
        form = {"action": "deny"} if deny else {"sub": subject}
        answer = httpx2.post(authorization_url, data=form)
        assert answer.status_code == 302, answer.text
        return str(answer.headers["location"])
