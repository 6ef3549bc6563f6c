"""C-FIND over an archive, on both databases: levels, matching, character sets, many answers, cancel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from isocenter.dicom.dataset import read_dataset, write_dataset
from isocenter.dicom.element import Element
from isocenter.dicom.sop_classes import PATIENT_ROOT_FIND, PATIENT_STUDY_ONLY_FIND, STUDY_ROOT_FIND
from isocenter.dimse.net.client import Proposal
from isocenter.dimse.net.errors import DimseFailure
from isocenter.dimse.protocol.user_information import ExtendedNegotiation
from isocenter.features.archive.patients.identity import PatientIdentity
from isocenter.features.archive.patients.merges import PatientMerges
from services.archive import ORGANIZATION, Image
from services.schema import fresh_url
from services.scp import EXPLICIT, IMPLICIT, ScpDoor, identifier, scp_door
from services.sequences import items, request

DEFLATED = "1.2.840.10008.1.2.1.99"


def study(number: int, **more: object) -> Image:
    uid = f"1.9.{number}"
    return Image(study=uid, series=f"{uid}.1", sop=f"{uid}.1.1", patient_id=f"P{number}").but(**more)


def dated(image: Image, date: str, time: str) -> Image:
    more = (*image.more, (0x00080020, "DA", date), (0x00080030, "TM", time))
    return image.but(more=more)


UTF_8 = ((0x00080005, "CS", "ISO_IR 192"),)
ARCHIVE = [
    dated(study(1, name="DOE^JANE", description="Head CT"), "20240101", "101500"),
    dated(study(1, name="DOE^JANE", description="Head CT").but(sop="1.9.1.1.2"), "20240101", "101500"),
    dated(
        study(1, name="DOE^JANE", description="Head CT").but(
            series="1.9.1.2", sop="1.9.1.2.1", modality="SR"
        ),
        "20240101",
        "101500",
    ),
    dated(study(2, name="DOE^JOHN", modality="MR"), "20240215", "235959"),
    dated(study(3, name="Müller^Jürgen".encode(), more=UTF_8), "20231231", "080000"),
    dated(study(4, name="山田^太郎".encode(), more=UTF_8), "20240301", "120000"),
    dated(study(5, name="DOE^JANE", patient_id="P1", modality="US"), "20240401", "120000"),
]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def door(url: str, tmp_path: Path) -> AsyncIterator[ScpDoor]:
    async with scp_door(tmp_path, database_url=url) as made:
        outcomes = await made.archive.send(*ARCHIVE)
        assert all(outcome.kind.accepted for outcome in outcomes)
        yield made


def studies(answers: list[dict[int, bytes]]) -> list[str]:
    return sorted(answer[0x0020000D].rstrip(b"\0").decode().removeprefix("1.9.") for answer in answers)


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({}, ["1", "2", "3", "4", "5"]),
        ({"t00100020": b"P1"}, ["1", "5"]),
        ({"t00100020": b"P9"}, []),
        ({"t00100010": b"DOE^*"}, ["1", "2", "5"]),
        ({"t00100010": b"doe^j?hn"}, ["2"]),
        ({"t00100010": b"MULLER*"}, ["3"]),
        ({"t00080020": b"20240101-20240229"}, ["1", "2"]),
        ({"t00080020": b"-20231231"}, ["3"]),
        ({"t00080020": b"20240301-"}, ["4", "5"]),
        ({"t00080020": b"20240101"}, ["1"]),
        ({"t00080030": b"1000-1100"}, ["1"]),
        ({"t0020000D": b"1.9.2\\1.9.4\\1.9.77"}, ["2", "4"]),
        ({"t00080061": b"SR"}, ["1"]),
        ({"t00081030": b"*ct*"}, ["1"]),
        ({"t00100020": b"P*", "t00100010": b"*JANE", "t00080020": b"2024-"}, None),
    ],
)
async def test_studies_by_every_kind_of_key(
    door: ScpDoor, keys: dict[str, bytes], found: list[str] | None
) -> None:
    if found is None:  # no date at all: refused, and the association lives on
        with pytest.raises(DimseFailure) as caught:
            await door.find("STUDY", **keys)
        assert caught.value.status == 0xC000 and caught.value.comment
        return
    assert studies(await door.find("STUDY", **keys)) == found


async def test_former_patient_ids_find_who_is_left(door: ScpDoor) -> None:
    merges = PatientMerges(door.archive.database, door.archive.clock)
    await merges.merge(ORGANIZATION, PatientIdentity("P2"), PatientIdentity("P1"))
    await merges.change_id(ORGANIZATION, PatientIdentity("P3"), PatientIdentity("N3", "X"))
    for key in (b"P1", b"P2", b"P2*"):
        assert studies(await door.find("STUDY", t00100020=key)) == ["1", "2", "5"]
    patients = await door.find("PATIENT", model_uid=PATIENT_ROOT_FIND, t00100020=b"P2")
    assert [one[0x00100020] for one in patients] == [b"P1"]
    assert await door.find("STUDY", t00100020=b"P3", t00100021=b"X") == []
    [renamed] = await door.find("STUDY", t00100020=b"P3", t00100021=b"", t0020000D=b"")
    assert (renamed[0x00100020], renamed[0x00100021]) == (b"N3", b"X ")
    everybody = await door.find("PATIENT", model_uid=PATIENT_ROOT_FIND, t00100020=b"")
    assert sorted(one[0x00100020] for one in everybody) == [b"N3", b"P1", b"P4"]


async def test_an_answer_holds_what_was_asked_and_where_to_get_it(door: ScpDoor) -> None:
    [answer] = await door.find(
        "STUDY", t0020000D=b"1.9.1", t00100010=b"", t00080061=b"", t00201206=b"", t00201208=b"", t00080050=b""
    )
    assert answer == {
        0x00080050: b"",
        0x00080052: b"STUDY ",
        0x00080054: b"ISOCENTER ",
        0x00080061: b"CT\\SR ",
        0x00100010: b"DOE^JANE",
        0x0020000D: b"1.9.1\0",
        0x00201206: b"2 ",
        0x00201208: b"3 ",
    }


async def test_series_and_images_below_their_study_and_without_it(door: ScpDoor) -> None:
    series = await door.find("SERIES", t0020000D=b"1.9.1", t00080060=b"")
    assert sorted((one[0x0020000E], one[0x00080060]) for one in series) == [
        (b"1.9.1.1\0", b"CT"),
        (b"1.9.1.2\0", b"SR"),
    ]
    # relational: all series of that modality, of whatever study
    assert studies(await door.find("SERIES", t00080060=b"MR")) == ["2"]
    images = await door.find("IMAGE", t0020000D=b"1.9.1", t0020000E=b"1.9.1.1")
    assert sorted(one[0x00080018] for one in images) == [b"1.9.1.1.1\0", b"1.9.1.1.2\0"]
    [image] = await door.find("IMAGE", t00080018=b"1.9.2.1.1", t00100020=b"", t00280010=b"")
    assert (image[0x00100020], image[0x00280010]) == (b"P2", b"\1\0")


async def test_patients_in_patient_root_only(door: ScpDoor) -> None:
    patients = await door.find("PATIENT", PATIENT_ROOT_FIND, t00100010=b"DOE*")
    assert sorted(one[0x00100020] for one in patients) == [b"P1", b"P2"]
    assert studies(await door.find("STUDY", PATIENT_ROOT_FIND, t00100020=b"P1")) == ["1", "5"]
    with pytest.raises(DimseFailure) as caught:
        await door.find("PATIENT", STUDY_ROOT_FIND, t00100010=b"DOE*")
    assert caught.value.status == 0xA900 and caught.value.offending_elements == (0x00080052,)


async def test_the_retired_model_has_two_levels(door: ScpDoor) -> None:
    patients = await door.find("PATIENT", PATIENT_STUDY_ONLY_FIND, t00100010=b"DOE*")
    assert sorted(one[0x00100020] for one in patients) == [b"P1", b"P2"]
    assert studies(await door.find("STUDY", PATIENT_STUDY_ONLY_FIND, t00100020=b"P1")) == ["1", "5"]
    with pytest.raises(DimseFailure) as caught:
        await door.find("SERIES", PATIENT_STUDY_ONLY_FIND, t0020000D=b"1.9.1")
    assert caught.value.status == 0xA900
    assert caught.value.comment == "Query/Retrieve Level is not PATIENT or STUDY"


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED, "1.2.840.10008.1.2.2"])
async def test_every_transfer_syntax_of_identifiers(door: ScpDoor, syntax: str) -> None:
    [answer] = await door.find("STUDY", syntax=syntax, t00100020=b"P2", t00100010=b"", t00201208=b"")
    assert (answer[0x00100010], answer[0x00201208]) == (b"DOE^JOHN", b"1 ")


@pytest.mark.parametrize(
    ("charset", "patient", "declared", "name"),
    [
        (None, b"P3", b"ISO_IR 192", "Müller^Jürgen ".encode()),
        (b"ISO_IR 100", b"P3", b"ISO_IR 100", "Müller^Jürgen ".encode("latin-1")),
        (b"ISO_IR 100", b"P4", b"ISO_IR 192", "山田^太郎 ".encode()),
        (b"\\ISO 2022 IR 87 ", b"P4", b"\\ISO 2022 IR 87 ", "山田^太郎".encode("iso2022_jp")),
        (b"ISO_IR 100", b"P2", b"ISO_IR 100", b"DOE^JOHN"),
        (None, b"P2", None, b"DOE^JOHN"),
    ],
)
async def test_answers_come_in_the_requesters_character_set_if_that_can_be(
    door: ScpDoor, charset: bytes | None, patient: bytes, declared: bytes | None, name: bytes
) -> None:
    [answer] = await door.find("STUDY", charset=charset, t00100020=patient, t00100010=b"")
    assert answer.get(0x00080005) == declared
    assert answer[0x00100010].rstrip() == name.rstrip()


async def test_a_query_in_its_own_character_set(door: ScpDoor) -> None:
    found = await door.find("STUDY", charset=b"ISO_IR 100", t00100010="Müller*".encode("latin-1"))
    assert studies(found) == ["3"]
    japanese = await door.find("STUDY", charset=b"ISO_IR 192", t00100010="山田*".encode())
    assert studies(japanese) == ["4"]


@pytest.mark.parametrize(
    ("key", "status"), [("t00100010", 0xFF00), ("t00321060", 0xFF01), ("t00080060", 0xFF01)]
)
async def test_unknown_keys_are_returned_empty_and_said(door: ScpDoor, key: str, status: int) -> None:
    async with await door.connect(Proposal(STUDY_ROOT_FIND, (EXPLICIT,))) as association:
        seen = [
            (response.status, answer)
            async for response, answer in association._connection.invoker.many(
                association.context_for(STUDY_ROOT_FIND).context_id,
                _find_request(),
                identifier("STUDY", t0020000D=b"1.9.2", **{key: b""}),
            )
        ]
    (pending, answer), (final, _) = seen
    assert (pending, final) == (status, 0)
    assert answer is not None and int(key[1:], 16) in {one.tag for one in read_dataset(answer, EXPLICIT)}


def _find_request() -> object:
    from isocenter.dimse.protocol.messages import CFindRequest

    return CFindRequest(message_id=0, affected_sop_class_uid=STUDY_ROOT_FIND)


async def test_date_and_time_are_one_range_where_negotiated(door: ScpDoor) -> None:
    keys = {"t00080020": b"20231231-20240101", "t00080030": b"0900-1100"}
    assert studies(await door.find("STUDY", **keys)) == ["1"]  # 080000 is not between 0900 and 1100
    combined = [ExtendedNegotiation(STUDY_ROOT_FIND, b"\1\1")]
    keys = {"t00080020": b"20231231-20240215", "t00080030": b"0700-1100"}
    assert studies(await door.find("STUDY", extended=combined, **keys)) == ["1", "3"]
    assert studies(await door.find("STUDY", **keys)) == ["1", "3"]
    keys = {"t00080020": b"20240101-20240215", "t00080030": b"1200-1100"}
    assert studies(await door.find("STUDY", extended=combined, **keys)) == []


async def test_fuzzy_names_and_all_values_where_negotiated(door: ScpDoor) -> None:
    negotiated = [ExtendedNegotiation(STUDY_ROOT_FIND, b"\1\0\1\0\0\1\1")]
    for keys, plain, extended in (
        ({"t00100010": b"jayne^do"}, [], ["1", "2", "5"]),  # JN is John too
        ({"t00100010": b"d^jon"}, [], ["1", "2", "5"]),
        ({"t00100010": b"Mueller"}, [], ["3"]),
        ({"t00080061": b"CT\\SR"}, ["1", "3", "4"], ["1"]),
        ({"t00080050": b'""'}, [], ["1", "2", "3", "4", "5"]),
    ):
        assert studies(await door.find("STUDY", **keys)) == plain, keys
        assert studies(await door.find("STUDY", extended=negotiated, **keys)) == extended, keys


async def test_keys_within_sequences(door: ScpDoor) -> None:
    ordered = study(6, more=((0x00400275, "SQ", items(request("S1", "R1"), request("S2", "R2"))),))
    await door.archive.send(ordered)

    async def found(**within: bytes) -> list[str]:
        item = [Element(int(name[1:], 16), "SH", value) for name, value in within.items()]
        level = Element(0x00080052, "CS", b"SERIES")
        data = write_dataset(
            [level, Element(0x00400275, "SQ", [item]), Element(0x0020000D, "UI", b"")], EXPLICIT
        )
        async with await door.connect() as association:
            answers = await _all(association.find(STUDY_ROOT_FIND, data))
        return studies([{one.tag: one.value for one in read_dataset(answer, EXPLICIT)} for answer in answers])

    assert await found(t00400009=b"S1") == ["6"]
    assert await found(t00400009=b"S*", t00401001=b"R2") == ["6"]
    assert await found(t00400009=b"S1", t00401001=b"R2") == [], "not of one item"
    assert len(await found(t00400009=b"")) == 7


@pytest.mark.parametrize(
    "data",
    [b"", b"\x08\x00\x52\x00", b"\xff" * 100, identifier(""), identifier("IMAGES")],
    ids=["empty", "cut", "noise", "no level", "no such level"],
)
async def test_bad_identifiers_are_refused_and_the_association_lives_on(door: ScpDoor, data: bytes) -> None:
    async with await door.connect() as association:
        with pytest.raises(DimseFailure) as caught:
            await _all(association.find(STUDY_ROOT_FIND, data))
        assert caught.value.status in {0xA900, 0xC000}
        await association.echo()
        assert len(await _all(association.find(STUDY_ROOT_FIND, identifier("STUDY")))) == 5


async def _all(answers: AsyncIterator[bytes]) -> list[bytes]:
    return [answer async for answer in answers]


async def test_a_database_that_is_away_is_said_and_forgiven(tmp_path: Path) -> None:
    async with scp_door(tmp_path) as door:
        await door.archive.send(ARCHIVE[0])
        await door.archive.execute("ALTER TABLE study RENAME TO study_away")
        with pytest.raises(DimseFailure) as caught:
            await door.find("STUDY")
        assert caught.value.status == 0xA700
        await door.archive.execute("ALTER TABLE study_away RENAME TO study")
        assert studies(await door.find("STUDY")) == ["1"]


async def test_many_answers_and_cancel(tmp_path: Path) -> None:
    async with scp_door(tmp_path) as door:
        await door.archive.send(*(study(number, name="MANY^ONE") for number in range(1000)))
        assert len(await door.find("STUDY", t00100010=b"MANY*")) == 1000
        async with await door.connect() as association:
            query = identifier("STUDY", t00100010=b"MANY*")
            async with aclosing(association.find(STUDY_ROOT_FIND, query)) as answers:
                await anext(answers)
            await association.echo()  # the answers still under way were drained
        several = await asyncio.gather(*(door.find("STUDY", t00100010=b"MANY*") for _ in range(8)))
        assert [len(answers) for answers in several] == [1000] * 8
