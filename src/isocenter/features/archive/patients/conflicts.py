"""What objects of one patient disagree about, and what a person says of it; demographics set by hand.

A value that was given up is remembered as settled: objects which still tell it ask nobody again (MISSION A1).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from isocenter.dicom.levels import Level
from isocenter.features.archive import changes, queries
from isocenter.features.archive.filing import stripes
from isocenter.features.archive.indexed_values import PATIENT_NAME, ValueRows
from isocenter.features.archive.merge import fragments_by_tag, is_empty
from isocenter.features.archive.patients import queries as statements
from isocenter.features.archive.patients.demographics import BIRTH_DATE, SEX, Demographic, of_line, typed
from isocenter.features.archive.patients.identity import PatientIdentity
from isocenter.features.archive.patients.merges import CHANGED, behind, below, known, living
from isocenter.features.archive.said import Said, check_reason
from isocenter.features.archive.usage import Growth
from isocenter.kit.clock import Clock, microseconds
from isocenter.kit.errors import Busy, Conflict, InvalidInput, NotFound
from isocenter.platform.db import Database, Row, Work

State = Literal["open", "kept", "taken"]
Decision = Literal["keep", "take"]
_ID_SHOWN = 64
_STATES: dict[Decision, State] = {"keep": "kept", "take": "taken"}


@dataclass(frozen=True, slots=True)
class PatientConflict:
    """``kept`` and ``other`` are the attribute as DICOM JSON: patient data. ``sop_instance_uid`` told the
    other value; it is empty where a person gave a value up."""

    id: str
    patient: PatientIdentity
    tag: str
    kept: dict[str, Any]
    other: dict[str, Any]
    sop_instance_uid: str
    seen_at_us: int
    state: State
    settled_at_us: int | None
    settled_by: str
    settled_note: str


class PatientConflicts:
    """Of all organisations."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def list(
        self,
        organization_id: int,
        *,
        patient: PatientIdentity | None = None,
        state: State = "open",
        after: str = "",
        limit: int = 100,
    ) -> list[PatientConflict]:
        """In the order they were seen, after the one with id ``after``; of all patients, or of one and of
        whom were merged into it. Raises NotFound for another id and an unknown patient."""
        return await self._database.read(_list, organization_id, patient, state, after, limit)

    async def get(self, organization_id: int, conflict_id: str) -> PatientConflict:
        """Raises NotFound."""
        return _conflict(await self._database.read(_get, organization_id, conflict_id))

    async def settle(
        self, organization_id: int, conflict_id: str, decision: Decision, *, by: str = "", note: str = ""
    ) -> None:
        """Keep the patient's value, or take the other one.

        What is taken of a patient who was merged, or got another ID, is that of who is left too, where that
        one had the same value. Raises NotFound, Conflict when it is settled already, InvalidInput for a note
        that cannot be kept.
        """
        check_reason(note)
        row = await self._database.read(_get, organization_id, conflict_id)
        said = Said(by, note, self._now_us())
        await self._database.write(_settle, organization_id, row, _STATES[decision], said)

    async def correct(
        self,
        organization_id: int,
        patient: PatientIdentity,
        *,
        name: str = "",
        birth_date: str = "",
        sex: str = "",
        by: str = "",
        note: str = "",
    ) -> None:
        """Set what is given, as it is from now on for all of the patient's studies.

        Raises NotFound, Conflict where the patient was merged away, InvalidInput for what is no name or date.
        """
        check_reason(note)
        given = ((PATIENT_NAME, name), (BIRTH_DATE, birth_date), (SEX, sex))
        chosen = [typed(tag, text) for tag, text in given if text]
        if not chosen:
            raise InvalidInput(
                "Nothing is to be corrected.",
                code="invalid-demographics",
                remedy="Give a name, a birth date or a sex.",
            )
        said = Said(by, note, self._now_us())
        await self._database.write(_correct, organization_id, patient, chosen, said)

    def _now_us(self) -> int:
        return microseconds(self._clock.now())


def _list(
    organization_id: int, patient: PatientIdentity | None, state: State, after: str, limit: int
) -> Work[list[PatientConflict]]:
    place = 0
    if after:
        rows = yield statements.FIND_PLACE_OF_CONFLICT(organization_id=organization_id, public_id=after)
        if not rows:
            raise _unknown(after)
        place = rows[0]["id"]
    page = {"organization_id": organization_id, "state": state, "after": place, "limit": limit}
    if patient is None:
        rows = yield statements.LIST_CONFLICTS(**page)
    else:
        pks = yield from _pks_of(organization_id, patient)
        rows = yield statements.LIST_CONFLICTS_OF(**page, patient_pks=pks)
    return [_conflict(row) for row in rows]


def _pks_of(organization_id: int, patient: PatientIdentity) -> Work[list[int]]:
    row = yield from known(organization_id, patient)
    merged = yield from behind(organization_id, row["survivor_pk"] or row["id"])
    return [row["id"], *(one["id"] for one in below(row["id"], merged))]


def _get(organization_id: int, conflict_id: str) -> Work[Row]:
    rows = yield statements.FIND_CONFLICT(organization_id=organization_id, public_id=conflict_id)
    if not rows:
        raise _unknown(conflict_id)
    return rows[0]


def _settle(organization_id: int, read: Row, state: State, said: Said) -> Work[None]:
    """``read``: the conflict as it was before; by it is known whom to lock."""
    conflict_id = read["public_id"]
    patient_ids = {one for one in (read["patient_id"], read["survivor_id"]) if one}
    yield queries.LOCK_ENTITIES(stripes=stripes(organization_id, set(), patient_ids))
    conflict = yield from _get(organization_id, conflict_id)
    if conflict["survivor_pk"] != read["survivor_pk"]:
        raise Busy("The patient is just being merged; try again.", retry_after_s=1)
    if not (yield from _close(organization_id, conflict_id, state, said)):
        raise Conflict(f"Conflict {conflict_id} was settled before.", code="already-settled")
    if state == "kept":
        return
    taken, kept = of_line(conflict["other"]), of_line(conflict["kept"])
    if conflict["survivor_pk"] is not None:  # locked first, as by whoever files objects
        rows = yield queries.LOCK_PATIENT_BY_PK(organization_id=organization_id, id=conflict["survivor_pk"])
        if rows and rows[0][kept.column] == kept.key:
            yield from _set(organization_id, conflict["survivor_pk"], [taken], said)
    yield from _set(organization_id, conflict["patient_pk"], [taken], said)


def _close(organization_id: int, conflict_id: str, state: State, said: Said) -> Work[bool]:
    rows = yield statements.SETTLE_CONFLICT(
        organization_id=organization_id,
        public_id=conflict_id,
        state=state,
        now_us=said.now_us,
        settled_by=said.by,
        note=said.reason,
    )
    return bool(rows)


def _correct(
    organization_id: int, patient: PatientIdentity, chosen: Sequence[Demographic], said: Said
) -> Work[None]:
    yield queries.LOCK_ENTITIES(stripes=stripes(organization_id, set(), {patient.patient_id}))
    row = yield from living(organization_id, patient)
    yield from _set(organization_id, row["id"], chosen, said)


def _set(organization_id: int, patient_pk: int, chosen: Sequence[Demographic], said: Said) -> Work[None]:
    """The patient's row with what was chosen: columns, lines, rows to match on, and what was given up."""
    rows = yield queries.LOCK_PATIENT_BY_PK(organization_id=organization_id, id=patient_pk)
    if not rows:
        raise NotFound("There is no such patient here any more.", code="no-such-patient")
    by_tag = fragments_by_tag(rows[0]["fragments"])
    columns = {name: rows[0][name] for name in ("name_key", "birth_date", "sex")}
    value_rows = ValueRows(organization_id)
    for one in chosen:
        given_up = by_tag.get(one.tag, "")
        by_tag[one.tag] = one.fragment
        columns[one.column] = one.key
        yield statements.REMOVE_PATIENT_VALUES(
            organization_id=organization_id,
            patient_pk=patient_pk,
            paths=[f"{one.tag:08X}", f"{one.tag:08X}~"],
        )
        value_rows.add(Level.PATIENT, patient_pk, {one.tag: one.values})
        yield from _remember(organization_id, patient_pk, one, given_up, said)
    yield statements.CORRECT_PATIENT(
        organization_id=organization_id,
        id=patient_pk,
        **columns,
        fragments="\n".join(line for _, line in sorted(by_tag.items())),
        now_us=said.now_us,
    )
    yield from value_rows.flush()
    yield from _tell(organization_id, patient_pk, said.now_us)


def _remember(
    organization_id: int, patient_pk: int, chosen: Demographic, given_up: str, said: Said
) -> Work[None]:
    """Open questions about the attribute are now about the chosen value; that of the value given up, and of
    the chosen one itself, is answered."""
    of_attribute = {
        "organization_id": organization_id,
        "patient_pk": patient_pk,
        "tag": f"{chosen.tag:08X}",
    }
    for conflict in (yield statements.FIND_OPEN_CONFLICTS(**of_attribute)):
        if of_line(conflict["other"]).key == chosen.key:
            yield from _close(organization_id, conflict["public_id"], "taken", said)
    yield statements.KEEP_NOW(**of_attribute, kept=chosen.fragment)
    if given_up and not is_empty(given_up) and of_line(given_up).key != chosen.key:
        yield statements.GIVE_UP_VALUE(
            **of_attribute,
            public_id=secrets.token_hex(16),
            kept=chosen.fragment,
            other=given_up,
            now_us=said.now_us,
            settled_by=said.by,
            note=said.reason,
        )


def _tell(organization_id: int, patient_pk: int, now_us: int) -> Work[None]:
    rows = yield statements.FIND_STUDIES_OF_PATIENT(organization_id=organization_id, patient_pk=patient_pk)
    told = [changes.Told(CHANGED, row["study_instance_uid"], "", "", {}) for row in rows]
    if told:
        yield from changes.append(organization_id, told, Growth(), now_us)


def _conflict(row: Row) -> PatientConflict:
    return PatientConflict(
        id=row["public_id"],
        patient=PatientIdentity(row["patient_id"], row["issuer"]),
        tag=row["tag"],
        kept=_attribute(row["kept"]),
        other=_attribute(row["other"]),
        sop_instance_uid=row["sop_instance_uid"],
        seen_at_us=row["seen_at_us"],
        state=row["state"],
        settled_at_us=row["settled_at_us"],
        settled_by=row["settled_by"],
        settled_note=row["settled_note"],
    )


def _attribute(line: str) -> dict[str, Any]:
    attribute: dict[str, Any] = orjson.loads("{" + line + "}").popitem()[1] if line else {}
    return attribute


def _unknown(conflict_id: str) -> NotFound:
    return NotFound(f"There is no conflict {conflict_id[:_ID_SHOWN]}.", code="no-such-conflict")
