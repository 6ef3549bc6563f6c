"""Instance Availability Notification as SCU (PS3.4 R): studies that have come to rest are told to those who
want to know. The change feed says which; a cursor in the database for each listener, how far it was read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from isocenter.dicom.charsets import DEFAULT_REPERTOIRE
from isocenter.dicom.dataset import write_dataset
from isocenter.dicom.element import Element
from isocenter.dicom.sop_classes import INSTANCE_AVAILABILITY_NOTIFICATION
from isocenter.dicom.uids import generate_uid
from isocenter.dimse.net.client import ClientAssociation, Proposal
from isocenter.dimse.protocol import statuses
from isocenter.dimse.protocol.messages import NCreateRequest
from isocenter.features.availability.notices import Due, Notices, NoticeState
from isocenter.kit.errors import InternalError, IsocenterError, Unavailable
from isocenter.platform.security import Action, Recorder, Subject, SubjectKind, event_of
from isocenter.platform.telemetry import get_logger

log = get_logger(__name__)

CONTEXTS = (Proposal(INSTANCE_AVAILABILITY_NOTIFICATION),)
_CHANGES_AT_ONCE = 1000
_AT_ONCE = 4


class Listener(NamedTuple):
    """Wants to know of studies that nothing came to for ``after_s`` seconds."""

    organization_id: int
    ae_title: str
    after_s: int


class Arrived(NamedTuple):
    """One change of the feed that brought an object."""

    number: int
    study_instance_uid: str
    at_us: int


class Available(NamedTuple):
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


class Archive(Protocol):
    """What is asked of whatever keeps the objects."""

    async def last_change(self, organization_id: int) -> int: ...

    async def arrived(self, organization_id: int, after: int, limit: int) -> tuple[int, list[Arrived]]:
        """How far the feed was read with this, and what arrived on the way."""
        ...

    async def available(self, organization_id: int, study_instance_uid: str) -> list[Available]:
        """All objects of the study, series by series."""
        ...


class Associate(Protocol):
    def __call__(
        self, organization_id: int, title: str, contexts: Sequence[Proposal]
    ) -> AbstractAsyncContextManager[ClientAssociation]: ...


class AvailabilityNotifier:
    """``start``, then ``stop``. ``listeners`` says whom to tell; ``ae_title`` is where to retrieve from."""

    def __init__(
        self,
        notices: Notices,
        archive: Archive,
        listeners: Callable[[], Awaitable[list[Listener]]],
        associate: Associate,
        recorder: Recorder,
        *,
        ae_title: str,
        poll_s: float = 5.0,
    ) -> None:
        self.notices = notices
        self._archive = archive
        self._listeners = listeners
        self._associate = associate
        self._recorder = recorder
        self._ae_title = ae_title
        self._poll_s = poll_s
        self._nudged = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="availability")

    async def stop(self) -> None:
        """Leave off; what was begun is told again later."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def nudge(self) -> None:
        self._nudged.set()

    async def _run(self) -> None:
        while True:
            self._nudged.clear()
            try:
                await self.turn()
            except IsocenterError as error:
                log.warning("Nobody can be told of studies now", reason=error.detail)
            except Exception as error:
                log.error("Nobody can be told of studies now", error=type(error).__name__)
            try:
                async with asyncio.timeout(self._poll_s):
                    await self._nudged.wait()
            except TimeoutError:
                pass

    async def turn(self) -> None:
        """Read what is new, tell what is due. Raises Unavailable."""
        listeners = await self._listeners()
        for listener in listeners:
            await self._follow(listener)
        wanted = {(one.organization_id, one.ae_title) for one in listeners}
        due = await self.notices.claim_due()
        places = asyncio.Semaphore(_AT_ONCE)

        async def one_of_them(one: Due) -> None:
            async with places:
                await self._tell(one, wanted=(one.organization_id, one.ae_title) in wanted)

        await asyncio.gather(*(one_of_them(one) for one in due))

    async def _follow(self, listener: Listener) -> None:
        """A new listener hears of what comes from now on: nobody wants a notice of ten years of studies."""
        organization_id, ae_title, after_s = listener
        cursor = await self.notices.cursor(organization_id, ae_title)
        if cursor is None:
            cursor = await self._archive.last_change(organization_id)
            await self.notices.expect(
                organization_id, ae_title, read_to=cursor, changed_at_us={}, after_s=after_s
            )
        while True:
            read_to, arrived = await self._archive.arrived(organization_id, cursor, _CHANGES_AT_ONCE)
            if read_to == cursor:
                return
            await self.notices.expect(
                organization_id,
                ae_title,
                read_to=read_to,
                changed_at_us={one.study_instance_uid: one.at_us for one in arrived},
                after_s=after_s,
            )
            cursor = read_to

    async def _tell(self, due: Due, *, wanted: bool) -> None:
        if not wanted:
            await self.notices.give_up(due, "it is not told of studies any longer")
            return
        try:
            objects = await self._archive.available(due.organization_id, due.study_instance_uid)
            if not objects:
                await self.notices.gone(due)
                return
            await self._create(due, objects)
            await self.notices.told(due)
        except IsocenterError as error:
            await self._put_off(due, error)
        except Exception as error:
            log.error("A study's availability could not be told", error=type(error).__name__)
            await self._put_off(due, InternalError("a fault of ours"))

    async def _create(self, due: Due, objects: list[Available]) -> None:
        """Raises Unavailable where it is not told."""
        async with self._associate(due.organization_id, due.ae_title, CONTEXTS) as association:
            syntax = association.context_for(INSTANCE_AVAILABILITY_NOTIFICATION).transfer_syntax
            request = NCreateRequest(
                message_id=0,
                affected_sop_class_uid=INSTANCE_AVAILABILITY_NOTIFICATION,
                affected_sop_instance_uid=generate_uid(),
            )
            data_set = notification(due.study_instance_uid, objects, self._ae_title, syntax)
            response, _ = await association.n_request(request, data_set)
        if statuses.family(response.status) is statuses.Family.FAILURE:
            raise Unavailable(f"{due.ae_title} answered {statuses.describe(response.status)}")
        self._recorder.record(
            event_of(
                Subject(SubjectKind.SERVICE, "availability", due.organization_id, frozenset()),
                Action.READ,
                resource_kind="study",
                resource_id=due.study_instance_uid,
                details={"part": "availability", "objects": len(objects), "told": due.ae_title},
            )
        )
        log.info("A study's availability told", ae_title=due.ae_title, objects=len(objects))

    async def _put_off(self, due: Due, error: IsocenterError) -> None:
        state = await self.notices.failed(due, error.detail)
        log.warning(
            "Telling a study's availability was given up"
            if state is NoticeState.GIVEN_UP
            else "A study's availability waits to be told",
            ae_title=due.ae_title,
            attempts=due.attempts + 1,
            reason=error.detail,
            remedy=error.remedy,
        )


def notification(
    study_instance_uid: str, objects: Sequence[Available], retrieve_ae_title: str, transfer_syntax_uid: str
) -> bytes:
    """The attributes of PS3.4 Table R.3.2-1: all of the study, on line here."""
    title = Element(0x00080054, "AE", DEFAULT_REPERTOIRE.encode(retrieve_ae_title, "AE"))
    series: dict[str, list[list[Element]]] = {}
    for one in objects:
        series.setdefault(one.series_instance_uid, []).append(
            [
                Element(0x00080056, "CS", b"ONLINE"),
                title,
                _uid(0x00081150, one.sop_class_uid),
                _uid(0x00081155, one.sop_instance_uid),
            ]
        )
    items = [
        [Element(0x00081199, "SQ", references), _uid(0x0020000E, uid)] for uid, references in series.items()
    ]
    elements = [
        Element(0x00081111, "SQ", []),  # of which performed procedure step is not known
        Element(0x00081115, "SQ", items),
        _uid(0x0020000D, study_instance_uid),
    ]
    return write_dataset(elements, transfer_syntax_uid)


def _uid(tag: int, uid: str) -> Element:
    value = uid.encode("ascii", "replace")
    return Element(tag, "UI", value + b"\0" * (len(value) % 2))
