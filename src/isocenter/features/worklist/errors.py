"""What is refused of workitems; ``says`` has the words that PS3.18 §11 wants the requester to read."""

from __future__ import annotations

from isocenter.kit.errors import Conflict, InvalidInput, NotFound

INCONSISTENT = "The submitted request is inconsistent with the current state of the Workitem."
NOT_CLAIMED = "The target URI did not reference a claimed Workitem."


class NoSuchWorkitem(NotFound):
    default_code = "no-such-workitem"

    def __init__(self) -> None:
        super().__init__(
            "There is no such workitem.", remedy="GET /dicom-web/workitems lists those that there are."
        )


class WorkitemExists(Conflict):
    default_code = "workitem-exists"

    def __init__(self) -> None:
        super().__init__(
            "There is a workitem with this UID already.",
            remedy="Leave the UID out: the server makes one.",
        )


class WrongState(Conflict):
    default_code = "workitem-state"

    def __init__(self, detail: str, *, says: str = INCONSISTENT, remedy: str = "") -> None:
        super().__init__(detail, remedy=remedy)
        self.says = says


class TransactionUidMissing(InvalidInput):
    default_code = "transaction-uid-missing"
    says = "The Transaction UID is missing."

    def __init__(self) -> None:
        super().__init__(
            "This needs the Transaction UID that the workitem was claimed with.",
            remedy="Send Transaction UID (0008,1195); whoever claims a workitem makes one up.",
        )


class TransactionUidIncorrect(InvalidInput):
    default_code = "transaction-uid-incorrect"
    says = "The Transaction UID is incorrect."

    def __init__(self) -> None:
        super().__init__(
            "The workitem was claimed with another Transaction UID.",
            remedy="Only who claimed it knows it; others may request that it be cancelled.",
        )
