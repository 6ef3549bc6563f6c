"""How systems are called that an organisation has named as destinations: for what others have us send, for
reports, for what we ask ourselves."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from isocenter.dimse.net.client import ClientAssociation, Proposal
from isocenter.dimse.protocol.user_information import RoleSelection
from isocenter.dimse.scu.peers import Peer, Remotes
from isocenter.features.ae_titles.destinations import Destination, Destinations
from isocenter.kit.errors import IsocenterError, NotFound, Unavailable

CalledTls = Callable[[], ssl.SSLContext]

_ASSOCIATION_S = 30.0
_IDLE_S = 2.0
"""Many a system takes few associations, and others want to call it too."""
_CLOSE_S = 1.5


@dataclass(frozen=True, slots=True)
class OutgoingSettings:
    """``ae_title``: ours, where nobody was called by another of ours. ``response_s``: how long a system may
    say nothing while it owes an answer. ``operations_max``: the asynchronous operations window proposed."""

    ae_title: str = "ISOCENTER"
    response_s: float = 60.0
    operations_max: int = 8


class Outgoing:
    """``close`` releases the associations that lie idle."""

    def __init__(
        self,
        destinations: Destinations,
        settings: OutgoingSettings | None = None,
        *,
        tls: CalledTls = ssl.create_default_context,
    ) -> None:
        self.destinations = destinations
        self.remotes = Remotes(idle_s=_IDLE_S)
        self._settings = settings or OutgoingSettings()
        self._tls = tls

    @property
    def ae_title(self) -> str:
        return self._settings.ae_title

    async def find(self, organization_id: int, title: str) -> Destination | None:
        return await self.destinations.find(organization_id, title)

    def peer(self, destination: Destination, calling_ae_title: str = "") -> Peer:
        """Raises Unavailable where our TLS files cannot be used."""
        try:
            tls = self._tls() if destination.tls else None
        except IsocenterError as error:
            raise Unavailable(error.detail, code=error.code, remedy=error.remedy) from error
        return Peer(
            destination.address,
            destination.port,
            destination.title,
            calling_ae_title or self.ae_title,
            tls=tls,
            tls_name=destination.tls_name,
            association_s=min(_ASSOCIATION_S, self._settings.response_s),
            response_s=self._settings.response_s,
            associations_max=destination.associations_max,
            operations_max=self._settings.operations_max,
        )

    @contextlib.asynccontextmanager
    async def association(
        self,
        organization_id: int,
        title: str,
        contexts: Sequence[Proposal],
        *,
        roles: Sequence[RoleSelection] = (),
        calling_ae_title: str = "",
    ) -> AsyncIterator[ClientAssociation]:
        """With the destination of that title. Raises NotFound without one, and what ``Remotes`` raises."""
        destination = await self.find(organization_id, title)
        if destination is None:
            raise NotFound(
                f"Nobody has said where {title} is.",
                code="no-such-destination",
                remedy=f"isocenter ae destination add {title} ADDRESS PORT",
            )
        peer = self.peer(destination, calling_ae_title)
        async with self.remotes.association(peer, contexts, roles=roles) as association:
            yield association

    async def close(self) -> None:
        """Whoever does not answer a release in time is left: a server that ends cannot wait for it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self.remotes.close()
