"""One SQL text, two databases: what each of them is given."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from isocenter.platform.db import Sql, composed


@pytest.mark.parametrize(
    ("text", "for_sqlite", "for_postgres", "names"),
    [
        ("SELECT 1", "SELECT 1", "SELECT 1", []),
        ("a = :a AND b = :b", "a = :a AND b = :b", "a = $1 AND b = $2", ["a", "b"]),
        ("a = :x OR b = :x", "a = :x OR b = :x", "a = $1 OR b = $1", ["x"]),
        (
            "id IN :ids AND n = :n",
            "id IN (SELECT value FROM json_each(:ids)) AND n = :n",
            "id = ANY($1) AND n = $2",
            ["ids", "n"],
        ),
        ("x in :xs", "x in :xs", "x in $1", ["xs"]),  # keywords are written in capitals
        ("SELECT a FOR UPDATE", "SELECT a ", "SELECT a FOR UPDATE", []),
        ("SELECT a FOR UPDATE OF t", "SELECT a ", "SELECT a FOR UPDATE OF t", []),
        ("a = ':no' AND b = :b", "a = ':no' AND b = :b", "a = ':no' AND b = $1", ["b"]),
        ("a = 'it''s :no'", "a = 'it''s :no'", "a = 'it''s :no'", []),
        ("a = 'IN :ids FOR UPDATE'", "a = 'IN :ids FOR UPDATE'", "a = 'IN :ids FOR UPDATE'", []),
        ("unnest(:s::int[])", "unnest(:s::int[])", "unnest($1::int[])", ["s"]),
        ("a::text = :a", "a::text = :a", "a::text = $1", ["a"]),
    ],
)
def test_translation(text: str, for_sqlite: str, for_postgres: str, names: list[str]):
    sql = Sql(text)
    assert (sql.sqlite, sql.postgres, sql.names) == (for_sqlite, for_postgres, names)


def test_parameters_take_the_shape_that_each_wants():
    sql = Sql("SELECT :n WHERE :n IN :ns OR :m = 1")
    params = {"n": 2, "ns": (1, 2), "m": "unused quotes ' \""}
    assert sql.postgres_params(params) == [2, (1, 2), "unused quotes ' \""]
    given = sql.sqlite_params(params)
    assert given == {"n": 2, "ns": "[1,2]", "m": "unused quotes ' \""}
    with closing(sqlite3.connect(":memory:")) as connection:
        assert connection.execute(sql.sqlite, given).fetchall() == [(2,)]


def test_without_lists_nothing_is_copied():
    params = {"a": 1}
    assert Sql("SELECT :a").sqlite_params(params) is params


def test_lists_hold_whatever_text_there_is():
    sql = Sql("SELECT value FROM (SELECT :x AS value) WHERE value IN :xs")
    with closing(sqlite3.connect(":memory:")) as connection:

        def finds(text: str, *others: str) -> bool:
            params = sql.sqlite_params({"x": text, "xs": ["other", *others]})
            return bool(connection.execute(sql.sqlite, params).fetchall())

        for text in ("", "'", '"', "\\", "]", "\u2028", "\U0001f600", "a\nb", "1", "null"):
            assert finds(text, text)
            assert not finds(text)
        assert not connection.execute(sql.sqlite, sql.sqlite_params({"x": text, "xs": []})).fetchall()
    connection.close()


def test_composed_statements_are_translated_once():
    assert composed("SELECT :a") is composed("SELECT :a")
