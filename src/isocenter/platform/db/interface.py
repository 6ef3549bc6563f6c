"""What every database offers, whichever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar

from isocenter.kit.errors import Conflict, Unavailable
from isocenter.platform.db.sql import Row, Work

T = TypeVar("T")
P = ParamSpec("P")


class IntegrityViolation(Conflict):
    """A unique, foreign-key or check constraint refused the change (SQLSTATE class 23)."""

    default_code = "integrity-violation"


class DatabaseUnreachable(Unavailable):
    """It is gone, silent or locked by somebody else: whatever is asked of it now would wait as long."""

    default_code = "database-unreachable"


class Database(Protocol):
    """Runs units of work (see :mod:`isocenter.platform.db.sql`), each in one transaction.

    Raises :class:`DatabaseUnreachable` when the database cannot be reached or stays locked, another
    :class:`~isocenter.kit.errors.Unavailable` when it fails, :class:`~isocenter.kit.errors.OutOfSpace` when
    its disk is full, :class:`IntegrityViolation`. Whatever is raised, inside the work or by the database,
    nothing of the unit remains.
    """

    dialect: Literal["sqlite", "postgresql"]

    async def read(
        self,
        work: Callable[Concatenate[int, P], Work[T]],
        organization_id: int,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run ``work(organization_id, …)`` on one consistent snapshot; it must not write.

        PostgreSQL shows it no row of another organisation, whatever its statements ask for.
        """
        ...

    async def write(
        self,
        work: Callable[Concatenate[int, P], Work[T]],
        organization_id: int,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run the work and commit durably. May run it again after a deadlock: no outside effects in it.

        PostgreSQL lets it touch no row of another organisation, nor make one.
        """
        ...

    async def read_across(
        self,
        work: Callable[P, Work[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Like ``read``, for work that belongs to no single organisation: who is logging in, whose scanner
        calls. Nothing then stands behind the statements, so ``scripts/check_tree.py`` lists who may."""
        ...

    async def write_across(
        self,
        work: Callable[P, Work[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Like ``write``, for work that belongs to no single organisation."""
        ...

    async def ping(self) -> None:
        """Return when the database answers and can be written to; raises what ``write`` raises."""
        ...

    async def close(self) -> None: ...


def one(rows: list[Row]) -> Any:
    """The first column of the only row expected."""
    return rows[0][0]
