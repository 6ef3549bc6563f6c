"""How asking a source ended: what is said of it, whether another attempt is worth it, who is to blame."""

from __future__ import annotations

from enum import StrEnum

from isocenter.dicom.scan_limits import ScanError
from isocenter.dimse.net.errors import (
    AssociationAborted,
    AssociationRejected,
    ConnectFailed,
    ContextNotAccepted,
    DimseFailure,
    DimseTimeout,
)
from isocenter.dimse.protocol import statuses
from isocenter.kit.errors import InvalidInput, IsocenterError

_REJECTED_TRANSIENT = 2  # PS3.8 §9.3.4


class Ended(StrEnum):
    ANSWERED = "answered"
    TIMED_OUT = "timed-out"
    REFUSED = "refused"  # the source, or our own bound on what it is asked, would not have it
    FAILED = "failed"
    NOT_ASKED = "not-asked"
    CANCELLED = "cancelled"


class SourceFailed(Exception):
    """``worth_retrying``: the next attempt may well succeed. ``blamed``: it counts against the source, which
    is left alone after some of those; a question that it does not support does not."""

    def __init__(
        self,
        ended: Ended,
        detail: str,
        *,
        remedy: str = "",
        worth_retrying: bool = False,
        blamed: bool = True,
    ) -> None:
        super().__init__(detail)
        self.ended = ended
        self.detail = detail
        self.remedy = remedy
        self.worth_retrying = worth_retrying
        self.blamed = blamed


def of_dimse(error: IsocenterError | ScanError) -> SourceFailed:
    """What went wrong with an association, as the failure of its source."""
    if isinstance(error, ScanError):
        return SourceFailed(Ended.FAILED, "it answered with something that is no data set")
    ended, worth_retrying, blamed = Ended.FAILED, False, True
    detail = error.detail
    match error:
        case DimseTimeout():
            ended = Ended.TIMED_OUT
        case ConnectFailed() | AssociationAborted():
            worth_retrying = True
        case AssociationRejected():
            ended, worth_retrying = Ended.REFUSED, error.reject.result == _REJECTED_TRANSIENT
        case ContextNotAccepted():
            ended = Ended.REFUSED
        case DimseFailure():
            worth_retrying = error.status == statuses.OUT_OF_RESOURCES
            blamed = worth_retrying
            detail = statuses.describe(error.status)  # the peer's comment may quote what was asked for
            if error.status == statuses.NOT_AUTHORIZED:
                ended = Ended.REFUSED
        case InvalidInput():
            blamed = False
        case _:
            pass
    return SourceFailed(ended, detail, remedy=error.remedy, worth_retrying=worth_retrying, blamed=blamed)


def of_status(status: int) -> SourceFailed:
    """An HTTP status that is no success, as the failure of a DICOMweb source (RFC 9110 §15)."""
    said = f"it answered {status}"
    if status in {401, 403}:
        return SourceFailed(
            Ended.REFUSED, f"{said}: it does not accept who we are", remedy="Correct its credentials here."
        )
    if status in {429, 502, 503, 504}:
        return SourceFailed(Ended.FAILED, f"{said}: it has too much to do", worth_retrying=True)
    if 300 <= status < 400:
        return SourceFailed(
            Ended.FAILED, f"{said}: it points elsewhere", remedy="Enter the address that it points to."
        )
    return SourceFailed(Ended.FAILED, said, blamed=status >= 500 or status == 404)
