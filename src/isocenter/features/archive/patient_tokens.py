"""Whose token is it? Found by computing the tokens of an organisation's patients, page by page: no table of
tokens exists that could be lost or stolen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from isocenter.platform.db import Database, Row, Sql, Work
from isocenter.platform.security import Action, EventOutcome, Recorder, Subject, event_of

_PAGE = 1000

PAGE_OF_PATIENTS = Sql("""
    SELECT id, issuer, patient_id FROM patient
    WHERE organization_id = :organization_id AND id > :after ORDER BY id LIMIT :limit
""")


@dataclass(frozen=True, slots=True)
class ResolvedPatient:
    issuer: str
    patient_id: str


async def resolve_token(
    database: Database,
    subject: Subject,
    token: str,
    token_of: Callable[[int, str, str], str],
    recorder: Recorder,
) -> ResolvedPatient | None:
    """The patient of the subject's organisation behind ``token``; None when it has none.

    Recorded, also in vain, and only answered once that is durable.
    """
    found = await _find(database, subject.organization_id, token, token_of)
    outcome = EventOutcome.SUCCESS if found else EventOutcome.FAILED
    recorder.record(
        event_of(subject, Action.READ, outcome=outcome, resource_kind="log-token", resource_id=token)
    )
    await recorder.settled()
    return found


async def _find(
    database: Database, organization_id: int, token: str, token_of: Callable[[int, str, str], str]
) -> ResolvedPatient | None:
    after = 0
    while rows := await database.read(_page, organization_id, after):
        for row in rows:
            if token_of(organization_id, row["issuer"], row["patient_id"]) == token:
                return ResolvedPatient(row["issuer"], row["patient_id"])
        after = rows[-1]["id"]
    return None


def _page(organization_id: int, after: int) -> Work[list[Row]]:
    return (yield PAGE_OF_PATIENTS(organization_id=organization_id, after=after, limit=_PAGE))
