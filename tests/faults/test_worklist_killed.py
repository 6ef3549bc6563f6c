"""``kill -9`` while workitems are claimed and modalities perform: what was acknowledged is so."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from isocenter.dicom.sop_classes import MODALITY_PERFORMED_PROCEDURE_STEP as MPPS
from isocenter.dimse.net.client import Proposal, connect
from isocenter.dimse.protocol.messages import NCreateRequest, NSetRequest
from services.attacked import AE_TITLE, CONNECTION_ENDED, MARKED_ID, MARKED_NAME, AttackedServer
from services.workitems import Scheduler, performed
from services.worklists import STUDY, a_performed_step, encoded, the_end

ROUNDS = 3
SEED = 20261126
_WORKITEM_STATES = ["", "SCHEDULED", "IN PROGRESS", "COMPLETED"]
_STEP_STATES = ["", "IN PROGRESS", "COMPLETED"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[AttackedServer]:
    made = AttackedServer(tmp_path, flags=("--min-free-disk", "0", "--log-level", "warning"))
    yield made
    made.stop()


class Countdown:
    """Kills the server after so many acknowledgements."""

    def __init__(self, server: AttackedServer, count: int) -> None:
        self._server, self._left = server, count

    def acknowledged(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._server.kill()


async def claim_and_finish(
    server: AttackedServer, countdown: Countdown, reached: dict[str, str], prefix: str
) -> None:
    async with httpx2.AsyncClient(timeout=20) as client:
        ups = Scheduler(client, server.url + "/dicom-web")
        for number in range(1000):
            uid = f"{prefix}.{number}"
            reached[uid] = ""
            steps: list[tuple[str, Any]] = [
                ("SCHEDULED", lambda: ups.create(SOPInstanceUID=uid, PatientName=MARKED_NAME)),  # noqa: B023
                ("IN PROGRESS", lambda: ups.move(uid, "IN PROGRESS")),  # noqa: B023
                ("", lambda: ups.update(uid, performed())),  # noqa: B023
                ("COMPLETED", lambda: ups.move(uid, "COMPLETED")),  # noqa: B023
            ]
            for state, step in steps:
                try:
                    response = await step()
                except httpx2.HTTPError:
                    return
                assert isinstance(response, str) or response.status_code == 200, response.text
                if state:
                    reached[uid] = state
                countdown.acknowledged()


async def perform(port: int, countdown: Countdown, reached: dict[str, str], prefix: str) -> None:
    """By our own client: pynetdicom leaves sockets open when its peer dies."""
    association = await connect(
        "127.0.0.1", port, calling_ae_title="CT1", called_ae_title=AE_TITLE, contexts=[Proposal(MPPS)]
    )
    syntax = association.context_for(MPPS).transfer_syntax
    try:
        for number in range(1000):
            uid = f"{prefix}.{number}"
            reached[uid] = ""
            given = a_performed_step(f"{STUDY}.{number}", PatientID=MARKED_ID, PatientName=MARKED_NAME)
            create = NCreateRequest(message_id=0, affected_sop_class_uid=MPPS, affected_sop_instance_uid=uid)
            change = NSetRequest(message_id=0, requested_sop_class_uid=MPPS, requested_sop_instance_uid=uid)
            for state, request, data_set in (
                ("IN PROGRESS", create, given),
                ("COMPLETED", change, the_end()),
            ):
                response, _ = await association.n_request(request, encoded(data_set, syntax))
                assert response.status == 0, f"{response.status:04X}"
                reached[uid] = state
                countdown.acknowledged()
    except CONNECTION_ENDED:
        association.abort()


async def test_states_survive(server: AttackedServer) -> None:
    chance = random.Random(SEED)
    workitems: dict[str, str] = {}
    steps: dict[str, str] = {}
    for number in range(ROUNDS):
        server.start()
        countdown = Countdown(server, chance.randint(10, 80))
        await asyncio.gather(
            claim_and_finish(server, countdown, workitems, f"1.2.{number}.1"),
            claim_and_finish(server, countdown, workitems, f"1.2.{number}.2"),
            perform(server.dicom_port, countdown, steps, f"1.2.{number}.3"),
        )
        server.stop()
    server.start()
    async with httpx2.AsyncClient(timeout=20) as client:
        ups = Scheduler(client, server.url + "/dicom-web")
        found = (await ups.send("GET", "/workitems?limit=10000")).json()
        states = {one["00080018"]["Value"][0]: one["00741000"]["Value"][0] for one in found}
        answer = (await client.get(server.url + "/api/v1/worklist/performed?limit=5000")).json()
        states |= {one["sop_instance_uid"]: one["state"] for one in answer["performed"]}
    assert len(workitems) > ROUNDS and len(steps) > ROUNDS
    for order, acknowledged in ((_WORKITEM_STATES, workitems), (_STEP_STATES, steps)):
        for uid, state in acknowledged.items():
            # One step further at most: done, and its answer lost.
            ahead = order.index(states.get(uid, "")) - order.index(state)
            assert ahead in {0, 1}, (uid, state, states.get(uid))
