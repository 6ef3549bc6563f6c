"""``isocenter config``: what is set, by whom, and whether it makes sense."""

from __future__ import annotations

import os
from typing import Annotated, Any, get_args

import orjson
import typer
from rich.console import Console
from rich.table import Table

from isocenter.cli.flags import with_settings
from isocenter.platform.settings import LoadedSettings, Settings
from isocenter.platform.settings.load import flag_of, unknown_variables, variable_of
from isocenter.platform.settings.model import group_of, is_secret, shown

app = typer.Typer(
    help="Show the settings, where each came from, and check them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
@with_settings
def show(loaded: LoadedSettings, as_json: Json = False) -> None:
    """Print every setting with its value and where that came from; secrets are masked.

    With --json: {"config_file": path or null, "settings": {name: {"value", "source", "where"}}}, stable.
    """
    if as_json:
        typer.echo(orjson.dumps(_as_json(loaded), option=orjson.OPT_INDENT_2))
        return
    console = Console(soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("setting", "value", "from"):
        table.add_column(heading, overflow="fold")
    for name in Settings.model_fields:
        origin = loaded.origins[name]
        style = "dim" if origin.layer == "default" else ""
        table.add_row(name, shown(name, getattr(loaded.settings, name)), str(origin), style=style)
    console.print(table)
    _print_notes()


@app.command()
@with_settings
def check(loaded: LoadedSettings) -> None:
    """Say whether the settings are valid, and what is wrong in words. Exit code 1 when they are not."""
    _print_notes()
    read = f"{loaded.config_file} read" if loaded.config_file else "no settings file"
    typer.echo(f"The settings are valid ({read}).")


@app.command()
def reference() -> None:
    """Print the table of all settings as Markdown, as docs/configuration.md has it."""
    typer.echo(settings_reference())


@app.command()
def permissions() -> None:
    """Print what each role may do, as the page docs/permissions.md has it."""
    typer.echo(permissions_reference())


@app.command()
def metrics() -> None:
    """Print what /metrics tells, as the page docs/metrics.md has it."""
    typer.echo(metrics_reference())


def metrics_reference() -> str:
    from isocenter.app.metrics import METRICS

    lines = ["| metric | type | labels | what it says |", "|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.type} | {labels} | {metric.says} |")
    return "\n".join(lines)


def permissions_reference() -> str:
    from isocenter.platform.security import OPERATOR_PERMISSIONS, PERMISSIONS_OF_ROLE, Permission

    columns = [*PERMISSIONS_OF_ROLE.items(), ("operator", OPERATOR_PERMISSIONS)]
    lines = [
        f"| permission | {' | '.join(str(name) for name, _ in columns)} |",
        f"|---|{':-:|' * len(columns)}",
    ]
    for permission in Permission:
        held = " | ".join("✓" if permission in permissions else "" for _, permissions in columns)
        lines.append(f"| `{permission}` | {held} |")
    return "\n".join(lines)


def settings_reference() -> str:
    """One Markdown table for each group of settings."""
    lines: list[str] = []
    defaults = Settings()
    for name, field in Settings.model_fields.items():
        heading = f"### {group_of(name)}"
        if heading not in lines:
            lines += ["", heading, "", "| setting | default | what it does |", "|---|---|---|"]
        flag = "no flag: a secret" if is_secret(name) else f"`{flag_of(name)}`"
        default = shown(name, getattr(defaults, name))
        choices = "".join(f" `{choice}`" for choice in get_args(field.annotation) if isinstance(choice, str))
        lines.append(
            f"| `{name}`<br>{flag}<br>`{variable_of(name)}` | {f'`{default}`' if default else ''} "
            f"| {field.description}{f' —{choices}' if choices.strip(' `') else ''} |"
        )
    return "\n".join(lines).strip()


def _as_json(loaded: LoadedSettings) -> dict[str, Any]:
    def value(name: str) -> object:
        bare = getattr(loaded.settings, name)
        return bare if isinstance(bare, bool | int | float | None) else shown(name, bare)

    return {
        "config_file": str(loaded.config_file) if loaded.config_file else None,
        "settings": {
            name: {"value": value(name), "source": origin.layer, "where": origin.where}
            for name, origin in loaded.origins.items()
        },
    }


def _print_notes() -> None:
    for note in unknown_variables(os.environ):
        typer.echo(f"Note: {note}", err=True)
