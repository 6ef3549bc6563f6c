"""Two associations joined by a pretend wire, so that a test sees both sides of everything."""

from __future__ import annotations

from dataclasses import replace

from isocenter.dimse.protocol.association import Association, Role
from isocenter.dimse.protocol.events import DataFragment, Event
from isocenter.dimse.protocol.limits import Limits
from isocenter.dimse.protocol.negotiation import SupportedSyntax, negotiate
from isocenter.dimse.protocol.pdu import AssociateAccept, AssociateRequest, ProposedContext
from isocenter.dimse.protocol.user_information import UserInformation

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"

REQUEST = AssociateRequest(
    "SCP", "SCU", (ProposedContext(1, VERIFICATION, (IMPLICIT,)), ProposedContext(3, CT, (IMPLICIT,)))
)


def own(event: Event) -> Event:
    """Fragments live until the next feed: a test that keeps them copies them."""
    if isinstance(event, DataFragment):
        return DataFragment(event.context_id, memoryview(bytes(event.data)), event.is_last)
    return event


class Wire:
    """``requestor`` and ``acceptor``, with what each was told in ``heard``. ``chunk``: bytes per delivery."""

    def __init__(
        self, chunk: int = 1 << 20, limits: Limits | None = None, request: AssociateRequest = REQUEST
    ):
        self.requestor = Association(Role.REQUESTOR, limits or Limits())
        self.acceptor = Association(Role.ACCEPTOR, limits or Limits())
        self.heard: dict[Association, list[Event]] = {self.requestor: [], self.acceptor: []}
        self.chunk = chunk
        size = self.acceptor.limits.pdata_bytes_max
        self.request = replace(request, user_information=UserInformation(maximum_length=size))

    def establish(self) -> Wire:
        self.requestor.connect(self.request)
        self.acceptor.transport_opened(0)
        self.requestor.transport_opened(0)
        self.carry()
        supported = SupportedSyntax((IMPLICIT,))
        size = self.acceptor.limits.pdata_bytes_max
        self.acceptor.accept(
            AssociateAccept(
                "SCP",
                "SCU",
                negotiate(self.request.contexts, {}, otherwise=supported),
                UserInformation(maximum_length=size),
            )
        )
        self.carry()
        return self

    def carry(self) -> None:
        """Until nobody has anything left to say."""
        moved = True
        while moved:
            moved = False
            for one, other in ((self.requestor, self.acceptor), (self.acceptor, self.requestor)):
                data = b"".join(one.take_output())
                for start in range(0, len(data), self.chunk):
                    moved = True
                    events = other.feed(data[start : start + self.chunk], 0)
                    self.heard[other] += [own(event) for event in events]
                if one.closing and other.state != 1:
                    self.heard[other] += other.transport_closed(0)

    def data(self, association: Association) -> bytes:
        fragments = [e for e in self.heard[association] if isinstance(e, DataFragment)]
        return b"".join(bytes(e.data) for e in fragments)
