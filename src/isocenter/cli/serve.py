"""``isocenter serve``: both doors, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import sys

import typer

from isocenter.cli.flags import with_settings
from isocenter.platform.settings import LoadedSettings, Settings

app = typer.Typer(pretty_exceptions_enable=False)

_SWITCH_INTERVAL_S = 0.0005
"""How long a thread keeps the interpreter when another one wants it. The threads that write objects and the
index do so in short steps between system calls; at Python's 5 ms each step would wait for the event loop."""


@app.command()
@with_settings
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
    return f"""
Isocenter is ready.

  DICOMweb   {url}/dicom-web
  DIMSE      {settings.ae_title} at {host}:{dicom_port}
  Data       {settings.data_folder}

Try it:
  storescu -aec {settings.ae_title} {host} {dicom_port} *.dcm
  curl '{url}/dicom-web/studies?PatientName=DOE*'
  isocenter import /path/to/folder
"""
