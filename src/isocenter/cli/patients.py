"""``isocenter patient``: merge patients and take it back, other IDs, links, contradictions, corrections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import orjson
import typer

from isocenter.cli.account_commands import InOrganization, Json, command_group
from isocenter.cli.deeds import Deed, do_in_database
from isocenter.cli.flags import with_settings
from isocenter.cli.opened import named
from isocenter.cli.patient_texts import conflict_line, record_lines
from isocenter.cli.witness import Details
from isocenter.kit.errors import InvalidInput
from isocenter.platform.security import Action, Subject
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.features.archive.patients.conflicts import Decision, PatientConflict, State
    from isocenter.features.archive.patients.identity import PatientIdentity
    from isocenter.features.archive.patients.merges import Moved
    from isocenter.features.archive.patients.records import PatientRecord
    from isocenter.features.archive.patients.services import Patients
    from isocenter.platform.db import Database

T = TypeVar("T")

app = command_group("Merge patients and take it back; change IDs; link; settle contradictions; correct.")
PatientId = Annotated[str, typer.Argument(metavar="PATIENT_ID", help="The Patient ID.")]
OtherId = Annotated[str, typer.Argument(metavar="OTHER_ID", help="The other Patient ID.")]
Issuer = Annotated[str, typer.Option("--issuer", help="Issuer of the first Patient ID, where it has one.")]
OtherIssuer = Annotated[
    str, typer.Option("--other-issuer", help="Issuer of the second Patient ID, where it has one.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why, for whoever asks later.")]
_STATES = ("open", "kept", "taken")
_DECISIONS = ("keep", "take")


@app.command()
@with_settings
def show(
    loaded: LoadedSettings,
    patient_id: PatientId,
    issuer: Issuer = "",
    org: InOrganization = "",
    as_json: Json = False,
) -> None:
    """Show one patient: demographics, merges, links, open contradictions."""
    patient = _identity(patient_id, issuer)

    async def run(patients: Patients, subject: Subject) -> PatientRecord:
        return await patients.records.get(subject.organization_id, patient)

    record = _do(loaded, org, Deed(Action.READ, "patient", patient_id, {"issuer": issuer}), run)
    if as_json:
        typer.echo(orjson.dumps(record, option=orjson.OPT_INDENT_2))
    else:
        typer.echo("\n".join(record_lines(record, named(org))))


@app.command()
@with_settings
def merge(
    loaded: LoadedSettings,
    source: Annotated[str, typer.Argument(metavar="PATIENT_ID", help="Who goes.")],
    target: Annotated[str, typer.Argument(metavar="OTHER_ID", help="Who is left.")],
    *,
    issuer: Issuer = "",
    other_issuer: OtherIssuer = "",
    reason: Reason = "",
    org: InOrganization = "",
    as_json: Json = False,
) -> None:
    """From now on the first patient is the second one: its studies, and whatever will be sent of it."""
    gone, left = _identity(source, issuer), _identity(target, other_issuer)

    async def run(patients: Patients, subject: Subject) -> Moved:
        by = subject.called
        return await patients.merges.merge(subject.organization_id, gone, left, by=by, reason=reason)

    moved = _do(
        loaded, org, Deed(Action.CHANGE, "patient", source, _details("merge", gone, left, reason)), run
    )
    _say_moved(moved, as_json, f"Undo: isocenter patient unmerge {source}{_of(issuer)}{named(org)}")


@app.command()
@with_settings
def unmerge(
    loaded: LoadedSettings,
    patient_id: PatientId,
    issuer: Issuer = "",
    org: InOrganization = "",
    as_json: Json = False,
) -> None:
    """Undo a merge, or a change of ID: name who was merged, or the old ID."""
    patient = _identity(patient_id, issuer)

    async def run(patients: Patients, subject: Subject) -> Moved:
        return await patients.merges.unmerge(subject.organization_id, patient)

    moved = _do(loaded, org, Deed(Action.CHANGE, "patient", patient_id, _details("unmerge", patient)), run)
    _say_moved(moved, as_json, "")


@app.command("change-id")
@with_settings
def change_id(
    loaded: LoadedSettings,
    patient_id: PatientId,
    new_id: Annotated[str, typer.Argument(metavar="NEW_ID", help="The Patient ID from now on.")],
    *,
    issuer: Issuer = "",
    new_issuer: Annotated[str, typer.Option("--new-issuer", help="Issuer of the new Patient ID.")] = "",
    reason: Reason = "",
    org: InOrganization = "",
    as_json: Json = False,
) -> None:
    """Give a patient another ID; the old one goes on finding it."""
    patient, to = _identity(patient_id, issuer), _identity(new_id, new_issuer)

    async def run(patients: Patients, subject: Subject) -> Moved:
        by = subject.called
        return await patients.merges.change_id(subject.organization_id, patient, to, by=by, reason=reason)

    moved = _do(
        loaded,
        org,
        Deed(Action.CHANGE, "patient", patient_id, _details("change-id", patient, to, reason)),
        run,
    )
    _say_moved(moved, as_json, f"Undo: isocenter patient unmerge {patient_id}{_of(issuer)}{named(org)}")


@app.command()
@with_settings
def link(
    loaded: LoadedSettings,
    patient_id: PatientId,
    other_id: OtherId,
    *,
    issuer: Issuer = "",
    other_issuer: OtherIssuer = "",
    org: InOrganization = "",
    as_json: Json = False,
) -> None:
    """Say that two patients are one person; both stay, and each shows the other."""
    _link_or_unlink(loaded, "link", (patient_id, issuer), (other_id, other_issuer), org=org, as_json=as_json)


@app.command()
@with_settings
def unlink(
    loaded: LoadedSettings,
    patient_id: PatientId,
    other_id: OtherId,
    *,
    issuer: Issuer = "",
    other_issuer: OtherIssuer = "",
    org: InOrganization = "",
    as_json: Json = False,
) -> None:
    """Take back that two patients are one person."""
    _link_or_unlink(
        loaded, "unlink", (patient_id, issuer), (other_id, other_issuer), org=org, as_json=as_json
    )


@app.command()
@with_settings
def correct(
    loaded: LoadedSettings,
    patient_id: PatientId,
    *,
    name: Annotated[str, typer.Option("--name", help="Family^Given^Middle^Prefix^Suffix.")] = "",
    birth_date: Annotated[str, typer.Option("--birth-date", help="YYYYMMDD.")] = "",
    sex: Annotated[str, typer.Option("--sex", help="M, F or O.")] = "",
    note: Annotated[str, typer.Option("--note", help="How you know.")] = "",
    issuer: Issuer = "",
    org: InOrganization = "",
    as_json: Json = False,
) -> None:
    """Set a patient's name, birth date or sex, whatever its objects say."""
    patient = _identity(patient_id, issuer)
    given = {"name": name, "birth_date": birth_date, "sex": sex}

    async def run(patients: Patients, subject: Subject) -> None:
        by = subject.called
        await patients.conflicts.correct(subject.organization_id, patient, **given, by=by, note=note)

    told = {**_details("correct", patient, None, note), **{key: text for key, text in given.items() if text}}
    _do(loaded, org, Deed(Action.CHANGE, "patient", patient_id, told), run)
    done = sorted(key for key, text in given.items() if text)
    typer.echo(orjson.dumps({"corrected": done}) if as_json else f"Corrected: {', '.join(done)}.")


@app.command()
@with_settings
def conflicts(
    loaded: LoadedSettings,
    *,
    patient_id: Annotated[
        str, typer.Option("--patient", metavar="PATIENT_ID", help="Of this patient only.")
    ] = "",
    issuer: Annotated[str, typer.Option("--issuer", help="Issuer of its Patient ID, where it has one.")] = "",
    state: Annotated[str, typer.Option("--state", help="open, kept or taken.")] = "open",
    after: Annotated[
        str, typer.Option("--after", metavar="ID", help="Only conflicts after the one with this id.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many.")] = 100,
    org: InOrganization = "",
    as_json: Json = False,
) -> None:
    """List what objects of one patient disagree about, in the order it was seen."""
    chosen: State = _one_of(state, _STATES)  # type: ignore[assignment]

    async def run(patients: Patients, subject: Subject) -> list[PatientConflict]:
        return await patients.conflicts.list(
            subject.organization_id, patient=patient, state=chosen, after=after, limit=limit
        )

    patient = _identity(patient_id, issuer) if patient_id else None
    told: Details = {"state": state, "limit": limit}
    if patient is not None:
        told = {**told, "patient": patient_id, "issuer": issuer}
    found = _do(loaded, org, Deed(Action.READ, "patient-conflict", "", told), run)
    if as_json:
        typer.echo(orjson.dumps({"conflicts": found}, option=orjson.OPT_INDENT_2))
        return
    for one in found:
        typer.echo(conflict_line(one))
    if not found:
        typer.echo(f"No conflict is {state}.")
    elif len(found) == limit:
        typer.echo(f"There may be more: --after {found[-1].id}")
    elif state == "open":
        typer.echo(f"Settle one with: isocenter patient settle ID keep|take{named(org)}")


@app.command()
@with_settings
def settle(
    loaded: LoadedSettings,
    conflict_id: Annotated[
        str, typer.Argument(metavar="ID", help="The conflict's id, as the list shows it.")
    ],
    decision: Annotated[
        str, typer.Argument(metavar="keep|take", help="The patient's value, or the other one.")
    ],
    *,
    note: Annotated[str, typer.Option("--note", help="How you know.")] = "",
    org: InOrganization = "",
    as_json: Json = False,
) -> None:
    """Say which of two values is the patient's. The other one asks nobody again."""
    chosen: Decision = _one_of(decision, _DECISIONS)  # type: ignore[assignment]

    async def run(patients: Patients, subject: Subject) -> PatientConflict:
        by = subject.called
        await patients.conflicts.settle(subject.organization_id, conflict_id, chosen, by=by, note=note)
        return await patients.conflicts.get(subject.organization_id, conflict_id)

    told: Details = {"settled": decision, "why": note}
    settled = _do(loaded, org, Deed(Action.CHANGE, "patient-conflict", conflict_id, told), run)
    if as_json:
        typer.echo(orjson.dumps(settled, option=orjson.OPT_INDENT_2))
    else:
        typer.echo(f"Conflict {settled.id} is settled: {settled.state}.")


def _link_or_unlink(
    loaded: LoadedSettings,
    doing: str,
    first: tuple[str, str],
    second: tuple[str, str],
    *,
    org: str,
    as_json: bool,
) -> None:
    patient, other = _identity(*first), _identity(*second)

    async def run(patients: Patients, subject: Subject) -> None:
        if doing == "link":
            by = subject.called
            await patients.records.link(subject.organization_id, patient, other, by=by)
        else:
            await patients.records.unlink(subject.organization_id, patient, other)

    _do(loaded, org, Deed(Action.CHANGE, "patient", patient.patient_id, _details(doing, patient, other)), run)
    typer.echo(orjson.dumps({"linked": doing == "link"}) if as_json else f"{doing.capitalize()}ed.")


def _do(loaded: LoadedSettings, org: str, deed: Deed, run: Callable[[Patients, Subject], Awaitable[T]]) -> T:
    async def in_database(database: Database, subject: Subject) -> T:
        from isocenter.features.archive.patients.services import patients_of
        from isocenter.kit.clock import SystemClock

        return await run(patients_of(database, SystemClock()), subject)

    return do_in_database(loaded, org, deed, in_database)


def _identity(patient_id: str, issuer: str) -> PatientIdentity:
    from isocenter.features.archive.patients.identity import identity_asked_for

    return identity_asked_for(patient_id, issuer)


def _details(
    doing: str, patient: PatientIdentity, other: PatientIdentity | None = None, why: str = ""
) -> dict[str, str]:
    told = {"doing": doing, "issuer": patient.issuer}
    if other is not None:
        told |= {"other": other.patient_id, "other_issuer": other.issuer}
    return told | ({"why": why} if why else {})


def _one_of(text: str, allowed: tuple[str, ...]) -> str:
    if text not in allowed:
        raise InvalidInput(f"{text!r} is none of {', '.join(allowed)}.")
    return text


def _say_moved(moved: Moved, as_json: bool, undo: str) -> None:
    if as_json:
        typer.echo(orjson.dumps({"studies": moved.studies}))
        return
    count = len(moved.studies)
    typer.echo(
        f"{count} {'study has' if count == 1 else 'studies have'} another patient now. {undo}".rstrip()
    )


def _of(issuer: str) -> str:
    return f" --issuer {issuer!r}" if issuer else ""
