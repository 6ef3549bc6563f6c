"""Other DICOM systems, and the associations that we keep with them."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

from isocenter.dimse.net.client import ClientAssociation, Proposal, connect
from isocenter.dimse.net.pool import AssociationPool
from isocenter.dimse.protocol.user_information import ExtendedNegotiation, RoleSelection


@dataclass(frozen=True, slots=True)
class Peer:
    """A DICOM system as we call it.

    ``tls_name`` is the name that its certificate has to show, where that is not ``host``. ``response_s``:
    how long it may say nothing while it owes an answer. ``associations_max``: how many we open to it at most;
    0: as ``Remotes`` does. ``operations_max``: the asynchronous operations window that we propose.
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
    associations_max: int = 0
    operations_max: int = 1

    def __str__(self) -> str:
        return f"{self.called_ae_title} at {self.host}:{self.port}"


class _Key(NamedTuple):
    peer: Peer
    contexts: tuple[Proposal, ...] = ()
    roles: tuple[RoleSelection, ...] = ()
    extended: tuple[ExtendedNegotiation, ...] = ()

    @property
    def system(self) -> tuple[str, int, str]:
        """Whatever we call ourselves and propose, these associations are one system's."""
        return self.peer.host, self.peer.port, self.peer.called_ae_title


class Remotes:
    """Associations by peer and proposed contexts, for everybody who speaks to peers."""

    def __init__(self, *, associations_max: int = 4, idle_s: float = 30.0) -> None:
        self._pool: AssociationPool[_Key] = AssociationPool(
            _open,
            peer_of=lambda key: key.system,
            max_of=lambda key: key.peer.associations_max or associations_max,
            idle_s=idle_s,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def association(
        self,
        peer: Peer,
        contexts: Sequence[Proposal],
        *,
        roles: Sequence[RoleSelection] = (),
        extended: Sequence[ExtendedNegotiation] = (),
        wait_s: float | None = None,
    ) -> AbstractAsyncContextManager[ClientAssociation]:
        """An association for the length of a block. ``wait_s``: how long to wait in line where all are in
        use; None: half a minute. Entering raises ConnectFailed, AssociationRejected, AssociationAborted,
        DimseTimeout."""
        key = _Key(peer, tuple(contexts), tuple(roles), tuple(extended))
        return self._pool.association(key, wait_s=wait_s)

    def is_waited_for(self, peer: Peer) -> bool:
        """Whether somebody waits in line for an association with it."""
        return self._pool.is_waited_for(_Key(peer))

    async def close(self) -> None:
        """Release what is idle; what is in use is released when it is given back."""
        await self._pool.close()


async def _open(key: _Key) -> ClientAssociation:
    peer = key.peer
    return await connect(
        peer.host,
        peer.port,
        calling_ae_title=peer.calling_ae_title,
        called_ae_title=peer.called_ae_title,
        contexts=key.contexts,
        tls=peer.tls,
        server_hostname=peer.tls_name or peer.host,
        roles=key.roles,
        extended_negotiations=key.extended,
        operations_max=peer.operations_max,
        performed_max=peer.operations_max,
        connect_s=peer.connect_s,
        association_s=peer.association_s,
        response_s=peer.response_s,
    )
