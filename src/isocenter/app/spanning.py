"""From a database to what asks many archives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from isocenter.app.archive import Archive, installation_key_of
from isocenter.app.outgoing import calling_tls
from isocenter.dimse.scu.peers import Remotes
from isocenter.doors.spanning.calling import Calling
from isocenter.doors.spanning.landing import ArchiveKeeper
from isocenter.doors.spanning.workstations import Workstations
from isocenter.features.archive.retrieve import StoredInstance
from isocenter.features.spanner.called_titles import CalledTitles
from isocenter.features.spanner.configurations import Configurations
from isocenter.features.spanner.query_log import QueryLog
from isocenter.features.spanner.retrieval.service import HELD_S, Retrievals
from isocenter.features.spanner.running import RunningQueries
from isocenter.features.spanner.service import Spanner
from isocenter.features.spanner.sources import Sources
from isocenter.kit.clock import Clock, SystemClock
from isocenter.platform.db import Database
from isocenter.platform.security.sealed_words import SealedWords
from isocenter.platform.settings import Settings

_CLOSE_S = 1.5
"""Whoever does not answer a release in time is left: a server that ends cannot wait for it."""


@dataclass(frozen=True, slots=True)
class Spanning:
    sources: Sources
    configurations: Configurations
    spanner: Spanner
    running: RunningQueries
    query_log: QueryLog
    remotes: Remotes

    async def close(self) -> None:
        """Questions under way are cancelled, associations released."""
        await self.spanner.close()
        await self.query_log.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self.remotes.close()


def spanning_of(settings: Settings, database: Database, clock: Clock) -> Spanning:
    """Close it. Raises InvalidInput, Unavailable where the installation key cannot be had."""
    seal = SealedWords(installation_key_of(settings).derived("sources"))
    sources = Sources(database, clock, seal)
    configurations = Configurations(database, clock, own_ae_titles=frozenset({settings.ae_title}))
    remotes = Remotes()
    calling = Calling(database, sources, remotes, settings.ae_title, dicom_tls=calling_tls(settings).context)
    query_log = QueryLog(database, clock)
    spanner = Spanner(configurations, calling.adapter, clock, query_log=query_log)
    return Spanning(sources, configurations, spanner, RunningQueries(clock), query_log, remotes)


def retrievals_of(spanning: Spanning, archive: Archive) -> Retrievals[StoredInstance]:
    """Close it before what it is made of."""
    keeper = ArchiveKeeper(archive.database, archive.ingest, archive.leaving)
    held_s = min(HELD_S, archive.settings.sweep_grace_s / 2)
    return Retrievals(spanning.spanner, keeper, archive.clock, held_s=held_s)


def workstations_of(
    spanning: Spanning, archive: Archive, retrievals: Retrievals[StoredInstance]
) -> Workstations:
    return Workstations(CalledTitles(archive.database, archive.clock), spanning.spanner, retrievals)


@contextlib.asynccontextmanager
async def open_spanning(settings: Settings, database: Database) -> AsyncIterator[Spanning]:
    """For as long as a command takes."""
    spanning = spanning_of(settings, database, SystemClock())
    try:
        yield spanning
    finally:
        await spanning.close()
