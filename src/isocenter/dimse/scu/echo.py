"""C-ECHO: does it answer? (PS3.4 A.4)"""

from __future__ import annotations

from isocenter.dicom.sop_classes import VERIFICATION
from isocenter.dimse.net.client import Proposal
from isocenter.dimse.scu.peers import Peer, Remotes

CONTEXTS = (Proposal(VERIFICATION),)


async def echo(remotes: Remotes, peer: Peer) -> None:
    """Returns when the peer has answered. Raises ConnectFailed, AssociationRejected, AssociationAborted,
    DimseTimeout, ContextNotAccepted, DimseFailure."""
    async with remotes.association(peer, CONTEXTS) as association:
        await association.echo()
