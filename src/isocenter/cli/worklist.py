"""``isocenter worklist``: what modalities are to do, and what they say they did."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
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
    from isocenter.features.worklist.datasets import DataSet
    from isocenter.features.worklist.items import WorklistItem, WorklistItems
    from isocenter.features.worklist.performed import PerformedStep
    from isocenter.platform.db import Database

app = typer.Typer(
    help="The modality worklist: add, list, remove, import; see what was performed.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Organization = Annotated[
    str, typer.Option("--org", help="The organisation's short name; without it: the default one.")
]
_FILE_BYTES_MAX = 4 << 20


@app.command()
@with_settings
def add(
    loaded: LoadedSettings,
    *,
    patient_id: Annotated[str, typer.Option("--patient-id", help="Patient ID.")],
    patient_name: Annotated[str, typer.Option("--patient-name", help="As DICOM writes it: DOE^JANE.")],
    station: Annotated[str, typer.Option("--station", help="AE title of the modality.")],
    modality: Annotated[str, typer.Option("--modality", help="CT, MR, US, …")],
    start: Annotated[datetime, typer.Option("--start", help="2026-01-31T14:30:00, in local time.")],
    birth_date: Annotated[str, typer.Option("--birth-date", help="YYYYMMDD.")] = "",
    sex: Annotated[str, typer.Option("--sex", help="M, F or O.")] = "",
    accession_number: Annotated[str, typer.Option("--accession-number", help="Of the order.")] = "",
    study_uid: Annotated[str, typer.Option("--study-uid", help="Without it one is made up.")] = "",
    procedure_id: Annotated[str, typer.Option("--procedure-id", help="Requested Procedure ID.")] = "",
    step_id: Annotated[str, typer.Option("--step-id", help="Scheduled Procedure Step ID.")] = "",
    description: Annotated[str, typer.Option("--description", help="What is to be done.")] = "",
    org: Organization = "",
    as_json: Json = False,
) -> None:
    """Schedule a step; again with the same study UID and step ID: change it."""
    from isocenter.features.worklist.orders import Order, data_set_of

    order = Order(
        patient_id,
        patient_name,
        station,
        modality,
        start,
        birth_date=birth_date,
        sex=sex,
        accession_number=accession_number,
        study_instance_uid=study_uid,
        requested_procedure_id=procedure_id,
        step_id=step_id,
        description=description,
    )
    _print(with_database(loaded, lambda database: _put(database, org, [data_set_of(order)], "api")), as_json)


@app.command("import")
@with_settings
def import_(
    loaded: LoadedSettings,
    files: Annotated[
        list[Path], typer.Argument(help="Worklist files, as DCMTK's wlmscpfs keeps them (.wl).")
    ],
    org: Organization = "",
    as_json: Json = False,
) -> None:
    """Take over worklist files: DICOM data sets, with or without a file header."""
    data_sets = [_read(file) for file in files]
    _print(with_database(loaded, lambda database: _put(database, org, data_sets, "file")), as_json)


@app.command("list")
@with_settings
def list_(
    loaded: LoadedSettings,
    *,
    station: Annotated[str, typer.Option("--station", help="Only of this AE title.")] = "",
    date: Annotated[str, typer.Option("--date", help="YYYYMMDD, or a range: 20260101-20260131.")] = "",
    all_states: Annotated[bool, typer.Option("--all", help="Steps that are over, too.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many.")] = 1000,
    org: Organization = "",
    as_json: Json = False,
) -> None:
    """Show what is to be done."""
    from isocenter.features.worklist.matching import keys_of_parameters

    step = "ScheduledProcedureStepSequence."
    asked = [(step + "ScheduledStationAETitle", station), (step + "ScheduledProcedureStepStartDate", date)]
    keys = keys_of_parameters([(name, value) for name, value in asked if value])

    async def run(database: Database) -> list[WorklistItem]:
        organization_id = await organization_named(database, org)
        return await witnessed(
            database,
            operator(organization_id),
            Action.SEARCH,
            "worklist",
            details={"station": station, "date": date},
            doing=lambda: _worklist(database).listed(
                organization_id, keys, limit=limit, all_states=all_states
            ),
        )

    _print(with_database(loaded, run), as_json)


@app.command()
@with_settings
def remove(
    loaded: LoadedSettings,
    number: Annotated[int, typer.Argument(help="The item's number, as 'list' shows it.", min=1)],
    org: Organization = "",
) -> None:
    """Take a step off the worklist."""

    async def run(database: Database) -> None:
        organization_id = await organization_named(database, org)
        await witnessed(
            database,
            operator(organization_id),
            Action.DELETE,
            "worklist",
            str(number),
            doing=lambda: _worklist(database).remove(organization_id, number),
        )

    with_database(loaded, run)
    typer.echo(f"Item {number} is on the worklist no longer.")


@app.command()
@with_settings
def performed(
    loaded: LoadedSettings,
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many.")] = 100,
    org: Organization = "",
    as_json: Json = False,
) -> None:
    """Show what modalities said they do and did (MPPS), the newest first."""
    from isocenter.features.worklist.performed import PerformedSteps
    from isocenter.kit.clock import SystemClock

    async def run(database: Database) -> list[PerformedStep]:
        organization_id = await organization_named(database, org)
        return await witnessed(
            database,
            operator(organization_id),
            Action.SEARCH,
            "performed-step",
            doing=lambda: PerformedSteps(database, SystemClock()).listed(organization_id, limit=limit),
        )

    found = with_database(loaded, run)
    if as_json:
        typer.echo(orjson.dumps([asdict(one) for one in found], option=orjson.OPT_INDENT_2))
        return
    for one in found:
        typer.echo(f"{moment(one.changed_at_us)}  {one.state:12}  {one.ae_title:16}  {one.sop_instance_uid}")
    if not found:
        typer.echo("Nothing was performed yet.")


def _worklist(database: Database) -> WorklistItems:
    from isocenter.features.worklist.items import WorklistItems
    from isocenter.kit.clock import SystemClock

    return WorklistItems(database, SystemClock())


async def _put(database: Database, org: str, data_sets: list[DataSet], source: str) -> list[WorklistItem]:
    organization_id = await organization_named(database, org)
    found = []
    for data_set in data_sets:
        found += await witnessed(
            database,
            operator(organization_id),
            Action.CHANGE,
            "worklist",
            details={"source": source},
            doing=partial(_worklist(database).put, organization_id, data_set, source=source),
        )
    return found


def _read(file: Path) -> DataSet:
    """Raises InvalidInput, ScanError."""
    from isocenter.features.worklist.encoding import from_file

    try:
        with file.open("rb") as opened:
            content = opened.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise InvalidInput(
            f"{file} cannot be read ({error.strerror}).", remedy="Name files that you may read."
        ) from error
    if len(content) > _FILE_BYTES_MAX:
        raise InvalidInput(f"{file} is no worklist file: it is too large.", code="too-large")
    return from_file(content)


def _print(found: list[WorklistItem], as_json: bool) -> None:
    from isocenter.features.worklist.orders import order_of

    if as_json:
        typer.echo(orjson.dumps([asdict(one) for one in found], option=orjson.OPT_INDENT_2))
        return
    for one in found:
        order = order_of(one.document)
        typer.echo(
            f"{one.id:>6}  {one.state:12}  {order['start']:14}  {order['station_ae_title']:16}  "
            f"{order['modality']:4}  {order['patient_id']:16}  {order['patient_name']}"
        )
    if not found:
        typer.echo("The worklist is empty.")
