"""What can go wrong with an association that we opened, and the one exception that a handler raises.

ConnectFailed         nobody answers at that address (or TLS could not be agreed)
AssociationRejected   the peer refused; ``reject`` holds result, source and reason
AssociationAborted    the association ended before the answer came
DimseTimeout          the peer is there and says nothing
ContextNotAccepted    the peer did not accept that SOP class with that transfer syntax
DimseFailure          an operation was answered with a failure status; raised in a handler of ours,
                      it is the answer
"""

from __future__ import annotations

from isocenter.dimse.protocol import rejections, statuses
from isocenter.dimse.protocol.pdu import AssociateReject
from isocenter.kit.errors import Unavailable, Unsupported


class ConnectFailed(Unavailable):
    default_code = "dimse-connect-failed"


class AssociationRejected(Unavailable):
    default_code = "dimse-association-rejected"

    def __init__(self, reject: AssociateReject, called_ae_title: str) -> None:
        super().__init__(
            f"{called_ae_title} {rejections.describe(reject)}",
            remedy=_REMEDIES.get((reject.source, reject.reason), ""),
        )
        self.reject = reject


class AssociationAborted(Unavailable):
    default_code = "dimse-association-aborted"


class DimseTimeout(Unavailable):
    default_code = "dimse-timeout"


class ContextNotAccepted(Unsupported):
    default_code = "dimse-context-not-accepted"


class DimseFailure(Unavailable):
    default_code = "dimse-failure"

    def __init__(self, status: int, comment: str = "", offending_elements: tuple[int, ...] = ()) -> None:
        super().__init__(statuses.describe(status) + (f" ({comment})" if comment else ""))
        self.status = status
        self.comment = comment
        self.offending_elements = offending_elements


_REMEDIES = {
    (rejections.SERVICE_USER, 3): "Register our AE title with that system, or correct ours.",
    (rejections.SERVICE_USER, 7): "Correct the AE title of that system in its settings here.",
    (rejections.SERVICE_PROVIDER_PRESENTATION, 1): "Try again later.",
    (rejections.SERVICE_PROVIDER_PRESENTATION, 2): "Open fewer associations at once, or try again later.",
}
