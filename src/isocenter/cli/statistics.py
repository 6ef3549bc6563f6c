"""``isocenter statistics``: what an organisation keeps, counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

import orjson
import typer

from isocenter.cli.account_commands import InOrganization, Json
from isocenter.cli.deeds import Deed, do_in_database
from isocenter.cli.flags import with_settings
from isocenter.kit.sizes import format_bytes
from isocenter.platform.security import Action, Subject
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.features.archive.statistics import OfUid, Statistics
    from isocenter.platform.db import Database

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
@with_settings
def statistics(loaded: LoadedSettings, org: InOrganization = "", as_json: Json = False) -> None:
    """Count what an organisation keeps: by modality, SOP class, transfer syntax and day of arrival.

    With --json one object, as GET /api/v1/statistics answers, stable.
    """
    from isocenter.features.archive.statistics import count_all
    from isocenter.kit.clock import SystemClock

    async def run(database: Database, subject: Subject) -> Statistics:
        return await count_all(database, SystemClock(), subject.organization_id)

    found = do_in_database(loaded, org, Deed(Action.READ, "statistics"), run)
    if as_json:
        typer.echo(orjson.dumps(asdict(found)))
    else:
        typer.echo("\n".join(_lines(found)))


def _lines(found: Statistics) -> Iterable[str]:
    yield f"{found.patients:,} patients, {found.studies:,} studies, {found.series:,} series"
    yield f"{found.instances:,} instances, {format_bytes(found.bytes)}"
    beside = (
        (found.earlier_versions, "earlier versions"),
        (found.quarantine, "in quarantine"),
        (found.deleted, "deleted, can be restored"),
    )
    for amount, of in beside:
        if amount.objects:
            yield f"{amount.objects:,} {of}, {format_bytes(amount.bytes)}"
    if found.oldest_study_date:
        yield f"Studies of {found.oldest_study_date} to {found.newest_study_date}"
    if found.modalities:
        yield f"\n{'studies':>12}{'series':>12}{'instances':>12}  modality"
    for of_modality in found.modalities:
        numbers = f"{of_modality.studies:>12,}{of_modality.series:>12,}{of_modality.instances:>12,}"
        yield f"{numbers}  {of_modality.modality}"
    yield from _table("SOP class", found.sop_classes)
    yield from _table("transfer syntax", found.transfer_syntaxes)
    arrived = [one for one in found.received if one.objects]
    yield f"\nReceived in the last {len(found.received)} days (UTC){'' if arrived else ': nothing'}"
    for day in arrived:
        yield f"{day.objects:>12,}{format_bytes(day.bytes):>12}  {day.day}"


def _table(of: str, rows: tuple[OfUid, ...]) -> Iterable[str]:
    if rows:
        yield f"\n{'instances':>12}{'size':>12}  {of}"
    for row in rows:
        known = f"  {row.name}" if row.name != row.uid else ""
        yield f"{row.instances:>12,}{format_bytes(row.bytes):>12}  {row.uid}{known}"
