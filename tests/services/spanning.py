"""What asks many archives, on an archive of a test: the archive itself is all that it can call."""

from __future__ import annotations

from dataclasses import dataclass

from isocenter.app.spanning import Spanning
from isocenter.dimse.scu.peers import Remotes
from isocenter.doors.spanning.landing import ArchiveKeeper
from isocenter.doors.spanning.own_archive import OwnArchive
from isocenter.doors.spanning.workstations import Workstations
from isocenter.features.archive.retrieve import StoredInstance
from isocenter.features.spanner.called_titles import CalledTitles
from isocenter.features.spanner.configurations import Configurations
from isocenter.features.spanner.query_log import QueryLog
from isocenter.features.spanner.retrieval.service import Retrievals
from isocenter.features.spanner.running import RunningQueries
from isocenter.features.spanner.service import Spanner
from isocenter.features.spanner.sources import Sources
from isocenter.kit.clock import Clock
from isocenter.platform.security.sealed_words import SealedWords
from services.archive import TestArchive

SEAL = SealedWords(bytes(32))


@dataclass(frozen=True, slots=True)
class SpanningAt(Spanning):
    retrievals: Retrievals[StoredInstance]
    workstations: Workstations


def spanning_at(archive: TestArchive, clock: Clock | None = None) -> SpanningAt:
    database, clock = archive.database, clock or archive.clock
    configurations = Configurations(database, clock)
    spanner = Spanner(configurations, lambda organization_id, _: OwnArchive(database, organization_id), clock)
    retrievals = Retrievals(spanner, ArchiveKeeper(database, archive.ingest, archive.leaving), clock)
    return SpanningAt(
        Sources(database, clock, SEAL),
        configurations,
        spanner,
        RunningQueries(clock),
        QueryLog(database, clock),
        Remotes(),
        retrievals,
        Workstations(CalledTitles(database, clock), spanner, retrievals),
    )
