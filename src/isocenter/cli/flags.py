"""A flag for every setting, from the one table of settings."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Container
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer

from isocenter.platform.settings import Settings, load_settings
from isocenter.platform.settings.load import flag_of
from isocenter.platform.settings.model import group_of, is_secret

R = TypeVar("R")

_CONFIG_HELP = "Settings file; without it ISOCENTER_CONFIG or ./isocenter.toml"
_SHOWN = ("Places",)

EVERY_GROUP = frozenset(group_of(name) for name in Settings.model_fields)


def with_settings(command: Callable[..., R], *, shown: Container[str] = _SHOWN) -> Callable[..., R]:
    """Give a typer command ``--config`` and a flag for each setting; it gets LoadedSettings first.

    ``--help`` lists the flags of the groups in ``shown``; the others work too. Secrets have no flag: command
    lines are public on the machine. Raises InvalidSettings when run.
    """
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    flags = [
        _flag(name, hidden=group_of(name) not in shown)
        for name in Settings.model_fields
        if not is_secret(name)
    ]
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


def _flag(name: str, *, hidden: bool) -> inspect.Parameter:
    field = Settings.model_fields[name]
    spelled = flag_of(name)
    switch = field.annotation is bool
    option = typer.Option(
        f"{spelled}/--no-{spelled[2:]}" if switch else spelled,
        help=field.description,
        metavar=None if switch else _metavar(name, field.annotation),
        hidden=hidden,
        show_default=False,
    )
    return _parameter(name, bool | None if switch else str | None, option)


def _metavar(name: str, annotation: Any) -> str:
    """The values of a choice, else the last word of the setting's name."""
    if get_origin(annotation) is Literal:
        return "|".join(map(str, get_args(annotation)))
    return name.rpartition("_")[2].upper()


def _parameter(name: str, kind: Any, option: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option]
    )
