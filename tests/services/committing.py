"""Both sides of storage commitment, as others speak it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from isocenter.dicom.dataset import read_dataset, write_dataset
from isocenter.dicom.element import Element
from isocenter.dimse.net.client import ClientAssociation
from isocenter.dimse.net.service import AskPeer, AssociationInfo, NAnswer
from isocenter.dimse.protocol.messages import NActionRequest, NEventReportRequest
from services.retrieving import Receiver
from services.scp import EXPLICIT

COMMITMENT, INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
Told = tuple[int, str, dict[str, int]]
"""Event type, Transaction UID, and the failure reason of each instance (0: committed)."""


def action(transaction: str, references: list[tuple[str, str]], syntax: str = EXPLICIT) -> bytes:
    items = [[_uid(0x00081150, one), _uid(0x00081155, other)] for one, other in references]
    return write_dataset([_uid(0x00081195, transaction), Element(0x00081199, "SQ", items)], syntax)


def report(transaction: str, told: dict[tuple[str, str], int], syntax: str = EXPLICIT) -> bytes:
    def items(failed: bool) -> list[list[Element]]:
        return [
            [_uid(0x00081150, one), _uid(0x00081155, other)]
            + ([Element(0x00081197, "US", struct.pack("<H", reason))] if failed else [])
            for (one, other), reason in told.items()
            if bool(reason) is failed
        ]

    elements = [_uid(0x00081195, transaction)]
    elements += [Element(0x00081199, "SQ", items(False))] if items(False) else []
    elements += [Element(0x00081198, "SQ", items(True))] if items(True) else []
    return write_dataset(elements, syntax)


def read(event_type: int, data: bytes, syntax: str = EXPLICIT) -> Told:
    elements = {one.tag: one.value for one in read_dataset(data, syntax)}
    found = {}
    for tag in (0x00081199, 0x00081198):
        sequence = elements.get(tag, [])
        assert isinstance(sequence, list)
        for item in sequence:
            values = {one.tag: one.value for one in item}
            reason = values.get(0x00081197, b"\0\0")
            uid = values[0x00081155]
            assert isinstance(uid, bytes) and isinstance(reason, bytes)
            found[uid.rstrip(b"\0").decode()] = struct.unpack("<H", reason)[0]
    transaction = elements[0x00081195]
    assert isinstance(transaction, bytes)
    return event_type, transaction.rstrip(b"\0").decode(), found


async def ask(
    association: ClientAssociation,
    data: bytes | None,
    *,
    action_type: int = 1,
    instance: str = INSTANCE,
    sop_class: str = COMMITMENT,
) -> Any:
    request = NActionRequest(
        message_id=0,
        requested_sop_class_uid=sop_class,
        requested_sop_instance_uid=instance,
        action_type_id=action_type,
    )
    context = association.context_for(COMMITMENT)
    response, _ = await association.n_request(request, data, context=context)
    return response


def event(event_type: int = 1, *, instance: str = INSTANCE) -> NEventReportRequest:
    return NEventReportRequest(
        message_id=0,
        affected_sop_class_uid=COMMITMENT,
        affected_sop_instance_uid=instance,
        event_type_id=event_type,
    )


class Listener(Receiver):
    """Hears reports and answers ``status``. As SCP it takes requests on and does ``then`` with them."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: asyncio.Queue[Told] = asyncio.Queue()
        self.asked: asyncio.Queue[tuple[str, list[str], bytes]] = asyncio.Queue()
        self.status = 0
        self.action_status = 0
        self.then: Callable[[AskPeer], Awaitable[None]] | None = None

    async def n_event_report(
        self, info: AssociationInfo, request: Any, data: bytes | None, syntax: str
    ) -> NAnswer:
        self.infos.append(info)
        await self.heard.put(read(request.event_type_id, data or b"", syntax))
        return NAnswer(self.status)

    async def n_action(self, info: AssociationInfo, request: Any, data: bytes | None, syntax: str) -> NAnswer:
        assert data is not None
        elements = {one.tag: one.value for one in read_dataset(data, syntax)}
        transaction = elements[0x00081195]
        assert isinstance(transaction, bytes)
        _, uid, found = read(1, data, syntax)
        await self.asked.put((uid, list(found), data))
        return NAnswer(self.action_status, then=self.then)


def _uid(tag: int, uid: str) -> Element:
    value = uid.encode()
    return Element(tag, "UI", value + b"\0" * (len(value) % 2))
