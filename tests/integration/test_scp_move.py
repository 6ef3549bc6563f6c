"""C-MOVE over an archive: what is sent, in which order, what the requester hears, what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import get_frame

from isocenter.dicom.dataset import read_dataset, write_dataset
from isocenter.dicom.element import BulkRange, Element
from isocenter.dicom.sop_classes import (
    PATIENT_ROOT_MOVE,
    PATIENT_STUDY_ONLY_MOVE,
    STUDY_ROOT_FIND,
    STUDY_ROOT_MOVE,
)
from isocenter.dicom.transfer_syntaxes import JPEG_LS_LOSSLESS
from isocenter.dimse.net.client import Proposal
from isocenter.dimse.net.errors import ContextNotAccepted
from isocenter.dimse.protocol.messages import CMoveRequest
from isocenter.dimse.scu.sending import SendObjects
from isocenter.doors.scp.server import DicomSettings
from isocenter.doors.scp.witness import AssociationWitness
from services.archive import CT, Image
from services.processes import free_ports
from services.retrieving import SR, Gate, Receiver, images, move, moved, receiving
from services.schema import fresh_url
from services.scp import EXPLICIT, IMPLICIT, ScpDoor, identifier, scp_door

TWO_SERIES = images(3, series=2)
REPORT = images(1, first_series=3, sop_class=SR, modality="SR")
OTHER = images(2, study=2)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def door(url: str, tmp_path: Path) -> AsyncIterator[ScpDoor]:
    """Objects arrive in another order than they are numbered in."""
    async with scp_door(tmp_path, database_url=url) as made:
        outcomes = await made.archive.send(*OTHER, *REPORT, *reversed(TWO_SERIES))
        assert all(outcome.kind.accepted for outcome in outcomes)
        yield made


def sops(*some: Image) -> list[str]:
    return [image.sop for image in some]


@pytest.mark.parametrize(
    ("level", "model", "keys", "expected"),
    [
        ("STUDY", STUDY_ROOT_MOVE, {"t0020000D": b"1.5.1\0"}, [*TWO_SERIES, *REPORT]),
        ("STUDY", STUDY_ROOT_MOVE, {"t0020000D": b"1.5.2\\1.5.1\\1.5.9"}, [*OTHER, *TWO_SERIES, *REPORT]),
        ("SERIES", STUDY_ROOT_MOVE, {"t0020000D": b"1.5.1", "t0020000E": b"1.5.1.2"}, TWO_SERIES[3:]),
        ("SERIES", STUDY_ROOT_MOVE, {"t0020000E": b"1.5.1.1\\1.5.2.1"}, [*OTHER, *TWO_SERIES[:3]]),
        (
            "IMAGE",
            STUDY_ROOT_MOVE,
            {"t0020000D": b"1.5.1", "t0020000E": b"1.5.1.1", "t00080018": b"1.5.1.1.3\\1.5.1.1.1"},
            [TWO_SERIES[0], TWO_SERIES[2]],
        ),
        ("IMAGE", STUDY_ROOT_MOVE, {"t00080018": b"1.5.2.1.2\0"}, OTHER[1:]),
        ("PATIENT", PATIENT_ROOT_MOVE, {"t00100020": b"P2"}, OTHER),
        ("PATIENT", PATIENT_STUDY_ONLY_MOVE, {"t00100020": b"P2"}, OTHER),
        ("STUDY", PATIENT_ROOT_MOVE, {"t00100020": b"P1", "t0020000D": b"1.5.1"}, [*TWO_SERIES, *REPORT]),
        ("STUDY", PATIENT_STUDY_ONLY_MOVE, {"t0020000D": b"1.5.2"}, OTHER),
        ("SERIES", PATIENT_ROOT_MOVE, {"t00100020": b"P1", "t0020000E": b"1.5.1.3"}, REPORT),
        # what does not belong together, and what is not there
        ("STUDY", PATIENT_ROOT_MOVE, {"t00100020": b"P2", "t0020000D": b"1.5.1"}, []),
        ("SERIES", STUDY_ROOT_MOVE, {"t0020000D": b"1.5.2", "t0020000E": b"1.5.1.1"}, []),
        ("PATIENT", PATIENT_ROOT_MOVE, {"t00100020": b"P2", "t00100021": b"ELSEWHERE"}, []),
        ("PATIENT", PATIENT_ROOT_MOVE, {"t00100020": b"P*"}, []),
        ("STUDY", STUDY_ROOT_MOVE, {"t0020000D": b"1.5.9"}, []),
    ],
)
async def test_every_level_of_every_model_in_order(
    door: ScpDoor, level: str, model: str, keys: dict[str, bytes], expected: list[Image]
) -> None:
    receiver = Receiver()
    async with receiving(receiver) as server:
        await door.destination("STORE", server.port)
        responses = await move(door, "STORE", level, model, **keys)
    assert responses.counts == (0, len(expected), 0, 0)
    assert receiver.uids == sops(*expected)
    assert {stored.data for stored in receiver.stored} == {image.data_set for image in expected}
    assert {stored.transfer_syntax for stored in receiver.stored} <= {EXPLICIT}


async def test_the_receiver_learns_who_asked(door: ScpDoor) -> None:
    receiver = Receiver()
    async with receiving(receiver) as server:
        await door.destination("STORE", server.port)
        async with await door.connect(
            Proposal(STUDY_ROOT_MOVE, (EXPLICIT,)), calling="VIEWER7"
        ) as association:
            for _ in range(2):
                await moved(association, "STORE", identifier("STUDY", t0020000D=b"1.5.2\0"))
    said = [
        (stored.request.move_originator_ae_title, stored.request.move_originator_message_id)
        for stored in receiver.stored
    ]
    assert said == [("VIEWER7", 1)] * 2 + [("VIEWER7", 2)] * 2
    request, _ = receiver.requests[0]
    assert (request.called_ae_title, request.calling_ae_title) == ("STORE", "ISOCENTER")


async def test_an_unknown_destination_is_a801(door: ScpDoor) -> None:
    await door.destination("THEIRS", 104, to=await door.archive.add_organization("x"))
    for title in ("NOBODY", "THEIRS", "VIEWER", "store"):
        responses = await move(door, title, t0020000D=b"1.5.1\0")
        assert responses.final.status == 0xA801
        assert not responses.pending


@pytest.mark.parametrize(
    ("level", "model", "keys", "tag"),
    [
        ("STUDY", STUDY_ROOT_MOVE, {}, 0x0020000D),
        ("STUDY", STUDY_ROOT_MOVE, {"t0020000D": b""}, 0x0020000D),
        ("STUDY", STUDY_ROOT_MOVE, {"t0020000D": b"*"}, 0x0020000D),
        ("STUDY", STUDY_ROOT_MOVE, {"t0020000D": b"1.5.1\\\\1.5.2"}, 0x0020000D),
        ("STUDY", STUDY_ROOT_MOVE, {"t0020000D": b"1" * 66}, 0x0020000D),
        ("STUDY", STUDY_ROOT_MOVE, {"t0020000D": "1.5.1\N{FULLWIDTH DIGIT ONE}".encode()}, 0x0020000D),
        ("SERIES", STUDY_ROOT_MOVE, {"t0020000D": b"1.5.1\0"}, 0x0020000E),
        ("IMAGE", STUDY_ROOT_MOVE, {"t0020000D": b"1.5.1\0", "t0020000E": b"1.5.1.1\0"}, 0x00080018),
        ("PATIENT", STUDY_ROOT_MOVE, {"t00100020": b"P1"}, 0x00080052),
        ("SERIES", PATIENT_STUDY_ONLY_MOVE, {"t0020000E": b"1.5.1.1\0"}, 0x00080052),
        ("PATIENT", PATIENT_ROOT_MOVE, {"t00100020": b""}, 0x00100020),
        ("PATIENT", PATIENT_ROOT_MOVE, {"t00100020": b"P1\\P2"}, 0x00100020),
        ("", STUDY_ROOT_MOVE, {"t0020000D": b"1.5.1\0"}, 0x00080052),
    ],
)
async def test_what_names_no_objects_is_refused(
    door: ScpDoor, level: str, model: str, keys: dict[str, bytes], tag: int
) -> None:
    receiver = Receiver()
    async with receiving(receiver) as server:
        await door.destination("STORE", server.port)
        responses = await move(door, "STORE", level, model, **keys)
    assert responses.final.status == 0xA900
    assert responses.final.offending_element == (tag,)
    assert receiver.requests == []


@pytest.mark.parametrize("data", [b"", b"\x08\x00\x52\x00", b"\xff" * 100], ids=["empty", "cut", "noise"])
async def test_bytes_that_are_no_identifier(door: ScpDoor, data: bytes) -> None:
    async with await door.connect(Proposal(STUDY_ROOT_MOVE, (EXPLICIT,))) as association:
        responses = await moved(association, "STORE", data)
        assert responses.final.status in {0xA900, 0xC000}
        again = await moved(association, "NOBODY", identifier("STUDY", t0020000D=b"1.5.1\0"))
        assert again.final.status == 0xA801


async def test_a_move_over_a_find_context_is_no_move(door: ScpDoor) -> None:
    async with await door.connect(Proposal(STUDY_ROOT_FIND, (EXPLICIT,))) as association:
        request = CMoveRequest(message_id=0, affected_sop_class_uid=STUDY_ROOT_FIND, move_destination="STORE")
        context = association.context_for(STUDY_ROOT_FIND)
        query = identifier("STUDY", t0020000D=b"1.5.1\0")
        [(response, _)] = [
            one async for one in association._connection.invoker.many(context.context_id, request, query)
        ]
    assert response.status == 0x0122


# --- what the receiver makes of it


async def test_what_the_receiver_refuses_is_counted_and_listed(door: ScpDoor) -> None:
    statuses = {"1.5.1.1.1": 0xA900, "1.5.1.2.2": 0xC123, "1.5.1.1.2": 0xB000}
    receiver = Receiver(statuses=statuses)
    async with receiving(receiver) as server:
        await door.destination("STORE", server.port)
        responses = await move(door, "STORE", t0020000D=b"1.5.1\0")
    assert responses.counts == (0xB000, 4, 2, 1)
    assert responses.failed == ["1.5.1.1.1", "1.5.1.2.2"]
    assert responses.final.error_comment and responses.final.error_comment.startswith("A900H")
    assert responses.final.remaining_sub_operations is None
    assert receiver.uids == sops(*TWO_SERIES, *REPORT)


async def test_warnings_alone_are_a_warning(door: ScpDoor) -> None:
    receiver = Receiver(statuses=dict.fromkeys(sops(*OTHER), 0xB007))
    async with receiving(receiver) as server:
        await door.destination("STORE", server.port)
        responses = await move(door, "STORE", t0020000D=b"1.5.2\0")
    assert responses.counts == (0xB000, 0, 0, 2)
    assert responses.failed == []


async def test_all_refused_is_a_failure(door: ScpDoor) -> None:
    receiver = Receiver(statuses=dict.fromkeys(sops(*OTHER), 0xC000))
    async with receiving(receiver) as server:
        await door.destination("STORE", server.port)
        responses = await move(door, "STORE", t0020000D=b"1.5.2\0")
    assert responses.counts == (0xA702, 0, 2, 0)
    assert responses.failed == sops(*OTHER)


async def test_a_receiver_that_takes_no_reports_gets_the_images(door: ScpDoor) -> None:
    receiver = Receiver({CT: (EXPLICIT,)})
    async with receiving(receiver) as server:
        await door.destination("STORE", server.port)
        responses = await move(door, "STORE", t0020000D=b"1.5.1\0")
    assert responses.counts == (0xB000, 6, 1, 0)
    assert responses.failed == sops(*REPORT)
    assert receiver.uids == sops(*TWO_SERIES)
    assert responses.final.error_comment == "STORE does not take Basic Text SR Storage"


def values(data: bytes, syntax: str) -> list[tuple[int, Any]]:
    return [(one.tag, one.value) for one in read_dataset(data, syntax, bulk_threshold_bytes=None)][:-1]


async def test_implicit_and_explicit_are_turned_into_one_another(door: ScpDoor) -> None:
    implicit_only, explicit_only = Receiver({CT: (IMPLICIT,)}), Receiver({CT: (EXPLICIT,)})
    elements = read_dataset(OTHER[0].data_set, EXPLICIT)
    stored_implicit = write_dataset(
        [Element(0x00080018, "UI", b"1.5.2.1.9\0") if one.tag == 0x00080018 else one for one in elements],
        IMPLICIT,
        source=OTHER[0].data_set,
    )
    async with await door.connect(Proposal(CT, (IMPLICIT,))) as association:
        await association.store(CT, "1.5.2.1.9", IMPLICIT, stored_implicit)
    async with receiving(implicit_only) as one, receiving(explicit_only) as another:
        await door.destination("IMPLICIT", one.port)
        await door.destination("EXPLICIT", another.port)
        for title in ("IMPLICIT", "EXPLICIT"):
            responses = await move(door, title, t0020000D=b"1.5.2\0")
            assert responses.counts == (0, 3, 0, 0), title
    for receiver, syntax in ((implicit_only, IMPLICIT), (explicit_only, EXPLICIT)):
        assert {stored.transfer_syntax for stored in receiver.stored} == {syntax}
        told = {stored.request.affected_sop_instance_uid: stored.data for stored in receiver.stored}
        assert values(told[OTHER[0].sop], syntax) == values(OTHER[0].data_set, EXPLICIT)
        assert values(told["1.5.2.1.9"], syntax) == values(stored_implicit, IMPLICIT)
        assert told["1.5.2.1.9"].endswith(b"\1\2\3\4")


async def test_what_the_receiver_cannot_take_as_it_is_is_transcoded_without_loss(door: ScpDoor) -> None:
    original = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    data = await asyncio.to_thread(Path(get_testdata_file("CT_small.dcm")).read_bytes)
    start = 132 + 12 + original.file_meta.FileMetaInformationGroupLength
    async with await door.connect(Proposal(CT, (EXPLICIT,))) as association:
        await association.store(CT, original.SOPInstanceUID, EXPLICIT, data[start:])
    receiver = Receiver({CT: (JPEG_LS_LOSSLESS,)})
    async with receiving(receiver) as server:
        await door.destination("STORE", server.port)
        wanted = str(original.StudyInstanceUID).encode()
        responses = await move(door, "STORE", t0020000D=wanted + b"\0" * (len(wanted) % 2))
    assert responses.counts == (0, 1, 0, 0)
    [stored] = receiver.stored
    assert stored.transfer_syntax == JPEG_LS_LOSSLESS
    [pixels] = [one for one in read_dataset(stored.data, JPEG_LS_LOSSLESS) if one.tag == 0x7FE00010]
    assert isinstance(pixels.value, BulkRange)
    items = stored.data[pixels.value.offset : pixels.value.offset + pixels.value.length]
    frame = imagecodecs.jpegls_decode(get_frame(items, 0, number_of_frames=1))
    assert np.array_equal(frame.view(np.int16), original.pixel_array)


async def test_a_destination_has_what_it_likes_best(door: ScpDoor) -> None:
    receiver = Receiver()
    jpeg = "1.2.840.10008.1.2.4.50"  # which nothing here can be turned into
    async with receiving(receiver) as server:
        await door.destination("STORE", server.port, transfer_syntaxes=(jpeg, IMPLICIT))
        responses = await move(door, "STORE", t0020000D=b"1.5.2\0")
    assert responses.counts == (0, 2, 0, 0)
    assert {stored.transfer_syntax for stored in receiver.stored} == {IMPLICIT}


# --- several at once


async def test_an_object_after_the_other_without_a_window_and_many_with_one(tmp_path: Path) -> None:
    async with scp_door(tmp_path) as door:
        some = images(40)
        await door.archive.send(*some)
        for window, most in ((0, 1), (4, 4)):
            receiver = Receiver(window=window)
            receiver.together(lambda receiver=receiver, most=most: receiver.most_under_way >= most)  # type: ignore[misc]
            async with receiving(receiver) as server:
                await door.destination("STORE", server.port)
                responses = await move(door, "STORE", t0020000D=b"1.5.1\0")
            assert responses.counts == (0, 40, 0, 0)
            assert receiver.most_under_way == most
            if not window:
                assert receiver.uids == sops(*some)


async def test_several_associations_for_one_move_where_it_is_set_and_allowed(tmp_path: Path) -> None:
    settings = DicomSettings(move_associations=3)
    async with scp_door(tmp_path, settings=settings) as door:
        some = images(30)
        await door.archive.send(*some)
        for allowed, opened in ((8, 3), (2, 2)):
            receiver = Receiver()
            receiver.together(lambda receiver=receiver, opened=opened: receiver.most_associations >= opened)  # type: ignore[misc]
            async with receiving(receiver) as server:
                await door.destination("STORE", server.port, associations_max=allowed)
                responses = await move(door, "STORE", t0020000D=b"1.5.1\0")
            assert responses.counts == (0, 30, 0, 0)
            assert receiver.most_associations == opened
            assert sorted(receiver.uids) == sorted(sops(*some))


async def test_ten_moves_of_500_objects_keep_order_and_counts(tmp_path: Path) -> None:
    """On four associations to one receiver, which they share by turns."""
    async with scp_door(tmp_path) as door:
        studies = [images(500, study=number) for number in range(1, 11)]
        for study in studies:
            await door.archive.send(*study)
        receiver = Receiver(window=4)
        async with receiving(receiver) as server:
            await door.destination("STORE", server.port, associations_max=4)
            answers = await asyncio.gather(
                *(move(door, "STORE", t0020000D=f"1.5.{number}".encode()) for number in range(1, 11))
            )
        assert [answer.counts for answer in answers] == [(0, 500, 0, 0)] * 10
        assert receiver.most_associations <= 4
        arrived = receiver.uids
        for number, study in enumerate(studies, 1):
            mine = [uid for uid in arrived if uid.startswith(f"1.5.{number}.")]
            assert mine == sops(*study)
        for answer in answers:
            _check_pending(answer.pending, 500)


async def test_a_short_move_does_not_wait_for_the_end_of_a_long_one(tmp_path: Path) -> None:
    """Over the only association that the receiver allows: they take turns."""
    async with scp_door(tmp_path) as door:
        long, short = images(200, study=1), images(5, study=2)
        await door.archive.send(*long)
        await door.archive.send(*short)
        receiver, gate = Receiver(), Gate()
        finishing = receiver.on_finish

        async def first_waits(sink: Any) -> None:
            if not gate.opened.is_set():
                await gate.wait()
            await finishing(sink)

        receiver.on_finish = first_waits
        async with receiving(receiver) as server:
            await door.destination("STORE", server.port, associations_max=1)
            one = asyncio.create_task(move(door, "STORE", t0020000D=b"1.5.1\0"))
            await gate.reached.wait()
            other = asyncio.create_task(move(door, "STORE", t0020000D=b"1.5.2\0"))
            async with asyncio.timeout(20):
                while not door.outgoing.remotes._pool._peers["127.0.0.1", server.port, "STORE"].waiters:
                    await door.archive.one("SELECT 1")
            gate.opened.set()
            assert (await other).counts == (0, 5, 0, 0)
            assert (await one).counts == (0, 200, 0, 0)
        assert receiver.most_associations == 1
        assert receiver.uids.index(short[-1].sop) < 40
        assert [uid for uid in receiver.uids if uid.startswith("1.5.1.")] == sops(*long)


def _check_pending(pending: list[Any], total: int) -> None:
    """Counts add up, and never go back; the first says that nothing is done yet."""
    assert pending[0].remaining_sub_operations == total
    done = [one.completed_sub_operations for one in pending]
    assert done == sorted(done)
    for one in pending:
        assert one.remaining_sub_operations + one.completed_sub_operations == total
        assert one.failed_sub_operations == one.warning_sub_operations == 0


async def test_more_sub_operations_than_a_field_can_tell() -> None:
    from isocenter.dimse.net.responses import sub_operation_fields
    from isocenter.dimse.net.service import SubOperations

    fields = sub_operation_fields(SubOperations(70_000, 65_536, 3, 0), final=False)
    assert fields == {
        "remaining_sub_operations": 65535,
        "completed_sub_operations": 65535,
        "failed_sub_operations": 3,
        "warning_sub_operations": 0,
    }


# --- ends before the end


async def test_cancel_lets_what_is_under_way_arrive_and_says_how_far_it_came(
    door: ScpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, gate = Receiver(), Gate()
    leave = SendObjects.leave

    def leaves(sending: SendObjects) -> None:
        leave(sending)
        gate.opened.set()

    monkeypatch.setattr(SendObjects, "leave", leaves)
    finishing = receiver.on_finish

    async def third_waits(sink: Any) -> None:
        if sink.request.affected_sop_instance_uid == "1.5.1.1.3":
            await gate.wait()
        await finishing(sink)

    receiver.on_finish = third_waits
    async with receiving(receiver) as server:
        await door.destination("STORE", server.port)
        async with await door.connect(Proposal(STUDY_ROOT_MOVE, (EXPLICIT,))) as association:
            answers = asyncio.create_task(
                moved(association, "STORE", identifier("STUDY", t0020000D=b"1.5.1\0"))
            )
            await gate.reached.wait()
            [exchange] = association._connection.invoker._exchanges.values()
            await association._connection.invoker.cancel(exchange)
            responses = await answers
            assert responses.counts == (0xFE00, 3, 0, 0)
            assert responses.final.remaining_sub_operations == 4
            assert receiver.uids == sops(*TWO_SERIES[:3])
            again = await moved(association, "STORE", identifier("STUDY", t0020000D=b"1.5.2\0"))
            assert again.counts == (0, 2, 0, 0)


async def test_when_the_requester_is_gone_nothing_more_is_sent(
    door: ScpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, gate, over = Receiver(), Gate(), asyncio.Event()
    monkeypatch.setattr(AssociationWitness, "retrieved", lambda *_: over.set())
    receiver.on_finish = gate.wait
    async with receiving(receiver) as server:
        await door.destination("STORE", server.port)
        association = await door.connect(Proposal(STUDY_ROOT_MOVE, (EXPLICIT,)))
        answers = asyncio.create_task(moved(association, "STORE", identifier("STUDY", t0020000D=b"1.5.1\0")))
        await gate.reached.wait()
        association._connection.cut("gone")
        await over.wait()
        gate.opened.set()
        outcome = await receiver.outcomes.get()  # the association to the receiver has ended, too
        with pytest.raises(Exception, match=r"closed|ended|lost"):
            await answers
    assert outcome.reason.startswith(("aborted", "connection", "released"))
    assert len(receiver.stored) <= 1


async def test_a_destination_that_is_not_there_fails_all_at_once(door: ScpDoor) -> None:
    (port,) = free_ports(1)
    await door.destination("STORE", port)
    responses = await move(door, "STORE", t0020000D=b"1.5.1\0")
    assert responses.counts == (0xA702, 0, 7, 0)
    assert responses.failed == sops(*TWO_SERIES, *REPORT)
    assert "no connection to 127.0.0.1" in responses.final.error_comment


async def test_a_lost_object_fails_alone(door: ScpDoor) -> None:
    row = await door.archive.one("SELECT object_key FROM instance WHERE sop_instance_uid = '1.5.1.1.2'")
    await door.archive.store.delete(row)
    receiver = Receiver()
    async with receiving(receiver) as server:
        await door.destination("STORE", server.port)
        responses = await move(door, "STORE", t0020000D=b"1.5.1\0")
    assert responses.counts == (0xB000, 6, 1, 0)
    assert responses.failed == ["1.5.1.1.2"]
    assert len(receiver.requests) == 1


async def test_a_cut_object_is_never_sent_as_if_it_were_whole(door: ScpDoor) -> None:
    key = await door.archive.one("SELECT object_key FROM instance WHERE sop_instance_uid = '1.5.1.1.2'")
    path = door.archive.store.local_path(key)
    assert path is not None
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-2])
    receiver = Receiver()
    async with receiving(receiver) as server:
        await door.destination("STORE", server.port)
        responses = await move(door, "STORE", t0020000D=b"1.5.1\0")
    assert responses.counts == (0xB000, 6, 1, 0)
    assert "1.5.1.1.2" not in receiver.uids


async def test_a_database_that_is_away_is_said(tmp_path: Path) -> None:
    async with scp_door(tmp_path) as door:
        await door.archive.send(*OTHER)
        await door.destination("STORE", 104)
        await door.archive.execute("ALTER TABLE series RENAME TO series_away")
        responses = await move(door, "STORE", t0020000D=b"1.5.2\0")
        assert responses.final.status == 0xA701


async def test_more_than_can_be_held_is_refused(door: ScpDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isocenter.features.archive.selection.OBJECTS_MAX", 6)
    receiver = Receiver()
    async with receiving(receiver) as server:
        await door.destination("STORE", server.port)
        responses = await move(door, "STORE", t0020000D=b"1.5.1\0")
        assert (responses.final.status, responses.final.error_comment) == (
            0xA701,
            "More than 6 objects at once",
        )
        assert (await move(door, "STORE", t0020000D=b"1.5.2\0")).counts == (0, 2, 0, 0)


async def test_without_the_service_there_is_no_context_and_no_operation(door: ScpDoor) -> None:
    """Also where the context was accepted before the service was taken back."""
    await door.ae_titles.register(1, "VIEWER", services=["move", "find"])
    receiver = Receiver()
    async with receiving(receiver) as server:
        await door.destination("STORE", server.port)
        async with await door.connect(
            Proposal(STUDY_ROOT_MOVE, (EXPLICIT,)), calling="VIEWER"
        ) as association:
            query = identifier("STUDY", t0020000D=b"1.5.2\0")
            assert (await moved(association, "STORE", query)).counts == (0, 2, 0, 0)
            await door.ae_titles.register(1, "VIEWER", services=["find", "get", "store"])
            assert (await moved(association, "STORE", query)).final.status == 0x0124
        async with await door.connect(calling="VIEWER") as association:
            with pytest.raises(ContextNotAccepted):
                await moved(association, "STORE", query)
    assert len(receiver.stored) == 2
