"""``isocenter logs``: what the logs keep to themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from isocenter.cli.flags import with_settings
from isocenter.cli.opened import organization_named, with_database
from isocenter.cli.witness import operator
from isocenter.kit.errors import NotFound
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.features.archive.patient_tokens import ResolvedPatient
    from isocenter.platform.db import Database

app = typer.Typer(
    help="Find the patient behind a token of the logs.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def _group() -> None:
    pass


@app.command()
@with_settings
def resolve(
    loaded: LoadedSettings,
    token: Annotated[str, typer.Argument(help="As it stands in the log: pt-…")],
    org: Annotated[str, typer.Option("--org", help="The organisation's short name.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say which patient a token stands for. Needs the data folder, whose key made the token."""
    from isocenter.platform.telemetry.tokens import PatientTokens, check_token, load_or_make_token_key

    check_token(token)
    tokens = PatientTokens(load_or_make_token_key(loaded.settings.log_token_key_file))

    async def run(database: Database) -> ResolvedPatient | None:
        from isocenter.features.archive.patient_tokens import resolve_token
        from isocenter.features.audit.trail import AuditTrail
        from isocenter.kit.clock import SystemClock

        subject = operator(await organization_named(database, org))
        trail = AuditTrail(database, SystemClock(), linger_s=0)
        try:
            return await resolve_token(database, subject, token, tokens.patient_token, trail)
        finally:
            await trail.close()

    patient = with_database(loaded, run)
    if patient is None:
        raise NotFound(
            f"No patient of {org} has this token.",
            code="token-not-found",
            remedy="The patient may have been deleted, be in quarantine only, or the key was replaced since.",
        )
    if as_json:
        typer.echo(orjson.dumps({"patient_id": patient.patient_id, "issuer": patient.issuer}))
    else:
        typer.echo(f"{patient.patient_id}" + (f" (issuer {patient.issuer})" if patient.issuer else ""))
