"""One SQL text for two databases.

A statement is written once, with ``:name`` parameters, in the subset that SQLite and PostgreSQL share
(``ON CONFLICT``, ``RETURNING``, window functions, partial indexes). What differs is translated here:

==================  ==========================================  ===================
written             SQLite                                      PostgreSQL
==================  ==========================================  ===================
``:name``           ``:name``                                   ``$1`` …
``x IN :names``     ``x IN (SELECT value FROM json_each(:n))``  ``x = ANY($1)``
``FOR UPDATE``      nothing: a writer holds the whole file      ``FOR UPDATE``
==================  ==========================================  ===================
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol, TypeVar

import orjson

T = TypeVar("T")

_TOKEN = re.compile(
    r"'(?:[^']|'')*'"  # a string literal stays as it is
    r"|\bIN\s+:(?P<list>\w+)"
    r"|(?<![:\w]):(?P<name>\w+)"
    r"|(?P<lock>\bFOR\s+UPDATE(?:\s+OF\s+\w+)?)"
)


class Row(Protocol):
    """One result row: by column name or position; some columns as a tuple."""

    def __getitem__(self, key: str | int | slice, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Call:
    """A statement with its parameters, ready for either database."""

    sql: Sql
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CallMany:
    """The same statement for many parameter sets; returns no rows."""

    sql: Sql
    rows: Sequence[Mapping[str, Any]]


Work = Generator[Call | CallMany, list[Row], T]
"""A unit of database work: a generator that yields calls, is sent their rows, returns its result.

Written this way a use case needs no ``await`` between statements: SQLite runs the whole of it in one
visit to its thread, PostgreSQL awaits each statement; and it can be run again after a deadlock.
"""


class Sql:
    """A named statement; call it with its parameters: ``rows = yield FIND_STUDY(uid=…)``."""

    __slots__ = ("_list_names", "names", "only", "postgres", "sqlite", "text")

    def __init__(self, text: str, *, only: Literal["sqlite", "postgresql"] | None = None) -> None:
        """``only``: the statement has a meaning on that database alone; the other one answers no rows."""
        self.text = text
        self.only = only
        self.names: list[str] = []
        self._list_names: set[str] = set()
        self.sqlite = _TOKEN.sub(self._for_sqlite, text)
        self.postgres = _TOKEN.sub(self._for_postgres, text)

    def __call__(self, **params: Any) -> Call:
        return Call(self, params)

    def many(self, rows: Sequence[Mapping[str, Any]]) -> CallMany:
        return CallMany(self, rows)

    def sqlite_params(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        if not self._list_names:
            return params
        lists = {name: orjson.dumps(list(params[name])).decode() for name in self._list_names}
        return {**params, **lists}

    def postgres_params(self, params: Mapping[str, Any]) -> list[Any]:
        return [params[name] for name in self.names]

    def _for_sqlite(self, match: re.Match[str]) -> str:
        if name := match["list"]:
            self._list_names.add(name)
            return f"IN (SELECT value FROM json_each(:{name}))"  # noqa: S608 - a parameter's name
        return "" if match["lock"] else match[0]

    def _for_postgres(self, match: re.Match[str]) -> str:
        if name := match["list"]:
            return f"= ANY({self._position(name)})"
        if name := match["name"]:
            return self._position(name)
        return match[0]

    def _position(self, name: str) -> str:
        if name not in self.names:
            self.names.append(name)
        return f"${self.names.index(name) + 1}"


@lru_cache(maxsize=512)
def composed(text: str) -> Sql:
    """The statement for a text put together at run time (a query's shape), translated once per shape.

    Only shapes may vary: values always travel as parameters.
    """
    return Sql(text)
