"""What a check says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from isocenter.platform.settings import Settings


class Verdict(StrEnum):
    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"  # could not be told here; no failure


@dataclass(frozen=True, slots=True)
class Finding:
    """``says`` is one sentence on what is; ``remedy`` on what to do, where something is to be done."""

    name: str
    verdict: Verdict
    says: str
    remedy: str = ""


Check = Callable[[Settings], Iterable[Finding]]


def good(name: str, says: str) -> Finding:
    return Finding(name, Verdict.GOOD, says)


def bad(name: str, says: str, remedy: str) -> Finding:
    return Finding(name, Verdict.BAD, says, remedy)


def unknown(name: str, says: str, remedy: str = "") -> Finding:
    return Finding(name, Verdict.UNKNOWN, says, remedy)
