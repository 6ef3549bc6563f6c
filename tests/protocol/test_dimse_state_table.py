"""Every cell of PS3.8 Table 9-10, against a copy that was typed from the standard in another shape."""

from __future__ import annotations

import pytest

from isocenter.dimse.protocol.association import Association, Role
from isocenter.dimse.protocol.errors import LocalProtocolError
from isocenter.dimse.protocol.events import Aborted, AbortedBy
from isocenter.dimse.protocol.pdu import (
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    NegotiatedContext,
    ProposedContext,
    data_header,
    encode_abort,
    encode_associate_accept,
    encode_associate_reject,
    encode_associate_request,
)
from isocenter.dimse.protocol.state import ACTIONS, TRANSITIONS, Evt, State

# event -> action -> states, read off the printed table row by row
STANDARD: dict[int, dict[str, tuple[int, ...]]] = {
    1: {"AE-1": (1,)},
    2: {"AE-2": (4,)},
    3: {"AA-1": (2,), "AA-8": (3, 6, 7, 8, 9, 10, 11, 12), "AE-3": (5,), "AA-6": (13,)},
    4: {"AA-1": (2,), "AA-8": (3, 6, 7, 8, 9, 10, 11, 12), "AE-4": (5,), "AA-6": (13,)},
    5: {"AE-5": (1,)},
    6: {"AE-6": (2,), "AA-8": (3, 5, 6, 7, 8, 9, 10, 11, 12), "AA-7": (13,)},
    7: {"AE-7": (3,)},
    8: {"AE-8": (3,)},
    9: {"DT-1": (6,), "AR-7": (8,)},
    10: {"AA-1": (2,), "AA-8": (3, 5, 8, 9, 10, 11, 12), "DT-2": (6,), "AR-6": (7,), "AA-6": (13,)},
    11: {"AR-1": (6,)},
    12: {"AA-1": (2,), "AA-8": (3, 5, 8, 9, 10, 11, 12), "AR-2": (6,), "AR-8": (7,), "AA-6": (13,)},
    13: {
        "AA-1": (2,),
        "AA-8": (3, 5, 6, 8, 9, 12),
        "AR-3": (7, 11),
        "AR-10": (10,),
        "AA-6": (13,),
    },
    14: {"AR-4": (8, 12), "AR-9": (9,)},
    15: {"AA-1": (3, 5, 6, 7, 8, 9, 10, 11, 12), "AA-2": (4,)},
    16: {"AA-2": (2, 13), "AA-3": (3, 5, 6, 7, 8, 9, 10, 11, 12)},
    17: {"AA-5": (2,), "AA-4": (3, 4, 5, 6, 7, 8, 9, 10, 11, 12), "AR-5": (13,)},
    18: {"AA-2": (2, 13)},
    19: {"AA-1": (2,), "AA-8": (3, 5, 6, 7, 8, 9, 10, 11, 12), "AA-7": (13,)},
}

# PS3.8 Tables 9-6 to 9-9, last line of each action. AE-6 and AR-8 depend on the request and on the role.
NEXT_STATE = {
    "AE-1": 4,
    "AE-2": 5,
    "AE-3": 6,
    "AE-4": 1,
    "AE-5": 2,
    "AE-6": 3,
    "AE-7": 6,
    "AE-8": 13,
    "DT-1": 6,
    "DT-2": 6,
    "AR-1": 7,
    "AR-2": 8,
    "AR-3": 1,
    "AR-4": 13,
    "AR-5": 1,
    "AR-6": 7,
    "AR-7": 8,
    "AR-8": 9,
    "AR-9": 11,
    "AR-10": 12,
    "AA-1": 13,
    "AA-2": 1,
    "AA-3": 1,
    "AA-4": 1,
    "AA-5": 1,
    "AA-6": 13,
    "AA-7": 13,
    "AA-8": 13,
}

CELLS = [(evt, state) for evt in range(1, 20) for state in range(1, 14)]


def expected(evt: int, state: int) -> str | None:
    for action, states in STANDARD[evt].items():
        if state in states:
            return action
    return None


@pytest.mark.parametrize(("evt", "state"), CELLS)
def test_each_cell_names_the_action_of_the_standard(evt: int, state: int) -> None:
    assert TRANSITIONS.get((Evt(evt), State(state))) == expected(evt, state)


@pytest.mark.parametrize(("action", "state"), NEXT_STATE.items())
def test_each_action_leads_where_the_standard_says(action: str, state: int) -> None:
    assert ACTIONS[action].next_state == state


def test_no_action_beyond_the_standard() -> None:
    assert set(ACTIONS) == {*NEXT_STATE, "AE-6 unacceptable", "AR-8 acceptor"}
    assert ACTIONS["AE-6 unacceptable"].next_state == State.STA13
    assert ACTIONS["AR-8 acceptor"].next_state == State.STA10


# ---- the same table, driven by real bytes through an association

VERIFICATION, IMPLICIT = "1.2.840.10008.1.1", "1.2.840.10008.1.2"
REQUEST = AssociateRequest("SCP", "SCU", (ProposedContext(1, VERIFICATION, (IMPLICIT,)),))
ACCEPT = AssociateAccept("SCP", "SCU", (NegotiatedContext(1, 0, IMPLICIT),))
RELEASE_RQ, RELEASE_RP = b"\5\0\0\0\0\4\0\0\0\0", b"\6\0\0\0\0\4\0\0\0\0"
FRAGMENT = data_header(1, 1, 8) + bytes(8)  # the start of a command set

PDUS = {
    3: encode_associate_accept(ACCEPT),
    4: encode_associate_reject(AssociateReject(1, 1, 1)),
    6: encode_associate_request(REQUEST),
    10: FRAGMENT,
    12: RELEASE_RQ,
    13: RELEASE_RP,
    16: encode_abort(Abort(2, 0)),
    19: b"\x47\0\0\0\0\4",
}


def in_state(number: int) -> Association:
    """An association that was brought there by the moves that lead there."""
    role = Role.REQUESTOR if number in (4, 5, 7, 9, 11) else Role.ACCEPTOR
    association = Association(role, artim_s=10)
    if number == 1:
        return association
    if role is Role.REQUESTOR:
        association.connect(REQUEST)
        if number > 4:
            association.transport_opened(0)
        if number > 5:
            association.feed(PDUS[3], 0)
            association.request_release()
        if number > 7:
            association.feed(RELEASE_RQ, 0)
        if number == 11:
            association.respond_release(0)
    else:
        association.transport_opened(0)
        if number > 2:
            association.feed(PDUS[6], 0)
        if number > 3:
            association.accept(ACCEPT)
        if number == 8:
            association.feed(RELEASE_RQ, 0)
        elif number in (10, 12):
            association.request_release()
            association.feed(RELEASE_RQ, 0)
            if number == 12:
                association.feed(RELEASE_RP, 0)
        elif number == 13:
            association.abort(0)
    assert association.state == number
    association.take_output()
    return association


@pytest.mark.parametrize("state", range(1, 14))
def test_every_state_can_be_reached(state: int) -> None:
    in_state(state)


@pytest.mark.parametrize("evt", PDUS)
@pytest.mark.parametrize("state", [2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13])
def test_each_pdu_in_each_state_moves_as_the_table_says(evt: int, state: int) -> None:
    association = in_state(state)
    action = expected(evt, state)
    assert action is not None
    association.feed(PDUS[evt], 0)
    following = NEXT_STATE[action]
    if action == "AR-8" and association.role is Role.ACCEPTOR:
        following = 10
    assert association.state == following
    output = b"".join(association.take_output())
    if action in ("AA-1", "AA-7", "AA-8"):
        assert output[:1] == b"\7"
        # PS3.8 Table 9-9: AA-1 speaks as the service user, the others as the provider
        assert output[8] == (0 if action == "AA-1" else 2)
    else:
        assert output == b""
    assert association.closing == (action in ("AE-4", "AR-3", "AA-2", "AA-3"))


@pytest.mark.parametrize("state", range(1, 14))
def test_the_end_of_the_transport_in_each_state(state: int) -> None:
    association = in_state(state)
    events = association.transport_closed(0)
    assert association.state == State.STA1
    told = events == [Aborted(AbortedBy.CONNECTION_LOST)]
    assert told == (expected(17, state) == "AA-4")


@pytest.mark.parametrize("state", range(1, 14))
def test_artim_runs_in_the_states_that_wait_for_the_peer(state: int) -> None:
    association = in_state(state)
    if expected(18, state) is None:
        assert association.next_deadline_s() is None
        assert association.handle_timeout(1e9) == []
        assert association.state == state
    else:
        assert association.next_deadline_s() == 10
        association.handle_timeout(9.99)
        assert not association.closing
        association.handle_timeout(10)
        assert association.closing
        assert association.state == State.STA1


USER_MOVES = {
    1: lambda a: a.connect(REQUEST),
    7: lambda a: a.accept(ACCEPT),
    8: lambda a: a.reject(AssociateReject(1, 1, 1), 0),
    9: lambda a: a.send_data(1, b"xy", is_last=True),
    11: lambda a: a.request_release(),
    14: lambda a: a.respond_release(0),
}


@pytest.mark.parametrize("evt", USER_MOVES)
@pytest.mark.parametrize("state", range(1, 14))
def test_each_request_of_ours_in_each_state(evt: int, state: int) -> None:
    association = in_state(state)
    if evt == 7 and association.request is None:
        association.request = REQUEST
    action = expected(evt, state)
    if action is None:
        with pytest.raises(LocalProtocolError):
            USER_MOVES[evt](association)
        assert association.state == state
        assert association.take_output() == []
    else:
        USER_MOVES[evt](association)
        assert association.state == NEXT_STATE[action]


@pytest.mark.parametrize("state", range(1, 14))
def test_our_own_abort_ends_every_state(state: int) -> None:
    association = in_state(state)
    association.abort(5)
    if expected(15, state) == "AA-1":
        assert association.state == State.STA13
        assert b"".join(association.take_output()) == encode_abort(Abort(0, 0))
        assert association.next_deadline_s() == 15
    else:
        assert association.closing
