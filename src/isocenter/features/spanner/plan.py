"""Which sources are asked, in which order, for how long, and what that makes of the whole. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from isocenter.dicom.dictionary import tag_of
from isocenter.dicom.levels import Level
from isocenter.dicom.tags import STUDY_INSTANCE_UID
from isocenter.features.spanner.entries import Configuration, FailureStrategy, Mapped, Source, SourceType
from isocenter.features.spanner.question import Question
from isocenter.kit.errors import InvalidInput


class Skipped(StrEnum):
    """Why a source is not asked."""

    DISABLED = "disabled"
    RESTING = "resting"  # it failed too often, and is left alone for a while
    NEEDS_KEY = "needs-key"


@dataclass(frozen=True, slots=True)
class Condition:
    """How a source does: ``resting_s``: how long it is still left alone; ``median_s``: how long it took to
    answer of late, None: it has not been asked."""

    resting_s: float = 0.0
    median_s: float | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """``rank``: the standing of what it says, the most trusted 0. ``timeout_s`` is for all ``attempts``."""

    source: Source
    rank: int
    timeout_s: float
    attempts: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    source: Source
    why: Skipped
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """``trusted``: all sources, also those that are not asked, the most trusted first. ``steps`` in the order
    they are begun, ``at_once`` of them at a time. ``deadline_s`` counts from the question's arrival."""

    trusted: tuple[Source, ...]
    steps: tuple[Step, ...]
    left_out: tuple[LeftOut, ...]
    at_once: int
    deadline_s: float
    strategy: FailureStrategy


def plan(
    configuration: Configuration,
    sources: Sequence[Mapped],
    question: Question,
    conditions: Mapping[int, Condition],
) -> Plan:
    """Raises InvalidInput for a question that is too broad for the configuration, or that nobody is to be
    asked."""
    if configuration.enterprise_mode and not question.is_narrowed:
        raise InvalidInput(
            "The question asks every archive for everything.",
            code="question-too-broad",
            remedy="Give at least one key with a value, such as PatientID, AccessionNumber or StudyDate.",
        )
    if not sources:
        raise InvalidInput(
            f"The configuration {configuration.name} has no sources.",
            code="no-sources",
            remedy=f"Add one with POST /api/v1/config/spanner/{configuration.id}/sources/.",
        )
    trusted = sorted(sources, key=lambda one: (one.priority, one.source.name, one.source.id))
    left_out = [
        found
        for one in trusted
        if (found := _left_out(one.source, question, conditions.get(one.source.id, Condition())))
    ]
    silent = {one.source.id for one in left_out}
    steps = [
        _step(configuration, one, rank) for rank, one in enumerate(trusted) if one.source.id not in silent
    ]
    at_once = configuration.max_concurrent_sources or len(steps)
    if at_once < len(steps):
        steps.sort(key=lambda step: _turn(step, conditions.get(step.source.id, Condition())))
    return Plan(
        tuple(one.source for one in trusted),
        tuple(steps),
        tuple(left_out),
        at_once,
        max((step.timeout_s for step in steps), default=0.0),
        configuration.failure_strategy,
    )


def _step(configuration: Configuration, mapped: Mapped, rank: int) -> Step:
    timeout_s = mapped.timeout_override or configuration.timeout_seconds
    return Step(mapped.source, rank, timeout_s, 1 + configuration.retry_attempts)


def _turn(step: Step, condition: Condition) -> tuple[bool, float, int]:
    """Where not all are asked at once, the quick ones go first: a slow one keeps its place for long."""
    return condition.median_s is None, condition.median_s or 0.0, step.rank


def _left_out(source: Source, question: Question, condition: Condition) -> LeftOut | None:
    if not source.enabled:
        return LeftOut(source, Skipped.DISABLED, "it is switched off")
    if condition.resting_s > 0:
        return LeftOut(
            source,
            Skipped.RESTING,
            f"it failed several times in a row and is left alone for another {condition.resting_s:.0f} s",
            remedy=f"GET /api/v1/sources/{source.id}/health tells what is wrong.",
        )
    if _is_asked_by_level(source, question) and not question.matches.get(STUDY_INSTANCE_UID, "").strip(" *"):
        return LeftOut(
            source,
            Skipped.NEEDS_KEY,
            f"it is asked level by level, and no study was named to look for {question.level} in",
            remedy="Give StudyInstanceUID; or say of the source that it takes relational queries.",
        )
    needed = source.quirks.needs.get(question.level, ())
    if needed and not any(question.matches.get(tag_of(keyword), "").strip(" *") for keyword in needed):
        return LeftOut(
            source,
            Skipped.NEEDS_KEY,
            f"it answers at {question.level} level only if it is given {' or '.join(needed)}",
            remedy=f"Give {' or '.join(needed)}.",
        )
    return None


def _is_asked_by_level(source: Source, question: Question) -> bool:
    """C-FIND goes down from the study unless something else was negotiated (PS3.4 C.4.1.2.1)."""
    by_find = source.type in {SourceType.DIMSE, SourceType.MODALITY}
    return by_find and not source.quirks.relational and question.level in {Level.SERIES, Level.INSTANCE}
