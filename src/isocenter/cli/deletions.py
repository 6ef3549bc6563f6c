"""``isocenter deletion``: delete a patient or a study, see what was deleted, restore or purge it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, TypeVar

import orjson
import typer

from isocenter.cli.account_commands import InOrganization, Json, command_group
from isocenter.cli.flags import with_settings
from isocenter.cli.opened import moment, named, organization_named, with_archive
from isocenter.cli.witness import Details, operator, witnessed
from isocenter.kit.errors import InvalidInput
from isocenter.kit.sizes import format_bytes
from isocenter.platform.security import Action
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.app import Archive
    from isocenter.features.archive.deletion.deleting import Deleted
    from isocenter.features.archive.deletion.deletions import Deletion, State, Waiting
    from isocenter.features.archive.deletion.restoring import NotRestored, Restored

T = TypeVar("T")

app = command_group("Delete a patient or a study; see what was deleted, restore it, purge it.")
DeletionId = Annotated[str, typer.Argument(metavar="ID", help="The deletion's id, as the list shows it.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for whoever asks later.")]
_STATES = ("waiting", "restored", "purged")
_SHOWN_CHARACTERS = 64
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

    async def run(archive: Archive, organization_id: int) -> tuple[list[Deletion], Waiting]:
        deletions = archive.deletions
        found = await deletions.list(organization_id, state=chosen, after=after, limit=limit)
        return found, await deletions.waiting(organization_id)

    found, waiting = _do(loaded, org, (Action.READ, "", {"state": state, "limit": limit}), run)
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
        f"{waiting.objects} objects, {format_bytes(waiting.bytes)}, can be restored: "
        f"isocenter deletion restore ID{named(org)}"
    )


@app.command()
@with_settings
def show(
    loaded: LoadedSettings, deletion_id: DeletionId, org: InOrganization = "", as_json: Json = False
) -> None:
    """Show one deletion: whose, what, by whom, why, until when it can be restored."""

    async def run(archive: Archive, organization_id: int) -> Deletion:
        return await archive.deletions.get(organization_id, deletion_id)

    _say(_do(loaded, org, (Action.READ, deletion_id, {}), run), as_json, named(org))


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

    async def run(archive: Archive, organization_id: int) -> Deleted:
        from isocenter.features.archive.deletion.deleting import Scope

        scope = Scope(study_instance_uid, series, instance)
        by = operator(organization_id).name
        return await archive.deletions.delete(organization_id, scope, by=by, reason=reason)

    details: Details = {"series": series, "instance": instance, "why": reason}
    deleted = _do(loaded, org, (Action.DELETE, study_instance_uid, details), run)
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

    async def run(archive: Archive, organization_id: int) -> Deleted:
        from isocenter.features.archive.patients.identity import identity_asked_for

        identity, by = identity_asked_for(patient_id, issuer), operator(organization_id).name
        return await archive.deletions.delete_patient(organization_id, identity, by=by, reason=reason)

    details: Details = {"what": "patient", "issuer": issuer, "why": reason}
    _say_deleted(_do(loaded, org, (Action.DELETE, patient_id, details), run), as_json, named(org))


@app.command()
@with_settings
def restore(
    loaded: LoadedSettings, deletion_id: DeletionId, org: InOrganization = "", as_json: Json = False
) -> None:
    """Bring back what was deleted. What was sent again meanwhile stays as it was sent."""

    async def run(archive: Archive, organization_id: int) -> Restored:
        by = operator(organization_id).name
        return await archive.restoring.restore(organization_id, deletion_id, by=by)

    restored = _do(loaded, org, (Action.CHANGE, deletion_id, {"settled": "restored"}), run)
    if as_json:
        typer.echo(orjson.dumps(asdict(restored), option=orjson.OPT_INDENT_2))
        return
    typer.echo(f"{_counted(restored.objects, 'object')} restored.")
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

    async def run(archive: Archive, organization_id: int) -> Deletion:
        return await archive.deletions.purge(organization_id, deletion_id, by=operator(organization_id).name)

    purged = _do(loaded, org, (Action.DELETE, deletion_id, {"settled": "purged"}), run)
    if as_json:
        _say(purged, True, "")
    else:
        typer.echo(f"Deletion {deletion_id} was purged.")


def _do(
    loaded: LoadedSettings,
    org: str,
    event: tuple[Action, str, Details],
    run: Callable[[Archive, int], Awaitable[T]],
) -> T:
    """What ``run`` returns for the organisation of that name; the trail hears of it."""
    action, resource_id, details = event

    async def opened(archive: Archive) -> T:
        organization_id = await organization_named(archive.database, org)
        return await witnessed(
            archive.database,
            operator(organization_id),
            action,
            "deletion",
            resource_id,
            details=details,
            doing=lambda: run(archive, organization_id),
        )

    return with_archive(loaded, opened)


def _say_deleted(deleted: Deleted, as_json: bool, of: str) -> None:
    if as_json:
        typer.echo(orjson.dumps(asdict(deleted)))
        return
    undo = f"Undo: isocenter deletion restore {deleted.deletion}{of}" if deleted.deletion else ""
    typer.echo(f"{_counted(deleted.instances, 'instance')} deleted. {undo}".rstrip())


def _say(one: Deletion, as_json: bool, of: str) -> None:
    if as_json:
        typer.echo(orjson.dumps(one, option=orjson.OPT_INDENT_2))
        return
    typer.echo(f"Deletion {one.id}, {one.state}: {_what(one)}")
    typer.echo(f"  of {_whose(one)}" if one.known else "  of whom is not kept any longer")
    typer.echo(
        f"  deleted {moment(one.deleted_at_us)} by {_plain(one.deleted_by) or 'nobody named'}"
        f"{': ' + _plain(one.reason) if one.reason else ''}"
    )
    if one.settled_at_us is not None:
        typer.echo(f"  {one.state} {moment(one.settled_at_us)} by {_plain(one.settled_by) or 'nobody named'}")
        return
    waiting = f"{_counted(one.objects, 'object')}, {format_bytes(one.bytes)}"
    typer.echo(f"  {waiting} can be restored until {moment(one.purge_at_us)}")
    typer.echo(f"isocenter deletion restore {one.id}{of}")


def _line(one: Deletion) -> str:
    until = f"until {moment(one.purge_at_us)}" if one.state == "waiting" else one.state
    waiting = f"{_counted(one.objects, 'object')}, {format_bytes(one.bytes)}"
    return f"{one.id}  {moment(one.deleted_at_us)}  {until}  {waiting}  {_whose(one)}  {_what(one)}".rstrip()


def _what(one: Deletion) -> str:
    if one.sop_instance_uid:
        return f"instance {_plain(one.sop_instance_uid)} of study {_plain(one.study_instance_uid)}"
    if one.series_instance_uid:
        return f"series {_plain(one.series_instance_uid)} of study {_plain(one.study_instance_uid)}"
    return f"study {_plain(one.study_instance_uid)}" if one.study_instance_uid else "all studies of a patient"


def _whose(one: Deletion) -> str:
    def value(tag: str) -> str:
        values = one.known.get(tag, {}).get("Value", [""])
        first = values[0] if values else ""
        return _plain(str(first.get("Alphabetic", "")) if isinstance(first, dict) else str(first))

    shown = (value("00100020"), value("00100010"), value("00080020"), value("00081030"))
    return " ".join(text for text in shown if text)


def _obstacle(one: NotRestored) -> str:
    return f"  ✗ {_plain(one.sop_instance_uid)} ({one.reason}): {_plain(one.detail, 200)}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _plain(text: str, characters_max: int = _SHOWN_CHARACTERS) -> str:
    """A hostile object must not steer the terminal."""
    return "".join(one if one.isprintable() else "?" for one in text[:characters_max])
