"""Debian's Chromium without a window, with authenticators that its developer tools simulate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Error, Page, sync_playwright

from services.packages import find_program

RefusedByBrowser = Error
"""What a page gets where its browser itself says no."""

_CREATE = """async options => (await navigator.credentials.create(
    {publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options)})).toJSON()"""
_GET = """async options => (await navigator.credentials.get(
    {publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options)})).toJSON()"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """While it runs no test of its thread can have an event loop: Playwright's is one."""
    program: Path = find_program("chromium", "chromium")
    with sync_playwright() as playwright:
        # Its sandbox needs more rights than a container gives; the pages are our own.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class BrowserWithPasskeys:
    """One profile with one page, open at ``url``."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._context: BrowserContext = browser.new_context()
        self.page: Page = self._context.new_page()
        self._cdp = self._context.new_cdp_session(self.page)
        self._cdp.send("WebAuthn.enable")
        self._authenticator_id = ""
        self.page.goto(url)

    def plug_in(self, **changes: Any) -> None:
        """A device's own authenticator, whose person is recognised; ``changes`` make it another one."""
        options = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
            **changes,
        }
        made = self._cdp.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        self._authenticator_id = made["authenticatorId"]

    def recognise(self, *, recognised: bool) -> None:
        """Whether the person shows the right finger or PIN from now on."""
        self._cdp.send(
            "WebAuthn.setUserVerified",
            {"authenticatorId": self._authenticator_id, "isUserVerified": recognised},
        )

    def passkeys(self) -> list[dict[str, Any]]:
        """As the authenticator keeps them, with ``signCount`` and private key."""
        asked = {"authenticatorId": self._authenticator_id}
        kept: list[dict[str, Any]] = self._cdp.send("WebAuthn.getCredentials", asked)["credentials"]
        return kept

    def restore(self, passkeys: list[dict[str, Any]]) -> None:
        """As from a copy: what was counted since then is forgotten."""
        asked = {"authenticatorId": self._authenticator_id}
        self._cdp.send("WebAuthn.clearCredentials", asked)
        for one in passkeys:
            self._cdp.send("WebAuthn.addCredential", asked | {"credential": one})

    def create(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """``navigator.credentials.create()``. Raises RefusedByBrowser."""
        made: dict[str, Any] = self.page.evaluate(_CREATE, dict(options))
        return made

    def get(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """``navigator.credentials.get()``. Raises RefusedByBrowser."""
        made: dict[str, Any] = self.page.evaluate(_GET, dict(options))
        return made

    def close(self) -> None:
        self._context.close()
