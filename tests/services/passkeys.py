"""People with passkeys, by the HTTP API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx2

from services.accounts import PASSWORD, TestAccounts
from services.authenticator import Authenticator, Lies

TRUTH = Lies()


@dataclass
class Person:
    """Somebody who has logged in, and their authenticator."""

    house: TestAccounts
    login: str
    authorization: str
    device: Authenticator
    recovery_codes: list[str]

    async def ask(self, method: str, path: str, json: Any = None) -> httpx2.Response:
        return await self.house.ask(method, path, json, authorization=self.authorization)

    async def passkeys(self) -> list[dict[str, Any]]:
        answer = await self.ask("GET", "/me/passkeys")
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["passkeys"]
        return found

    async def new_options(self) -> dict[str, Any]:
        answer = await self.ask("POST", "/auth/passkeys/register/options")
        assert answer.status_code == 200, answer.text
        made: dict[str, Any] = answer.json()["public_key"]
        return made

    async def register(self, lies: Lies = TRUTH, *, name: str = "Phone") -> httpx2.Response:
        credential = self.device.create(await self.new_options(), lies)
        return await self.ask("POST", "/auth/passkeys/register", {"credential": credential, "name": name})

    async def second_factor_options(self) -> dict[str, Any]:
        asked = {"login": self.login, "password": PASSWORD}
        answer = await self.house.post("/auth/passkeys/second-factor/options", asked)
        assert answer.status_code == 200, answer.text
        made: dict[str, Any] = answer.json()["public_key"]
        return made

    async def log_in_with_both(self, lies: Lies = TRUTH) -> httpx2.Response:
        """By the password, then the passkey."""
        credential = self.device.get(await self.second_factor_options(), lies)
        asked = {"login": self.login, "password": PASSWORD, "passkey": credential}
        return await self.house.post("/auth/login", asked)


async def login_options(house: TestAccounts) -> dict[str, Any]:
    answer = await house.post("/auth/passkeys/login/options")
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()["public_key"]
    return made


async def show(house: TestAccounts, credential: dict[str, Any], **more: Any) -> httpx2.Response:
    """Log in with what an authenticator answered."""
    return await house.post("/auth/passkeys/login", {"credential": credential, **more})


async def log_in(house: TestAccounts, device: Authenticator, lies: Lies = TRUTH) -> httpx2.Response:
    """By a passkey alone."""
    return await show(house, device.get(await login_options(house), lies))


async def person_with_passkey(
    house: TestAccounts, login: str = "jane", device: Authenticator | None = None
) -> Person:
    person = Person(house, login, await house.admin(login), device or Authenticator(), [])
    made = await person.register()
    assert made.status_code == 201, made.text
    person.recovery_codes = made.json()["recovery_codes"]
    return person
