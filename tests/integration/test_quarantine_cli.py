"""``isocenter quarantine``, ``changes`` and ``ae``, beside an open archive on the same database."""

from __future__ import annotations

import shlex
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import orjson
import pytest

from isocenter.dimse.net.errors import AssociationRejected
from isocenter.kit.clock import ManualClock
from services.archive import ORGANIZATION, Image, TestArchive, opened
from services.command_line import Cli
from services.schema import fresh_url
from services.scp import scp_door

BAD = Image(modality=None)


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """SQLite, unless a test asks for both: each command is a process of its own and takes its time."""
    with fresh_url(request, getattr(request, "param", "sqlite"), tmp_path) as found:
        yield found


on_both = pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
async def archive(url: str, tmp_path: Path) -> AsyncIterator[TestArchive]:
    async with opened(url, tmp_path) as made:
        yield made


@pytest.fixture
def cli(url: str, tmp_path: Path) -> Cli:
    return Cli(url, tmp_path)


async def quarantined(archive: TestArchive, image: Image = BAD) -> str:
    """The id of its entry."""
    await archive.send(image)
    [entry] = await archive.quarantine.list(ORGANIZATION)
    return entry.id


@on_both
async def test_look_correct_and_accept(archive: TestArchive, cli: Cli) -> None:
    await archive.send(BAD)
    [entry] = [one.id for one in await archive.quarantine.list(ORGANIZATION)]
    listed = await cli("quarantine", "list")
    assert "Modality (0008,0060) is missing or empty" in listed and "1 waiting" in listed
    assert listed.startswith(entry)
    shown = await cli("quarantine", "show", entry)
    assert "✗ Modality (0008,0060) is missing or empty" in shown
    assert "→ " in shown and "DOE^JANE" in shown and f"isocenter quarantine accept {entry}" in shown
    assert "filed (stored)" in await cli("quarantine", "accept", entry, "--set", "Modality=CT")
    assert await archive.one("SELECT modality FROM series") == "CT"
    assert orjson.loads(await cli("quarantine", "show", entry, "--json"))["state"] == "accepted"
    assert "was accepted before" in await cli("quarantine", "accept", entry, status=1)


async def test_lists_as_json_and_states(archive: TestArchive, cli: Cli) -> None:
    await archive.send(BAD, BAD.but(sop="1.2.3.1.1.2"))
    first, second = [one.id for one in await archive.quarantine.list(ORGANIZATION)]
    listed = orjson.loads(await cli("quarantine", "list", "--json", "--limit", "1"))
    assert listed["waiting"] == 2 and [entry["id"] for entry in listed["entries"]] == [first]
    assert f"--after {first}" in await cli("quarantine", "list", "--limit", "1")
    assert (await cli("quarantine", "list", "--after", first)).startswith(second)
    done = orjson.loads(await cli("quarantine", "discard", first, "--reason", "a phantom", "--json"))
    assert done == {"id": first, "state": "discarded"}
    discarded = orjson.loads(await cli("quarantine", "list", "--state", "discarded", "--json"))
    assert [entry["settled_note"] for entry in discarded["entries"]] == ["a phantom"]
    assert "'gone' is no state" in await cli("quarantine", "list", "--state", "gone", status=1)


async def test_export_never_overwrites_and_is_private(archive: TestArchive, cli: Cli, tmp_path: Path) -> None:
    entry = await quarantined(archive)
    target = tmp_path / "out.dcm"
    await cli("quarantine", "export", entry, target)
    assert target.read_bytes() == BAD.file
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert "cannot be written" in await cli("quarantine", "export", entry, target, status=1)


async def test_mistakes_are_sentences(archive: TestArchive, cli: Cli) -> None:
    entry = await quarantined(archive)
    assert "There is no entry 77" in await cli("quarantine", "show", "77", status=1)
    assert "There is no entry 1 " in await cli("quarantine", "list", "--after", "1", status=1)
    assert "has no value" in await cli("quarantine", "accept", entry, "--set", "Modality", status=1)
    assert "No attribute is called 'Nonsense'" in await cli(
        "quarantine", "accept", entry, "--set", "Nonsense=1", status=1
    )
    assert "is no AE title" in await cli("ae", "add", "A\\B", status=1)
    assert "is no IP address" in await cli("ae", "add", "CT1", "--host", "ct1.example", status=1)
    assert "is not registered" in await cli("ae", "remove", "CT1", status=1)


async def test_hostile_values_do_not_reach_the_terminal(archive: TestArchive, cli: Cli) -> None:
    hostile = BAD.but(name=b"EVIL\x1b[2J\x07^NAME", description="x\x1b]0;title\x07")
    shown = await cli("quarantine", "show", await quarantined(archive, hostile))
    assert "\x1b" not in shown and "\x07" not in shown and "EVIL" in shown


async def test_changes(archive: TestArchive, cli: Cli) -> None:
    assert "Nothing happened yet" in await cli("changes")
    await archive.send(Image(), BAD.but(sop="1.2.3.1.1.2"))
    listed = await cli("changes")
    assert "stored" in listed and "quarantined" in listed and "1.2.3.1.1.2" in listed
    lines = (await cli("changes", "--json", "--after", "1")).splitlines()
    assert [orjson.loads(line)["kind"] for line in lines] == ["quarantined"]
    assert "isocenter changes --after 1" in await cli("changes", "--limit", "1")
    assert "Nothing happened after number 9" in await cli("changes", "--after", "9")


@on_both
async def test_a_refused_peer_is_let_in_by_the_command_that_the_list_shows(
    url: str, tmp_path: Path, cli: Cli
) -> None:
    """The server runs on; the command works beside it."""
    clock = ManualClock()
    async with scp_door(tmp_path, database_url=url, loopback_exempt=False, clock=clock) as door:
        with pytest.raises(AssociationRejected):
            await door.connect(calling="CT 1")
        await door.ae_titles.admission.notes.flush()
        listed = await cli("ae", "list")
        command = next(line for line in listed.splitlines() if "let it in:" in line).split("let it in:")[1]
        program, *words = shlex.split(command)
        assert program == "isocenter"
        assert "CT 1 may call from 127.0.0.1." in await cli(*words)
        clock.advance(1.01)
        async with await door.connect(calling="CT 1") as association:
            await association.echo()
        await door.ae_titles.admission.notes.flush()

        listed = await cli("ae", "list")
        assert "Refused" not in listed and "127.0.0.1" in listed and "never" not in listed
        told = orjson.loads(await cli("ae", "list", "--json"))
        assert [one["title"] for one in told["ae_titles"]] == ["CT 1"] and told["refused"] == []
        assert "CT 1 was removed (1 registration)." in await cli("ae", "remove", "CT 1")
        clock.advance(1.01)
        with pytest.raises(AssociationRejected):
            await door.connect(calling="CT 1")


def test_commands_mean_the_organisation_that_the_server_means() -> None:
    from isocenter.app import server
    from isocenter.cli import opened

    assert opened.DEFAULT_ORGANIZATION == server.DEFAULT_ORGANIZATION
