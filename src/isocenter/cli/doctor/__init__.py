"""``isocenter doctor``: what is wrong here, in plain words, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import orjson
import typer

from isocenter.cli.doctor import (
    certificates,
    clock,
    identity_providers,
    machine,
    passkeys,
    ports,
    quotas,
    redis,
    services,
)
from isocenter.cli.doctor.findings import Check, Finding, Verdict, bad
from isocenter.cli.flags import with_settings
from isocenter.platform.settings import LoadedSettings, Settings

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

CHECKS: tuple[Check, ...] = (
    machine.python_version,
    machine.folders,
    machine.disk_space,
    machine.open_files,
    ports.ports,
    services.database,
    services.storage,
    redis.redis,
    quotas.quotas,
    certificates.certificates,
    passkeys.passkeys,
    identity_providers.identity_providers,
    clock.clock,
)

_MARKS = {Verdict.GOOD: ("✓", "green"), Verdict.BAD: ("✗", "red"), Verdict.UNKNOWN: ("?", "yellow")}


@app.command()
@with_settings
def doctor(
    loaded: LoadedSettings, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Say in plain words what is wrong here and what to do about it. Exit code 1 when something is.

    With --json: {"ok": bool, "checks": [{"name", "verdict": good|bad|unknown, "says", "remedy"}]}, stable.
    """
    findings = examine(loaded.settings)
    sick = [finding for finding in findings if finding.verdict is Verdict.BAD]
    if as_json:
        typer.echo(orjson.dumps({"ok": not sick, "checks": findings}, option=orjson.OPT_INDENT_2))
    else:
        _print(findings)
        typer.echo(f"\n{_counted(len(sick))}." if sick else "\nAll is well.")
    if sick:
        raise typer.Exit(1)


def examine(settings: Settings, checks: Iterable[Check] = CHECKS) -> list[Finding]:
    """Every finding, in the order of the checks. A check that breaks is a finding too, not the end."""
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check(settings)
        except Exception as error:
            findings.append(
                bad(
                    check.__name__.replace("_", " "),
                    f"This check itself broke ({type(error).__name__}: {error}).",
                    "Please report it, with the output of `isocenter doctor --json`.",
                )
            )
    return findings


def _print(findings: list[Finding]) -> None:
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        mark, colour = _MARKS[finding.verdict]
        typer.secho(f"{mark} {finding.name:{width}}  ", fg=colour, nl=False)
        typer.echo(finding.says)
        if finding.remedy:
            typer.echo(f"{'':{width + 4}}→ {finding.remedy}")


def _counted(count: int) -> str:
    return "One thing is wrong" if count == 1 else f"{count} things are wrong"
