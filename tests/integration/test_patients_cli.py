"""``isocenter patient``, beside an open archive on the same database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import orjson
import pytest

from services.archive import Image, broken_promises
from services.command_line import Cli
from services.schema import fresh_url
from services.two_organizations import OURS, TwoOrganizations, two_organizations


@pytest.fixture(params=["sqlite"])  # what is asked of the database has tests on both
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def two(url: str, tmp_path: Path) -> AsyncIterator[TwoOrganizations]:
    async with two_organizations(url, tmp_path) as made:
        for to in made.both:
            await made.archive.send(
                Image(patient_id="A"),
                Image(patient_id="B", study="1.2", series="1.2.1", sop="1.2.1.1", birth_date="19600101"),
                Image(patient_id="B", study="1.3", series="1.3.1", sop="1.3.1.1", birth_date="19610101"),
                to=to,
            )
        yield made
        assert [one for one in await broken_promises(made.archive) if "current" not in one] == []


@pytest.fixture
def cli(url: str, tmp_path: Path) -> Cli:
    return Cli(url, tmp_path, "patient")


async def owners(two: TwoOrganizations, organization_id: int) -> list[str]:
    rows = await two.archive.rows(
        "SELECT patient_id FROM study JOIN patient ON patient.id = study.patient_pk "
        "WHERE study.organization_id = :id ORDER BY study_instance_uid",
        id=organization_id,
    )
    return [row["patient_id"] for row in rows]


async def test_merge_look_and_back(two: TwoOrganizations, cli: Cli) -> None:
    org = ("--org", "theirs")
    said = await cli("merge", "A", "B", "--reason", "one person", *org)
    assert "1 study has another patient now. Undo: isocenter patient unmerge A --org theirs" in said
    assert (await owners(two, two.theirs), await owners(two, OURS)) == (["B"] * 3, ["B", "A", "B"])
    shown = await cli("show", "A", *org)
    assert "A was merged into B" in shown and "one person" in shown and "Its studies are those of B." in shown
    left = await cli("show", "B", *org)
    assert "Patient B, 3 studies" in left and "DOE^JANE" in left
    assert "1 contradiction open: isocenter patient conflicts --patient B --org theirs" in left
    assert orjson.loads(await cli("show", "B", "--json", *org))["studies"] == 3
    assert "was merged into another" in await cli("merge", "A", "B", *org, status=1)
    assert orjson.loads(await cli("unmerge", "A", "--json", *org)) == {"studies": ["1.2.3.1"]}
    assert await owners(two, two.theirs) == ["B", "A", "B"]
    rows = await two.archive.rows(
        "SELECT organization_id, action, outcome, resource_id FROM audit_event ORDER BY sequence"
    )
    assert {row["organization_id"] for row in rows} == {two.theirs}
    assert [(row["action"], row["outcome"], row["resource_id"]) for row in rows] == [
        ("change", "success", "A"),
        ("read", "success", "A"),
        ("read", "success", "B"),
        ("read", "success", "B"),
        ("change", "failed", "A"),
        ("change", "success", "A"),
    ]


async def test_ids_links_contradictions_corrections(two: TwoOrganizations, cli: Cli) -> None:
    await cli("change-id", "A", "N", "--new-issuer", "The X")
    assert await owners(two, OURS) == ["B", "N", "B"]
    named = ("N", "B", "--issuer", "The X")
    await cli("link", *named)
    assert "Linked to N (issuer The X)" in await cli("show", "B")
    await cli("unlink", *named)
    assert "not linked" in await cli("unlink", *named, status=1)

    [conflict] = orjson.loads(await cli("conflicts", "--json"))["conflicts"]
    listed = await cli("conflicts", "--patient", "B")
    assert "No conflict is open" in await cli("conflicts", "--patient", "N", "--issuer", "The X")
    assert "no such patient" in await cli("conflicts", "--patient", "nobody", status=1)
    assert listed.startswith(conflict["id"]) and "'19600101' against '19610101'" in listed
    assert "is settled: taken" in await cli("settle", conflict["id"], "take", "--note", "passport")
    assert "none of keep, take" in await cli("settle", conflict["id"], "both", status=1)
    assert "No conflict is open" in await cli("conflicts")
    assert (
        await two.archive.one(
            "SELECT birth_date FROM patient WHERE patient_id = 'B' AND organization_id = :id", id=OURS
        )
        == "19610101"
    )
    assert "Corrected: name, sex." in await cli("correct", "B", "--name", "Roe^Ann", "--sex", "M")
    assert "Roe^Ann" in await cli("show", "B") and "set by a person" in await cli("show", "B")
    assert "19610101" not in await cli("show", "B", "--org", "theirs")


async def test_what_no_terminal_shall_see(two: TwoOrganizations, cli: Cli) -> None:
    await two.archive.send(
        Image(patient_id="E", name="\x1b[31mRED^\x9b", study="1.7", series="1.7.1", sop="1.7.1.1"),
        Image(patient_id="E", name="\x1b[0mROE", study="1.8", series="1.8.1", sop="1.8.1.1"),
    )
    for said in (await cli("show", "E"), await cli("conflicts")):
        assert "\x1b" not in said and "\x9b" not in said and "RED" in said
    await cli("merge", "E", "A", "--reason", "\x1b[31mBLUE\x9b")
    assert "?[31mBLUE?" in await cli("show", "E")
    assert "Patient ID or its issuer" in await cli("show", b"\xff\xfe", status=1)
    await cli("show", "x" * 65, status=1)
