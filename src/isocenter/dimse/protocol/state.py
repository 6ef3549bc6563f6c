"""The upper layer state machine of PS3.8 §9.2, as data."""

# Theory of operation
# ===================
#
# An association has two ends, and each end runs one machine of thirteen states. Nineteen kinds of
# events move it: the local user asks for something (Evt1, 7, 8, 9, 11, 14, 15), the transport reports
# something (Evt2, 5, 17), a PDU arrives (Evt3, 4, 6, 10, 12, 13, 16, or 19 for bytes that are no PDU),
# or the ARTIM timer runs out (Evt18). PS3.8 Table 9-10 names, for each event in each state, one action;
# Tables 9-6 to 9-9 say what an action does and which state follows.
#
# Both ends run the same table. Who asked for the association matters in two places only, and both are
# in the table as alternatives: AE-6 (is the request acceptable at all?) and AR-8 (both ends asked for
# release at once; the requestor answers first).
#
# A blank cell means that the event cannot happen in that state. If it is one that the local user makes,
# our own code is wrong (LocalProtocolError). Events from the wire have no blanks in the states where a
# transport connection is open, Sta2 and Sta3 and Sta5 to Sta13: whatever a peer sends, whenever it
# sends it, has an entry. That is why "any bytes in any state" can be a test.
#
# The states, in the order in which a good association passes them:
#
#   requestor   Sta1 → Sta4 → Sta5 → Sta6 → Sta7 → Sta1
#   acceptor    Sta1 → Sta2 → Sta3 → Sta6 → Sta8 → Sta13 → Sta1
#
# Sta13 is where every unhappy end leads: we have said our last word (A-ABORT, A-ASSOCIATE-RJ,
# A-RELEASE-RP), and the peer has ARTIM seconds to hang up before we do.
#
# What is not here: bytes (pdu.py, framing.py), and the effects themselves, which association.py carries
# out. This file does not know which of the two ends it serves.

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class State(IntEnum):
    """PS3.8 Tables 9-1 to 9-5."""

    STA1 = 1  # idle
    STA2 = 2  # transport connection open, awaiting A-ASSOCIATE-RQ
    STA3 = 3  # awaiting the local A-ASSOCIATE response
    STA4 = 4  # awaiting the transport connection
    STA5 = 5  # awaiting A-ASSOCIATE-AC or -RJ
    STA6 = 6  # established, ready for data transfer
    STA7 = 7  # awaiting A-RELEASE-RP
    STA8 = 8  # awaiting the local A-RELEASE response
    STA9 = 9  # release collision, requestor: awaiting the local A-RELEASE response
    STA10 = 10  # release collision, acceptor: awaiting A-RELEASE-RP
    STA11 = 11  # release collision, requestor: awaiting A-RELEASE-RP
    STA12 = 12  # release collision, acceptor: awaiting the local A-RELEASE response
    STA13 = 13  # awaiting the end of the transport connection


class Evt(IntEnum):
    """The rows of PS3.8 Table 9-10."""

    A_ASSOCIATE_REQUEST = 1
    TRANSPORT_CONFIRMATION = 2
    ASSOCIATE_AC_PDU = 3
    ASSOCIATE_RJ_PDU = 4
    TRANSPORT_INDICATION = 5
    ASSOCIATE_RQ_PDU = 6
    A_ASSOCIATE_ACCEPT = 7
    A_ASSOCIATE_REJECT = 8
    P_DATA_REQUEST = 9
    P_DATA_TF_PDU = 10
    A_RELEASE_REQUEST = 11
    RELEASE_RQ_PDU = 12
    RELEASE_RP_PDU = 13
    A_RELEASE_RESPONSE = 14
    A_ABORT_REQUEST = 15
    ABORT_PDU = 16
    TRANSPORT_CLOSED = 17
    ARTIM_EXPIRED = 18
    INVALID_PDU = 19


# PS3.8 Table 9-10, printed as it is printed there. A dot is a blank cell.
_TABLE_9_10 = """
Evt   Sta1 Sta2 Sta3 Sta4 Sta5 Sta6 Sta7 Sta8 Sta9 Sta10 Sta11 Sta12 Sta13
1     AE-1 .    .    .    .    .    .    .    .    .     .     .     .
2     .    .    .    AE-2 .    .    .    .    .    .     .     .     .
3     .    AA-1 AA-8 .    AE-3 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8  AA-8  AA-6
4     .    AA-1 AA-8 .    AE-4 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8  AA-8  AA-6
5     AE-5 .    .    .    .    .    .    .    .    .     .     .     .
6     .    AE-6 AA-8 .    AA-8 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8  AA-8  AA-7
7     .    .    AE-7 .    .    .    .    .    .    .     .     .     .
8     .    .    AE-8 .    .    .    .    .    .    .     .     .     .
9     .    .    .    .    .    DT-1 .    AR-7 .    .     .     .     .
10    .    AA-1 AA-8 .    AA-8 DT-2 AR-6 AA-8 AA-8 AA-8  AA-8  AA-8  AA-6
11    .    .    .    .    .    AR-1 .    .    .    .     .     .     .
12    .    AA-1 AA-8 .    AA-8 AR-2 AR-8 AA-8 AA-8 AA-8  AA-8  AA-8  AA-6
13    .    AA-1 AA-8 .    AA-8 AA-8 AR-3 AA-8 AA-8 AR-10 AR-3  AA-8  AA-6
14    .    .    .    .    .    .    .    AR-4 AR-9 .     .     AR-4  .
15    .    .    AA-1 AA-2 AA-1 AA-1 AA-1 AA-1 AA-1 AA-1  AA-1  AA-1  .
16    .    AA-2 AA-3 .    AA-3 AA-3 AA-3 AA-3 AA-3 AA-3  AA-3  AA-3  AA-2
17    .    AA-5 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4  AA-4  AA-4  AR-5
18    .    AA-2 .    .    .    .    .    .    .    .     .     .     AA-2
19    .    AA-1 AA-8 .    AA-8 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8  AA-8  AA-7
"""


class Step(StrEnum):
    """The effects that actions are made of; association.py has one method for each."""

    CONNECT = "issue TRANSPORT CONNECT request"
    CLOSE = "close transport connection"
    START_ARTIM = "start (or restart) ARTIM timer"
    STOP_ARTIM = "stop ARTIM timer"
    SEND_ASSOCIATE_RQ = "send A-ASSOCIATE-RQ PDU"
    SEND_ASSOCIATE_AC = "send A-ASSOCIATE-AC PDU"
    SEND_ASSOCIATE_RJ = "send A-ASSOCIATE-RJ PDU"
    SEND_DATA = "send P-DATA-TF PDU"
    SEND_RELEASE_RQ = "send A-RELEASE-RQ PDU"
    SEND_RELEASE_RP = "send A-RELEASE-RP PDU"
    SEND_USER_ABORT = "send A-ABORT PDU (service-user source)"
    SEND_PROVIDER_ABORT = "send A-ABORT PDU (service-provider source)"
    INDICATE_ASSOCIATE = "issue A-ASSOCIATE indication"
    CONFIRM_ACCEPT = "issue A-ASSOCIATE confirmation (accept)"
    CONFIRM_REJECT = "issue A-ASSOCIATE confirmation (reject)"
    INDICATE_DATA = "issue P-DATA indication"
    INDICATE_RELEASE = "issue A-RELEASE indication"
    CONFIRM_RELEASE = "issue A-RELEASE confirmation"
    INDICATE_PEER_ABORT = "issue A-ABORT or A-P-ABORT indication, as the PDU's source says"
    INDICATE_PROVIDER_ABORT = "issue A-P-ABORT indication"


@dataclass(frozen=True, slots=True)
class Action:
    """What is done, in order, and the state that follows."""

    name: str
    steps: tuple[Step, ...]
    next_state: State


def _actions() -> dict[str, Action]:
    step, sta = Step, State
    # PS3.8 Tables 9-6 to 9-9. AE-6 and AR-8 have two outcomes; the second has a row of its own here.
    rows: tuple[tuple[str, State, tuple[Step, ...]], ...] = (
        ("AE-1", sta.STA4, (step.CONNECT,)),
        ("AE-2", sta.STA5, (step.SEND_ASSOCIATE_RQ,)),
        ("AE-3", sta.STA6, (step.CONFIRM_ACCEPT,)),
        ("AE-4", sta.STA1, (step.CONFIRM_REJECT, step.CLOSE)),
        ("AE-5", sta.STA2, (step.START_ARTIM,)),
        ("AE-6", sta.STA3, (step.STOP_ARTIM, step.INDICATE_ASSOCIATE)),
        ("AE-6 unacceptable", sta.STA13, (step.STOP_ARTIM, step.SEND_ASSOCIATE_RJ, step.START_ARTIM)),
        ("AE-7", sta.STA6, (step.SEND_ASSOCIATE_AC,)),
        ("AE-8", sta.STA13, (step.SEND_ASSOCIATE_RJ, step.START_ARTIM)),
        ("DT-1", sta.STA6, (step.SEND_DATA,)),
        ("DT-2", sta.STA6, (step.INDICATE_DATA,)),
        ("AR-1", sta.STA7, (step.SEND_RELEASE_RQ,)),
        ("AR-2", sta.STA8, (step.INDICATE_RELEASE,)),
        ("AR-3", sta.STA1, (step.CONFIRM_RELEASE, step.CLOSE)),
        ("AR-4", sta.STA13, (step.SEND_RELEASE_RP, step.START_ARTIM)),
        ("AR-5", sta.STA1, (step.STOP_ARTIM,)),
        ("AR-6", sta.STA7, (step.INDICATE_DATA,)),
        ("AR-7", sta.STA8, (step.SEND_DATA,)),
        ("AR-8", sta.STA9, (step.INDICATE_RELEASE,)),
        ("AR-8 acceptor", sta.STA10, (step.INDICATE_RELEASE,)),
        ("AR-9", sta.STA11, (step.SEND_RELEASE_RP,)),
        ("AR-10", sta.STA12, (step.CONFIRM_RELEASE,)),
        ("AA-1", sta.STA13, (step.SEND_USER_ABORT, step.START_ARTIM)),
        ("AA-2", sta.STA1, (step.STOP_ARTIM, step.CLOSE)),
        ("AA-3", sta.STA1, (step.INDICATE_PEER_ABORT, step.CLOSE)),
        ("AA-4", sta.STA1, (step.INDICATE_PROVIDER_ABORT,)),
        ("AA-5", sta.STA1, (step.STOP_ARTIM,)),
        ("AA-6", sta.STA13, ()),
        ("AA-7", sta.STA13, (step.SEND_PROVIDER_ABORT,)),
        ("AA-8", sta.STA13, (step.SEND_PROVIDER_ABORT, step.INDICATE_PROVIDER_ABORT, step.START_ARTIM)),
    )
    return {name: Action(name, steps, next_state) for name, next_state, steps in rows}


def _transitions() -> dict[tuple[Evt, State], str]:
    rows = [line.split() for line in _TABLE_9_10.strip().splitlines()[1:]]
    return {
        (Evt(int(row[0])), state): action
        for row in rows
        for state, action in zip(State, row[1:], strict=True)
        if action != "."
    }


ACTIONS = _actions()
TRANSITIONS = _transitions()

SENDING_STATES = frozenset(state for (evt, state) in TRANSITIONS if evt is Evt.P_DATA_REQUEST)
