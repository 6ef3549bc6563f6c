"""Commands that work on one organisation's objects take ``--org``, keep to it, and are told in its trail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pydicom
import pytest

from isocenter.features.archive.retrieve import find_stored
from services.command_line import Cli
from services.dcmtk import StoreScp
from services.schema import fresh_url
from services.two_organizations import (
    IMAGE,
    OURS,
    THEIR_IMAGE,
    TwoOrganizations,
    fill_both,
    two_organizations,
)


@pytest.fixture(params=["sqlite"])  # what is asked of the database has tests on both
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def two(url: str, tmp_path: Path) -> AsyncIterator[TwoOrganizations]:
    async with two_organizations(url, tmp_path) as made:
        await fill_both(made)
        yield made


@pytest.fixture
def cli(url: str, tmp_path: Path) -> Cli:
    return Cli(url, tmp_path)


async def told(two: TwoOrganizations, organization_id: int) -> list[tuple[str, str, str]]:
    """Action, outcome and kind of resource of what that organisation's trail holds."""
    rows = await two.archive.rows(
        "SELECT action, outcome, resource_kind FROM audit_event "
        "WHERE organization_id = :id ORDER BY sequence",
        id=organization_id,
    )
    return [(row["action"], row["outcome"], row["resource_kind"]) for row in rows]


async def test_import(two: TwoOrganizations, cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "good.dcm").write_bytes(THEIR_IMAGE.but(sop="1.2.3.4").file)
    (folder / "bad.dcm").write_bytes(THEIR_IMAGE.but(sop="1.2.3.5", modality=None).file)
    said = await cli("import", folder, "--org", "theirs", status=1)
    assert "isocenter quarantine list --org theirs" in said
    assert len(await find_stored(two.archive.database, two.theirs, IMAGE.study)) == 2
    assert len(await find_stored(two.archive.database, OURS, IMAGE.study)) == 1
    assert (await told(two, two.theirs), await told(two, OURS)) == ([("store", "success", "folder")], [])


async def test_quarantine(two: TwoOrganizations, cli: Cli, tmp_path: Path) -> None:
    [theirs] = [one.id for one in await two.archive.quarantine.list(two.theirs)]
    [ours] = [one.id for one in await two.archive.quarantine.list(OURS)]
    org = ("--org", "theirs")
    listed = await cli("quarantine", "list", *org)
    assert theirs in listed and ours not in listed
    assert "isocenter quarantine show ID --org theirs" in listed
    shown = await cli("quarantine", "show", theirs, *org)
    assert (
        "ROE^RICHARD" in shown
        and f"isocenter quarantine accept {theirs} [--set Keyword=VALUE]… --org theirs" in shown
    )
    file = tmp_path / "out.dcm"
    await cli("quarantine", "export", theirs, file, *org)
    assert pydicom.dcmread(file).PatientName == "ROE^RICHARD"
    for words in (
        ("show", theirs),
        ("accept", theirs),
        ("discard", theirs),
        ("export", theirs, tmp_path / "no"),
    ):
        assert f"There is no entry {theirs}" in await cli("quarantine", *words, status=1)
        assert f"There is no entry {ours}" in await cli(
            "quarantine", words[0], ours, *words[2:], *org, status=1
        )
    await cli("quarantine", "accept", theirs, "--set", "Modality=CT", *org)
    assert len(await find_stored(two.archive.database, two.theirs, IMAGE.study)) == 2
    await cli("quarantine", "discard", ours)
    assert await told(two, two.theirs) == [
        ("read", "success", "quarantine"),
        ("read", "success", "quarantine"),
        ("export", "success", "quarantine"),
        ("read", "failed", "quarantine"),
        ("change", "failed", "quarantine"),
        ("change", "failed", "quarantine"),
        ("export", "failed", "quarantine"),
        ("change", "success", "quarantine"),
    ]
    assert (await told(two, OURS))[-1] == ("change", "success", "quarantine")


async def test_changes(two: TwoOrganizations, cli: Cli) -> None:
    await two.archive.send(THEIR_IMAGE.but(sop="1.2.3.4"), to=two.theirs)
    lines = (await cli("changes", "--json", "--org", "theirs")).splitlines()
    assert [orjson.loads(line)["number"] for line in lines] == [1, 2, 3]
    assert len((await cli("changes", "--json")).splitlines()) == 2
    assert "isocenter changes --after 1 --org theirs" in await cli(
        "changes", "--limit", "1", "--org", "theirs"
    )
    assert await told(two, two.theirs) == [("read", "success", "changes")] * 2
    assert await told(two, OURS) == [("read", "success", "changes")]


async def test_the_storage_check_looks_at_all(two: TwoOrganizations, cli: Cli) -> None:
    def by_slug(said: str) -> dict[str, Any]:
        report = orjson.loads(said)
        assert report["healthy"] == all(one["healthy"] for one in report["organizations"])
        return {one["organization"]: one["healthy"] for one in report["organizations"]}

    assert by_slug(await cli("storage", "check", "--json")) == {"default": True, "theirs": True}
    await two.archive.execute(
        "UPDATE series SET instance_count = 9 WHERE organization_id = :id", id=two.theirs
    )
    assert by_slug(await cli("storage", "check", "--json", status=1)) == {"default": True, "theirs": False}
    assert by_slug(await cli("storage", "check", "--json", "--org", "default")) == {"default": True}
    said = await cli("storage", "check", "--repair", status=1)
    assert "default: 2 rows, 2 objects." in said and "theirs: 2 rows, 2 objects." in said
    assert "✓ counted 1 series again" in said.split("theirs:")[1]
    assert by_slug(await cli("storage", "check", "--json")) == {"default": True, "theirs": True}
    assert await told(two, two.theirs) == await told(two, OURS) == [("change", "success", "storage")]


async def test_scu_send(
    two: TwoOrganizations, cli: Cli, start_storescp: Callable[..., StoreScp], free_port: int
) -> None:
    receiver = start_storescp()
    to = ("scu", "send", "127.0.0.1", receiver.port, "--called", receiver.ae_title)
    await cli(*to, "--study", IMAGE.study, "--series", IMAGE.series, "--org", "theirs")
    [file] = [path for path in receiver.folder.iterdir() if path.is_file()]
    assert pydicom.dcmread(file).PatientName == "ROE^RICHARD"
    await cli("scu", "send", "127.0.0.1", free_port, "--study", IMAGE.study, "--org", "theirs", status=1)
    rows = await two.archive.rows(
        "SELECT outcome, resource_kind, resource_id, details FROM audit_event "
        "WHERE organization_id = :id AND action = 'export' ORDER BY sequence",
        id=two.theirs,
    )
    details = [orjson.loads(row["details"]) for row in rows]
    assert [(row["outcome"], row["resource_kind"], row["resource_id"]) for row in rows] == [
        ("success", "study", IMAGE.study),
        ("success", "series", IMAGE.series),
        ("failed", "study", IMAGE.study),
    ]
    assert [one["arrived"] for one in details] == [1, 1, 0]
    assert all(one["instances"] == 1 and one["study"] == IMAGE.study for one in details)
    assert receiver.ae_title in details[0]["to"]
    assert await told(two, OURS) == []


@pytest.mark.parametrize(
    "words",
    [
        ("import", "."),
        ("quarantine", "list"),
        ("quarantine", "show", "1"),
        ("quarantine", "accept", "1"),
        ("quarantine", "discard", "1"),
        ("quarantine", "export", "1", "x"),
        ("changes",),
        ("storage", "check"),
        ("org", "retention", "nowhere"),
        ("scu", "send", "127.0.0.1", "1", "--study", "1.2"),
    ],
)
async def test_an_organisation_that_is_not_there(
    request: pytest.FixtureRequest, tmp_path: Path, words: tuple[str, ...]
) -> None:
    with fresh_url(request, "sqlite", tmp_path) as url:
        org = () if "retention" in words else ("--org", "nowhere")
        said = await Cli(url, tmp_path)(*words, *org, status=1)
        assert "There is no organisation called 'nowhere'" in said
