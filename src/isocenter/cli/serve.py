"""``isocenter serve``: both doors, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import sys
from functools import partial
from pathlib import Path

import typer

from isocenter.cli.flags import EVERY_GROUP, with_settings
from isocenter.platform.settings import LoadedSettings, Settings
from isocenter.platform.settings.model import is_loopback, shown

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

_SWITCH_INTERVAL_S = 0.0005
"""How long a thread keeps the interpreter when another one wants it. The threads that write objects and the
index do so in short steps between system calls; at Python's 5 ms each step would wait for the event loop."""


@app.command()
@partial(with_settings, shown=EVERY_GROUP)
def serve(loaded: LoadedSettings) -> None:
    """Start Isocenter: receive and answer over HTTP and DIMSE. SIGTERM ends it within 10 s."""
    import uvloop

    from isocenter.platform.telemetry import configure_logging
    from isocenter.platform.telemetry.tokens import PatientTokens, load_or_make_token_key

    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    settings = loaded.settings
    tokens = PatientTokens(load_or_make_token_key(settings.log_token_key_file))
    configure_logging(settings.log_format, settings.log_level, tokens=tokens)
    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    from isocenter.app.archive import open_archive
    from isocenter.app.server import Server

    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    async with open_archive(settings) as archive:
        server = Server(archive)
        await server.start()
        loop.add_signal_handler(signal.SIGHUP, server.reload_certificates)
        link = await archive.accounts.joining.setup_link() if settings.auth == "required" else None
        token = link.token if link else ""
        typer.echo(_welcome(settings, server.http_port, server.dicom_port, setup_token=token))
        await asked_to_stop.wait()
        typer.echo("Finishing what was begun …")
        await server.stop()
    typer.echo("Stopped.")


def _welcome(settings: Settings, http_port: int, dicom_port: int, *, setup_token: str = "") -> str:
    host = "localhost" if settings.bind in {"127.0.0.1", "0.0.0.0", "::", "::1"} else settings.bind  # noqa: S104
    scheme = "https" if settings.http_tls_cert else "http"
    url = settings.public_url.rstrip("/") or f"{scheme}://{host}:{http_port}"
    lines = [
        "",
        "Isocenter is ready.",
        "",
        f"  DICOMweb   {url}/dicom-web",
        f"  DIMSE      {settings.ae_title} at {host}:{dicom_port}",
        f"  Data       {settings.data_folder}",
    ]
    if settings.database_url:
        lines.append(f"  Index      {shown('database_url', settings.database_url)}")
    if settings.storage_url:
        lines.append(f"  Objects    {shown('storage_url', settings.storage_url)}")
    lines += [
        "",
        "Try it:",
        f"  storescu -aec {settings.ae_title} {host} {dicom_port} *.dcm",
        f"  curl {_credential(settings)}'{url}/dicom-web/studies?PatientName=DOE*'",
        f"  {_program()} import /path/to/folder",
        "",
    ]
    if setup_token:
        lines += [
            "Nobody has an account yet. Make the first administrator, once and within a day, by",
            f"  {_program()} admin create LOGIN",
            "or, from another machine, with this one-time token:",
            f"  curl {url}/api/v1/auth/setup -H 'Content-Type: application/json' \\",
            f"""    -d '{{"token": "{setup_token}", "login": "…", "password": "…"}}'""",
            "",
        ]
    if settings.auth == "off":
        lines += [
            "Caution: logins are off. Every program on this machine can read and delete everything.",
            "",
        ]
    if not is_loopback(settings.bind) and not url.startswith("https:"):
        lines += [
            f"Caution: passwords and images cross the network in the clear on port {http_port}:",
            "let a proxy with HTTPS stand in front, and name its address with --public-url.",
            "",
        ]
    return "\n".join(lines)


def _credential(settings: Settings) -> str:
    return "" if settings.auth == "off" else "-H 'Authorization: Api-Key …' "


def _program() -> str:
    """What to type for ``isocenter``: its path, since a virtual environment's is rarely searched."""
    beside = Path(sys.executable).with_name("isocenter")
    return str(beside) if beside.exists() else "isocenter"
