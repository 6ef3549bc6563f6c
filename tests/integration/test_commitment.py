"""Storage commitment: asked of us and by us, over this association or another, later or never."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from isocenter.dimse.net.client import ClientAssociation, Proposal
from isocenter.dimse.net.errors import ContextNotAccepted
from isocenter.dimse.net.service import AskPeer
from isocenter.dimse.protocol.user_information import RoleSelection
from isocenter.doors.scp.committing import commitment_worker
from isocenter.features.commitment.entries import Reference, Role, State
from isocenter.features.commitment.ledger import ATTEMPTS_MAX, LEASE_S
from isocenter.features.commitment.worker import CommitmentWorker
from isocenter.kit.clock import ManualClock
from isocenter.kit.errors import Conflict, InvalidInput, NotFound
from services.archive import CT, ORGANIZATION
from services.committing import COMMITMENT, INSTANCE, Listener, action, ask, event, report
from services.processes import free_ports
from services.retrieving import SR, images, receiving
from services.schema import fresh_url
from services.scp import EXPLICIT, IMPLICIT, ScpDoor, scp_door

SOME = images(3)
REFERENCES = [(CT, image.sop) for image in SOME]
TRANSACTION = "2.25.77"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def door(url: str, tmp_path: Path) -> AsyncIterator[ScpDoor]:
    async with scp_door(tmp_path, database_url=url, clock=ManualClock()) as made:
        await made.archive.send(*SOME)
        made.commitments._hear_s = 0.2
        made.commitments.start()
        yield made


@asynccontextmanager
async def asking(
    door: ScpDoor, listener: Listener | None = None, *, calling: str = "MODALITY", syntax: str = EXPLICIT
) -> AsyncIterator[ClientAssociation]:
    async with await door.connect(Proposal(COMMITMENT, (syntax,)), calling=calling) as association:
        if listener is not None:
            association.offer_events(listener.n_event_report)
        yield association


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            pass


async def settled(door: ScpDoor, commitment_id: int = 1, *, state: State = State.SETTLED) -> None:
    async def reached() -> bool:
        return (await door.commitments.ledger.get(ORGANIZATION, commitment_id)).state is state

    await until(reached)


async def attempted(door: ScpDoor, times: int, commitment_id: int = 1) -> None:
    async def reached() -> bool:
        return (await door.commitments.ledger.get(ORGANIZATION, commitment_id)).attempts == times

    await until(reached)


def pass_time(door: ScpDoor, seconds: float) -> None:
    clock = door.archive.clock
    assert isinstance(clock, ManualClock)
    clock.advance(seconds)
    door.commitments.nudge()


# --- asked of us


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
async def test_what_is_here_is_committed_over_the_same_association(door: ScpDoor, syntax: str) -> None:
    listener = Listener()
    async with asking(door, listener, syntax=syntax) as association:
        response = await ask(association, action(TRANSACTION, REFERENCES, syntax))
        assert (response.status, response.action_type_id) == (0, 1)
        assert response.affected_sop_instance_uid == INSTANCE
        told = await listener.heard.get()
        assert told == (1, TRANSACTION, {image.sop: 0 for image in SOME})
        await settled(door)
    [kept] = await door.commitments.ledger.find(ORGANIZATION)
    assert (kept.role, kept.ae_title, kept.own_ae_title) == (Role.SCP, "MODALITY", "ISOCENTER")
    assert (kept.instance_count, kept.failed_count, kept.next_attempt_at_us) == (3, 0, None)
    assert kept.settled_at_us
    judged = await door.commitments.ledger.instances(ORGANIZATION, kept.id)
    assert [(one.reference, one.reason) for one in judged] == [(Reference(*one), 0) for one in REFERENCES]


async def test_what_is_not_whole_or_not_here_is_not_committed(door: ScpDoor) -> None:
    """Absent, of another class or hospital, gone from the store, of another length, with other bytes."""
    more = images(4, study=2)
    await door.archive.send(*more)
    other = await door.archive.add_organization("x")
    theirs = images(1, study=3)
    await door.archive.send(*theirs, to=other)
    paths = []
    for image in more[:3]:
        key = await door.archive.one(
            "SELECT object_key FROM instance WHERE sop_instance_uid = :uid", uid=image.sop
        )
        path = door.archive.store.local_path(key)
        assert path is not None
        paths.append((path, path.read_bytes()))
        path.unlink()
    paths[1][0].write_bytes(paths[1][1] + b"\0\0")
    paths[2][0].write_bytes(paths[2][1][:-1] + b"\x7f")
    wanted = [
        REFERENCES[0],
        (SR, SOME[1].sop),
        (CT, "1.5.9.9.9"),
        (CT, theirs[0].sop),
        *((CT, image.sop) for image in more),
    ]
    listener = Listener()
    async with asking(door, listener) as association:
        assert (await ask(association, action(TRANSACTION, wanted))).status == 0
        told = await listener.heard.get()
    assert told == (
        2,
        TRANSACTION,
        {
            SOME[0].sop: 0,
            SOME[1].sop: 0x0119,
            "1.5.9.9.9": 0x0112,
            theirs[0].sop: 0x0112,
            more[0].sop: 0x0110,
            more[1].sop: 0x0110,
            more[2].sop: 0x0110,
            more[3].sop: 0,
        },
    )
    await settled(door)
    assert (await door.commitments.ledger.get(ORGANIZATION, 1)).failed_count == 6


async def test_who_hangs_up_is_called(door: ScpDoor) -> None:
    """At the address that is registered, in the SCP's role (PS3.4 J.3.3), by the AE title that was called."""
    listener = Listener()
    async with receiving(listener) as server:
        await door.destination("MODALITY", server.port)
        async with asking(door) as association:
            assert (await ask(association, action(TRANSACTION, REFERENCES))).status == 0
        assert await listener.heard.get() == (1, TRANSACTION, {image.sop: 0 for image in SOME})
        await settled(door)
        [info] = listener.infos
        assert (info.calling_ae_title, info.called_ae_title) == ("ISOCENTER", "MODALITY")
        [context] = info.contexts.values()
        assert (context.scu_role, context.scp_role) == (False, True)


async def test_who_cannot_be_called_is_tried_again_later_and_later(door: ScpDoor) -> None:
    (port,) = free_ports(1)
    async with asking(door) as association:
        assert (await ask(association, action(TRANSACTION, REFERENCES))).status == 0
    await attempted(door, 1)
    kept = await door.commitments.ledger.get(ORGANIZATION, 1)
    assert kept.state is State.WAITING and "MODALITY" in kept.last_error
    now_us = door.commitments.ledger._now_us()
    assert kept.next_attempt_at_us == now_us + 2_000_000
    await door.destination("MODALITY", port)
    for attempts in range(2, 6):
        pass_time(door, 2 ** (attempts - 1))
        await attempted(door, attempts)
        kept = await door.commitments.ledger.get(ORGANIZATION, 1)
        assert kept.next_attempt_at_us == door.commitments.ledger._now_us() + 2**attempts * 1_000_000
    assert "no connection to 127.0.0.1" in kept.last_error
    listener = Listener()
    listener.status = 0x0110
    async with receiving(listener) as server:
        await door.destination("MODALITY", server.port)
        pass_time(door, 32)
        await listener.heard.get()
        await attempted(door, 6)
        assert "0110H" in (await door.commitments.ledger.get(ORGANIZATION, 1)).last_error
        listener.status = 0
        pass_time(door, 64)
        assert (await listener.heard.get())[0] == 1
        await settled(door)


async def test_enough_is_enough_and_a_person_may_have_it_tried_again(door: ScpDoor) -> None:
    async with asking(door) as association:
        assert (await ask(association, action(TRANSACTION, REFERENCES))).status == 0
    await attempted(door, 1)
    await door.archive.execute("UPDATE commitment SET attempts = :most", most=ATTEMPTS_MAX - 1)
    pass_time(door, 3600)
    await settled(door, state=State.GIVEN_UP)
    pass_time(door, 10_000_000)
    listener = Listener()
    async with receiving(listener) as server:
        await door.destination("MODALITY", server.port)
        await door.commitments.ledger.try_again(ORGANIZATION, 1)
        door.commitments.nudge()
        assert (await listener.heard.get())[0] == 1
        await settled(door)


async def test_what_another_process_took_on_and_left_is_reported_after_its_lease(door: ScpDoor) -> None:
    """As after kill -9: the row is all that there is."""
    listener = Listener()
    async with receiving(listener) as server:
        await door.destination("MODALITY", server.port)
        await door.commitments.ledger.take_on(
            ORGANIZATION,
            ae_title="MODALITY",
            own_ae_title="ISOCENTER",
            transaction_uid=TRANSACTION,
            references=[Reference(*one) for one in REFERENCES],
        )
        pass_time(door, LEASE_S - 1)
        assert await door.commitments.ledger.due() == []
        pass_time(door, 2)
        assert (await listener.heard.get())[1] == TRANSACTION
        await settled(door)


async def test_two_workers_report_once(door: ScpDoor) -> None:
    listener = Listener()
    second = commitment_worker(door.archive.database, door.archive.store, door.archive.clock, door.outgoing)
    async with receiving(listener) as server:
        await door.destination("MODALITY", server.port)
        for number in range(20):
            await door.commitments.ledger.take_on(
                ORGANIZATION,
                ae_title="MODALITY",
                own_ae_title="ISOCENTER",
                transaction_uid=f"2.25.{number}",
                references=[Reference(*one) for one in REFERENCES],
                lease_s=0,
            )
        second.start()
        door.commitments.nudge()
        told = [(await listener.heard.get())[1] for _ in range(20)]
        for number in range(1, 21):
            await settled(door, number)
        await second.stop()
    assert sorted(told) == sorted(f"2.25.{number}" for number in range(20))
    assert listener.heard.empty()


async def test_the_same_request_again_is_answered_again_another_one_is_refused(door: ScpDoor) -> None:
    listener = Listener()
    async with asking(door, listener) as association:
        for _ in range(2):
            assert (await ask(association, action(TRANSACTION, REFERENCES))).status == 0
            assert (await listener.heard.get())[1] == TRANSACTION
            await settled(door)
        other = await ask(association, action(TRANSACTION, REFERENCES[:2]))
        assert (other.status, other.error_comment) == (
            0x0115,
            "The Transaction UID was used for other objects before",
        )
    async with asking(door, listener, calling="ANOTHER") as association:
        assert (await ask(association, action(TRANSACTION, REFERENCES[:2]))).status == 0
        assert (await listener.heard.get())[1] == TRANSACTION
    assert len(await door.commitments.ledger.find(ORGANIZATION)) == 2


@pytest.mark.parametrize(
    ("data", "more", "status"),
    [
        (None, {}, 0x0115),
        (b"", {}, 0x0115),
        (b"\xff" * 50, {}, 0x0115),
        (action("", REFERENCES), {}, 0x0115),
        (action("not a uid", REFERENCES), {}, 0x0115),
        (action("1" * 66, REFERENCES), {}, 0x0115),
        (action(TRANSACTION, []), {}, 0x0115),
        (action(TRANSACTION, [(CT, "")]), {}, 0x0115),
        (action(TRANSACTION, [("", "1.2")]), {}, 0x0115),
        (action(TRANSACTION, REFERENCES), {"action_type": 2}, 0x0123),
        (action(TRANSACTION, REFERENCES), {"instance": "1.2.3"}, 0x0112),
        (action(TRANSACTION, REFERENCES), {"sop_class": "1.2.840.10008.1.40"}, 0x0118),
    ],
)
async def test_what_is_no_request(
    door: ScpDoor, data: bytes | None, more: dict[str, Any], status: int
) -> None:
    listener = Listener()
    async with asking(door, listener) as association:
        assert (await ask(association, data, **more)).status == status
        assert await door.commitments.ledger.find(ORGANIZATION) == []
        assert (await ask(association, action(TRANSACTION, REFERENCES))).status == 0
        await listener.heard.get()


async def test_thousands_at_once(tmp_path: Path) -> None:
    async with scp_door(tmp_path) as door:
        await door.archive.send(*SOME)
        many = [*REFERENCES, *((CT, f"1.5.9.{number}") for number in range(5000))]
        listener = Listener()
        async with asking(door, listener) as association:
            assert (await ask(association, action(TRANSACTION, many))).status == 0
            event_type, _, found = await listener.heard.get()
            await settled(door)
        assert event_type == 2 and len(found) == 5003
        assert [uid for uid, reason in found.items() if not reason] == [image.sop for image in SOME]


async def test_only_who_may(door: ScpDoor) -> None:
    await door.ae_titles.register(ORGANIZATION, "MODALITY", services=["commit"])
    async with asking(door, Listener()) as association:
        await door.ae_titles.register(ORGANIZATION, "MODALITY", services=["store"])
        assert (await ask(association, action(TRANSACTION, REFERENCES))).status == 0x0124
    async with asking(door) as association:
        with pytest.raises(ContextNotAccepted):
            await ask(association, action(TRANSACTION, REFERENCES))
    assert await door.commitments.ledger.find(ORGANIZATION) == []


async def test_the_trail_hears_who_asked(door: ScpDoor) -> None:
    async with asking(door, Listener()) as association:
        await ask(association, action(TRANSACTION, REFERENCES))
        await ask(association, action(TRANSACTION, []))
    await door.trail.settled()
    rows = await door.archive.rows(
        "SELECT subject_id, outcome, resource_id, details FROM audit_event"
        " WHERE resource_kind = 'commitment' ORDER BY sequence"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("MODALITY", "success", TRANSACTION, '{"instances":3}'),
        ("MODALITY", "failed", "", '{"instances":0,"reason":"not understood"}'),
    ]


# --- asked by us


async def test_we_ask_and_hear_over_the_same_association(door: ScpDoor) -> None:
    pacs = Listener()

    async def then(peer: AskPeer) -> None:
        transaction, uids, _ = pacs.asked.get_nowait()
        told = {(CT, uid): 0 for uid in uids[:-1]} | {(CT, uids[-1]): 0x0213}
        await peer(event(2), report(transaction, told))

    pacs.then = then
    async with receiving(pacs) as server:
        await door.destination("PACS", server.port)
        asked = await ask_of(door.commitments, "PACS")
        await settled(door, asked)
    kept = await door.commitments.ledger.get(ORGANIZATION, asked)
    assert (kept.role, kept.ae_title, kept.failed_count) == (Role.SCU, "PACS", 1)
    judged = await door.commitments.ledger.instances(ORGANIZATION, asked)
    assert [one.reason for one in judged] == [0, 0, 0x0213]


async def ask_of(worker: CommitmentWorker, title: str) -> int:
    asked = await worker.ledger.ask(
        ORGANIZATION,
        ae_title=title,
        own_ae_title="ISOCENTER",
        references=[Reference(*one) for one in REFERENCES],
    )
    worker.nudge()
    return asked.id


async def test_we_ask_and_are_called_later(door: ScpDoor) -> None:
    pacs = Listener()
    async with receiving(pacs) as server:
        await door.destination("PACS", server.port)
        asked = await ask_of(door.commitments, "PACS")
        transaction, uids, _ = await pacs.asked.get()
        await settled(door, asked, state=State.ASKED)
    role = RoleSelection(COMMITMENT, False, True)
    async with await door.connect(
        Proposal(COMMITMENT, (EXPLICIT,)), calling="PACS", roles=[role]
    ) as association:
        [context] = association.contexts.values()
        assert (context.scu_role, context.scp_role) == (False, True)
        told = report(transaction, {(CT, uid): 0 for uid in uids})
        for _ in range(2):  # at least once
            response, _ = await association.n_request(event(1), told)
            assert response.status == 0
    kept = await door.commitments.ledger.get(ORGANIZATION, asked)
    assert (kept.state, kept.failed_count) == (State.SETTLED, 0)


async def test_what_a_report_does_not_mention_is_not_committed(door: ScpDoor) -> None:
    pacs = Listener()
    async with receiving(pacs) as server:
        await door.destination("PACS", server.port)
        asked = await ask_of(door.commitments, "PACS")
        transaction, uids, _ = await pacs.asked.get()
        await settled(door, asked, state=State.ASKED)
    async with asking(door, calling="PACS") as association:
        told = report(transaction, {(CT, uids[0]): 0, (CT, "1.2.3"): 0})
        response, _ = await association.n_request(event(1), told)
        assert response.status == 0
    assert (await door.commitments.ledger.get(ORGANIZATION, asked)).failed_count == 2


@pytest.mark.parametrize(
    ("request_", "data", "status"),
    [
        (event(1), report("2.25.1", {(CT, "1.2"): 0}), 0x0115),  # nothing was asked under it
        (event(1), None, 0x0115),
        (event(1), b"\xff" * 20, 0x0115),
        (event(3), report("2.25.1", {(CT, "1.2"): 0}), 0x0113),
        (event(1, instance="1.2"), report("2.25.1", {(CT, "1.2"): 0}), 0x0112),
    ],
)
async def test_what_is_no_report(door: ScpDoor, request_: Any, data: bytes | None, status: int) -> None:
    async with asking(door, calling="PACS") as association:
        response, _ = await association.n_request(request_, data)
        assert response.status == status


async def test_another_organisations_report_settles_nothing(door: ScpDoor) -> None:
    other = await door.archive.add_organization("x")
    await door.ae_titles.register(other, "THEIRS", host="127.0.0.1")
    pacs = Listener()
    async with receiving(pacs) as server:
        await door.destination("PACS", server.port)
        asked = await ask_of(door.commitments, "PACS")
        transaction, uids, _ = await pacs.asked.get()
        await settled(door, asked, state=State.ASKED)
    told = report(transaction, {(CT, uid): 0 for uid in uids})
    async with asking(door, calling="THEIRS") as association:
        response, _ = await association.n_request(event(1), told)
        assert response.status == 0x0115
    assert (await door.commitments.ledger.get(ORGANIZATION, asked)).state is State.ASKED
    assert await door.commitments.ledger.find(other) == []
    for doing in (door.commitments.ledger.get, door.commitments.ledger.try_again):
        with pytest.raises(NotFound):
            await doing(other, asked)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("status", "state"), [(0x0122, State.REFUSED), (0x0124, State.REFUSED), (0x0213, State.WAITING)]
)
async def test_who_does_not_take_it_on(door: ScpDoor, status: int, state: State) -> None:
    pacs = Listener()
    pacs.action_status = status
    async with receiving(pacs) as server:
        await door.destination("PACS", server.port)
        asked = await ask_of(door.commitments, "PACS")
        await pacs.asked.get()
        if state is State.WAITING:
            await attempted(door, 1, asked)
        await settled(door, asked, state=state)
        assert f"{status:04X}H" in (await door.commitments.ledger.get(ORGANIZATION, asked)).last_error
        if state is State.WAITING:
            pacs.action_status = 0
            pass_time(door, 2)
            await settled(door, asked, state=State.ASKED)


async def test_nothing_and_too_much_cannot_be_asked(door: ScpDoor) -> None:
    for references in ([], [Reference(CT, "1.2")] * 100_001):
        with pytest.raises(InvalidInput):
            await door.commitments.ledger.ask(
                ORGANIZATION, ae_title="PACS", own_ae_title="US", references=references
            )
    with pytest.raises(Conflict):
        for sop in ("1.2", "1.3"):
            await door.commitments.ledger.take_on(
                ORGANIZATION,
                ae_title="A",
                own_ae_title="B",
                transaction_uid="1.9",
                references=[Reference(CT, sop)],
            )
