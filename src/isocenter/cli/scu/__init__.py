"""``isocenter scu``: ask other DICOM systems something, send them objects, fetch theirs."""

from __future__ import annotations

import typer

from isocenter.cli.scu.echoing import echo
from isocenter.cli.scu.finding import find
from isocenter.cli.scu.retrieving import get, move
from isocenter.cli.scu.sending import send

app = typer.Typer(
    help="Call other DICOM systems: is it there, what does it have, take these objects, give us those.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(echo)
app.command()(find)
app.command()(send)
app.command()(move)
app.command()(get)
