"""Passkeys of a real browser at a real server, as both are started by default."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest
from playwright.sync_api import Browser

from services.accounts import PASSWORD
from services.browser import BrowserWithPasskeys, RefusedByBrowser
from services.isocenter import Isocenter

Open = Callable[[str], BrowserWithPasskeys]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    with ExitStack() as opened:

        def open_at(url: str) -> BrowserWithPasskeys:
            made = BrowserWithPasskeys(browser, url)
            opened.callback(made.close)
            return made

        yield open_at


class Client:
    """The part of a page that speaks to the API."""

    def __init__(self, server: Isocenter) -> None:
        self.server = server
        self.authorization = ""

    def ask(self, method: str, path: str, asked: Any = None) -> tuple[int, dict[str, Any]]:
        headers = {"Content-Type": "application/json"}
        if self.authorization:
            headers["Authorization"] = self.authorization
        body = None if asked is None else orjson.dumps(asked)
        status, answer = self.server.request(method, f"/api/v1{path}", body, headers)
        return status, orjson.loads(answer) if answer else {}

    def options(self, path: str, asked: Any = None) -> dict[str, Any]:
        status, answer = self.ask("POST", f"/auth/passkeys{path}/options", asked)
        assert status == 200, answer
        made: dict[str, Any] = answer["public_key"]
        return made

    def register(self, page: BrowserWithPasskeys) -> tuple[int, dict[str, Any]]:
        made = page.create(self.options("/register"))
        return self.ask("POST", "/auth/passkeys/register", {"credential": made, "name": "Laptop"})

    def log_in(self, page: BrowserWithPasskeys) -> tuple[int, dict[str, Any]]:
        used = page.get(self.options("/login"))
        return self.ask("POST", "/auth/passkeys/login", {"credential": used})


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Client]]:
    """A server with an administrator, who is logged in."""
    with ExitStack() as running:

        def started(*flags: str) -> Client:
            server = Isocenter(tmp_path / "server", *flags, auth="required")
            running.callback(server.stop)
            made = server.run("admin", "create", "chief", "--password-stdin", input_text=PASSWORD + "\n")
            assert made.returncode == 0, made.stderr
            client = Client(server)
            status, tokens = client.ask("POST", "/auth/login", _CHIEF)
            assert status == 200, tokens
            client.authorization = f"Bearer {tokens['access_token']}"
            return client

        yield started


_CHIEF = {"login": "chief", "password": PASSWORD}


def home(client: Client) -> str:
    """Any page of the server by the name that this machine has."""
    return f"http://localhost:{client.server.http_port}/health/live"


def test_from_the_first_passkey_to_a_login_without_a_name(
    start: Callable[..., Client], open_page: Open
) -> None:
    client = start()
    page = open_page(home(client))
    page.plug_in(defaultBackupEligibility=True, defaultBackupState=True)
    status, added = client.register(page)
    assert status == 201, added
    assert len(added["recovery_codes"]) == 10
    assert added["passkey"]["backed_up"] is True
    with pytest.raises(RefusedByBrowser):  # it is there already
        client.register(page)
    for _ in range(2):
        status, tokens = client.log_in(page)
        assert status == 200, tokens
    client.authorization = f"Bearer {tokens['access_token']}"
    assert client.ask("GET", "/me")[1]["name"] == "chief"
    [listed] = client.ask("GET", "/me/passkeys")[1]["passkeys"]
    assert listed["name"] == "Laptop" and listed["last_used_at"]
    page.recognise(recognised=False)
    with pytest.raises(RefusedByBrowser):  # the right device, the wrong finger
        client.log_in(page)


def test_a_restored_copy_is_refused_and_told_to_the_trail(
    start: Callable[..., Client], open_page: Open
) -> None:
    client = start()
    page = open_page(home(client))
    page.plug_in()
    assert client.register(page)[0] == 201
    copied = page.passkeys()
    assert client.log_in(page)[0] == 200
    page.restore(copied)
    status, refused = client.log_in(page)
    assert (status, refused["code"]) == (401, "passkey-refused")
    status, trail = client.ask("GET", "/audit?action=login&outcome=denied")
    assert status == 200, trail
    assert "sign count went from" in str(trail)


def test_a_key_that_recognises_nobody_is_a_second_factor(
    start: Callable[..., Client], open_page: Open
) -> None:
    client = start()
    page = open_page(home(client))
    page.plug_in(
        protocol="u2f", transport="usb", hasResidentKey=False, hasUserVerification=False, isUserVerified=False
    )
    status, added = client.register(page)
    assert status == 201, added
    status, needed = client.ask("POST", "/auth/login", _CHIEF)
    assert (status, needed["code"]) == (401, "second-factor-needed")
    used = page.get(client.options("/second-factor", _CHIEF))
    assert client.ask("POST", "/auth/login", _CHIEF | {"passkey": used})[0] == 200
    again = client.ask("POST", "/auth/login", _CHIEF | {"passkey": used})
    assert (again[0], again[1]["code"]) == (401, "second-factor-refused")
    code = {"totp": added["recovery_codes"][0]}
    assert client.ask("POST", "/auth/login", _CHIEF | code)[0] == 200


def test_another_page_of_this_machine_gets_nothing(start: Callable[..., Client], open_page: Open) -> None:
    client = start()
    page = open_page(home(client))
    page.plug_in()
    assert client.register(page)[0] == 201
    # The same domain, another port: the browser lets it ask, the server does not let it in.
    page.page.route("http://localhost:1/**", lambda route: route.fulfill(body="<html></html>"))
    page.page.goto("http://localhost:1/")
    status, refused = client.log_in(page)
    assert (status, refused["code"]) == (403, "passkey-wrong-origin")
    assert f"http://localhost:{client.server.http_port}" in refused["remedy"]
    # An address is no domain: here the browser itself refuses.
    page.page.goto(f"{client.server.url}/health/live")
    with pytest.raises(RefusedByBrowser):
        client.log_in(page)


def test_behind_a_proxy_passkeys_belong_to_the_public_name(
    start: Callable[..., Client], open_page: Open
) -> None:
    client = start(
        *("--public-url", "https://images.hospital.example", "--passkey-rp-id", "hospital.example"),
        *("--passkey-origins", "https://viewer.hospital.example"),
    )
    page = open_page("about:blank")
    page.page.route("https://*.example/**", lambda route: route.fulfill(body="<html></html>"))
    page.page.goto("https://images.hospital.example/")
    page.plug_in()
    assert client.register(page)[0] == 201
    page.page.goto("https://viewer.hospital.example/")
    assert client.log_in(page)[0] == 200
    page.page.goto("https://other.hospital.example/")
    assert client.log_in(page)[0] == 403
    page.page.goto("https://phish.example/")
    with pytest.raises(RefusedByBrowser):
        client.log_in(page)


def test_the_command_line_shows_passkeys_and_takes_them_away(
    start: Callable[..., Client], open_page: Open
) -> None:
    client = start()
    page = open_page(home(client))
    page.plug_in()
    assert "password only" in client.server.run("user", "list").stdout
    assert client.register(page)[0] == 201
    assert "1 passkey " in client.server.run("user", "list").stdout
    cleared = client.server.run("user", "clear-second-factor", "chief")
    assert cleared.stdout == "chief logs in with the password alone.\n"
    assert client.log_in(page)[0] == 401
    assert client.ask("POST", "/auth/login", _CHIEF)[0] == 200
    [listed] = orjson.loads(client.server.run("user", "list", "--json").stdout)["users"]
    assert (listed["second_factor"], listed["passkeys"]) == (False, 0)
