"""How each kind of source is called."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass

from isocenter.dimse.scu.peers import Peer, Remotes
from isocenter.doors.spanning.own_archive import OwnArchive
from isocenter.features.spanner.adapters import Adapter
from isocenter.features.spanner.dicomweb_adapter import DicomwebAdapter
from isocenter.features.spanner.dimse_adapter import DimseAdapter
from isocenter.features.spanner.entries import Source, SourceType
from isocenter.features.spanner.failures import Ended, SourceFailed
from isocenter.features.spanner.sources import Sources
from isocenter.kit.errors import IsocenterError
from isocenter.platform.db import Database

_RESPONSE_S = 300.0
"""How long a question may take is said by its configuration, and never longer than this."""


@dataclass(frozen=True, slots=True)
class Calling:
    """``ae_title``: ours, where a source has not been told of another. ``dicom_tls``, ``https``: what we show
    and trust, made when it is needed."""

    database: Database
    sources: Sources
    remotes: Remotes
    ae_title: str
    dicom_tls: Callable[[], ssl.SSLContext]
    https: Callable[[], ssl.SSLContext] = ssl.create_default_context

    def adapter(self, organization_id: int, source: Source) -> Adapter:
        """Raises SourceFailed where it cannot be called for a fault of ours."""
        try:
            match source.type:
                case SourceType.LOCAL:
                    return OwnArchive(self.database, organization_id)
                case SourceType.DICOMWEB:
                    secret = self.sources.secret_of(organization_id, source)
                    tls = self.https() if source.url.startswith("https:") else None
                    return DicomwebAdapter(source, secret, tls)
                case SourceType.DIMSE | SourceType.MODALITY:
                    return DimseAdapter(self.remotes, self._peer(source), source.quirks)
        except IsocenterError as error:
            raise SourceFailed(Ended.FAILED, error.detail, remedy=error.remedy, blamed=False) from error

    def _peer(self, source: Source) -> Peer:
        return Peer(
            source.host,
            source.port,
            source.ae_title,
            source.calling_ae_title or self.ae_title,
            tls=self.dicom_tls() if source.tls else None,
            tls_name=source.tls_name,
            connect_s=5.0,
            response_s=_RESPONSE_S,
            associations_max=source.limits.at_once,
        )
