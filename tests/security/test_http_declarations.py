"""Every route says who may call it, and whoever is not that gets nothing, whatever it asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest
from fastapi import APIRouter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, Router

from isocenter.doors.dicomweb.routes import MOUNT, dicomweb_door
from isocenter.doors.http.account_routes import account_routers
from isocenter.doors.http.ae_title_routes import ae_title_router
from isocenter.doors.http.application import create_app
from isocenter.doors.http.audit_routes import audit_router
from isocenter.doors.http.changes_routes import changes_router
from isocenter.doors.http.commitment_routes import commitment_router
from isocenter.doors.http.destination_routes import destination_router
from isocenter.doors.http.gate import KNOWN, PUBLIC, Gate, NobodyKnown, declared
from isocenter.doors.http.metrics_routes import metrics_route
from isocenter.doors.http.patient_routes import patient_router
from isocenter.doors.http.quarantine_routes import quarantine_router
from isocenter.doors.http.services import HttpServices
from isocenter.doors.http.statistics_routes import statistics_router
from isocenter.doors.http.worklist_routes import worklist_router
from isocenter.doors.spanning.configuration_routes import configuration_router
from isocenter.doors.spanning.qido_routes import qido_router
from isocenter.doors.spanning.query_log_routes import query_log_router
from isocenter.doors.spanning.retrieve_routes import retrieve_routes
from isocenter.doors.spanning.source_routes import source_router
from isocenter.doors.web.viewer import viewer_routes
from isocenter.features.accounts.opening import open_accounts
from isocenter.features.ae_titles.destinations import Destinations
from isocenter.features.ae_titles.service import AeTitles
from isocenter.features.archive.holdings import Holdings
from isocenter.features.archive.patients.services import patients_of
from isocenter.features.availability.notices import Notices
from isocenter.features.commitment.ledger import Ledger
from isocenter.features.spanner.entries import Configuration, Source, SourceType
from isocenter.platform.security import NoRecorder, Permission, Subject, SubjectKind
from isocenter.platform.telemetry.exposition import Exposition
from services.accounts import KEY
from services.archive import ORGANIZATION, Image, TestArchive, opened
from services.schema import fresh_url
from services.spanning import spanning_at

_UID = "1.2.3"
_PLACES = {
    "study": _UID,
    "series": _UID,
    "instance": _UID,
    "path:path": "00091010",
    "frames": "1",
    "entry_id": "1" * 32,
    "title": "CT1",
    "user_id": "9",
    "key_id": "9",
    "organization_id": "9",
    "session_id": "9",
    "passkey_id": "9",
    "commitment_id": "9",
    "conflict_id": "1" * 32,
    "workitem": _UID,
    "aetitle": "AE1",
    "item_id:int": "9",
    "uid": "9.9",
    "provider": "default.kc",
    "provider_name": "kc",
    "identity_id": "9",
    "source_id": "9",
    "config_id": "9",
    "query_id": "9",
    "resource": "studies",
}
_PUBLIC_PATHS = {
    "/",
    "/health/live",
    "/health/ready",
    "/api/openapi.json",
    "/problems",
    "/problems/{code}",
    "/api/v1/auth/login",
    "/api/v1/auth/refresh",
    "/api/v1/auth/register",
    "/api/v1/auth/invitations/accept",
    "/api/v1/auth/setup",
    "/api/v1/auth/passkeys/login/options",
    "/api/v1/auth/passkeys/login",
    "/api/v1/auth/passkeys/second-factor/options",
    "/api/v1/auth/oidc",
    "/api/v1/auth/oidc/{provider}/start",
    "/api/v1/auth/oidc/{provider}/accept",
    "/api/v1/auth/oidc/{provider}/callback",
    "/api/v1/auth/oidc/{provider}/second-factor",
    "/api/v1/auth/oidc/{provider}/second-factor/options",
    "/ohif",
    "/ohif/login",
    "/ohif/app-config.js",
    "/ohif/isocenter/{name}",
    "/ohif/{path:path}",
}


class Doorkeeper:
    """Knows four credentials: everything, everything elsewhere, nothing, and one permission (``only x``)."""

    async def subject_of(self, authorization: str, address: str) -> Subject:
        organization_id, permissions = ORGANIZATION, frozenset[Permission]()
        match authorization.split():
            case ["all"]:
                permissions = frozenset(Permission)
            case ["elsewhere"]:
                organization_id, permissions = ORGANIZATION + 1, frozenset(Permission)
            case ["nothing"]:
                pass
            case ["only", permission]:
                permissions = frozenset({Permission(permission)})
            case _:
                raise NobodyKnown
        return Subject(SubjectKind.API_KEY, "1", organization_id, permissions, "test", address)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as made:
        yield made


@pytest.fixture
async def archive(url: str, tmp_path: Path) -> AsyncIterator[TestArchive]:
    async with opened(url, tmp_path) as made:
        # Organisations are made by hand until there is a command for it.
        await made.execute(
            "INSERT INTO organization (id, slug, name, created_at_us) VALUES (:id, 'other', 'Other', 0)",
            id=ORGANIZATION + 1,
        )
        yield made


@pytest.fixture
async def app(archive: TestArchive, tmp_path: Path) -> AsyncIterator[Starlette]:
    gate = Gate(Doorkeeper())
    ae_titles = AeTitles(archive.database, archive.clock)
    accounts = open_accounts(archive.database, archive.clock, KEY, NoRecorder())
    services = HttpServices(archive.database, archive.leaving, archive.ingest, gate)
    spanning = spanning_at(archive)
    yield create_app(
        services,
        routers=(
            quarantine_router(archive.quarantine, gate),
            patient_router(patients_of(archive.database, archive.clock), gate),
            changes_router(archive.database, gate),
            statistics_router(archive.database, archive.clock, gate),
            ae_title_router(ae_titles, gate),
            destination_router(
                Destinations(archive.database, archive.clock), Notices(archive.database, archive.clock), gate
            ),
            commitment_router(Ledger(archive.database, archive.clock), archive.database, gate),
            audit_router(archive.database, gate, NoRecorder()),
            worklist_router(archive.database, archive.clock, gate),
            source_router(spanning.sources, spanning.spanner, gate),
            configuration_router(spanning.configurations, spanning.spanner, gate),
            query_log_router(spanning.query_log, gate),
            qido_router(spanning.spanner, spanning.running, gate, services.limits),
            *account_routers(accounts, gate, Holdings(archive.database, archive.clock)),
        ),
        mounts={MOUNT: dicomweb_door(services)},
        pages=[
            *viewer_routes(tmp_path / "viewers", dicom_web=MOUNT, sign_in=True),
            metrics_route(Exposition((), lambda: ()), gate),
            *retrieve_routes(services, spanning.retrievals),
        ],
    )
    await spanning.close()
    await services.workers.close()
    await accounts.close()
    await ae_titles.close()


@pytest.fixture
async def client(app: Starlette) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://isocenter") as made:
        yield made


def all_routes(routes: list[BaseRoute], prefix: str = "") -> Iterator[tuple[str, BaseRoute]]:
    for route in routes:
        if isinstance(route, Mount):
            yield from all_routes(list(route.routes), prefix + route.path)
        elif router := getattr(route, "original_router", None):  # FastAPI's, of include_router
            yield from all_routes(router.routes, prefix)
        else:
            yield prefix + getattr(route, "path", ""), route


def operations(app: Starlette) -> list[tuple[str, str, str]]:
    """Method, path and permission of whatever is not public."""
    found = []
    for path, route in all_routes(app.routes):
        declaration = declared(route)
        if isinstance(declaration, str) or declaration is None:
            continue
        for name, value in _PLACES.items():
            path = path.replace("{" + name + "}", value)  # noqa: PLW2901
        assert "{" not in path, path
        found += [(method, path, str(permission)) for method, permission in declaration.items()]
    return found


def undeclared(app: Starlette) -> list[str]:
    return [
        path
        for path, route in all_routes(app.routes)
        if declared(route) is None and path not in _PUBLIC_PATHS
    ]


async def ask(client: httpx2.AsyncClient, method: str, path: str, credential: str | None) -> httpx2.Response:
    headers = {"Accept": "*/*"} | ({} if credential is None else {"Authorization": credential})
    json = {"title": "CT1", "reason": "why"} if method == "POST" and path.startswith("/api") else None
    return await client.request(method, path, headers=headers, json=json)


def test_every_route_says_who_may_call_it(app: Starlette) -> None:
    assert undeclared(app) == []
    public = {path for path, route in all_routes(app.routes) if declared(route) == PUBLIC}
    assert public <= _PUBLIC_PATHS
    assert len(operations(app)) > 25


def test_a_route_that_says_nothing_is_found(app: Starlette) -> None:
    async def silent(_: Request) -> Response:
        return Response()

    router = APIRouter()
    router.add_api_route("/api/v1/silent", silent)
    app.router.routes += [*router.routes, Mount("/door", app=Router([Route("/silent", silent)]))]
    assert undeclared(app) == ["/api/v1/silent", "/door/silent"]


@pytest.mark.parametrize("credential", [None, "unknown", "nothing", ""])
async def test_who_may_not_learns_nothing(
    app: Starlette, client: httpx2.AsyncClient, archive: TestArchive, credential: str | None
) -> None:
    """The same answer for what is there and what is not."""
    image = Image(patient_id="SECRET-4711")
    await archive.send_one(image)
    for method, path, permission in operations(app):
        if permission == KNOWN and credential == "nothing":
            continue  # whoever is known may see themselves
        answers = [
            await ask(client, method, path.replace(_UID, uid), credential) for uid in (image.study, "9.9.9")
        ]
        status = 403 if credential == "nothing" else 401
        for answer in answers:
            assert answer.status_code == status, (method, path, answer.text)
            assert "SECRET" not in answer.text and image.study not in answer.text
            if method != "HEAD":
                document = answer.json()
                assert document["code"] == ("permission-missing" if status == 403 else "not-authenticated")
                assert (permission in document["detail"]) == (status == 403)
        if status == 401:
            assert "Bearer" in answers[0].headers["www-authenticate"]


async def test_one_permission_opens_what_declares_it(app: Starlette, client: httpx2.AsyncClient) -> None:
    everything = [one for one in operations(app) if one[2] != KNOWN]
    for held in sorted({permission for _, _, permission in everything}):
        for method, path, permission in everything:
            answer = await ask(client, method, path, f"only {held}")
            assert (answer.status_code == 403) == (permission != held), (held, method, path, answer.text)


async def test_another_organisation_sees_an_empty_archive(
    client: httpx2.AsyncClient, archive: TestArchive
) -> None:
    image = Image(patient_id="SECRET-4711")
    await archive.send_one(image)
    ours = await ask(client, "GET", "/dicom-web/studies", "all")
    assert len(ours.json()) == 1
    theirs = await ask(client, "GET", "/dicom-web/studies", "elsewhere")
    assert theirs.json() == []
    place = f"/dicom-web/studies/{image.study}"
    for path in (place, f"{place}/metadata", f"{place}/series/{image.series}/instances/{image.sop}"):
        there = await ask(client, "GET", path, "elsewhere")
        nowhere = await ask(client, "GET", path.replace(image.study, "9.9.9"), "elsewhere")
        assert there.status_code == nowhere.status_code == 404
        assert there.json()["detail"] == nowhere.json()["detail"]
    assert (await ask(client, "DELETE", place, "elsewhere")).status_code == 404
    assert (await ask(client, "GET", place, "all")).status_code == 200
    for path, name in (("/api/v1/changes", "changes"), ("/api/v1/quarantine", "entries")):
        assert (await ask(client, "GET", path, "elsewhere")).json()[name] == []


async def test_another_organisations_archives_are_nobodys(
    client: httpx2.AsyncClient, archive: TestArchive
) -> None:
    """Neither asked nor retrieved from, whatever its number."""
    image = Image(patient_id="SECRET-4711")
    await archive.send_one(image)
    spanning = spanning_at(archive)
    source = await spanning.sources.add(ORGANIZATION, Source(0, "own", SourceType.LOCAL))
    made = await spanning.configurations.add(ORGANIZATION, Configuration(0, "all"))
    await spanning.configurations.put_source(ORGANIZATION, made.id, source.id)
    study = f"/dicom-web/studies/{image.study}"
    for what in (study, f"{study}/metadata", f"{study}/thumbnail", f"{study}/series", "/dicom-web/studies"):
        place = f"/api/v1/spanner/{made.id}{what}"
        ours = await ask(client, "GET", place, "all")
        theirs = await ask(client, "GET", place, "elsewhere")
        nobodys = await ask(client, "GET", f"/api/v1/spanner/999{what}", "elsewhere")
        assert ours.status_code == 200, ours.text
        assert theirs.status_code == nobodys.status_code == 404
        assert theirs.json()["detail"] == nobodys.json()["detail"]
