"""Where values come from: flags, then ``ISOCENTER_…`` variables, then ``isocenter.toml``, then defaults.

pydantic checks the values; the layers are laid here, because each value must be able to say which of them
it came from (``isocenter config show``) and a mistake must be named as the person wrote it.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from isocenter.kit.errors import InvalidInput
from isocenter.platform.settings.model import ENVIRONMENT_PREFIX, Settings, is_secret

DEFAULT_CONFIG_FILE = Path("isocenter.toml")
CONFIG_VARIABLE = "ISOCENTER_CONFIG"


class InvalidSettings(InvalidInput):
    """``problems`` holds one sentence for each mistake, naming the place where it was written."""

    default_code = "invalid-settings"

    def __init__(self, problems: list[str]) -> None:
        super().__init__(
            problems[0] if len(problems) == 1 else "\n  - ".join(["several settings are wrong:", *problems]),
            remedy="docs/configuration.md and `isocenter config show` list every setting.",
        )
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written: the flag, the variable or the file; ``where`` is empty for defaults."""

    layer: Literal["flag", "environment", "file", "default"]
    where: str = ""

    def __str__(self) -> str:
        return self.where or "default"


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The settings, where each came from, and the file that was read, if there was one."""

    settings: Settings
    origins: Mapping[str, Origin]
    config_file: Path | None


def flag_of(name: str) -> str:
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    return ENVIRONMENT_PREFIX + name.upper()


def load_settings(
    flags: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    config_file: Path | None = None,
) -> LoadedSettings:
    """Lay the layers and check the result. ``flags`` maps setting names to values; None means not given.

    An empty variable counts as not set, as compose files leave them. Raises :class:`InvalidSettings`.
    """
    environ = os.environ if environ is None else environ
    path = _chosen_file(config_file, environ)
    problems: list[str] = []
    layers: list[tuple[Mapping[str, object], Callable[[str], Origin]]] = [
        (_read_file(path, problems) if path else {}, lambda _: Origin("file", str(path))),
        (_from_environment(environ), lambda name: Origin("environment", variable_of(name))),
        (_given(flags or {}), lambda name: Origin("flag", flag_of(name))),
    ]
    values: dict[str, object] = {}
    origins = dict.fromkeys(Settings.model_fields, Origin("default"))
    for entries, origin_of in layers:
        values |= entries
        origins |= {name: origin_of(name) for name in entries}
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        problems += [_sentence(details, origins, values) for details in error.errors(include_url=False)]
        raise InvalidSettings(problems) from None
    if problems:
        raise InvalidSettings(problems)
    return LoadedSettings(settings, origins, path)


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """A sentence for each ``ISOCENTER_…`` variable that is nearly a setting. Others are left alone:
    orchestrators put variables of their own there (a Kubernetes service makes ISOCENTER_PORT)."""
    known = [variable_of(name) for name in Settings.model_fields] + [CONFIG_VARIABLE]
    strangers = (name for name in environ if name.startswith(ENVIRONMENT_PREFIX) and name not in known)
    return [
        f"{name} is no setting and was not read; did you mean {near[0]}?"
        for name in sorted(strangers)
        if (near := difflib.get_close_matches(name, known, n=1, cutoff=0.85))
    ]


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    return {name: value for name in Settings.model_fields if (value := environ.get(variable_of(name)))}


def _given(flags: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in flags.items() if value is not None}


def _chosen_file(config_file: Path | None, environ: Mapping[str, str]) -> Path | None:
    if config_file is not None:
        named, by = config_file, "--config"
    elif variable := environ.get(CONFIG_VARIABLE):
        named, by = Path(variable), CONFIG_VARIABLE
    else:
        return DEFAULT_CONFIG_FILE if DEFAULT_CONFIG_FILE.is_file() else None
    if not named.is_file():
        raise InvalidSettings([f"{named}, named by {by}, is not there or is no file"])
    return named


def _read_file(path: Path, problems: list[str]) -> dict[str, object]:
    try:
        entries: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSettings([f"{path} cannot be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettings([f"{path} is not TOML: {error}"]) from error
    known = list(Settings.model_fields)
    for name in entries:
        if name not in Settings.model_fields:
            near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)
            problems.append(
                f"{path}: {name!r} is no setting" + (f"; did you mean {near[0]!r}?" if near else "")
            )
    return {name: value for name, value in entries.items() if name in Settings.model_fields}


def _sentence(details: ErrorDetails, origins: Mapping[str, Origin], values: Mapping[str, object]) -> str:
    message = details["msg"].removeprefix("Value error, ").replace("Input should", "should")
    if not details["loc"]:
        return message
    name = str(details["loc"][0])
    if name not in values:
        return f"{name}: {message}"
    written = "the value given" if is_secret(name) else repr(values[name])
    place = f"{name} ({origins[name]}): {message}"
    return place if written in message else f"{place}, not {written}"
