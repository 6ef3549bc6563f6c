"""``isocenter commitment``: who has taken responsibility for which objects (storage commitment, PS3.4 J)."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from isocenter.cli.flags import with_settings
from isocenter.cli.opened import moment, organization_named, with_database
from isocenter.cli.witness import operator, witnessed
from isocenter.kit.errors import InvalidInput
from isocenter.platform.security import Action
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.features.commitment.entries import Commitment, Judged
    from isocenter.features.commitment.ledger import Ledger
    from isocenter.platform.db import Database

app = typer.Typer(
    help="See what we committed to and what others did; ask a destination to commit.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Organization = Annotated[
    str, typer.Option("--org", help="The organisation's short name; without it: the default one.")
]
Number = Annotated[int, typer.Argument(help="Its number in the list.", min=1)]
_REASONS = {
    None: "not known yet",
    0: "committed",
    0x0110: "processing failure",
    0x0112: "no such object",
    0x0119: "of another SOP class",
    0x0122: "its SOP class is not supported",
    0x0131: "duplicate transaction",
    0x0213: "no room",
}


@app.command("list")
@with_settings
def list_(
    loaded: LoadedSettings,
    *,
    role: Annotated[
        str, typer.Option("--role", help="scp: asked of us; scu: asked by us; without it: both.")
    ] = "",
    state: Annotated[str, typer.Option("--state", help="waiting, asked, settled, refused or given-up.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most this many.")] = 50,
    org: Organization = "",
    as_json: Json = False,
) -> None:
    """Show commitments, the latest first. With --json a list, stable."""
    from isocenter.features.commitment.entries import Role, State

    if role not in {"", *Role} or state not in {"", *State}:
        raise InvalidInput("There is no such role or state.", remedy="'--help' names them.")

    async def run(database: Database) -> list[Commitment]:
        return await _ledger(database).find(
            await organization_named(database, org),
            role=Role(role) if role else None,
            state=State(state) if state else None,
            limit=limit,
        )

    found = with_database(loaded, run)
    if as_json:
        typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    else:
        typer.echo("\n".join([_line(one) for one in found] or ["There is none."]))


@app.command()
@with_settings
def show(loaded: LoadedSettings, number: Number, org: Organization = "", as_json: Json = False) -> None:
    """Show one with its objects. With --json {…, "instances": [{"reference", "reason"}]}, stable."""

    async def run(database: Database) -> tuple[Commitment, list[Judged]]:
        organization_id = await organization_named(database, org)
        ledger = _ledger(database)
        return await ledger.get(organization_id, number), await ledger.instances(organization_id, number)

    found, instances = with_database(loaded, run)
    if as_json:
        answer = asdict(found) | {"instances": [asdict(one) for one in instances]}
        typer.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2))
        return
    lines = [_line(found), f"Transaction {found.transaction_uid}"]
    if found.next_attempt_at_us is not None:
        lines.append(f"Tried {found.attempts} times; again at {moment(found.next_attempt_at_us)}")
    for one in instances:
        reason = _REASONS.get(one.reason, f"reason {one.reason or 0:04X}H")
        lines.append(f"  {one.reference.sop_instance_uid:64}  {reason}")
    typer.echo("\n".join(lines))


@app.command()
@with_settings
def ask(
    loaded: LoadedSettings,
    title: Annotated[str, typer.Argument(help="AE title of a destination.")],
    *,
    study: Annotated[list[str], typer.Option("--study", help="Study Instance UID, of the archive.")],
    org: Organization = "",
    as_json: Json = False,
) -> None:
    """Ask a destination to commit to what it was sent of these studies.

    The running server asks within some seconds, again until it is answered, and takes the report.
    """

    async def run(database: Database) -> Commitment:
        from isocenter.features.archive.selection import Selection, select_instances
        from isocenter.features.commitment.entries import Reference

        organization_id = await organization_named(database, org)
        found = await select_instances(database, organization_id, Selection(studies=tuple(study)))
        return await witnessed(
            database,
            operator(organization_id),
            Action.CHANGE,
            "commitment",
            title,
            details={"study": "\\".join(study), "instances": len(found)},
            doing=lambda: _ledger(database).ask(
                organization_id,
                ae_title=title.strip(" "),
                own_ae_title=loaded.settings.ae_title,
                references=[Reference(one.sop_class_uid, one.sop_instance_uid) for one in found],
            ),
        )

    asked = with_database(loaded, run)
    if as_json:
        typer.echo(orjson.dumps(asdict(asked), option=orjson.OPT_INDENT_2))
    else:
        typer.echo(
            f"Commitment {asked.id}: {asked.instance_count} objects will be asked of {asked.ae_title}."
        )


@app.command()
@with_settings
def retry(loaded: LoadedSettings, number: Number, org: Organization = "", as_json: Json = False) -> None:
    """Have the running server report or ask again, now."""

    async def run(database: Database) -> None:
        organization_id = await organization_named(database, org)
        await witnessed(
            database,
            operator(organization_id),
            Action.CHANGE,
            "commitment",
            str(number),
            doing=lambda: _ledger(database).try_again(organization_id, number),
        )

    with_database(loaded, run)
    typer.echo(orjson.dumps({"retried": number}) if as_json else f"Commitment {number} is tried again.")


def _ledger(database: Database) -> Ledger:
    from isocenter.features.commitment.ledger import Ledger
    from isocenter.kit.clock import SystemClock

    return Ledger(database, SystemClock())


def _line(one: Commitment) -> str:
    asked = f"{one.ae_title} asked us" if one.role == "scp" else f"we asked {one.ae_title}"
    count = f"{one.instance_count} objects"
    if one.failed_count:
        count += f", {one.failed_count} not committed"
    line = f"{one.id:>6}  {moment(one.created_at_us)}  {one.state:9}  {asked:28}  {count}"
    return f"{line}  {one.last_error}".rstrip()
