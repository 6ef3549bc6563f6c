"""``isocenter tls``: a certificate for a trial; what the certificates in use say."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from isocenter.cli.flags import with_settings
from isocenter.kit.errors import InvalidInput
from isocenter.platform.settings import LoadedSettings, Settings
from isocenter.platform.tls import TlsFiles
from isocenter.platform.tls.certificates import Facts, facts_of, problems_of, read_chain
from isocenter.platform.tls.self_signed import make_self_signed

app = typer.Typer(
    help="Make a certificate for a trial; see what the certificates in use say.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_LOCAL = ("localhost", "127.0.0.1", "::1")


@app.command("self-signed")
@with_settings
def self_signed(
    loaded: LoadedSettings,
    *,
    names: Annotated[
        list[str] | None, typer.Argument(help="Host names and addresses that clients call this server by.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days that it is valid for.")] = 365,
    out: Annotated[Path | None, typer.Option(help="Folder to write to; tls/ in the data folder.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a certificate that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Make a certificate that nobody vouches for, with its key, and print the settings that use it.

    With --json: {"certificate": path, "key": path, "names": [...], "expires": time}, stable.
    """
    folder = (out or loaded.settings.data_folder / "tls").expanduser().absolute()
    files = make_self_signed(folder, names or list(_LOCAL), datetime.now(UTC), days=days, replace=replace)
    facts = facts_of(read_chain(files.certificate)[0])
    if as_json:
        made = {"certificate": str(files.certificate), "key": str(files.key)}
        typer.echo(orjson.dumps({**made, "names": facts.names, "expires": facts.expires}))
        return
    typer.echo(f"Made for {', '.join(facts.names)}, valid until {facts.expires:%Y-%m-%d}.\n")
    typer.echo("Put this into isocenter.toml; leave out the door that shall not speak TLS:\n")
    for door in ("http", "dicom"):
        typer.echo(f'{door}_tls_cert = "{files.certificate}"\n{door}_tls_key = "{files.key}"')
    typer.echo(f"\nClients have to be told to trust it: curl --cacert {files.certificate} …")


@app.command()
@with_settings
def show(
    loaded: LoadedSettings,
    certificate: Annotated[
        Path | None, typer.Argument(help="A PEM file; without it the certificates of the settings.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="The key that should belong to it.")] = None,
    as_json: Json = False,
) -> None:
    """Print subject, names, expiry and chain, and whether the key fits. Exit code 1 when something is wrong.

    With --json: [{"door", "certificate", "key", "chain": [{"subject", "issuer", "names", "begins",
    "expires", "key", "sha256"}], "problems": [...]}], stable.
    """
    given = [("", TlsFiles(certificate, key or certificate))] if certificate else []
    without_key = certificate is not None and key is None
    asked = given or doors_with_tls(loaded.settings)
    shown = [_examined(door, files, without_key=without_key) for door, files in asked]
    if as_json:
        typer.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2))
    elif not shown:
        typer.echo("No door speaks TLS; 'isocenter tls self-signed' makes a certificate for a trial.")
    else:
        typer.echo("\n\n".join(_in_words(one) for one in shown))
    if any(one["problems"] for one in shown):
        raise typer.Exit(1)


def doors_with_tls(settings: Settings) -> list[tuple[str, TlsFiles]]:
    """Name and files of each door that speaks TLS."""
    found = (("HTTP", settings.http_tls_files), ("DICOM", settings.dicom_tls_files))
    return [(door, TlsFiles(*files)) for door, files in found if files is not None]


def _examined(door: str, files: TlsFiles, *, without_key: bool) -> dict[str, Any]:
    chain: list[Facts] = []
    try:
        chain = [facts_of(one) for one in read_chain(files.certificate)]
        problems = problems_of(files, datetime.now(UTC), with_key=not without_key)
    except InvalidInput as error:
        problems = [error.detail]
    return {
        "door": door,
        "certificate": str(files.certificate),
        "key": "" if without_key else str(files.key),
        "chain": [asdict(one) for one in chain],
        "problems": problems,
    }


def _in_words(one: dict[str, Any]) -> str:
    lines = [f"{one['door']} {one['certificate']}".strip()]
    for number, facts in enumerate(one["chain"]):
        lines += [
            f"  {'certificate' if number == 0 else 'issued by'}  {facts['subject']}",
            f"    names    {', '.join(facts['names']) or 'none'}",
            f"    valid    {facts['begins']:%Y-%m-%d} to {facts['expires']:%Y-%m-%d}",
            f"    issuer   {facts['issuer']}",
            f"    key      {facts['key']}",
            f"    SHA-256  {facts['sha256']}",
        ]
    lines += [f"  ✗ {problem}" for problem in one["problems"]]
    if not one["problems"]:
        lines.append("  ✓ Nothing is wrong with it." if not one["key"] else "  ✓ Valid; the key fits.")
    return "\n".join(lines)
