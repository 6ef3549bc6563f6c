"""C-GET over an archive: objects come over the requester's own association."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from isocenter.dicom.sop_classes import (
    PATIENT_ROOT_GET,
    PATIENT_STUDY_ONLY_GET,
    STUDY_ROOT_GET,
    VERIFICATION,
)
from isocenter.dimse.net.client import Proposal
from isocenter.dimse.net.errors import AssociationAborted, ContextNotAccepted
from isocenter.dimse.protocol.user_information import RoleSelection
from isocenter.dimse.scu.streaming import Sender
from isocenter.doors.scp.server import DicomSettings
from isocenter.doors.scp.witness import AssociationWitness
from isocenter.features.archive.patients.identity import PatientIdentity
from isocenter.features.archive.patients.merges import PatientMerges
from services.archive import CT, ORGANIZATION, Image, element
from services.retrieving import SR, Gate, Receiver, get, get_contexts, got, images
from services.schema import fresh_url
from services.scp import EXPLICIT, IMPLICIT, ScpDoor, identifier, scp_door

TWO_SERIES = images(3, series=2)
REPORT = images(1, first_series=3, sop_class=SR, modality="SR")
OTHER = images(2, study=2)
BOTH = get_contexts((CT, SR))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def door(url: str, tmp_path: Path) -> AsyncIterator[ScpDoor]:
    async with scp_door(tmp_path, database_url=url) as made:
        outcomes = await made.archive.send(*OTHER, *REPORT, *reversed(TWO_SERIES))
        assert all(outcome.kind.accepted for outcome in outcomes)
        yield made


def sops(*some: Image) -> list[str]:
    return [image.sop for image in some]


@pytest.mark.parametrize(
    ("level", "model", "keys", "expected"),
    [
        ("STUDY", STUDY_ROOT_GET, {"t0020000D": b"1.5.1\0"}, [*TWO_SERIES, *REPORT]),
        ("SERIES", STUDY_ROOT_GET, {"t0020000E": b"1.5.2.1\\1.5.1.1"}, [*OTHER, *TWO_SERIES[:3]]),
        ("IMAGE", STUDY_ROOT_GET, {"t00080018": b"1.5.1.2.3\\1.5.1.1.1"}, [TWO_SERIES[0], TWO_SERIES[5]]),
        ("PATIENT", PATIENT_ROOT_GET, {"t00100020": b"P1"}, [*TWO_SERIES, *REPORT]),
        ("PATIENT", PATIENT_STUDY_ONLY_GET, {"t00100020": b"P2"}, OTHER),
        ("STUDY", STUDY_ROOT_GET, {"t0020000D": b"1.5.9\0"}, []),
    ],
)
async def test_levels_and_models_in_order(
    door: ScpDoor, level: str, model: str, keys: dict[str, bytes], expected: list[Image]
) -> None:
    receiver = Receiver()
    contexts = get_contexts((CT, SR), model=model)
    responses = await get(door, receiver, level, model_uid=model, contexts=contexts, **keys)
    assert responses.counts == (0, len(expected), 0, 0)
    assert receiver.uids == sops(*expected)
    assert [stored.data for stored in receiver.stored] == [image.data_set for image in expected]
    assert all(stored.request.move_originator_ae_title is None for stored in receiver.stored)


async def test_a_former_patient_id_retrieves_what_is_of_who_is_left(door: ScpDoor) -> None:
    merges = PatientMerges(door.archive.database, door.archive.clock)
    await merges.merge(ORGANIZATION, PatientIdentity("P2"), PatientIdentity("P1"))
    receiver = Receiver()
    contexts = get_contexts((CT, SR), model=PATIENT_ROOT_GET)
    responses = await get(
        door, receiver, "PATIENT", model_uid=PATIENT_ROOT_GET, contexts=contexts, t00100020=b"P2"
    )
    assert responses.counts == (0, 9, 0, 0)
    assert sorted(receiver.uids) == sorted(sops(*TWO_SERIES, *REPORT, *OTHER))


async def test_one_that_cannot_be_given_its_patient_fails_alone(door: ScpDoor) -> None:
    damaged, sound = OTHER
    await door.archive.damage(damaged)
    merges = PatientMerges(door.archive.database, door.archive.clock)
    await merges.merge(ORGANIZATION, PatientIdentity("P2"), PatientIdentity("P1"))
    receiver = Receiver()
    responses = await get(door, receiver, contexts=BOTH, t0020000D=b"1.5.2\0")
    assert responses.counts == (0xB000, 1, 1, 0)
    assert (responses.failed, receiver.uids) == (sops(damaged), sops(sound))
    assert b"P2" not in receiver.stored[0].data.partition(element(0x04000561, "SQ", b"")[:4])[0]


async def test_without_the_role_nothing_can_be_sent(door: ScpDoor) -> None:
    receiver = Receiver()
    for roles in ([], [RoleSelection(CT, True, False)]):
        responses = await get(door, receiver, roles=roles, t0020000D=b"1.5.2\0")
        assert responses.counts == (0xA702, 0, 2, 0)
        assert responses.failed == sops(*OTHER)
    assert receiver.stored == []


async def test_classes_that_the_requester_did_not_propose_fail_and_are_listed(door: ScpDoor) -> None:
    receiver = Receiver()
    responses = await get(door, receiver, t0020000D=b"1.5.1\0")
    assert responses.counts == (0xB000, 6, 1, 0)
    assert responses.failed == sops(*REPORT)
    assert receiver.uids == sops(*TWO_SERIES)


async def test_what_the_requester_refuses_is_counted(door: ScpDoor) -> None:
    receiver = Receiver(statuses={"1.5.1.1.2": 0xA700, "1.5.1.2.1": 0xB006})
    responses = await get(door, receiver, contexts=BOTH, t0020000D=b"1.5.1\0")
    assert responses.counts == (0xB000, 5, 1, 1)
    assert responses.failed == ["1.5.1.1.2"]


async def test_objects_come_in_what_the_requester_takes(door: ScpDoor) -> None:
    receiver = Receiver()
    contexts = get_contexts((CT,), (IMPLICIT,))
    responses = await get(door, receiver, contexts=contexts, t0020000D=b"1.5.2\0")
    assert responses.counts == (0, 2, 0, 0)
    assert {stored.transfer_syntax for stored in receiver.stored} == {IMPLICIT}


async def test_in_their_own_encoding_where_it_is_among_those_offered(door: ScpDoor) -> None:
    receiver = Receiver()
    contexts = (Proposal(STUDY_ROOT_GET), Proposal(CT, (IMPLICIT,)), Proposal(CT, (EXPLICIT,)))
    responses = await get(door, receiver, contexts=contexts, t0020000D=b"1.5.2\0")
    assert responses.counts == (0, 2, 0, 0)
    assert {stored.transfer_syntax for stored in receiver.stored} == {EXPLICIT}


async def test_bad_identifiers_are_refused_and_the_association_lives_on(door: ScpDoor) -> None:
    receiver = Receiver()
    roles = [RoleSelection(CT, False, True)]
    contexts = (*get_contexts(), Proposal(VERIFICATION))
    async with await door.connect(*contexts, roles=roles) as association:
        for data in (b"", b"\xff" * 100, identifier("STUDY"), identifier("STUDY", t0020000D=b"1.5.*")):
            responses = await got(association, receiver, data)
            assert responses.final.status in {0xA900, 0xC000}
        await association.echo()
        responses = await got(association, receiver, identifier("STUDY", t0020000D=b"1.5.2\0"))
        assert responses.counts == (0, 2, 0, 0)


async def test_with_a_window_several_are_under_way(tmp_path: Path) -> None:
    """Only as many as the requester performs at once (PS3.7 D.3.3.3)."""
    async with scp_door(tmp_path) as door:
        some = images(30)
        await door.archive.send(*some)
        for window in (1, 4):
            receiver = Receiver()
            receiver.together(lambda receiver=receiver, window=window: receiver.most_under_way >= window)  # type: ignore[misc]
            responses = await get(door, receiver, performed_max=window, t0020000D=b"1.5.1\0")
            assert responses.counts == (0, 30, 0, 0)
            assert receiver.most_under_way == window
            assert responses.pending[0].remaining_sub_operations == 30
            if window == 1:
                assert receiver.uids == sops(*some)


async def test_large_objects_stream(tmp_path: Path) -> None:
    async with scp_door(tmp_path) as door:
        some = [image.but(pixels=bytes([number]) * (9 << 20)) for number, image in enumerate(images(3), 1)]
        await door.archive.send(*some)
        receiver = Receiver()
        responses = await get(door, receiver, t0020000D=b"1.5.1\0")
        assert responses.counts == (0, 3, 0, 0)
        assert [
            stored.data == image.data_set for stored, image in zip(receiver.stored, some, strict=True)
        ] == [True] * 3


async def test_ten_at_once_keep_order_and_counts(tmp_path: Path) -> None:
    async with scp_door(tmp_path) as door:
        studies = [images(60, study=number) for number in range(1, 11)]
        for study in studies:
            await door.archive.send(*study)
        receivers = [Receiver() for _ in studies]
        answers = await asyncio.gather(
            *(
                get(door, receiver, t0020000D=f"1.5.{number}".encode())
                for number, receiver in enumerate(receivers, 1)
            )
        )
        assert [answer.counts for answer in answers] == [(0, 60, 0, 0)] * 10
        assert [receiver.uids for receiver in receivers] == [sops(*study) for study in studies]


async def test_cancel_lets_what_is_under_way_arrive(door: ScpDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, gate = Receiver(), Gate()
    finishing = receiver.on_finish

    async def third_waits(sink: Any) -> None:
        if sink.request.affected_sop_instance_uid == "1.5.1.1.3":
            await gate.wait()
        await finishing(sink)

    def leaves(sender: Sender, name: str, value: object) -> None:
        object.__setattr__(sender, name, value)
        if name == "leave" and value:
            gate.opened.set()

    monkeypatch.setattr(Sender, "__setattr__", leaves)
    receiver.on_finish = third_waits
    roles = [RoleSelection(uid, False, True) for uid in (CT, SR)]
    async with await door.connect(*BOTH, roles=roles) as association:
        answers = asyncio.create_task(got(association, receiver, identifier("STUDY", t0020000D=b"1.5.1\0")))
        await gate.reached.wait()
        [exchange] = association._connection.invoker._exchanges.values()
        await association._connection.invoker.cancel(exchange)
        responses = await answers
        assert responses.counts == (0xFE00, 3, 0, 0)
        assert responses.final.remaining_sub_operations == 4
        again = await got(association, receiver, identifier("STUDY", t0020000D=b"1.5.2\0"))
        assert again.counts == (0, 2, 0, 0)
    assert receiver.uids == sops(*TWO_SERIES[:3], *OTHER)


async def test_a_requester_that_goes_mid_way_is_told_of_no_more(
    door: ScpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = asyncio.Event()
    told: list[Any] = []

    def retrieved(_: object, association: object, what: Any) -> None:
        told.append(what)
        over.set()

    monkeypatch.setattr(AssociationWitness, "retrieved", retrieved)
    receiver, gate = Receiver(), Gate()
    receiver.on_finish = gate.wait
    association = await door.connect(*BOTH, roles=[RoleSelection(CT, False, True)])
    answers = asyncio.create_task(got(association, receiver, identifier("STUDY", t0020000D=b"1.5.1\0")))
    await gate.reached.wait()
    association.abort()
    await over.wait()
    gate.opened.set()
    with pytest.raises(AssociationAborted):
        await answers
    assert (told[0].reason, told[0].remaining) == ("cancelled", 6)


async def test_a_requester_that_never_answers_is_left(tmp_path: Path) -> None:
    """It owes the answer to a C-STORE; its silence is its own fault then, although its C-GET is running."""
    async with scp_door(tmp_path, settings=DicomSettings(idle_s=0.3)) as door:
        await door.archive.send(*OTHER)
        receiver, gate = Receiver(), Gate()
        receiver.on_finish = gate.wait
        association = await door.connect(*BOTH, roles=[RoleSelection(CT, False, True)])
        answers = asyncio.create_task(got(association, receiver, identifier("STUDY", t0020000D=b"1.5.2\0")))
        await gate.reached.wait()
        with pytest.raises(AssociationAborted):
            await answers
        gate.opened.set()
        await association.wait_closed()


async def test_who_may_get_need_not_be_let_store(door: ScpDoor) -> None:
    await door.ae_titles.register(1, "VIEWER", services=["get"])
    receiver = Receiver()
    responses = await get(door, receiver, t0020000D=b"1.5.2\0")
    assert responses.counts == (0, 2, 0, 0)
    async with await door.connect(
        *get_contexts(), calling="VIEWER", roles=[RoleSelection(CT, True, True)]
    ) as association:
        query = identifier("STUDY", t0020000D=b"1.5.2\0")
        assert (await got(association, receiver, query)).counts == (0, 2, 0, 0)
        await door.ae_titles.register(1, "VIEWER", services=["find", "move", "store"])
        assert (await got(association, receiver, query)).final.status == 0x0124
    async with await door.connect(calling="VIEWER") as association:
        with pytest.raises(ContextNotAccepted):
            await got(association, receiver, query)
    assert len(receiver.stored) == 4
