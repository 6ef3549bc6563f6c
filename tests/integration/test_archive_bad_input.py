"""Bad and hostile objects: quarantined with a reason or filed as they are; never an exception."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import orjson
import pytest

from isocenter.dicom.validation import Strictness
from isocenter.features.archive.entry import Declared, OutcomeKind
from services.archive import CT, EXPLICIT, ORGANIZATION, Image, TestArchive, broken_promises, element, opened
from services.schema import fresh_url

STORED, DUPLICATE, QUARANTINED = OutcomeKind.STORED, OutcomeKind.DUPLICATE, OutcomeKind.QUARANTINED
IMAGE = Image()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def archive(url: str, tmp_path: Path) -> AsyncIterator[TestArchive]:
    async with opened(url, tmp_path) as made:
        yield made
        assert await broken_promises(made) == []
        assert list(made.spool.folder.iterdir()) == []
        assert made.spool.budget.used_bytes == 0


async def stored_row(archive: TestArchive, sop: str = IMAGE.sop) -> dict[str, object]:
    [row] = await archive.rows(
        "SELECT * FROM instance WHERE sop_instance_uid = :sop AND current = 1", sop=sop
    )
    return row


async def stored_file(archive: TestArchive, sop: str = IMAGE.sop) -> bytes:
    row = await stored_row(archive, sop)
    return await archive.store.get(str(row["object_key"]))


@pytest.mark.parametrize("form", ["file", "data set", "c-store"])
async def test_an_object_cut_anywhere_is_quarantined_never_half_stored(archive: TestArchive, form: str):
    whole = IMAGE.file if form == "file" else IMAGE.data_set
    declared = IMAGE.declared if form == "c-store" else None
    # Between elements an object may end: there nothing tells what was to follow.
    tail = whole[whole.index(element(0x0020000E, "UI", IMAGE.series)) :]
    ends = {
        len(whole) - len(tail) + len(element(0x0020000E, "UI", IMAGE.series)) + n for n in (0, 10, 20, 30)
    }
    received = [await archive.receive(whole[:end], declared) for end in range(len(whole)) if end not in ends]
    outcomes = await archive.ingest.commit(ORGANIZATION, received)
    assert {outcome.kind for outcome in outcomes} == {QUARANTINED}
    assert all(outcome.problems for outcome in outcomes)
    assert await archive.one("SELECT count(*) FROM instance") == 0
    assert await archive.one("SELECT count(*) FROM patient") == 0


async def test_random_bytes_and_damaged_files_never_raise(archive: TestArchive):
    chance = random.Random(20261120)
    received = []
    for _ in range(400):
        kind = chance.randrange(3)
        content = bytearray(IMAGE.file if kind else chance.randbytes(chance.randrange(2000)))
        if kind:
            start = 132 if kind == 1 else len(IMAGE.file) - len(IMAGE.data_set)
            for _ in range(chance.randrange(1, 12)):
                content[chance.randrange(start, len(content))] = chance.randrange(256)
        declared = IMAGE.declared if chance.random() < 0.3 else None
        received.append(await archive.receive(bytes(content), declared))
    outcomes = await archive.ingest.commit(ORGANIZATION, received)
    assert len(outcomes) == 400
    assert {STORED, QUARANTINED} <= {outcome.kind for outcome in outcomes}


HOSTILE_TEXTS = [
    b"\0",
    b"A\0B",
    b"\0\0\0\0",
    b"\xff\xfe\xfd",
    b"\xed\xa0\x80",  # a lone surrogate in UTF-8
    "Müller".encode(),
    b"\x1b$B\x1b(B",
    b"\x1b\x1b\x1b",
    b"\\\\\\",
    b"=^=^=^",
    b'"}],"00100020":{"vr":"LO","Value":["P2"',
    b"line\nbreak\r\ttab",
    b"'; DROP TABLE patient; --",
    "\u202e\ufeff\U0010ffff".encode(),
]


@pytest.mark.parametrize("charset", [None, "ISO_IR 192", "ISO 2022 IR 87", "GB18030", "NO SUCH SET"])
async def test_any_text_can_be_filed_and_blends_no_patients(archive: TestArchive, charset: str | None):
    more = () if charset is None else ((0x00080005, "CS", charset),)
    for number, text in enumerate(HOSTILE_TEXTS):
        name_only = IMAGE.but(sop=f"1.2.5.{number}", study=f"1.2.6.{number}", name=text, more=more)
        everywhere = (
            (0x00080005, "CS", charset or ""),
            *((tag, "LO", text) for tag in (0x00081030, 0x0008103E, 0x00080080, 0x00101000)),
            *((tag, "SH", text) for tag in (0x00080050, 0x00200010, 0x00081010)),
            *((tag, "PN", text) for tag in (0x00080090, 0x00081048, 0x00081050)),
            *((tag, "DA", text) for tag in (0x00080020, 0x00080021, 0x00080023, 0x00100030)),
            *((tag, "TM", text) for tag in (0x00080030, 0x00080031, 0x00080033)),
            *((tag, "IS", text) for tag in (0x00200011, 0x00200013, 0x00280008)),
            *((tag, "CS", text) for tag in (0x00100040, 0x00180015, 0x00280004)),
            *((tag, "DS", text) for tag in (0x00101020, 0x00200032)),
            (0x00400275, "SQ", text),
            (0x00280010, "US", text),
        )
        image = IMAGE.but(
            sop=f"1.2.7.{number}",
            study=f"1.2.8.{number}",
            patient_id=text,
            issuer=f"i{number}",
            more=everywhere,
        )
        for outcome in await archive.send(name_only, image):
            assert outcome.kind in {STORED, QUARANTINED}
    rows = await archive.rows("SELECT fragments FROM patient UNION ALL SELECT fragments FROM study")
    for row in rows:
        orjson.loads("{" + row["fragments"].replace("\n", ",") + "}")


async def test_ids_that_differ_in_their_bytes_only_are_two_patients(archive: TestArchive):
    """What cannot be decoded, or PostgreSQL cannot keep, must not fall together with something else."""
    ids = [b"12\x003", b"123", b"1\x0023", b"M\xfcller", b"M\xf6ller", b"M\xfc\xfcller", b"\xff", b"\xfe"]
    charsets = ["", "ISO_IR 192", "ISO_IR 100", "GB18030"]
    for number, (patient_id, charset) in enumerate(itertools.product(ids, charsets)):
        image = IMAGE.but(
            sop=f"1.2.5.{number}",
            study=f"1.2.6.{number}",
            patient_id=patient_id,
            issuer=charset,
            more=((0x00080005, "CS", charset),),
        )
        outcome = await archive.send_one(image)
        assert outcome.kind in {STORED, QUARANTINED}
    filed = await archive.one("SELECT count(*) FROM study")
    assert await archive.one("SELECT count(*) FROM patient") == filed
    assert filed >= 3


async def test_a_name_of_ten_megabytes_costs_its_place_in_the_index_alone(archive: TestArchive):
    large = IMAGE.but(name=None, more=((0x00100010, "UT", b"N" * (10 << 20)),))
    assert (await archive.send_one(large)).kind is STORED
    assert await archive.one("SELECT name_key FROM patient") == ""
    assert await stored_file(archive) == large.file


@pytest.mark.parametrize("characters", [64, 255, 256, 3000, 65534])
@pytest.mark.parametrize("attribute", ["patient_id", "issuer"])
async def test_a_very_long_id_is_never_cut_into_somebody_elses(
    archive: TestArchive, characters: int, attribute: str
):
    for number, end in enumerate("AB"):
        changes = {attribute: "X" * (characters - 1) + end}
        outcome = await archive.send_one(IMAGE.but(sop=f"1.2.5.{number}", study=f"1.2.6.{number}", **changes))
        assert outcome.kind is (STORED if characters < 256 else QUARANTINED)
    assert await archive.one("SELECT count(*) FROM patient") == (2 if characters < 256 else 0)


async def test_an_announced_object_must_be_the_one_that_comes(archive: TestArchive):
    received = await archive.receive(IMAGE.data_set, Declared(CT, "1.2.3.999", EXPLICIT))
    [outcome] = await archive.ingest.commit(ORGANIZATION, [received])
    assert outcome.kind is QUARANTINED
    assert [problem.code for problem in outcome.problems] == ["not-the-announced-object"]
    secret = element(0x00080018, "UI", "DOE^JANE") + IMAGE.data_set[60:]
    received = await archive.receive(secret, IMAGE.declared)
    [outcome] = await archive.ingest.commit(ORGANIZATION, [received])
    assert outcome.kind is QUARANTINED
    assert "DOE" not in str(outcome.problems), "patient data must not reach logs"


async def test_bare_data_sets_with_unspeakable_uids_are_quarantined(archive: TestArchive):
    for sop in ("1.2.\xff", "1.2.3\0.4", "x" * 300, ""):
        image = IMAGE.but(sop=sop)
        assert (await archive.send_one(image.data_set)).kind is QUARANTINED
        assert (await archive.send_one(image.file[132:])).kind is QUARANTINED


async def test_what_strictness_lets_in(url: str, tmp_path: Path):
    leading_zero = IMAGE.but(sop="1.2.03.4")
    async with opened(url, tmp_path, strictness=Strictness.LENIENT) as archive:
        assert (await archive.send_one(leading_zero)).kind is STORED
        assert (await archive.send_one(IMAGE.but(sop="1.2.9", modality=None))).kind is STORED
    async with opened(url, tmp_path, strictness=Strictness.STRICT) as archive:
        assert (await archive.send_one(IMAGE.but(sop="1.2.10", patient_id=None))).kind is QUARANTINED
    async with opened(url, tmp_path, accept_unknown_sop_classes=True) as archive:
        assert (await archive.send_one(IMAGE.but(sop="1.2.11", sop_class="1.2.3.4.5"))).kind is STORED
