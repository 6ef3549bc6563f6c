"""One registry for all organisations, on both databases: whose a caller is, and what it may do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from isocenter.features.ae_titles.admission import ALL_SERVICES
from isocenter.features.ae_titles.callers import Caller
from isocenter.features.ae_titles.certificates import PeerCertificate
from isocenter.features.ae_titles.entries import AeService
from isocenter.features.ae_titles.service import AeTitles
from isocenter.kit.clock import ManualClock
from isocenter.kit.errors import Conflict
from isocenter.platform.db import Database, composed, open_database
from services.schema import fresh_url

OURS, THEIRS = 1, 7
SHOWN = PeerCertificate("sha256:" + "ab" * 32, frozenset({"ct1"}))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    def found() -> Any:
        yield composed("INSERT INTO organization (id, slug, created_at_us) VALUES (7, 'theirs', 0)")()

    opened = await open_database(url, migrate=False)
    await opened.write_across(found)
    yield opened
    await opened.close()


@pytest.fixture
async def titles(database: Database) -> AsyncIterator[AeTitles]:
    service = AeTitles(database, ManualClock(), loopback_exempt=False)
    yield service
    await service.close()


async def owner(titles: AeTitles, title: str, host: str, certificate: PeerCertificate | None = None) -> int:
    """The organisation that this caller works for; 0: it is refused."""
    grant = await titles.admission.admit(Caller(title, host, certificate), "ISOCENTER")
    return grant.organization_id if grant else 0


async def test_the_narrowest_network_says_whose_a_caller_is(titles: AeTitles) -> None:
    await titles.register(OURS, "CT1")
    await titles.register(THEIRS, "CT1", host="10.0.0.0/8", by_operator=True)
    await titles.register(OURS, "CT1", host="10.7.0.0/16", by_operator=True)
    await titles.register(THEIRS, "CT1", host="10.7.7.7", by_operator=True)
    found = {
        host: await owner(titles, "CT1", host) for host in ("192.0.2.1", "10.1.1.1", "10.7.1.1", "10.7.7.7")
    }
    assert found == {"192.0.2.1": OURS, "10.1.1.1": THEIRS, "10.7.1.1": OURS, "10.7.7.7": THEIRS}
    await titles.remove(THEIRS, "CT1", host="10.7.7.7")
    assert await owner(titles, "CT1", "10.7.7.7") == OURS
    assert [one.host for one in await titles.titles(THEIRS)] == ["10.0.0.0/8"]
    with pytest.raises(Exception, match="not registered"):
        await titles.remove(THEIRS, "CT1", host="10.7.0.0/16")  # it is not theirs


async def test_a_title_at_a_place_is_one_organisations(titles: AeTitles) -> None:
    await titles.register(THEIRS, "CT1", host="10.0.0.5", description="their CT", services=["store"])
    with pytest.raises(Conflict) as refused:
        await titles.register(OURS, "CT1", host="10.0.0.5/32", description="ours now", services=["find"])
    assert "their" not in refused.value.detail + refused.value.remedy, "not whose it is"
    [theirs] = await titles.titles(THEIRS)
    assert (theirs.description, theirs.services) == ("their CT", (AeService.STORE,))
    assert await titles.titles(OURS) == []
    assert await owner(titles, "CT1", "10.0.0.5") == THEIRS


@pytest.mark.parametrize(
    ("there", "wanted"),
    [("", "10.0.0.5"), ("10.0.0.5", ""), ("10.0.0.0/8", "10.7.7.7"), ("10.7.7.7", "10.0.0.0/8")],
)
async def test_nobody_draws_anothers_objects_by_a_narrower_place(
    titles: AeTitles, there: str, wanted: str
) -> None:
    await titles.register(THEIRS, "CT1", host=there)
    with pytest.raises(Conflict) as refused:
        await titles.register(OURS, "CT1", host=wanted)
    assert refused.value.code == "ae-title-taken"
    assert await titles.titles(OURS) == []
    await titles.register(OURS, "CT1", host="192.0.2.0/24" if there else wanted, by_operator=not there)
    await titles.register(OURS, "CT2", host=wanted)


async def test_registering_again_keeps_what_is_not_named(titles: AeTitles) -> None:
    await titles.register(OURS, "CT1", services=["store"], certificate="CT1")
    again = await titles.register(OURS, "CT1", description="the CT")
    assert (again.services, again.certificate) == ((AeService.STORE,), "ct1")
    opened = await titles.register(OURS, "CT1", services=ALL_SERVICES, certificate="")
    assert (set(opened.services), opened.certificate) == (ALL_SERVICES, "")


async def test_a_certificate_that_differs_is_refused_and_noted_where_the_title_is(titles: AeTitles) -> None:
    await titles.register(THEIRS, "CT1", host="10.0.0.0/24", certificate="ct9")
    assert await owner(titles, "CT1", "10.0.0.5") == 0
    assert await owner(titles, "CT1", "10.0.0.6", SHOWN) == 0
    await titles.admission.notes.flush()
    assert await titles.refused(OURS) == []
    by_host = {peer.peer_host: peer for peer in await titles.refused(THEIRS)}
    assert by_host["10.0.0.5"].command == "isocenter ae add CT1 --host 10.0.0.5 --org theirs --cert ''"
    fingerprint = SHOWN.fingerprint
    assert (
        by_host["10.0.0.6"].command
        == f"isocenter ae add CT1 --host 10.0.0.6 --org theirs --cert {fingerprint}"
    )

    await titles.register(THEIRS, "CT1", host="10.0.0.6", certificate=fingerprint)
    assert await owner(titles, "CT1", "10.0.0.6", SHOWN) == THEIRS
    assert [peer.peer_host for peer in await titles.refused(THEIRS)] == ["10.0.0.5"]


async def test_what_was_granted_is_asked_again(titles: AeTitles) -> None:
    await titles.register(THEIRS, "CT1", services=["store", "find"])
    grant = await titles.admission.admit(Caller("CT1", "10.0.0.5"), "ISOCENTER")
    assert grant is not None and grant.services == {AeService.STORE, AeService.FIND}
    assert await titles.admission.upholds(grant, AeService.FIND)
    assert not await titles.admission.upholds(grant, AeService.MOVE)
    await titles.register(THEIRS, "CT1", services=["store"])
    assert not await titles.admission.upholds(grant, AeService.FIND)
    await titles.register(OURS, "CT1", host="10.0.0.5", by_operator=True)  # narrower, of somebody else
    assert not await titles.admission.upholds(grant, AeService.STORE)
    await titles.remove(OURS, "CT1")
    assert await titles.admission.upholds(grant, AeService.STORE)
    await titles.remove(THEIRS, "CT1")
    assert not await titles.admission.upholds(grant)


async def test_refusals_of_an_organisation_that_is_gone_are_dropped(titles: AeTitles) -> None:
    await titles.register(THEIRS, "CT1", certificate="ct9")
    assert await owner(titles, "CT1", "10.0.0.5") == 0
    assert await owner(titles, "MR1", "10.0.0.5") == 0

    def gone() -> Any:
        yield composed("DELETE FROM ae_title WHERE organization_id = 7")()
        yield composed("DELETE FROM organization WHERE id = 7")()

    await titles._database.write_across(gone)
    await titles.admission.notes.flush()
    assert [peer.calling_ae_title for peer in await titles.refused(OURS)] == ["MR1"]
    assert titles.admission.notes._refusals == {}
