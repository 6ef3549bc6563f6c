"""Organisations, their people, and how these come by a password; over HTTP, on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from isocenter.features.accounts.organization_settings import OrganizationSettings
from isocenter.features.archive.policies import BatchPolicy, ConflictPolicy, Policies, PolicyBook
from isocenter.kit.errors import NotFound
from isocenter.platform.security import PERMISSIONS_OF_ROLE, Role
from services.accounts import OTHER_PASSWORD, OURS, PASSWORD, TestAccounts, command_line, opened_accounts
from services.schema import fresh_url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as made:
        yield made


@pytest.fixture
async def house(url: str) -> AsyncIterator[TestAccounts]:
    async with opened_accounts(url) as made:
        yield made


# --- the first administrator -------------------------------------------------------------------------------


async def test_the_first_administrator_is_made_once(house: TestAccounts) -> None:
    link = await house.accounts.joining.setup_link()
    assert link is not None
    asked = {"token": link.token, "login": "Chief@Example.org", "name": "Chief", "password": PASSWORD}
    weak = await house.post("/auth/setup", asked | {"password": "chief-chief-chief"})
    assert (weak.status_code, weak.json()["code"]) == (400, "weak-password")
    wrong = await house.post("/auth/setup", asked | {"token": "guess"})
    assert (wrong.status_code, wrong.json()["code"]) == (403, "link-not-valid")
    made = await house.post("/auth/setup", asked)
    assert made.status_code == 201, made.text
    assert made.json()["login"] == "chief@example.org"
    assert (made.json()["role"], made.json()["operator"]) == ("admin", True)
    again = await house.post("/auth/setup", asked | {"login": "second"})
    assert again.status_code == 403
    assert await house.accounts.joining.setup_link() is None
    assert (await house.rows("SELECT count(*) AS n FROM account"))[0]["n"] == 1
    assert ("permission-change", "success", "user") in house.trail.told()
    assert house.trail.settled_events == len(house.trail.events)


async def test_a_new_start_makes_the_earlier_link_void_and_a_day_does(house: TestAccounts) -> None:
    first, second = [await house.accounts.joining.setup_link() for _ in range(2)]
    assert first is not None and second is not None
    asked = {"login": "chief", "password": PASSWORD}
    assert (await house.post("/auth/setup", asked | {"token": first.token})).status_code == 403
    house.clock.advance(86_401)
    assert (await house.post("/auth/setup", asked | {"token": second.token})).status_code == 403


async def test_no_secret_is_kept_as_it_is(house: TestAccounts) -> None:
    link = await house.accounts.joining.setup_link()
    admin = await house.admin()
    invited = (await house.post("/users", {"login": "new", "role": "clinician"}, authorization=admin)).json()
    key = (await house.post("/api-keys", {"name": "k", "role": "service"}, authorization=admin)).json()
    assert link is not None
    secrets = [link.token, invited["link"]["token"], key["secret"], PASSWORD, admin.removeprefix("Bearer ")]
    for table in ("account", "login_session", "refresh_token", "api_key", "one_time_link"):
        kept = str(await house.rows(f"SELECT * FROM {table}"))
        assert not [secret for secret in secrets if secret in kept], table


# --- people -----------------------------------------------------------------------------------------------


async def test_who_is_invited_chooses_a_password_once(house: TestAccounts) -> None:
    admin = await house.admin()
    answer = await house.post(
        "/users", {"login": "Jane", "name": "Jane", "role": "radiologist"}, authorization=admin
    )
    assert answer.status_code == 201, answer.text
    assert answer.json()["user"]["state"] == "invited"
    token = answer.json()["link"]["token"]
    assert (await house.post("/auth/login", {"login": "jane", "password": ""})).status_code == 401
    weak = await house.post("/auth/invitations/accept", {"token": token, "password": "jane"})
    assert weak.json()["code"] == "weak-password"
    accepted = await house.post("/auth/invitations/accept", {"token": token, "password": OTHER_PASSWORD})
    assert (accepted.status_code, accepted.json()["state"]) == (200, "active")
    again = await house.post("/auth/invitations/accept", {"token": token, "password": PASSWORD})
    assert again.status_code == 403
    house.clock.advance(61)
    me = await house.ask("GET", "/me", authorization=await house.logged_in("jane", OTHER_PASSWORD))
    assert me.json()["user"]["role"] == "radiologist"
    assert set(me.json()["permissions"]) == PERMISSIONS_OF_ROLE[Role.RADIOLOGIST]


async def test_a_login_name_is_taken_once_in_the_whole_installation(house: TestAccounts) -> None:
    admin = await house.admin(operator=True)
    await house.post("/organizations", {"slug": "other"}, authorization=admin)
    for path in ("/users", "/organizations/2/users"):
        taken = await house.post(path, {"login": "ADMIN ", "role": "admin"}, authorization=admin)
        assert (taken.status_code, taken.json()["code"]) == (409, "login-taken"), path


async def test_a_role_that_changes_counts_at_once(house: TestAccounts) -> None:
    admin, jane = await house.admin(), await house.admin("jane")
    user = (await house.ask("GET", "/me", authorization=jane)).json()["user"]
    assert (await house.ask("GET", "/users", authorization=jane)).status_code == 200
    changed = await house.ask("PATCH", f"/users/{user['id']}", {"role": "clinician"}, authorization=admin)
    assert changed.json()["role"] == "clinician"
    assert (await house.ask("GET", "/users", authorization=jane)).status_code == 401
    again = await house.logged_in("jane")
    assert (await house.ask("GET", "/users", authorization=again)).status_code == 403


@pytest.mark.parametrize("state", ["disabled", "locked"])
async def test_whose_account_is_closed_is_out_and_back_in_afterwards(house: TestAccounts, state: str) -> None:
    admin = await house.admin()
    await house.accounts.people.create(command_line(), "jane", "", Role.CLINICIAN, PASSWORD)
    tokens = (await house.post("/auth/login", {"login": "jane", "password": PASSWORD})).json()
    jane = f"Bearer {tokens['access_token']}"
    place = f"/users/{(await house.ask('GET', '/me', authorization=jane)).json()['user']['id']}"
    await house.ask("PATCH", place, {"state": state}, authorization=admin)
    assert (await house.ask("GET", "/me", authorization=jane)).status_code == 401
    assert (await house.post("/auth/login", {"login": "jane", "password": PASSWORD})).status_code == 401
    refused = await house.post("/auth/refresh", {"refresh_token": tokens["refresh_token"]})
    assert refused.status_code == 401
    await house.ask("PATCH", place, {"state": "active"}, authorization=admin)
    assert (await house.ask("GET", "/me", authorization=jane)).status_code == 401
    await house.logged_in("jane")


async def test_nobody_raises_themselves_or_manages_somebody_who_may_more(house: TestAccounts) -> None:
    operator, admin = await house.admin("chief", operator=True), await house.admin()
    users = (await house.ask("GET", "/users", authorization=admin)).json()["users"]
    chief, own = [next(user["id"] for user in users if user["login"] == name) for name in ("chief", "admin")]
    for method, path, asked in (
        ("PATCH", f"/users/{chief}", {"role": "clinician"}),
        ("PATCH", f"/users/{chief}", {"state": "disabled"}),
        ("POST", f"/users/{chief}/reset", None),
        ("DELETE", f"/users/{chief}/second-factor", None),
    ):
        answer = await house.ask(method, path, asked, authorization=admin)
        assert (answer.status_code, answer.json()["code"]) == (403, "more-than-yours"), path
    answer = await house.ask("PATCH", f"/users/{own}", {"state": "disabled"}, authorization=admin)
    assert (answer.status_code, answer.json()["code"]) == (409, "own-account")
    assert (await house.post(f"/users/{own}/reset", authorization=operator)).status_code == 200


async def test_a_reset_lets_choose_a_new_password_and_ends_the_logins(house: TestAccounts) -> None:
    admin, jane = await house.admin(), await house.admin("jane")
    place = f"/users/{(await house.ask('GET', '/me', authorization=jane)).json()['user']['id']}"
    token = (await house.post(f"{place}/reset", authorization=admin)).json()["token"]
    answer = await house.post("/auth/invitations/accept", {"token": token, "password": OTHER_PASSWORD})
    assert answer.status_code == 200
    assert (await house.ask("GET", "/me", authorization=jane)).status_code == 401
    assert (await house.post("/auth/login", {"login": "jane", "password": PASSWORD})).status_code == 401
    await house.logged_in("jane", OTHER_PASSWORD)


async def test_a_new_password_ends_the_other_logins_only(house: TestAccounts) -> None:
    here, there = await house.admin(), await house.logged_in("admin")
    wrong = await house.post("/auth/password", {"current": "no", "new": OTHER_PASSWORD}, authorization=here)
    assert (wrong.status_code, wrong.json()["code"]) == (400, "wrong-password")
    answer = await house.post(
        "/auth/password", {"current": PASSWORD, "new": OTHER_PASSWORD}, authorization=here
    )
    assert answer.status_code == 204, answer.text
    assert (await house.ask("GET", "/me", authorization=here)).status_code == 200
    assert (await house.ask("GET", "/me", authorization=there)).status_code == 401
    await house.logged_in("admin", OTHER_PASSWORD)


# --- organisations ----------------------------------------------------------------------------------------


async def test_another_organisation_s_people_and_keys_do_not_exist(house: TestAccounts) -> None:
    ours = await house.admin("chief", operator=True)
    assert (await house.post("/organizations", {"slug": "other"}, authorization=ours)).status_code == 201
    theirs = await house.admin("their-admin", organization_id=2)
    user = (await house.ask("GET", "/me", authorization=ours)).json()["user"]["id"]
    key = await house.post("/api-keys", {"name": "k", "role": "service"}, authorization=ours)
    for method, path, asked in (
        ("GET", "/users/{}", None),
        ("PATCH", "/users/{}", {"role": "clinician"}),
        ("POST", "/users/{}/reset", None),
        ("DELETE", "/users/{}/second-factor", None),
        ("DELETE", "/users/{}/sessions", None),
        ("DELETE", "/api-keys/{}", None),
    ):
        number = key.json()["key"]["id"] if "keys" in path else user
        there = await house.ask(method, path.format(number), asked, authorization=theirs)
        nowhere = await house.ask(method, path.format(99_999), asked, authorization=theirs)
        assert there.status_code == nowhere.status_code == 404, (path, there.text)
        assert there.json()["detail"] == nowhere.json()["detail"]
        assert there.json()["code"] == nowhere.json()["code"]
    logins = [
        one["login"] for one in (await house.ask("GET", "/users", authorization=theirs)).json()["users"]
    ]
    assert logins == ["their-admin"]
    assert (await house.ask("GET", "/api-keys", authorization=theirs)).json()["keys"] == []
    assert (await house.ask("GET", "/organizations", authorization=theirs)).status_code == 403
    assert (await house.ask("GET", "/organization", authorization=theirs)).json()["slug"] == "other"


async def test_settings_are_checked_kept_and_read_by_the_archive(house: TestAccounts) -> None:
    admin = await house.admin()
    policies = PolicyBook(house.database, Policies(), house.clock)
    settings = {"conflict_policy": "replace", "batch_policy": "all-or-nothing"}
    answer = await house.ask(
        "PATCH", "/organization", {"name": "Ours", "settings": settings}, authorization=admin
    )
    assert answer.json()["settings"] | settings == answer.json()["settings"]
    read = await policies.of(OURS)
    assert (read.conflict, read.batch) == (ConflictPolicy.REPLACE, BatchPolicy.ALL_OR_NOTHING)
    await policies.change(OURS, strictness="lenient")
    shown = (await house.ask("GET", "/organization", authorization=admin)).json()
    assert (shown["name"], shown["settings"]["validation"]) == ("Ours", "lenient")
    await house.ask("PATCH", "/organization", {"settings": {"conflict_policy": None}}, authorization=admin)
    policies.forget(OURS)
    assert (await policies.of(OURS)).conflict is ConflictPolicy.REJECT
    for wrong in ({"conflict_policy": "perhaps"}, {"no_such": 1}, {"retention_days": 0}):
        refused = await house.ask("PATCH", "/organization", {"settings": wrong}, authorization=admin)
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid-organization-settings"), wrong


async def test_a_quota_is_the_operator_s_to_set(house: TestAccounts) -> None:
    """Else it would bind nobody: who has used theirs up would raise it."""
    admin, chief = await house.admin(), await house.admin("chief", operator=True)
    asked = {"settings": {"quota_bytes": "10GB", "conflict_policy": "replace"}}
    refused = await house.ask("PATCH", "/organization", asked, authorization=admin)
    assert (refused.status_code, refused.json()["code"]) == (403, "permission-missing")
    assert (await house.ask("GET", "/organization", authorization=admin)).json()["settings"][
        "conflict_policy"
    ] is None, "nothing of it was done"
    for path in ("/organization", "/organizations/1"):
        answer = await house.ask("PATCH", path, asked, authorization=chief)
        assert answer.json()["settings"]["quota_bytes"] == 10 << 30
        assert answer.json()["usage"] == {"objects": 0, "bytes": 0, "percent_of_quota": 0.0}
    for wrong in (-1, "much", "-1GB", 1.5, 1 << 63):
        refused = await house.ask(
            "PATCH", "/organization", {"settings": {"quota_bytes": wrong}}, authorization=chief
        )
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid-organization-settings"), wrong
    await house.ask("PATCH", "/organization", {"settings": {"quota_bytes": None}}, authorization=chief)
    shown = (await house.ask("GET", "/organization", authorization=admin)).json()
    assert (shown["settings"]["quota_bytes"], shown["usage"]["percent_of_quota"]) == (None, None)


def test_a_setting_names_what_the_archive_knows() -> None:
    fields = OrganizationSettings.model_fields
    assert set(ConflictPolicy) == set(fields["conflict_policy"].annotation.__args__[0].__args__)  # type: ignore[union-attr]
    assert set(BatchPolicy) == set(fields["batch_policy"].annotation.__args__[0].__args__)  # type: ignore[union-attr]


def test_what_another_version_kept_stays() -> None:
    kept = '{"conflict":"replace","of-a-later-version":1}'
    changed = OrganizationSettings.read(kept).changed({"registration_open": True})
    assert changed.written_over(kept) == (
        '{"of-a-later-version":1,"conflict":"replace","registration_open":true}'
    )


async def test_people_register_only_where_they_may(house: TestAccounts) -> None:
    admin = await house.admin()
    asked = {"organization": "default", "login": "visitor", "password": PASSWORD}
    closed = await house.post("/auth/register", asked)
    nowhere = await house.post("/auth/register", asked | {"organization": "nowhere"})
    assert (closed.status_code, closed.json()["code"]) == (403, "registration-closed")
    assert closed.json()["detail"] == nowhere.json()["detail"]
    await house.ask("PATCH", "/organization", {"settings": {"registration_open": True}}, authorization=admin)
    made = await house.post("/auth/register", asked)
    assert (made.status_code, made.json()["role"]) == (201, "clinician")
    await house.logged_in("visitor")


async def test_who_is_not_its_own_changes_no_organisation(house: TestAccounts) -> None:
    with pytest.raises(NotFound):
        await house.accounts.organizations.change(
            (await house.accounts.authentication.subject_of(await house.admin(), "")), 2, name="Taken"
        )


@pytest.mark.parametrize("login", ["", "ab", "a b c", "x" * 255, "nul\0byte", "line\nfeed", "\u202eevil"])
async def test_a_login_name_that_cannot_be_is_refused(house: TestAccounts, login: str) -> None:
    admin = await house.admin()
    answer = await house.post("/users", {"login": login, "role": "clinician"}, authorization=admin)
    assert answer.status_code == 400, answer.text
    tried = await house.post("/auth/login", {"login": login, "password": PASSWORD})
    assert tried.status_code in {400, 401}
