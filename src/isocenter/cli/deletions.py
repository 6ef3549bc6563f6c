"""``isocenter deletion``: delete a patient or a study, see what was deleted, restore or purge it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, TypeVar

import orjson
import typer

from isocenter.cli.account_commands import InOrganization, Json, command_group
from isocenter.cli.deeds import Deed, do_in_archive, do_in_database
from isocenter.cli.flags import with_settings
from isocenter.cli.opened import moment, named
from isocenter.cli.texts import counted, plain, value_text
from isocenter.cli.witness import Details
from isocenter.kit.errors import InvalidInput
from isocenter.kit.sizes import format_bytes
from isocenter.platform.security import Action, Subject
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.app.archive import Archive
    from isocenter.features.archive.deletion.deleting import Deleted
    from isocenter.features.archive.deletion.deletions import Deletion, Deletions, State, Waiting
    from isocenter.features.archive.deletion.restoring import NotRestored, Restored
    from isocenter.platform.db import Database

T = TypeVar("T")

app = command_group("Delete a patient or a study; see what was deleted, restore it, purge it.")
DeletionId = Annotated[str, typer.Argument(metavar="ID", help="The deletion's id, as the list shows it.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for whoever asks later.")]
_STATES = ("waiting", "restored", "purged")
_KIND = "deletion"
_LISTED_MAX = 20


@app.command("list")
@with_settings
def list_(
    loaded: LoadedSettings,
    *,
    state: Annotated[str, typer.Option("--state", help="waiting, restored or purged.")] = "waiting",
    after: Annotated[
        str, typer.Option("--after", metavar="ID", help="Only deletions after the one with this id.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many.")] = 100,
    org: InOrganization = "",
    as_json: Json = False,
) -> None:
    """List what was deleted, oldest first, and until when it can be restored."""
    if state not in _STATES:
        raise InvalidInput(f"{state!r} is no state of a deletion.", remedy=f"Use {', '.join(_STATES)}.")
    chosen: State = state  # type: ignore[assignment]

    async def run(deletions: Deletions, subject: Subject) -> tuple[list[Deletion], Waiting]:
        found = await deletions.list(subject.organization_id, state=chosen, after=after, limit=limit)
        return found, await deletions.waiting(subject.organization_id)

    found, waiting = _do(loaded, org, Deed(Action.READ, _KIND, "", {"state": state, "limit": limit}), run)
    if as_json:
        typer.echo(orjson.dumps({"waiting": asdict(waiting), "deletions": found}, option=orjson.OPT_INDENT_2))
        return
    for one in found:
        typer.echo(_line(one))
    if not found:
        typer.echo(f"No deletion is {state}.")
    elif len(found) == limit:
        typer.echo(f"There may be more: --after {found[-1].id}")
    typer.echo(
        f"{counted(waiting.objects, 'object')}, {format_bytes(waiting.bytes)}, can be restored: "
        f"isocenter deletion restore ID{named(org)}"
    )


@app.command()
@with_settings
def show(
    loaded: LoadedSettings, deletion_id: DeletionId, org: InOrganization = "", as_json: Json = False
) -> None:
    """Show one deletion: whose, what, by whom, why, until when it can be restored."""

    async def run(deletions: Deletions, subject: Subject) -> Deletion:
        return await deletions.get(subject.organization_id, deletion_id)

    _say(_do(loaded, org, Deed(Action.READ, _KIND, deletion_id, {}), run), as_json, named(org))


@app.command()
@with_settings
def study(
    loaded: LoadedSettings,
    study_instance_uid: Annotated[str, typer.Argument(metavar="STUDY", help="Study Instance UID.")],
    *,
    series: Annotated[str, typer.Option("--series", help="Only this series of it.")] = "",
    instance: Annotated[str, typer.Option("--instance", help="Only this instance of the series.")] = "",
    reason: Reason = "",
    org: InOrganization = "",
    as_json: Json = False,
) -> None:
    """Delete a study, one of its series, or one instance."""
    if instance and not series:
        raise InvalidInput("An instance needs its series.", remedy="Give --series, too.")

    async def run(deletions: Deletions, subject: Subject) -> Deleted:
        from isocenter.features.archive.deletion.deleting import Scope

        scope = Scope(study_instance_uid, series, instance)
        return await deletions.delete(subject.organization_id, scope, by=subject.called, reason=reason)

    details: Details = {"series": series, "instance": instance, "why": reason}
    deleted = _do(loaded, org, Deed(Action.DELETE, _KIND, study_instance_uid, details), run)
    _say_deleted(deleted, as_json, named(org))


@app.command()
@with_settings
def patient(
    loaded: LoadedSettings,
    patient_id: Annotated[str, typer.Argument(metavar="PATIENT_ID", help="The Patient ID.")],
    *,
    issuer: Annotated[str, typer.Option("--issuer", help="Issuer of the Patient ID, where it has one.")] = "",
    reason: Reason = "",
    org: InOrganization = "",
    as_json: Json = False,
) -> None:
    """Delete all studies of a patient."""

    async def run(deletions: Deletions, subject: Subject) -> Deleted:
        from isocenter.features.archive.patients.identity import identity_asked_for

        identity = identity_asked_for(patient_id, issuer)
        return await deletions.delete_patient(
            subject.organization_id, identity, by=subject.called, reason=reason
        )

    details: Details = {"what": "patient", "issuer": issuer, "why": reason}
    _say_deleted(_do(loaded, org, Deed(Action.DELETE, _KIND, patient_id, details), run), as_json, named(org))


@app.command()
@with_settings
def restore(
    loaded: LoadedSettings, deletion_id: DeletionId, org: InOrganization = "", as_json: Json = False
) -> None:
    """Bring back what was deleted. What was sent again meanwhile stays as it was sent."""

    async def run(archive: Archive, subject: Subject) -> Restored:
        by = subject.called
        return await archive.restoring.restore(subject.organization_id, deletion_id, by=by)

    restored = do_in_archive(
        loaded, org, Deed(Action.CHANGE, _KIND, deletion_id, {"settled": "restored"}), run
    )
    if as_json:
        typer.echo(orjson.dumps(asdict(restored), option=orjson.OPT_INDENT_2))
        return
    typer.echo(f"{counted(restored.objects, 'object')} restored.")
    for one in restored.waiting[:_LISTED_MAX]:
        typer.echo(_obstacle(one))
    if len(restored.waiting) > _LISTED_MAX:
        typer.echo(f"  … and {len(restored.waiting) - _LISTED_MAX} more (--json lists all)")
    if restored.waiting:
        typer.echo("These go on waiting until the grace is over; restoring again tries them again.")


@app.command()
@with_settings
def purge(
    loaded: LoadedSettings, deletion_id: DeletionId, org: InOrganization = "", as_json: Json = False
) -> None:
    """Let go of what was deleted, for good; the sweep takes the bytes."""

    async def run(deletions: Deletions, subject: Subject) -> Deletion:
        return await deletions.purge(subject.organization_id, deletion_id, by=subject.called)

    purged = _do(loaded, org, Deed(Action.DELETE, _KIND, deletion_id, {"settled": "purged"}), run)
    if as_json:
        _say(purged, True, "")
    else:
        typer.echo(f"Deletion {deletion_id} was purged.")


def _do(loaded: LoadedSettings, org: str, deed: Deed, run: Callable[[Deletions, Subject], Awaitable[T]]) -> T:
    async def in_database(database: Database, subject: Subject) -> T:
        from isocenter.features.archive.deletion.deletions import Deletions
        from isocenter.kit.clock import SystemClock

        return await run(Deletions(database, SystemClock()), subject)

    return do_in_database(loaded, org, deed, in_database)


def _say_deleted(deleted: Deleted, as_json: bool, of: str) -> None:
    if as_json:
        typer.echo(orjson.dumps(asdict(deleted)))
        return
    undo = f"Undo: isocenter deletion restore {deleted.deletion}{of}" if deleted.deletion else ""
    typer.echo(f"{counted(deleted.instances, 'instance')} deleted. {undo}".rstrip())


def _say(one: Deletion, as_json: bool, of: str) -> None:
    if as_json:
        typer.echo(orjson.dumps(one, option=orjson.OPT_INDENT_2))
        return
    typer.echo(f"Deletion {one.id}, {one.state}: {_what(one)}")
    typer.echo(f"  of {_whose(one)}" if one.known else "  of whom is not kept any longer")
    typer.echo(
        f"  deleted {moment(one.deleted_at_us)} by {plain(one.deleted_by) or 'nobody named'}"
        f"{': ' + plain(one.reason) if one.reason else ''}"
    )
    if one.settled_at_us is not None:
        typer.echo(f"  {one.state} {moment(one.settled_at_us)} by {plain(one.settled_by) or 'nobody named'}")
        return
    waiting = f"{counted(one.objects, 'object')}, {format_bytes(one.bytes)}"
    typer.echo(f"  {waiting} can be restored until {moment(one.purge_at_us)}")
    typer.echo(f"isocenter deletion restore {one.id}{of}")


def _line(one: Deletion) -> str:
    until = f"until {moment(one.purge_at_us)}" if one.state == "waiting" else one.state
    waiting = f"{counted(one.objects, 'object')}, {format_bytes(one.bytes)}"
    return f"{one.id}  {moment(one.deleted_at_us)}  {until}  {waiting}  {_whose(one)}  {_what(one)}".rstrip()


def _what(one: Deletion) -> str:
    if one.sop_instance_uid:
        return f"instance {plain(one.sop_instance_uid)} of study {plain(one.study_instance_uid)}"
    if one.series_instance_uid:
        return f"series {plain(one.series_instance_uid)} of study {plain(one.study_instance_uid)}"
    return f"study {plain(one.study_instance_uid)}" if one.study_instance_uid else "all studies of a patient"


def _whose(one: Deletion) -> str:
    def value(tag: str) -> str:
        return value_text(one.known.get(tag, {}))

    shown = (value("00100020"), value("00100010"), value("00080020"), value("00081030"))
    return " ".join(text for text in shown if text)


def _obstacle(one: NotRestored) -> str:
    return f"  ✗ {plain(one.sop_instance_uid)} ({one.reason}): {plain(one.detail, 200)}"
