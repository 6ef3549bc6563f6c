"""Composing the DIMSE door: from the archive and its settings to a server that can be started."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from isocenter.dicom import dictionary
from isocenter.dimse.net.server import DimseServer, ServerSettings
from isocenter.dimse.protocol.limits import Limits
from isocenter.doors.scp.archived_objects import archive_conversions
from isocenter.doors.scp.committing import Committing
from isocenter.doors.scp.identity import IdentityVerifier
from isocenter.doors.scp.outgoing import Outgoing
from isocenter.doors.scp.performing import Performing
from isocenter.doors.scp.retrieving import Retriever
from isocenter.doors.scp.service import DicomService
from isocenter.doors.scp.spanned import SpannedArchives
from isocenter.doors.scp.witness import AssociationWitness
from isocenter.doors.scp.worklist import ModalityWorklist
from isocenter.features.ae_titles.service import AeTitles
from isocenter.features.archive.ingest import Ingest
from isocenter.features.archive.presented import PresentingStore
from isocenter.features.archive.transcoding import Transcoder
from isocenter.features.commitment.worker import CommitmentWorker
from isocenter.features.worklist.items import WorklistItems
from isocenter.features.worklist.performed import PerformedSteps
from isocenter.kit.clock import Clock
from isocenter.platform.db import Database
from isocenter.platform.security import NoRecorder, Recorder


@dataclass(frozen=True, slots=True)
class DicomServices:
    """What the door stands on. ``leaving``: the objects as they leave. Without ``verifier`` user identities
    are not looked at; without ``spanned`` no title stands for other archives."""

    database: Database
    ingest: Ingest
    leaving: PresentingStore
    ae_titles: AeTitles
    clock: Clock
    outgoing: Outgoing
    commitments: CommitmentWorker
    transcoder: Transcoder
    verifier: IdentityVerifier | None = None
    spanned: SpannedArchives | None = None
    recorder: Recorder = field(default_factory=NoRecorder)


@dataclass(frozen=True, slots=True)
class DicomSettings:
    """``max_pdu`` in bytes; ``other_ae_titles`` are called besides ``ae_title``. ``move_associations``: how
    many one C-MOVE may use at once."""

    ae_title: str = "ISOCENTER"
    other_ae_titles: tuple[str, ...] = ()
    max_pdu: int = 128 << 10
    artim_s: float = 30.0
    idle_s: float = 60.0
    associations_max: int = 200
    operations_max: int = 16
    move_associations: int = 1
    accept_unknown_sop_classes: bool = False


def create_dicom_server(
    services: DicomServices, settings: DicomSettings, *, tls: ssl.SSLContext | None = None
) -> DimseServer:
    """The server, not yet listening: ``await server.start(host, port)``, ``await server.shutdown(grace_s)``.

    Shut it down before the services are closed.
    """
    dictionary.load()  # for identifiers in implicit VR; later it would hold up every association
    witness = AssociationWitness(services.recorder, services.clock)
    retriever = Retriever(
        services.database,
        services.leaving,
        services.ae_titles.admission,
        witness,
        services.outgoing,
        archive_conversions(services.transcoder),
        associations=settings.move_associations,
        spanned=services.spanned,
    )
    service = DicomService(
        database=services.database,
        ingest=services.ingest,
        admission=services.ae_titles.admission,
        ae_titles=frozenset({settings.ae_title, *settings.other_ae_titles}),
        accept_unknown_sop_classes=settings.accept_unknown_sop_classes,
        verifier=services.verifier,
        spanned=services.spanned,
        witness=witness,
        retriever=retriever,
        committing=Committing(services.commitments, services.ae_titles.admission, witness),
        worklist=ModalityWorklist(
            WorklistItems(services.database, services.clock), services.ae_titles.admission, witness
        ),
        performing=Performing(
            PerformedSteps(services.database, services.clock), services.ae_titles.admission, witness
        ),
    )
    return DimseServer(
        service,
        ServerSettings(
            limits=Limits(pdata_bytes_max=settings.max_pdu),
            artim_s=settings.artim_s,
            idle_s=settings.idle_s,
            associations_max=settings.associations_max,
            operations_max=settings.operations_max,
        ),
        tls=tls,
        clock=services.clock,
    )
