"""pynetdicom as SCU against the DIMSE door: an implementation of its own, in Python threads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation, UserIdentityNegotiation

from isocenter.dicom.sop_classes import (
    HANGING_PROTOCOL_MOVE,
    PATIENT_ROOT_FIND,
    STUDY_ROOT_FIND,
    VERIFICATION,
)
from isocenter.features.archive.policies import ConflictPolicy
from services.archive import CT, Image
from services.scp import OnePageOnly, ScpDoor, scp_door

T = TypeVar("T")
PRIVATE = "1.2.3.4.5.6"


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[ScpDoor]:
    async with scp_door(tmp_path) as made:
        yield made


async def associated(
    door: ScpDoor,
    act: Callable[[Association], T],
    *,
    contexts: tuple[str, ...] = (VERIFICATION, CT, STUDY_ROOT_FIND, PATIENT_ROOT_FIND),
    called: str = "ISOCENTER",
    calling: str = "PYNETDICOM",
    items: tuple[Any, ...] = (),
) -> T:
    """What ``act`` returns for an association, accepted or not; pynetdicom blocks, so it has a thread."""

    def run() -> T:
        ae = AE(calling)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
        for context in contexts:
            ae.add_requested_context(context)
        association = ae.associate("127.0.0.1", door.port, ae_title=called, ext_neg=list(items))
        try:
            return act(association)
        finally:
            if association.is_established:
                association.release()
            ae.shutdown()

    return await asyncio.to_thread(run)


def read(image: Image) -> Dataset:
    return pydicom.dcmread(BytesIO(image.file))


def query(level: str, **keys: str) -> Dataset:
    dataset = Dataset()
    dataset.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(dataset, keyword, value)
    return dataset


async def test_echo(door: ScpDoor) -> None:
    assert await associated(door, lambda one: one.send_c_echo().Status) == 0


async def test_contexts_in_pynetdicoms_own_order(door: ScpDoor) -> None:
    """It proposes implicit VR first and accepts what it is given."""

    def accepted(association: Association) -> dict[str, str]:
        return {one.abstract_syntax: one.transfer_syntax[0] for one in association.accepted_contexts}

    def rejected(association: Association) -> list[tuple[str, int]]:
        return [(one.abstract_syntax, one.result) for one in association.rejected_contexts]

    wanted = (VERIFICATION, CT, PRIVATE, HANGING_PROTOCOL_MOVE)
    assert await associated(door, accepted, contexts=wanted) == dict.fromkeys(
        (VERIFICATION, CT), "1.2.840.10008.1.2.1"
    )
    assert await associated(door, rejected, contexts=wanted) == [
        (PRIVATE, 3),
        (HANGING_PROTOCOL_MOVE, 3),
    ]


async def test_store_and_find_again(door: ScpDoor) -> None:
    images = [read(Image(sop=f"1.2.3.1.1.{number}", name="DOE^JANE")) for number in range(1, 11)]
    statuses = await associated(door, lambda one: [one.send_c_store(image).Status for image in images])
    assert statuses == [0] * 10

    def find(association: Association) -> list[tuple[int, Dataset | None]]:
        keys = query("STUDY", PatientName="DOE*", StudyInstanceUID="", NumberOfStudyRelatedInstances="")
        return [(status.Status, answer) for status, answer in association.send_c_find(keys, STUDY_ROOT_FIND)]

    [(pending, answer), (final, nothing)] = await associated(door, find)
    assert (pending, final, nothing) == (0xFF00, 0, None)
    assert answer is not None
    assert (answer.StudyInstanceUID, answer.NumberOfStudyRelatedInstances) == ("1.2.3.1", 10)


async def test_a_refused_object_says_why_and_the_association_lives_on(door: ScpDoor) -> None:
    bad, good = read(Image(modality=None)), read(Image(sop="1.2.3.1.1.2"))

    def send(association: Association) -> list[Dataset]:
        return [association.send_c_store(bad), association.send_c_store(good), association.send_c_echo()]

    refused, stored, echoed = await associated(door, send)
    assert (refused.Status, stored.Status, echoed.Status) == (0xA900, 0, 0)
    assert refused.ErrorComment == "quarantined: missing or empty, Modality"
    assert refused.OffendingElement == 0x00080060


@pytest.mark.parametrize(
    ("calling", "called", "reason"), [("NOBODY", "ISOCENTER", 3), ("PYNETDICOM", "SOMEBODY", 7)]
)
async def test_refusals_have_the_right_source_and_reason(
    tmp_path: Path, calling: str, called: str, reason: int
) -> None:
    def refused(association: Association) -> tuple[bool, int, int, int]:
        primitive = association.acceptor.primitive
        return (
            association.is_rejected,
            primitive.result,
            primitive.result_source,
            primitive.diagnostic,
        )

    async with scp_door(tmp_path, loopback_exempt=False) as door:
        assert await associated(door, refused, calling=calling, called=called) == (True, 1, 1, reason)


async def test_cancel_ends_a_query_with_fe00(tmp_path: Path) -> None:
    def cancelled(association: Association) -> list[int]:
        keys = query("STUDY", PatientID="", StudyInstanceUID="")
        statuses = []
        for status, _ in association.send_c_find(keys, STUDY_ROOT_FIND, msg_id=7):
            statuses.append(status.Status)
            if len(statuses) == 5:
                association.send_c_cancel(7, query_model=STUDY_ROOT_FIND)
        return statuses

    async with scp_door(tmp_path, searching=OnePageOnly) as door:
        uids = [f"1.9.{number}" for number in range(250)]
        await door.archive.send(
            *(Image(study=uid, series=f"{uid}.1", sop=f"{uid}.1.1", patient_id=uid) for uid in uids)
        )
        statuses = await associated(door, cancelled)
    assert statuses == [0xFF00] * 200 + [0xFE00]


async def test_a_user_identity_gets_its_response_and_roles_are_settled(door: ScpDoor) -> None:
    identity = UserIdentityNegotiation()
    identity.user_identity_type = 2
    identity.primary_field = b"somebody"
    identity.secondary_field = b"something"
    identity.positive_response_requested = True
    extended = SOPClassExtendedNegotiation()
    extended.sop_class_uid = STUDY_ROOT_FIND
    extended.service_class_application_information = b"\x01\x01\x01"

    def negotiated(association: Association) -> tuple[bytes, dict[str, bytes], bool, int]:
        acceptor = association.acceptor
        roles = acceptor.role_selection
        image = read(Image())
        return (
            acceptor.user_identity.server_response,
            {str(uid): info for uid, info in acceptor.sop_class_extended.items()},
            roles[CT].scp_role,
            association.send_c_store(image).Status,
        )

    items = (identity, extended, build_role(CT, scu_role=True, scp_role=True))
    assert await associated(door, negotiated, items=items) == (b"", {STUDY_ROOT_FIND: b"\1\1\1"}, True, 0)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # some of the files are broken on purpose
async def test_every_image_that_pydicom_ships_is_stored_or_quarantined(
    tmp_path: Path, pydicom_test_files: list[Path]
) -> None:
    """Sent in its own encoding; what validation refuses gets a failure and is in quarantine. Several of the
    files are variants of one object, under one UID: all are kept."""
    objects: dict[tuple[str, str], list[Dataset]] = {}
    for path in pydicom_test_files:
        dataset = pydicom.dcmread(path, force=True)
        syntax = dataset.file_meta.get("TransferSyntaxUID")
        if dataset.get("SOPClassUID") and dataset.get("SOPInstanceUID") and syntax:
            objects.setdefault((str(dataset.SOPClassUID), str(syntax)), []).append(dataset)

    def send_all(port: int) -> list[int]:
        statuses = []
        for (abstract, syntax), datasets in objects.items():
            ae = AE("PYDICOM")
            ae.add_requested_context(abstract, syntax)
            association = ae.associate("127.0.0.1", port, ae_title="ISOCENTER")
            assert association.is_established
            if association.accepted_contexts:  # a DICOMDIR is no storage object
                for dataset in datasets:
                    with contextlib.suppress(ValueError):  # pynetdicom cannot encode what is broken so
                        statuses.append(association.send_c_store(dataset).Status)
            association.release()
            ae.shutdown()
        return statuses

    async with scp_door(tmp_path, conflict=ConflictPolicy.KEEP_BOTH) as door:
        statuses = await asyncio.to_thread(send_all, door.port)
        stored = await door.archive.one("SELECT count(*) + sum(duplicate_count) FROM instance")
        refused = await door.archive.one("SELECT sum(times_seen) FROM quarantine")
    assert set(statuses) == {0, 0xA900}
    assert len(statuses) > 60
    assert statuses.count(0) == stored
    assert statuses.count(0xA900) == refused
