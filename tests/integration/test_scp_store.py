"""C-STORE into the archive, on both databases: what is kept, what is refused and how, and what fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from isocenter.dicom.sop_classes import VERIFICATION
from isocenter.dimse.net.client import Proposal
from isocenter.dimse.net.errors import AssociationRejected, ContextNotAccepted, DimseFailure
from isocenter.dimse.protocol.user_information import RoleSelection, UserIdentity, UserIdentityType
from isocenter.doors.scp.server import DicomSettings
from isocenter.features.archive.policies import BatchPolicy, ConflictPolicy
from isocenter.kit.errors import IsocenterError, OutOfSpace, Unavailable
from isocenter.platform.storage.faults import FaultyStore, Operation
from isocenter.platform.storage.local import LocalStore
from services.archive import CT, EXPLICIT, Image, broken_promises, element
from services.schema import fresh_url
from services.scp import IMPLICIT, ScpDoor, scp_door

IMAGE = Image()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def door(url: str, tmp_path: Path) -> AsyncIterator[ScpDoor]:
    async with scp_door(tmp_path, database_url=url) as made:
        yield made
        assert await broken_promises(made.archive) == []
        assert made.archive.spool.budget.used_bytes == 0


async def instances(door: ScpDoor) -> list[dict[str, object]]:
    return await door.archive.rows(
        "SELECT sop_instance_uid, transfer_syntax_uid, door, peer, object_key FROM instance ORDER BY id"
    )


async def quarantined(door: ScpDoor) -> list[list[str]]:
    return [
        [problem["code"] for problem in entry.problems] for entry in await door.archive.quarantine.list(1)
    ]


async def test_an_object_is_there_when_success_is_answered(door: ScpDoor) -> None:
    assert await door.store(IMAGE) == [0x0000]
    [row] = await instances(door)
    assert (row["sop_instance_uid"], row["transfer_syntax_uid"]) == (IMAGE.sop, EXPLICIT)
    assert (row["door"], row["peer"]) == ("dimse", "SCANNER")
    content = await door.archive.store.get(str(row["object_key"]))
    assert content.endswith(IMAGE.data_set) and content[128:132] == b"DICM"


async def test_the_same_again_is_accepted_and_kept_once(door: ScpDoor) -> None:
    assert await door.store(IMAGE, IMAGE, IMAGE.but(sop="1.2.3.1.1.2")) == [0, 0, 0]
    assert len(await instances(door)) == 2


async def test_bad_objects_are_quarantined_and_the_association_lives_on(door: ScpDoor) -> None:
    statuses = await door.store(
        IMAGE.but(modality=None),
        IMAGE.but(study="1.2.abc", sop="1.2.3.1.1.3"),
        IMAGE.but(sop="1.2.3.1.1.4"),
    )
    assert statuses == [0xA900, 0xC000, 0x0000]
    assert await quarantined(door) == [["missing"], ["invalid-uid"]]
    assert [row["sop_instance_uid"] for row in await instances(door)] == ["1.2.3.1.1.4"]


async def test_what_cannot_be_read_is_quarantined_too(door: ScpDoor) -> None:
    cut = IMAGE.data_set[:-2]
    async with await door.connect() as association:
        for data, status in ((b"", 0xA900), (b"no DICOM at all", 0xC000), (cut, 0xC000), (IMAGE.data_set, 0)):
            try:
                response = await association.store(CT, IMAGE.sop, EXPLICIT, data)
                assert response.status == status
            except DimseFailure as failure:
                assert failure.status == status and failure.comment.startswith("quarantined: ")
                assert len(failure.comment) <= 64
    assert len(await instances(door)) == 1
    assert len(await quarantined(door)) == 3


async def test_another_object_than_announced_is_refused_by_name(door: ScpDoor) -> None:
    async with await door.connect() as association:
        with pytest.raises(DimseFailure) as caught:
            await association.store(CT, "1.2.3.999", EXPLICIT, IMAGE.data_set)
    assert caught.value.status == 0xA900
    assert caught.value.comment == "quarantined: not the announced object, SOPInstanceUID"
    assert caught.value.offending_elements == (0x00080018,)
    assert await quarantined(door) == [["not-the-announced-object"]]


@pytest.mark.parametrize(
    ("conflict", "status", "current"),
    [
        (ConflictPolicy.REJECT, 0x0111, IMAGE.sha256),
        (ConflictPolicy.KEEP_FIRST, 0, IMAGE.sha256),
        (ConflictPolicy.REPLACE, 0, IMAGE.but(name="OTHER").sha256),
        (ConflictPolicy.KEEP_BOTH, 0, IMAGE.but(name="OTHER").sha256),
    ],
)
async def test_other_bytes_under_a_uid(
    tmp_path: Path, conflict: ConflictPolicy, status: int, current: str
) -> None:
    async with scp_door(tmp_path, conflict=conflict) as door:
        assert await door.store(IMAGE, IMAGE.but(name="OTHER")) == [0, status]
        assert await door.archive.one("SELECT sha256 FROM instance WHERE current = 1") == current


async def test_a_failing_store_is_said_and_work_goes_on_when_it_is_back(url: str, tmp_path: Path) -> None:
    store = FaultyStore(LocalStore(tmp_path / "objects"))
    async with scp_door(tmp_path, database_url=url, store=store) as door:
        async with await door.connect() as association:
            failures: list[Callable[[], IsocenterError]] = [
                lambda: OutOfSpace("The disk is full."),
                lambda: Unavailable("The object store cannot be reached."),
            ]
            for failure in failures:
                store.fail(Operation.PUT, failure)
                with pytest.raises(DimseFailure) as caught:
                    await association.store(CT, IMAGE.sop, EXPLICIT, IMAGE.data_set)
                assert caught.value.status == 0xA700
                assert caught.value.comment == failure().detail
                assert await instances(door) == []
            assert (await association.store(CT, IMAGE.sop, EXPLICIT, IMAGE.data_set)).status == 0
        assert len(await instances(door)) == 1
        assert await broken_promises(door.archive) == []


async def test_too_large_an_object_is_refused_before_its_end(tmp_path: Path) -> None:
    async with scp_door(tmp_path, object_bytes_max=100_000) as door:
        large = IMAGE.but(sop="1.2.3.1.1.9", pixels=bytes(1_000_000))
        assert await door.store(large, IMAGE) == [0xA700, 0]
        assert [row["sop_instance_uid"] for row in await instances(door)] == [IMAGE.sop]


async def test_no_room_is_said(tmp_path: Path) -> None:
    async with scp_door(tmp_path, min_free_bytes=1 << 60) as door:
        assert await door.store(IMAGE) == [0xA700]
        assert await instances(door) == []


async def test_large_objects_go_through_the_spool(tmp_path: Path) -> None:
    async with scp_door(tmp_path, threshold_bytes=100_000, memory_budget_bytes=1 << 20) as door:
        large = IMAGE.but(pixels=bytes(range(256)) * 20_000)
        assert await door.store(large) == [0]
        [row] = await instances(door)
        assert (await door.archive.store.get(str(row["object_key"]))).endswith(large.data_set)
        assert list(door.archive.spool.folder.iterdir()) == []


async def test_one_bad_object_of_an_all_or_nothing_archive_harms_no_other(tmp_path: Path) -> None:
    async with scp_door(tmp_path, batch=BatchPolicy.ALL_OR_NOTHING) as door:
        assert await door.store(IMAGE.but(modality=None), IMAGE) == [0xA900, 0]
        assert len(await instances(door)) == 1
        assert await quarantined(door) == [["missing"]]


async def test_a_sender_that_goes_away_leaves_nothing(door: ScpDoor) -> None:
    async def half() -> AsyncIterator[bytes]:
        yield IMAGE.data_set[:100]
        raise RuntimeError("the sender crashed")

    association = await door.connect()
    with pytest.raises(RuntimeError, match="the sender crashed"):
        await association.store(CT, IMAGE.sop, EXPLICIT, half())
    while door.server.open_associations:
        await asyncio.wait_for(asyncio.shield(_closed(door)), 10)
    assert await instances(door) == [] and await door.archive.keys() == set()
    assert list(door.archive.spool.folder.iterdir()) == []


async def _closed(door: ScpDoor) -> None:
    """The next turn of the loop: what the server has read by then is dealt with."""
    turned = asyncio.Event()
    asyncio.get_running_loop().call_soon(turned.set)
    await turned.wait()


async def test_many_senders_of_one_new_patient_make_one_patient(door: ScpDoor) -> None:
    async def send(number: int) -> list[int]:
        series = f"1.2.3.1.{number}"
        return await door.store(*(IMAGE.but(series=series, sop=f"{series}.{one}") for one in range(5)))

    answers = await asyncio.gather(*(send(number) for number in range(1, 17)))
    assert answers == [[0] * 5] * 16
    counts = [
        await door.archive.one(f"SELECT count(*) FROM {table}")
        for table in ("patient", "study", "series", "instance")
    ]
    assert counts == [1, 1, 16, 80]


async def test_several_operations_at_once_on_one_association(door: ScpDoor) -> None:
    images = [IMAGE.but(sop=f"1.2.3.1.1.{number}") for number in range(100, 140)]
    association = await door.connect(operations_max=8)
    window = association.accept.user_information.asynchronous_operations_window
    assert window is not None and window.invoked == 8
    async with association:
        responses = await asyncio.gather(
            *(association.store(CT, one.sop, EXPLICIT, one.data_set) for one in images)
        )
    assert {response.status for response in responses} == {0}
    assert len(await instances(door)) == 40


async def test_transfer_syntaxes_are_kept(door: ScpDoor) -> None:
    big_endian = "1.2.840.10008.1.2.2"
    async with await door.connect(
        Proposal(CT, (IMPLICIT,)), Proposal(CT, (big_endian,)), Proposal(CT, ("1.2.840.10008.1.2.4.90",))
    ) as association:
        assert [context.transfer_syntax for context in association.contexts.values()] == [
            IMPLICIT,
            big_endian,
            "1.2.840.10008.1.2.4.90",
        ]
        encapsulated = Image(sop="1.2.3.1.1.7").data_set[:-12] + element(0x7FE00010, "OW", b"")
        j2k = (
            encapsulated[: encapsulated.rindex(b"\xe0\x7f\x10\x00")]
            + b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff"
            + b"\xfe\xff\x00\xe0\0\0\0\0"
            + b"\xfe\xff\x00\xe0\x04\0\0\0abcd"
            + b"\xfe\xff\xdd\xe0\0\0\0\0"
        )
        response = await association.store(CT, "1.2.3.1.1.7", "1.2.840.10008.1.2.4.90", j2k)
        assert response.status == 0
    [row] = await instances(door)
    assert row["transfer_syntax_uid"] == "1.2.840.10008.1.2.4.90"


@pytest.mark.parametrize("accept", [False, True])
async def test_private_sop_classes_by_setting(tmp_path: Path, accept: bool) -> None:
    private = IMAGE.but(sop_class="1.2.3.4.5.6.7")
    settings = DicomSettings(accept_unknown_sop_classes=accept)
    async with scp_door(tmp_path, settings=settings, accept_unknown_sop_classes=accept) as door:
        if accept:
            assert await door.store(private) == [0]
            return
        async with await door.connect(Proposal(VERIFICATION), Proposal("1.2.3.4.5.6.7")) as association:
            with pytest.raises(ContextNotAccepted):
                await association.store("1.2.3.4.5.6.7", private.sop, EXPLICIT, private.data_set)
            await association.echo()


# --- who may


async def test_the_called_title_must_be_ours(tmp_path: Path) -> None:
    settings = DicomSettings(ae_title="MAIN", other_ae_titles=("SECOND",))
    async with scp_door(tmp_path, settings=settings) as door:
        for title in ("MAIN", "SECOND"):
            async with await door.connect(called=title) as association:
                await association.echo()
        with pytest.raises(AssociationRejected) as caught:
            await door.connect(called="ISOCENTER", calling="CT1")
        reject = caught.value.reject
        assert (reject.result, reject.source, reject.reason) == (1, 1, 7)
        await door.ae_titles.admission.notes.flush()
        [peer] = await door.ae_titles.refused(1)
        assert (peer.calling_ae_title, peer.called_ae_title, peer.command) == ("CT1", "ISOCENTER", "")


async def test_an_unknown_caller_is_refused_until_it_is_registered(url: str, tmp_path: Path) -> None:
    async with scp_door(tmp_path, database_url=url, loopback_exempt=False) as door:
        with pytest.raises(AssociationRejected) as caught:
            await door.connect(calling="CT1")
        reject = caught.value.reject
        assert (reject.result, reject.source, reject.reason) == (1, 1, 3)
        await door.ae_titles.admission.notes.flush()
        [peer] = await door.ae_titles.refused(1)
        assert peer.command == "isocenter ae add CT1 --host 127.0.0.1"
        await door.ae_titles.register(1, "CT1", host="127.0.0.1")
        async with await door.connect(calling="CT1") as association:
            await association.echo()


async def test_without_a_list_of_callers_nobody_unknown_is_let_in_for_now(tmp_path: Path) -> None:
    async with scp_door(tmp_path, loopback_exempt=False) as door:
        await door.archive.execute("ALTER TABLE ae_title RENAME TO ae_title_away")
        with pytest.raises(AssociationRejected) as caught:
            await door.connect(calling="CT1")
        assert caught.value.reject.result == 2  # transient: try again
        await door.archive.execute("ALTER TABLE ae_title_away RENAME TO ae_title")


async def test_identity_is_taken_note_of_and_roles_settled(door: ScpDoor) -> None:
    identity = UserIdentity(UserIdentityType.USERNAME, b"somebody", response_requested=True)
    async with await door.connect(
        Proposal(CT), user_identity=identity, roles=[RoleSelection(CT, True, True)]
    ) as association:
        information = association.accept.user_information
        assert information.user_identity_response == b""
        assert information.roles == (RoleSelection(CT, True, True),)
        assert information.implementation_class_uid and information.implementation_version_name
        response = await association.store(CT, IMAGE.sop, EXPLICIT, IMAGE.data_set)
        assert response.status == 0


async def test_the_log_tells_of_a_failed_store_without_patient_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with scp_door(tmp_path) as door:
        await door.store(IMAGE.but(name="SECRET^NAME", patient_id="SECRETID", modality=None))
    said = "".join(capsys.readouterr())
    assert "Object not archived" in said and IMAGE.sop in said and "A900" in said and "SCANNER" in said
    assert "SECRET" not in said
