"""A flag for every setting, from the one table of settings."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from isocenter.platform.settings import Settings, load_settings
from isocenter.platform.settings.load import flag_of
from isocenter.platform.settings.model import group_of, is_secret

R = TypeVar("R")

_CONFIG_HELP = "Settings file; without it ISOCENTER_CONFIG or ./isocenter.toml"


def with_settings(command: Callable[..., R]) -> Callable[..., R]:
    """Give a typer command ``--config`` and a flag for each setting; it gets LoadedSettings first.

    Secrets have no flag: command lines are public on the machine. Raises InvalidSettings when run.
    """
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    flags = [_flag(name) for name in Settings.model_fields if not is_secret(name)]
    config = _parameter("config", Path | None, typer.Option("--config", "-c", help=_CONFIG_HELP))

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> R:
        config_file = kwargs.pop("config", None)
        given = {flag.name: kwargs.pop(flag.name, None) for flag in flags}
        return command(load_settings(given, config_file=config_file), *args, **kwargs)

    parameters = [*own, config, *flags]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _flag(name: str) -> inspect.Parameter:
    field = Settings.model_fields[name]
    spelled = flag_of(name)
    switch = field.annotation is bool
    option = typer.Option(
        f"{spelled}/--no-{spelled[2:]}" if switch else spelled,
        help=field.description,
        metavar=None if switch else name.rpartition("_")[2].upper(),
        rich_help_panel=group_of(name),
        show_default=False,
    )
    return _parameter(name, bool | None if switch else str | None, option)


def _parameter(name: str, kind: Any, option: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option]
    )
