"""``isocenter storage``: does the store hold what the index says, and the reverse?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from isocenter.cli.flags import with_settings
from isocenter.cli.opened import organizations_named, with_archive
from isocenter.cli.witness import operator, witnessed
from isocenter.kit.errors import InvalidInput
from isocenter.kit.sizes import format_bytes
from isocenter.platform.security import Action
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.app.archive import Archive
    from isocenter.features.archive.check import CheckReport
    from isocenter.features.archive.sweep import SweepReport

app = typer.Typer(
    help="Check that index and store agree, and sweep away what nobody refers to.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_SHOWN = 20


@app.command()
@with_settings
def check(
    loaded: LoadedSettings,
    *,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend counters; move damaged objects aside.")
    ] = False,
    adopt_orphans: Annotated[
        bool,
        typer.Option(
            "--adopt-orphans",
            help="File objects without a row, as after restoring an older database. "
            "Brings back deleted objects that were not swept yet.",
        ),
    ] = False,
    hashes: Annotated[bool, typer.Option(help="Read every object and compare its hash.")] = True,
    org: Annotated[str, typer.Option("--org", help="Only this organisation's; without it: all.")] = "",
    as_json: Json = False,
) -> None:
    """Every row has its object, every object its row, hashes and counters agree. Exit code 1 when not.

    With --json: {"healthy", "organizations": [{"organization", "healthy", "rows", "objects", …}]}, stable.
    """

    async def run(archive: Archive) -> dict[str, CheckReport]:
        reports = {}
        for organization_id, slug in await organizations_named(archive.database, org):
            checking = partial(
                archive.check.run,
                organization_id,
                verify_hashes=hashes,
                repair=repair,
                adopt_orphans=adopt_orphans,
            )
            reports[slug] = await _witnessed(archive, organization_id, repair, adopt_orphans, checking)
        return reports

    reports = with_archive(loaded, run)
    if as_json:
        typer.echo(orjson.dumps(_as_json(reports), option=orjson.OPT_INDENT_2))
    else:
        typer.echo("\n\n".join(_told(slug, report) for slug, report in reports.items()))
    if any(report.sick for report in reports.values()):
        raise typer.Exit(1)


async def _witnessed(
    archive: Archive,
    organization_id: int,
    repair: bool,
    adopt_orphans: bool,
    checking: Callable[[], Awaitable[CheckReport]],
) -> CheckReport:
    """Looking changes nothing and shows no patient's data: it is not told."""
    if not (repair or adopt_orphans):
        return await checking()
    told = {"repair": repair, "adopt_orphans": adopt_orphans}
    return await witnessed(
        archive.database, operator(organization_id), Action.CHANGE, "storage", details=told, doing=checking
    )


def _as_json(reports: dict[str, CheckReport]) -> dict[str, object]:
    return {
        "healthy": all(report.healthy for report in reports.values()),
        "organizations": [
            {"organization": slug, "healthy": report.healthy, **asdict(report)}
            for slug, report in reports.items()
        ],
    }


@app.command()
@with_settings
def sweep(loaded: LoadedSettings, as_json: Json = False) -> None:
    """Remove objects that no row refers to and that are older than --sweep-grace-s."""

    async def run(archive: Archive) -> SweepReport:
        return await archive.sweep.run()

    report = with_archive(loaded, run)
    if as_json:
        typer.echo(orjson.dumps(asdict(report), option=orjson.OPT_INDENT_2))
    else:
        freed = format_bytes(report.removed_bytes)
        typer.echo(f"{report.examined} objects looked at, {report.removed} removed ({freed}).")


@app.command()
@with_settings
def encrypt(loaded: LoadedSettings) -> None:
    """Encrypt what was stored before encryption was switched on; may be stopped and run again."""

    async def run(archive: Archive) -> tuple[int, int]:
        from isocenter.platform.storage.encrypted import EncryptedStore

        if not isinstance(archive.store, EncryptedStore) or archive.settings.encryption == "off":
            raise InvalidInput(
                "Encryption is off.", code="encryption-off", remedy="Run this with --encryption on."
            )
        count = left = 0
        async for info in archive.store.plain_objects():
            try:
                count += await archive.store.encrypt(info.key, archive.ingest.spool.new_path())
            except InvalidInput:
                left += 1  # no organisation's
        return count, left

    count, left = with_archive(loaded, run)
    typer.echo(
        f"{count} objects encrypted." + (f" {left} of no organisation were left plain." if left else "")
    )


def _told(slug: str, report: CheckReport) -> str:
    lines = [f"{slug}: {report.rows} rows, {report.objects} objects."]
    if report.missing_count:
        lines.append(f"✗ {report.missing_count} rows whose object is gone. Sending these again heals them:")
        lines += _some(report.missing)
    if report.damaged_count:
        lines.append(
            f"✗ {report.damaged_count} objects whose bytes have changed. Run with --repair, then send again:"
        )
        lines += _some(report.damaged)
    if report.wrong_counters:
        lines.append(f"✗ {report.wrong_counters} series or their studies miscounted. --repair counts again.")
    if report.misfiled_count:
        lines.append(
            f"✗ {report.misfiled_count} studies under another patient than merges say. --repair mends that:"
        )
        lines += _some(report.misfiled)
    if report.miscounted:
        lines.append(
            f"✗ The count of what is kept is off by {report.miscounted.objects:+d} objects and "
            f"{report.miscounted.bytes:+d} bytes. --repair counts again."
        )
    if report.orphan_count:
        lines.append(
            f"• {report.orphan_count} objects without a row ({format_bytes(report.orphan_bytes)}): the sweep "
            f"will remove them. {report.adopted} adopted."
        )
    lines += [f"✓ {done}" for done in report.repaired]
    if report.healthy:
        lines.append("✓ Index and store agree.")
    return "\n".join(lines)


def _some(names: list[str]) -> list[str]:
    more = [f"    … and {len(names) - _SHOWN} more (--json lists up to 1,000)"] if len(names) > _SHOWN else []
    return [f"    {name}" for name in names[:_SHOWN]] + more
