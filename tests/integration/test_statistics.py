"""Statistics: each number is what there is, at both doors, of one's own organisation, off an index."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from isocenter.doors.http.application import create_app
from isocenter.doors.http.services import HttpServices
from isocenter.doors.http.statistics_routes import statistics_router
from isocenter.features.archive.deletion.deleting import Scope
from isocenter.features.archive.deletion.deletions import Deletions
from isocenter.features.archive.holdings import Holdings
from isocenter.features.archive.patients.merges import PatientIdentity, PatientMerges
from isocenter.features.archive.policies import ConflictPolicy
from isocenter.features.archive.queries_statistics import COUNT_INSTANCES
from isocenter.features.archive.statistics import Statistics, count_all
from isocenter.features.audit.trail import AuditTrail
from isocenter.kit.clock import ManualClock
from isocenter.platform.db import Sql, Work
from services.archive import CT, EXPLICIT, ORGANIZATION, Image, TestArchive, opened
from services.dicomweb import open_gate
from services.schema import fresh_url
from services.two_organizations import fill_both, two_organizations

MR = "1.2.840.10008.5.1.4.1.1.4"
CR = "1.2.840.10008.5.1.4.1.1.1"
DAY_US = 86_400_000_000


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def archive(url: str, tmp_path: Path) -> AsyncIterator[TestArchive]:
    async with opened(url, tmp_path, clock=ManualClock()) as made:
        yield made


async def counted(archive: TestArchive, organization_id: int = ORGANIZATION) -> Statistics:
    return await count_all(archive.database, archive.clock, organization_id)


CT_IMAGES = [Image(sop=f"1.2.3.1.1.{n}") for n in range(1, 4)]
MR_IMAGE = Image(
    sop="1.2.3.1.2.1",
    series="1.2.3.1.2",
    modality="MR",
    sop_class=MR,
    pixels=bytes(100),
)
OTHER = Image(
    sop="1.2.4.1.1.1",
    series="1.2.4.1.1",
    study="1.2.4.1",
    patient_id="P2",
    modality="CR",
    sop_class=CR,
    more=((0x00080020, "DA", "20191231"),),
)


async def test_nothing_yet(archive: TestArchive) -> None:
    found = await counted(archive)
    told = asdict(found)
    days = told.pop("received")
    assert [len(days), {one["objects"] for one in days}] == [30, {0}]
    assert {str(value) for value in told.values()} == {"0", "", "()", "{'objects': 0, 'bytes': 0}"}


async def test_each_number(archive: TestArchive) -> None:
    await archive.send(*CT_IMAGES, MR_IMAGE, OTHER, CT_IMAGES[0], CT_IMAGES[0].but(sop="9", modality=None))
    found = await counted(archive)
    size = {image.sop: len(image.file) for image in (*CT_IMAGES, MR_IMAGE, OTHER)}
    ct_bytes = sum(size[image.sop] for image in CT_IMAGES)
    assert (found.patients, found.studies, found.series, found.instances) == (2, 2, 3, 5)
    assert found.bytes == sum(size.values())
    assert [(one.modality, one.studies, one.series, one.instances) for one in found.modalities] == [
        ("CT", 1, 1, 3),
        ("CR", 1, 1, 1),
        ("MR", 1, 1, 1),
    ]
    assert [(one.uid, one.name, one.instances, one.bytes) for one in found.sop_classes] == [
        (CT, "CT Image Storage", 3, ct_bytes),
        (CR, "Computed Radiography Image Storage", 1, size[OTHER.sop]),
        (MR, "MR Image Storage", 1, size[MR_IMAGE.sop]),
    ]
    [syntax] = found.transfer_syntaxes
    assert (syntax.uid, syntax.name, syntax.instances) == (EXPLICIT, "Explicit VR Little Endian", 5)
    assert (found.oldest_study_date, found.newest_study_date) == ("20191231", "20260101")
    assert found.quarantine.objects == 1 and found.earlier_versions.objects == 0
    assert found.kept.objects == 6 and found.kept.bytes == found.bytes + found.quarantine.bytes
    held = await Holdings(archive.database, archive.clock).of(ORGANIZATION)
    assert (found.kept.objects, found.kept.bytes) == (held.objects, held.bytes)
    await Deletions(archive.database, archive.clock).delete(ORGANIZATION, Scope(OTHER.study))
    found = await counted(archive)
    assert (found.patients, found.studies, found.instances) == (1, 1, 4)
    assert (found.deleted.objects, found.deleted.bytes) == (1, size[OTHER.sop])
    parts = (found.earlier_versions, found.quarantine, found.deleted)
    assert found.kept.bytes == found.bytes + sum(part.bytes for part in parts)
    assert found.oldest_study_date == "20260101"


async def test_earlier_versions_and_merged_patients_are_not_counted_twice(archive: TestArchive) -> None:
    await archive.policies.change(ORGANIZATION, conflict=ConflictPolicy.KEEP_BOTH)
    await archive.send(CT_IMAGES[0], OTHER, CT_IMAGES[0].but(pixels=b"\7\7\7\7"))
    merges = PatientMerges(archive.database, archive.clock)
    await merges.merge(ORGANIZATION, PatientIdentity("P2"), PatientIdentity("P1"))
    found = await counted(archive)
    assert (found.patients, found.studies, found.instances) == (1, 2, 2)
    assert found.earlier_versions.objects == 1
    assert found.received[-1].objects == 3, "both were received"


async def test_days_are_utc_and_their_edges_are_sharp(archive: TestArchive) -> None:
    await archive.send(*CT_IMAGES, MR_IMAGE, OTHER)
    today = archive.clock.now().astimezone(UTC).date()
    midnight_us = int(datetime(today.year, today.month, today.day, tzinfo=UTC).timestamp()) * 1_000_000
    at_us = {
        CT_IMAGES[0]: midnight_us,
        CT_IMAGES[1]: midnight_us - 1,
        CT_IMAGES[2]: midnight_us - 29 * DAY_US,
        MR_IMAGE: midnight_us - 29 * DAY_US - 1,
        OTHER: midnight_us + DAY_US,  # a clock that went back
    }
    for image, received_at_us in at_us.items():
        await archive.execute(
            "UPDATE instance SET received_at_us = :at WHERE sop_instance_uid = :uid",
            at=received_at_us,
            uid=image.sop,
        )
    found = await counted(archive)
    assert found.instances == 5
    assert {one.day: one.objects for one in found.received if one.objects} == {
        today: 1,
        today - timedelta(days=1): 1,
        today - timedelta(days=29): 1,
    }
    assert [one.day for one in found.received] == [today - timedelta(days=29 - n) for n in range(30)]


async def test_one_pass_of_an_index(archive: TestArchive) -> None:
    """SQLite says so from the first row on; PostgreSQL, which weighs, may not scan the table."""

    def plan(_: int) -> Work[list[str]]:
        explain = "EXPLAIN QUERY PLAN " if archive.database.dialect == "sqlite" else "EXPLAIN "
        if archive.database.dialect != "sqlite":
            yield Sql("SET LOCAL enable_seqscan = off")()
            yield Sql("SET LOCAL enable_bitmapscan = off")()
        rows = yield Sql(explain + COUNT_INSTANCES.text)(
            organization_id=ORGANIZATION, since_us=0, day_us=DAY_US
        )
        return [str(row[len(row) - 1]) for row in rows]  # type: ignore[arg-type]

    await archive.send(*CT_IMAGES)
    said = "\n".join(await archive.database.write(plan, ORGANIZATION))
    assert ("COVERING INDEX" in said or "Index Only Scan" in said) and "ix_instance_statistics" in said, said


async def test_of_one_organisation(url: str, tmp_path: Path) -> None:
    async with two_organizations(url, tmp_path) as two:
        await fill_both(two)
        await two.archive.send(*CT_IMAGES[1:], to=two.theirs)
        ours, theirs = [await counted(two.archive, one) for one in two.both]
        assert (ours.instances, ours.patients, ours.quarantine.objects) == (1, 1, 1)
        assert (theirs.instances, theirs.patients, theirs.quarantine.objects) == (3, 1, 1)
        assert sum(one.objects for one in theirs.received) == 3
        assert (await counted(two.archive, 999)).instances == 0


# --- the doors


@pytest.fixture
async def trail(archive: TestArchive) -> AsyncIterator[AuditTrail]:
    made = AuditTrail(archive.database, archive.clock, linger_s=0)
    yield made
    await made.close()


@pytest.fixture
async def api(archive: TestArchive, trail: AuditTrail) -> AsyncIterator[httpx2.AsyncClient]:
    gate = open_gate()
    app = create_app(
        HttpServices(archive.database, archive.store, archive.ingest, gate),
        routers=(statistics_router(archive.database, archive.clock, gate, trail),),
    )
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://isocenter/api/v1") as client:
        yield client


async def test_over_http_and_told(api: httpx2.AsyncClient, archive: TestArchive, trail: AuditTrail) -> None:
    await archive.send(*CT_IMAGES, OTHER)
    answer = await api.get("/statistics")
    assert answer.status_code == 200
    assert answer.json() == orjson.loads(orjson.dumps(asdict(await counted(archive))))
    assert "DOE" not in answer.text and "P1" not in answer.text
    await trail.settled()
    [told] = await recorded(archive)
    assert (told["action"], told["outcome"], told["resource_kind"]) == ("read", "success", "statistics")


async def recorded(archive: TestArchive) -> list[dict[str, Any]]:
    return await archive.rows("SELECT action, outcome, resource_kind, organization_id FROM audit_event")


async def test_by_command(archive: TestArchive, url: str, tmp_path: Path) -> None:
    theirs = await archive.add_organization("theirs")
    await archive.send(*CT_IMAGES, OTHER)
    await archive.send(MR_IMAGE, to=theirs)

    def run(*words: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "isocenter", "statistics", *words],
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "ISOCENTER_DATA_DIR": str(tmp_path),
                "ISOCENTER_DATABASE_URL": url,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    said = run()
    assert "2 patients, 2 studies, 2 series\n4 instances" in said
    assert "CT Image Storage" in said and "MR Image Storage" not in said
    told = orjson.loads(run("--json", "--org", "theirs"))
    assert (told["instances"], told["sop_classes"][0]["name"]) == (1, "MR Image Storage")
    assert set(told) == set(asdict(await counted(archive)))
    assert date.fromisoformat(told["received"][-1]["day"])
    assert "no organisation called 'nowhere'" in run("--org", "nowhere", status=1)
    assert sorted(one["organization_id"] for one in await recorded(archive)) == [ORGANIZATION, theirs]
