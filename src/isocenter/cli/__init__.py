"""The command line. ``COMMANDS`` is its table of contents: a command's module is imported when it is asked
for, so that ``isocenter --help`` is fast and one broken part does not silence ``isocenter doctor``."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from isocenter import __version__
from isocenter.kit.errors import IsocenterError


class Command(NamedTuple):
    """``module`` has a typer application under the name ``app``; with one command it is that command,
    with several it is a group of them."""

    name: str
    module: str
    says: str


COMMANDS = (
    Command("serve", "isocenter.cli.serve", "Start: receive and answer over HTTP and DIMSE."),
    Command("import", "isocenter.cli.importing", "Import a folder tree, with progress and a summary."),
    Command("admin", "isocenter.cli.admin", "Make the first administrator, or one more."),
    Command(
        "org", "isocenter.cli.organizations", "Make organisations; say what each has decided for itself."
    ),
    Command("user", "isocenter.cli.users", "Invite people, change what they are, let them back in."),
    Command(
        "idp", "isocenter.cli.identity_providers", "Identity providers that log people in (OpenID Connect)."
    ),
    Command("key", "isocenter.cli.keys", "Make and revoke the keys of programs."),
    Command("ae", "isocenter.cli.ae", "Say who may call by DIMSE; see who was refused."),
    Command("scu", "isocenter.cli.scu", "Call other DICOM systems: echo, find, send, move, get."),
    Command("span", "isocenter.cli.span", "Ask many archives one question and see them answer."),
    Command("source", "isocenter.cli.sources", "Archives that can be asked together; how they do."),
    Command("spanner", "isocenter.cli.spanners", "Say which sources are asked together, and how."),
    Command("worklist", "isocenter.cli.worklist", "What modalities are to do, and what they say they did."),
    Command("commitment", "isocenter.cli.commitments", "See who committed to which objects; ask others to."),
    Command("deletion", "isocenter.cli.deletions", "Delete; see what was deleted, restore or purge it."),
    Command("quarantine", "isocenter.cli.quarantine", "Look at refused objects; accept or discard them."),
    Command("patient", "isocenter.cli.patients", "Merge patients, change IDs, settle contradictions."),
    Command("changes", "isocenter.cli.changes", "Show what happened to objects, in order."),
    Command("statistics", "isocenter.cli.statistics", "Count what is kept, by modality, SOP class and day."),
    Command("audit", "isocenter.cli.audit", "Read the audit trail, prove that it is whole, export it."),
    Command("storage", "isocenter.cli.storage", "Check that index and store agree; sweep orphans."),
    Command("encryption", "isocenter.cli.encryption", "Keys of encrypted objects: make, rotate, destroy."),
    Command("logs", "isocenter.cli.logs", "Find the patient behind a token of the logs."),
    Command("viewer", "isocenter.cli.viewer", "Install the viewer OHIF, which is then at /ohif."),
    Command("config", "isocenter.cli.config", "Show the settings, where each came from, and check them."),
    Command("conformance", "isocenter.cli.conformance", "Print the DICOM conformance statement."),
    Command("tls", "isocenter.cli.tls", "Make a certificate for a trial; see what those in use say."),
    Command(
        "doctor", "isocenter.cli.doctor", "Say in plain words what is wrong here and what to do about it."
    ),
)

EXIT_FAILED = 1


def _load(command: Command) -> Any:
    loaded = typer.main.get_command(importlib.import_module(command.module).app)
    loaded.name = command.name
    return loaded


class LazyGroup(TyperGroup):
    """Lists commands by the table and imports the one that is run."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for command in COMMANDS:
            self.add_command(TyperCommand(command.name, help=command.says), command.name)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, stub, rest = super().resolve_command(ctx, args)
        wanted = next((command for command in COMMANDS if command.name == name), None)
        return name, _load(wanted) if wanted else stub, rest


application = typer.Typer(
    cls=LazyGroup,
    name="isocenter",
    help="An open medical-imaging gateway and archive: receives DICOM, keeps it, finds it, gives it back.",
    no_args_is_help=True,
    rich_markup_mode=None,  # a plain list takes a third of the time
    pretty_exceptions_enable=False,  # their tracebacks print local variables: patient data among them
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"isocenter {__version__}")
        raise typer.Exit


@application.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console script. What we can name ends as two lines on stderr, never as a traceback."""
    try:
        application(prog_name="isocenter")
    except IsocenterError as error:
        typer.echo(f"isocenter: {error.detail}", err=True)
        if error.remedy:
            typer.echo(error.remedy, err=True)
        sys.exit(EXIT_FAILED)
