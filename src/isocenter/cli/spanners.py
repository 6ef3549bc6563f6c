"""``isocenter spanner``: which sources are asked together, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from isocenter.cli.deeds import Deed, do_in_spanning
from isocenter.cli.flags import with_settings
from isocenter.cli.texts import counted, plain
from isocenter.kit.errors import InvalidInput
from isocenter.platform.security import Action, Subject
from isocenter.platform.settings import LoadedSettings

if TYPE_CHECKING:
    from isocenter.app.spanning import Spanning
    from isocenter.features.spanner.configurations import SetUp

app = typer.Typer(
    help="Say which sources are asked together, and how; 'isocenter span' asks them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Organization = Annotated[
    str, typer.Option("--org", help="The organisation's short name; without it: the default one.")
]
Named = Annotated[str, typer.Argument(help="Name or number of the configuration.")]
SourceNamed = Annotated[str, typer.Argument(help="Name or number of the source.")]


@app.command()
@with_settings
def add(
    loaded: LoadedSettings,
    name: Annotated[str, typer.Argument(help="What it is called.")],
    *,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds for each source.")] = 10.0,
    retries: Annotated[int, typer.Option("--retries", help="Further attempts.")] = 1,
    strategy: Annotated[
        str, typer.Option("--strategy", help="partial_results, fail_fast or all_required.")
    ] = "partial_results",
    at_once: Annotated[int, typer.Option("--at-once", help="Sources asked at the same time; 0: all.")] = 0,
    enterprise: Annotated[
        bool, typer.Option("--enterprise", help="A question must name somebody or something.")
    ] = False,
    called: Annotated[
        str, typer.Option("--called", help="The AE title that workstations call to ask all of it.")
    ] = "",
    cache: Annotated[int, typer.Option("--cache", help="Seconds that an answer is kept for.")] = 5,
    keep: Annotated[bool, typer.Option("--keep", help="Archive here what is retrieved through it.")] = False,
    org: Organization = "",
    as_json: Json = False,
) -> None:
    """Make a configuration; 'isocenter spanner add-source' says whom it asks."""
    from isocenter.features.spanner.entries import Configuration, FailureStrategy

    if strategy not in set(FailureStrategy):
        raise InvalidInput(
            f"{plain(strategy)} is no strategy.", remedy=f"Give one of: {', '.join(FailureStrategy)}."
        )
    wanted = Configuration(
        0,
        name,
        timeout_seconds=timeout,
        retry_attempts=retries,
        failure_strategy=FailureStrategy(strategy),
        max_concurrent_sources=at_once,
        enterprise_mode=enterprise,
        ae_title=called,
        cache_seconds=cache,
        keep_retrieved=keep,
    )

    async def run(spanning: Spanning, subject: Subject) -> SetUp:
        made = await spanning.configurations.add(subject.organization_id, wanted)
        return await spanning.configurations.get(subject.organization_id, made.id)

    made = do_in_spanning(loaded, org, Deed(Action.CHANGE, "spanner-config", name, {"what": "added"}), run)
    _tell([made], as_json=as_json)


@app.command("list")
@with_settings
def list_(loaded: LoadedSettings, org: Organization = "", as_json: Json = False) -> None:
    """Show the configurations and whom they ask."""

    async def run(spanning: Spanning, subject: Subject) -> list[SetUp]:
        organization_id = subject.organization_id
        found = await spanning.configurations.all(organization_id)
        return [await spanning.configurations.get(organization_id, one.id) for one in found]

    found = do_in_spanning(loaded, org, Deed(Action.READ, "spanner-config"), run)
    _tell(found, as_json=as_json)


@app.command()
@with_settings
def remove(loaded: LoadedSettings, spanner: Named, org: Organization = "") -> None:
    """Forget a configuration; its sources stay."""

    async def run(spanning: Spanning, subject: Subject) -> None:
        number = await _number_of(spanning, subject, spanner)
        await spanning.configurations.remove(subject.organization_id, number)

    do_in_spanning(loaded, org, Deed(Action.DELETE, "spanner-config", spanner), run)
    typer.echo("It is forgotten.")


@app.command("add-source")
@with_settings
def add_source(
    loaded: LoadedSettings,
    spanner: Named,
    source: SourceNamed,
    *,
    priority: Annotated[int, typer.Option("--priority", help="1 is trusted most.")] = 100,
    timeout: Annotated[
        float | None, typer.Option("--timeout", help="Seconds, instead of the configuration's.")
    ] = None,
    org: Organization = "",
    as_json: Json = False,
) -> None:
    """Have a configuration ask a source, too; again: otherwise than before."""

    async def run(spanning: Spanning, subject: Subject) -> SetUp:
        from isocenter.cli.sources import source_named

        number = await _number_of(spanning, subject, spanner)
        found = await source_named(spanning.sources, subject.organization_id, source)
        await spanning.configurations.put_source(
            subject.organization_id, number, found.id, priority=priority, timeout_override=timeout
        )
        return await spanning.configurations.get(subject.organization_id, number)

    deed = Deed(Action.CHANGE, "spanner-config", spanner, {"source": source, "priority": priority})
    _tell([do_in_spanning(loaded, org, deed, run)], as_json=as_json)


@app.command("remove-source")
@with_settings
def remove_source(
    loaded: LoadedSettings, spanner: Named, source: SourceNamed, org: Organization = ""
) -> None:
    """Have a configuration ask a source no longer."""

    async def run(spanning: Spanning, subject: Subject) -> None:
        from isocenter.cli.sources import source_named

        number = await _number_of(spanning, subject, spanner)
        found = await source_named(spanning.sources, subject.organization_id, source)
        await spanning.configurations.remove_source(subject.organization_id, number, found.id)

    do_in_spanning(loaded, org, Deed(Action.DELETE, "spanner-config", spanner, {"source": source}), run)
    typer.echo("It is not asked any more.")


async def _number_of(spanning: Spanning, subject: Subject, config: str) -> int:
    from isocenter.cli.span import config_named

    return await config_named(spanning.configurations, subject.organization_id, config)


def _tell(found: list[SetUp], *, as_json: bool) -> None:
    if as_json:
        from isocenter.doors.spanning.configuration_routes import set_up_model

        shown = {"configurations": [set_up_model(one).model_dump(mode="json") for one in found]}
        typer.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2))
        return
    for one in found:
        configuration = one.configuration
        title = f", called {configuration.ae_title}" if configuration.ae_title else ""
        typer.echo(
            f"{configuration.id:4}  {plain(configuration.name):24}  {configuration.failure_strategy},"
            f" {configuration.timeout_seconds:g} s{title}: asks {counted(len(one.sources), 'source')}"
        )
        for mapped in one.sources:
            off = "  (switched off)" if not mapped.source.enabled else ""
            typer.echo(f"      {mapped.priority:4}  {plain(mapped.source.name)}{off}")
    if not found:
        typer.echo("There is none. Make one with: isocenter spanner add NAME")
