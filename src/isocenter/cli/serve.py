"""``isocenter serve``: both doors, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import sys
from functools import partial
from pathlib import Path

import typer

from isocenter.cli.flags import EVERY_GROUP, with_settings
from isocenter.platform.settings import LoadedSettings, Settings
from isocenter.platform.settings.model import shown

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

    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    settings = loaded.settings
    configure_logging(settings.log_format, settings.log_level)
    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    from isocenter.app import Server, open_archive

    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    async with open_archive(settings) as archive:
        server = Server(archive)
        await server.start()
        typer.echo(_welcome(settings, server.http_port, server.dicom_port))
        await asked_to_stop.wait()
        typer.echo("Finishing what was begun …")
        await server.stop()
    typer.echo("Stopped.")


def _welcome(settings: Settings, http_port: int, dicom_port: int) -> str:
    host = "localhost" if settings.bind in {"127.0.0.1", "0.0.0.0", "::", "::1"} else settings.bind  # noqa: S104
    url = settings.public_url.rstrip("/") or f"http://{host}:{http_port}"
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
        f"  curl '{url}/dicom-web/studies?PatientName=DOE*'",
        f"  {_program()} import /path/to/folder",
        "",
    ]
    if not _is_loopback(settings.bind):
        lines += [
            f"Caution: HTTP has no login. Whoever reaches port {http_port} can read and delete everything:",
            "let only trusted machines reach it (a firewall, a proxy that asks who is there).",
            "",
        ]
    return "\n".join(lines)


def _program() -> str:
    """What to type for ``isocenter``: its path, since a virtual environment's is rarely searched."""
    beside = Path(sys.executable).with_name("isocenter")
    return str(beside) if beside.exists() else "isocenter"


def _is_loopback(bind: str) -> bool:
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return bind == "localhost"
