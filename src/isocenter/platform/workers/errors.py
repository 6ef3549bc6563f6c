"""What becomes of work whose process does not come to an end as it should.

Somebody's bytes did that to a library, and they would do it again: a later try is no remedy, so these are
`Unsupported` rather than `Unavailable`.
"""

from __future__ import annotations

from isocenter.kit.errors import Unsupported


class WorkFailed(Unsupported):
    """The family; raise one of its children."""


class WorkCrashed(WorkFailed):
    default_code = "work-crashed"

    def __init__(self, status: int) -> None:
        what = f"signal {-status}" if status < 0 else f"status {status}"
        super().__init__(
            f"The library that was to do this ended its process ({what}).",
            remedy="Ask for the object as it is stored; tell the operator which one it is.",
        )


class WorkTimedOut(WorkFailed):
    default_code = "work-timed-out"

    def __init__(self, limit_s: float) -> None:
        super().__init__(
            f"The library that was to do this had not finished after {limit_s:g} s.",
            remedy="Ask for the object as it is stored, or for less of it at once.",
        )


class WorkOutOfMemory(WorkFailed):
    default_code = "work-out-of-memory"

    def __init__(self) -> None:
        super().__init__(
            "The library that was to do this wanted more memory than a worker may have.",
            remedy="Ask for the object as it is stored; the operator can raise --pixel-memory.",
        )
