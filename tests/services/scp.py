"""The DIMSE door on a free port, over an archive in a private folder; our own client to knock at it."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isocenter.dicom.dataset import read_dataset, write_dataset
from isocenter.dicom.element import Element
from isocenter.dicom.sop_classes import STUDY_ROOT_FIND, VERIFICATION
from isocenter.dimse.net.client import ClientAssociation, Proposal, connect
from isocenter.dimse.net.server import DimseServer
from isocenter.doors.scp.committing import commitment_worker
from isocenter.doors.scp.identity import IdentityVerifier
from isocenter.doors.scp.outgoing import Outgoing, OutgoingSettings
from isocenter.doors.scp.server import DicomServices, DicomSettings, create_dicom_server
from isocenter.doors.scp.spanned import SpannedArchives
from isocenter.features.ae_titles.destinations import Destination, Destinations
from isocenter.features.ae_titles.service import AeTitles
from isocenter.features.archive.images import open_images
from isocenter.features.audit.trail import AuditTrail
from isocenter.features.commitment.worker import CommitmentWorker
from isocenter.platform.db import Database
from isocenter.platform.workers.pool import WorkerPool
from services.archive import CT, ORGANIZATION, Image, TestArchive, opened
from services.dcmtk import Dcmtk
from services.schema import sqlite_with_schema

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
AE_TITLE = "ISOCENTER"


@dataclass
class ScpDoor:
    archive: TestArchive
    ae_titles: AeTitles
    server: DimseServer
    trail: AuditTrail
    outgoing: Outgoing
    commitments: CommitmentWorker

    @property
    def port(self) -> int:
        return self.server.port

    async def run(
        self, dcmtk: Dcmtk, tool: str, *args: str | int | Path, aec: str = AE_TITLE
    ) -> subprocess.CompletedProcess[str]:
        """One of DCMTK's tools against this door: options and files in ``args``."""
        address = ("-aec", aec, "127.0.0.1", self.port)
        return await asyncio.to_thread(dcmtk.run, tool, "-to", 20, *address[:2], *args_for(args, address[2:]))

    async def connect(
        self,
        *contexts: Proposal,
        calling: str = "SCANNER",
        called: str = AE_TITLE,
        **more: Any,
    ) -> ClientAssociation:
        contexts = contexts or (Proposal(VERIFICATION), Proposal(CT), Proposal(STUDY_ROOT_FIND))
        return await connect(
            "127.0.0.1",
            self.port,
            calling_ae_title=calling,
            called_ae_title=called,
            contexts=contexts,
            **more,
        )

    async def destination(self, title: str, port: int, to: int = ORGANIZATION, **more: Any) -> None:
        """Make a peer on this machine known as a destination."""
        await self.outgoing.destinations.put(to, Destination(title, "127.0.0.1", port, **more))

    async def store(self, *images: Image) -> list[int]:
        """The statuses of the images sent on one association; a failure is an answer like any other."""
        classes = dict.fromkeys(image.sop_class or CT for image in images)
        association = await self.connect(*(Proposal(one, (EXPLICIT,)) for one in classes))
        async with association:
            return [await store_status(association, image) for image in images]

    async def find(
        self,
        level: str,
        model_uid: str = STUDY_ROOT_FIND,
        *,
        syntax: str = EXPLICIT,
        charset: bytes | None = None,
        extended: Sequence[Any] = (),
        **keys: bytes,
    ) -> list[dict[int, bytes]]:
        """The answers to a query: raw values by tag. ``keys`` are ``t00100020=b"P1"``."""
        async with await self.connect(
            Proposal(model_uid, (syntax,)), extended_negotiations=extended
        ) as association:
            query = identifier(level, syntax=syntax, charset=charset, **keys)
            return [
                {one.tag: one.value for one in read_dataset(answer, syntax)}  # type: ignore[misc]
                async for answer in association.find(model_uid, query)
            ]


def args_for(args: Sequence[str | int | Path], address: Sequence[str | int]) -> list[str | int | Path]:
    """DCMTK takes options, then the address, then files."""
    files = [one for one in args if isinstance(one, Path)]
    return [*(one for one in args if not isinstance(one, Path)), *address, *files]


async def store_status(association: ClientAssociation, image: Image) -> int:
    from isocenter.dimse.net.errors import DimseFailure

    try:
        response = await association.store(image.sop_class or CT, image.sop, EXPLICIT, image.data_set)
    except DimseFailure as failure:
        return failure.status
    return response.status


_VRS = {
    0x00080005: "CS",
    0x00080020: "DA",
    0x00080030: "TM",
    0x00080050: "SH",
    0x00080060: "CS",
    0x00080061: "CS",
    0x00081030: "LO",
    0x00100010: "PN",
    0x00100020: "LO",
    0x0020000D: "UI",
    0x0020000E: "UI",
    0x00080018: "UI",
    0x00201206: "IS",
    0x00201208: "IS",
    0x00280010: "US",
    0x00400275: "SQ",
}


def identifier(level: str, *, syntax: str = EXPLICIT, charset: bytes | None = None, **keys: bytes) -> bytes:
    elements = [Element(0x00080052, "CS", level.encode() + b" " * (len(level) % 2))] if level else []
    if charset is not None:
        elements.append(Element(0x00080005, "CS", charset))
    for name, value in keys.items():
        tag = int(name[1:], 16)
        vr = _VRS.get(tag, "LO")
        elements.append(Element(tag, vr, [] if vr == "SQ" else value))
    return write_dataset(elements, syntax)


class OnePageOnly:
    """A database whose second page of a search never comes; ``stopped``: its reader was cancelled."""

    def __init__(self, inner: Database) -> None:
        self._inner = inner
        self._pages = 0
        self.stopped = asyncio.Event()

    async def read(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        self._pages += 1
        if self._pages > 1:
            try:
                await asyncio.Event().wait()
            finally:
                self.stopped.set()
        return await self._inner.read(work, *args, **kwargs)


@contextlib.asynccontextmanager
async def scp_door(
    folder: Path,
    *,
    database_url: str = "",
    settings: DicomSettings | None = None,
    loopback_exempt: bool = True,
    admit_any: bool = False,
    verifier: IdentityVerifier | None = None,
    outgoing_response_s: float = 20.0,
    searching: Callable[[Database], Any] = lambda database: database,
    spanning: Callable[[Database], SpannedArchives | None] = lambda _: None,
    **archive: Any,
) -> AsyncIterator[ScpDoor]:
    """``database_url``: one of ``services.schema.fresh_url``. ``searching`` wraps the database
    that queries go to; ``spanning`` makes what asks other archives. ``archive``: what ``opened`` takes."""
    database_url = database_url or sqlite_with_schema(folder / "isocenter.db")
    async with opened(database_url, folder, **archive) as held:
        ae_titles = AeTitles(held.database, held.clock, admit_any=admit_any, loopback_exempt=loopback_exempt)
        trail = AuditTrail(held.database, held.clock)
        outgoing = Outgoing(
            Destinations(held.database, held.clock), OutgoingSettings(response_s=outgoing_response_s)
        )
        commitments = commitment_worker(held.database, held.store, held.clock, outgoing)
        pixels = open_images(held.leaving, workers=WorkerPool(1))
        server = create_dicom_server(
            DicomServices(
                searching(held.database),
                held.ingest,
                held.leaving,
                ae_titles,
                held.clock,
                outgoing,
                commitments,
                pixels.transcoder,
                verifier,
                spanned=spanning(held),
                recorder=trail,
            ),
            settings or DicomSettings(),
        )
        await server.start("127.0.0.1", 0)
        try:
            yield ScpDoor(held, ae_titles, server, trail, outgoing, commitments)
        finally:
            await server.shutdown(10)
            await pixels.close()
            await commitments.stop()
            await outgoing.close()
            await ae_titles.close()
            await trail.close()
