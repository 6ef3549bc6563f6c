"""The login page in a real browser: passkeys, and another author's identity provider."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import pyotp
import pytest
from playwright.sync_api import Browser, Page, expect

from services.accounts import PASSWORD
from services.browser import BrowserWithPasskeys
from services.isocenter import Isocenter
from services.openid_flow import ProviderMock

_CHIEF = {"login": "chief", "password": PASSWORD}
Open = Callable[[str], BrowserWithPasskeys]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Isocenter]:
    made = Isocenter(tmp_path / "server", auth="required")
    created = made.run("admin", "create", "chief", "--password-stdin", input_text=PASSWORD + "\n")
    assert created.returncode == 0, created.stderr
    yield made
    made.stop()


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[ProviderMock]:
    made = ProviderMock(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    with ExitStack() as opened:

        def open_at(url: str) -> BrowserWithPasskeys:
            made = BrowserWithPasskeys(browser, url)
            opened.callback(made.close)
            return made

        yield open_at


def ask(server: Isocenter, path: str, asked: Any = None, authorization: str = "") -> dict[str, Any]:
    headers = {"Content-Type": "application/json"} | (
        {"Authorization": authorization} if authorization else {}
    )
    status, answer = server.request("POST", f"/api/v1{path}", orjson.dumps(asked or {}), headers)
    assert status < 300, answer
    found: dict[str, Any] = orjson.loads(answer) if answer else {}
    return found


def register(server: Isocenter, page: BrowserWithPasskeys) -> None:
    bearer = "Bearer " + ask(server, "/auth/login", _CHIEF)["access_token"]
    made = page.create(ask(server, "/auth/passkeys/register/options", authorization=bearer)["public_key"])
    ask(server, "/auth/passkeys/register", {"credential": made}, bearer)


def is_logged_in(page: Page, name: str, going_to: str = "/ohif/") -> None:
    page.wait_for_url(f"**{going_to}")
    page.goto(page.url.partition("/ohif")[0] + "/ohif/login")
    expect(page.get_by_text(f"You are logged in as {name}.")).to_be_visible()
    [cookie] = [one for one in page.context.cookies() if one["name"] == "isocenter_refresh"]
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"


def test_a_passkey_alone(server: Isocenter, open_page: Open) -> None:
    opened = open_page(f"http://localhost:{server.http_port}/ohif/login")
    page = opened.page
    opened.plug_in()
    register(server, opened)
    opened.recognise(recognised=False)
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("No passkey was used")
    opened.recognise(recognised=True)
    page.evaluate("sessionStorage.setItem('isocenter-next', '/ohif/viewer?StudyInstanceUIDs=1.2')")
    page.get_by_role("button", name="Use a passkey").click()
    is_logged_in(page, "chief", "/ohif/viewer?StudyInstanceUIDs=1.2")


def test_a_passkey_after_the_password(server: Isocenter, open_page: Open) -> None:
    opened = open_page(f"http://localhost:{server.http_port}/ohif/login")
    page = opened.page
    opened.plug_in(
        protocol="u2f", transport="usb", hasResidentKey=False, hasUserVerification=False, isUserVerified=False
    )
    register(server, opened)
    page.get_by_label("Login").fill("chief")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_label("Code of your app")).to_be_focused()
    page.get_by_role("button", name="Use a passkey").click()
    is_logged_in(page, "chief")


def test_a_passkey_that_counts_no_longer_is_refused(server: Isocenter, open_page: Open) -> None:
    opened = open_page(f"http://localhost:{server.http_port}/ohif/login")
    opened.plug_in()
    register(server, opened)
    assert server.run("user", "clear-second-factor", "chief").returncode == 0
    opened.page.get_by_role("button", name="Use a passkey").click()
    expect(opened.page.get_by_role("alert")).to_contain_text("passkey")
    assert not [one for one in opened.page.context.cookies() if one["name"] == "isocenter_refresh"]


def test_an_address_has_no_passkeys_but_says_so(server: Isocenter, open_page: Open) -> None:
    """A browser knows passkeys by host names."""
    page = open_page(f"{server.url}/ohif/login").page
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("No passkey was used")


def add_provider(server: Isocenter, mock: ProviderMock, *more: str) -> None:
    added = server.run(
        *("idp", "add", "mock", "--issuer", mock.issuer, "--client-id", "isocenter", "--client-secret-stdin"),
        *("people=create", "default_role=radiologist", *more),
        input_text="s3cret-of-ours\n",
    )
    assert added.returncode == 0, added.stderr
    mock.put_user("jane", {"email": "jane@example.org", "email_verified": True})


def sign_in_there(page: Page) -> None:
    page.get_by_role("link", name="Continue with mock").click()
    page.wait_for_url("**/oauth2/authorize?**")
    page.locator("input[name=sub]").fill("jane")
    page.locator("form").get_by_role("button").first.click()


def test_an_identity_provider_and_our_second_factor_too(
    server: Isocenter, mock: ProviderMock, open_page: Open
) -> None:
    add_provider(server, mock)
    page = open_page(f"{server.url}/ohif/login").page
    page.evaluate("sessionStorage.setItem('isocenter-next', '/ohif/viewer?StudyInstanceUIDs=1.2')")
    sign_in_there(page)
    is_logged_in(page, "jane@example.org", "/ohif/viewer?StudyInstanceUIDs=1.2")

    bearer = page.evaluate("window.isocenterSession.headers()")["Authorization"]
    begun = ask(server, "/auth/totp/enrol", authorization=bearer)
    totp = pyotp.TOTP(begun["secret"])
    codes = ask(server, "/auth/totp/confirm", {"code": totp.now()}, bearer)["recovery_codes"]
    assert server.run("idp", "change", "mock", "second_factor=ours-too").returncode == 0
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/ohif/login")
    sign_in_there(page)
    expect(page.get_by_label("Code of your app")).to_be_focused()
    expect(page.get_by_label("Password")).to_have_count(0)
    page.get_by_label("Code of your app").fill("no such code")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("does not count")
    page.get_by_label("Code of your app").fill(codes[0])
    page.get_by_role("button", name="Log in").click()
    is_logged_in(page, "jane@example.org")


def test_of_another_organisation(server: Isocenter, mock: ProviderMock, open_page: Open) -> None:
    assert server.run("org", "create", "st-marys").returncode == 0
    add_provider(server, mock, "--org", "st-marys")
    page = open_page(f"{server.url}/ohif/login").page
    page.get_by_text("Another organisation").click()
    offered = page.get_by_role("link", name="Continue with mock")
    for slug in ("nowhere", "st-marys"):
        expect(offered).to_have_count(0)
        page.get_by_label("Short name of your organisation").fill(slug)
        page.get_by_role("button", name="Show its ways in").click()
        if slug == "nowhere":
            expect(page.get_by_role("alert")).to_contain_text("no identity provider")
    expect(offered).to_be_visible()
    page.reload()
    expect(offered).to_be_visible()  # remembered
    again = open_page(f"{server.url}/ohif/login?organization=st-marys").page
    sign_in_there(again)
    is_logged_in(again, "jane@example.org")
