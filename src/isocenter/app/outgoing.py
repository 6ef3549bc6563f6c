"""How the archive's organisations call other systems."""

from __future__ import annotations

from isocenter.app.archive import Archive
from isocenter.doors.scp.outgoing import Outgoing, OutgoingSettings
from isocenter.features.ae_titles.destinations import Destinations
from isocenter.platform.settings import Settings
from isocenter.platform.tls import (
    CallingTls,
    DicomProfile,
    dicom_profile,
)


def outgoing_of(archive: Archive) -> Outgoing:
    """How the archive's organisations call their destinations; close it."""
    settings = archive.settings
    return Outgoing(
        Destinations(archive.database, archive.clock),
        OutgoingSettings(settings.ae_title, settings.dimse_response_timeout_s),
        tls=calling_tls(settings).context,
    )


def calling_tls(settings: Settings) -> CallingTls:
    """What we show and trust where a system is called by TLS."""
    files = settings.dicom_tls_files
    return CallingTls(
        dicom_profile(DicomProfile(settings.dicom_tls_profile)),
        authorities=settings.dicom_tls_peers_ca_file,
        certificate=files[0] if files else None,
        key=files[1] if files else None,
    )
