"""Other DICOM systems, and the associations that we keep with them."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from isocenter.dimse.net.client import ClientAssociation, Proposal, connect
from isocenter.dimse.net.pool import AssociationPool


@dataclass(frozen=True, slots=True)
class Peer:
    """A DICOM system as we call it.

    ``tls_name`` is the name that its certificate has to show, where that is not ``host``. ``response_s``:
    how long it may say nothing while it owes an answer.
    """

    host: str
    port: int
    called_ae_title: str
    calling_ae_title: str
    tls: ssl.SSLContext | None = None
    tls_name: str = ""
    connect_s: float = 10.0
    association_s: float = 30.0
    response_s: float = 60.0

    def __str__(self) -> str:
        return f"{self.called_ae_title} at {self.host}:{self.port}"


_Key = tuple[Peer, tuple[Proposal, ...]]


class Remotes:
    """Associations by peer and proposed contexts, for everybody who speaks to peers."""

    def __init__(self, *, associations_max: int = 4, idle_s: float = 30.0) -> None:
        self._pool: AssociationPool[_Key] = AssociationPool(
            _open, max_per_peer=associations_max, idle_s=idle_s
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def association(
        self, peer: Peer, contexts: Sequence[Proposal]
    ) -> AbstractAsyncContextManager[ClientAssociation]:
        """An association for the length of a block. Entering raises ConnectFailed, AssociationRejected,
        AssociationAborted, DimseTimeout."""
        return self._pool.association((peer, tuple(contexts)))

    async def close(self) -> None:
        """Release what is idle; what is in use is released when it is given back."""
        await self._pool.close()


async def _open(key: _Key) -> ClientAssociation:
    peer, contexts = key
    return await connect(
        peer.host,
        peer.port,
        calling_ae_title=peer.calling_ae_title,
        called_ae_title=peer.called_ae_title,
        contexts=contexts,
        tls=peer.tls,
        server_hostname=peer.tls_name or peer.host,
        connect_s=peer.connect_s,
        association_s=peer.association_s,
        response_s=peer.response_s,
    )
