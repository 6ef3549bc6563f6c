"""Where objects come in that other archives give: into the store, and, where they are to be kept, the index.

What is not kept lies in the store without an entry in the index, and is read as any other object until the
sweep for orphaned objects takes it (``sweep_grace_s``, a day).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace

from isocenter.dicom.levels import Level
from isocenter.dicom.sop_classes import is_storage_sop_class
from isocenter.dicom.tags import STUDY_INSTANCE_UID
from isocenter.dicom.validation import Strictness
from isocenter.dimse.net.service import Answer, StoreSink
from isocenter.dimse.protocol.messages import CStoreRequest
from isocenter.doors.spanning.own_archive import OwnArchive
from isocenter.features.archive import entry
from isocenter.features.archive.entry import Declared, Entry, Suspect
from isocenter.features.archive.ingest import Ingest, Reception
from isocenter.features.archive.policies import BatchPolicy, Policies
from isocenter.features.archive.presented import find_instances
from isocenter.features.archive.retrieve import StoredInstance
from isocenter.features.spanner.entries import Source
from isocenter.features.spanner.failures import Ended, SourceFailed
from isocenter.features.spanner.persons import Person, person_of
from isocenter.features.spanner.question import Question
from isocenter.features.spanner.retrieval.keeping import Arrivals
from isocenter.features.spanner.retrieval.wanted import Wanted
from isocenter.kit.errors import IsocenterError, NotFound, TooLarge
from isocenter.platform.db import Database
from isocenter.platform.storage.interface import ObjectStore
from isocenter.platform.telemetry import get_logger
from isocenter.platform.telemetry.privacy import logged_uid

log = get_logger(__name__)

DOOR = "spanner"
_AT_ONCE = 16
"""Objects of one source that wait for the disk while the next ones come."""

_LOOKED_AT_EVERY_S = 0.25
_AS_IT_IS = Policies(strictness=Strictness.LENIENT, accept_unknown_sop_classes=True)
"""What another archive has is passed on as it is if it can be read; whether it may be kept is asked later."""


class ArchiveKeeper:
    """The archive as retrieving sees it; implements ``features.spanner.retrieval.keeping.Keeper``."""

    def __init__(self, database: Database, ingest: Ingest, leaving: ObjectStore) -> None:
        """``leaving``: gives objects with the patient that they have now (a `PresentingStore`)."""
        self._database = database
        self._leaving = leaving
        self.ingest = ingest

    async def here(self, organization_id: int, wanted: Wanted) -> Sequence[StoredInstance]:
        series = wanted.series_uids[0] if len(wanted.series_uids) == 1 else ""
        instance = wanted.instance_uids[0] if series and len(wanted.instance_uids) == 1 else ""
        try:
            found = await find_instances(
                self._database, self._leaving, organization_id, wanted.study_uid, series, instance
            )
        except NotFound:
            return []
        return [one for one in found if wanted.includes(one.series_instance_uid, one.sop_instance_uid)]

    async def patient_here(self, organization_id: int, study_uid: str) -> Person | None:
        question = Question(Level.STUDY, {STUDY_INSTANCE_UID: study_uid}, frozenset())
        async for rows in OwnArchive(self._database, organization_id).ask(question):
            for row in rows:
                return person_of(row, "")
        return None

    def landing(self, organization_id: int, source: Source, arrivals: Arrivals[StoredInstance]) -> Landing:
        return Landing(self, organization_id, source, arrivals)


class Landing:
    """Of one source; implements ``features.spanner.retrieval.keeping.Landing``."""

    def __init__(
        self,
        keeper: ArchiveKeeper,
        organization_id: int,
        source: Source,
        arrivals: Arrivals[StoredInstance],
    ) -> None:
        self.heard = 0
        self._keeper = keeper
        self._ingest = keeper.ingest
        self._organization_id = organization_id
        self._arrivals = arrivals
        # Where nobody says who gives out its Patient IDs, nobody else's are meant by them.
        self._source = entry.Source(DOOR, source.name, source.issuer or source.name)
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._landing: set[asyncio.Task[None]] = set()
        self._moved = False
        self._looked_s = 0.0

    def receive(self, request: CStoreRequest | None, transfer_syntax_uid: str) -> StoreSink:
        declared = None
        if request is not None:
            declared = Declared(
                request.affected_sop_class_uid, request.affected_sop_instance_uid, transfer_syntax_uid
            )
        reception = self._ingest.receive(self._organization_id, self._source, declared, _AS_IT_IS)
        uid = "" if request is None else request.affected_sop_instance_uid
        return _Sink(self, reception, uid)

    async def look(self) -> None:
        self.heard += 1
        if not self._arrivals.reads_archive:
            raise SourceFailed(
                Ended.FAILED,
                "it sends objects to us as to anybody, and the archive has that study of another patient",
                blamed=False,
            )
        self._moved = True
        now_s = asyncio.get_running_loop().time()
        if now_s - self._looked_s >= _LOOKED_AT_EVERY_S:
            self._looked_s = now_s
            await self._take_what_is_here()

    async def _take_what_is_here(self) -> None:
        for one in await self._keeper.here(self._organization_id, self._arrivals.wanted):
            self._arrivals.came(one)

    async def settle(self) -> None:
        await asyncio.gather(*self._landing)
        if self._moved:
            await self._take_what_is_here()

    # ---- one object

    async def begin_landing(self, reception: Reception, uid: str) -> None:
        """Returns when there is room for the next."""
        await self._places.acquire()
        task = asyncio.create_task(self._land(reception, uid))
        self._landing.add(task)
        task.add_done_callback(self._landing.discard)

    async def _land(self, reception: Reception, uid: str) -> None:
        try:
            received = await reception.finish()
            if isinstance(received, Suspect):
                self.refuse(received.sop_instance_uid or uid, received.problems[0].detail)
                return
            one = _stored(received)
            if not self._arrivals.expects(one):
                self.refuse(uid, "it is none of the objects that were asked for")
                return
            if self._arrivals.keep:
                await self._file(received)
            self._arrivals.came(one)
        except IsocenterError as error:
            self._arrivals.broke(error)
        finally:
            self.heard += 1
            self._places.release()

    async def _file(self, received: Entry) -> None:
        """What may not be kept is passed on all the same: nobody has asked to have it here."""
        policies = await self._ingest.policies.of(self._organization_id)
        if received.tolerated and policies.strictness is not Strictness.LENIENT:
            return
        if not (policies.accept_unknown_sop_classes or is_storage_sop_class(received.sop_class_uid)):
            return
        policies = replace(policies, batch=BatchPolicy.ACCEPT_VALID)
        [outcome] = await self._ingest.commit(self._organization_id, [received], policies)
        if not outcome.kind.accepted:
            log.info(
                "Retrieved object not kept",
                sop_instance_uid=logged_uid(outcome.sop_instance_uid),
                outcome=outcome.kind.value,
            )

    def refuse(self, uid: str, why: str) -> None:
        log.warning("An object of a source cannot be used", sop_instance_uid=logged_uid(uid), reason=why)
        self._arrivals.refused(uid, f"{self._source.peer} gave an object that cannot be used: {why}")

    def broke(self, error: IsocenterError) -> None:
        self._arrivals.broke(error)


class _Sink:
    """One object's road; implements ``dimse.net.service.StoreSink``.

    Success is said before it is on the disk: nobody's only copy depends on it, and the source waits for the
    answer before it sends the next.
    """

    def __init__(self, landing: Landing, reception: Reception, uid: str) -> None:
        self._landing = landing
        self._reception: Reception | None = reception
        self._uid = uid

    def write(self, fragment: memoryview) -> Awaitable[None] | None:
        self._landing.heard += 1
        if self._reception is None:
            return None  # the rest of what was refused
        try:
            waiting = self._reception.write(fragment)
        except IsocenterError as error:
            return self._give_up(error)
        return None if waiting is None else self._waited(waiting)

    async def _waited(self, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except IsocenterError as error:
            await self._give_up(error)

    async def _give_up(self, error: IsocenterError) -> None:
        reception, self._reception = self._reception, None
        if reception is not None:
            await reception.abort()
        if isinstance(error, TooLarge):
            self._landing.refuse(self._uid, error.detail)
        else:
            self._landing.broke(error)

    async def finish(self) -> Answer:
        reception, self._reception = self._reception, None
        if reception is not None:
            await self._landing.begin_landing(reception, self._uid)
        return Answer()

    async def abort(self) -> None:
        if self._reception is not None:
            await self._reception.abort()


def _stored(received: Entry) -> StoredInstance:
    stored = received.stored
    return StoredInstance(
        received.study_instance_uid,
        received.series_instance_uid,
        received.sop_instance_uid,
        received.sop_class_uid,
        stored.transfer_syntax_uid,
        stored.key,
        stored.size,
        stored.header_size,
        stored.sha256,
        int(received.instance.columns["number_of_frames"] or 1),
        received.pixel_offset,
        received.pixel_length,
        received.frame_offsets,
    )
