"""User identity negotiation (PS3.7 D.3.3.7): the person or program behind an AE title.

Types 2 (user name and passcode) and 5 (JSON Web Token) prove something and are put to a verifier, where the
server has one. A wrong proof ends the association. A user name alone (type 1) proves nothing, and for
Kerberos and SAML there is nobody here to ask: those are taken note of, as the standard allows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from isocenter.dimse.protocol.user_information import UserIdentity, UserIdentityType
from isocenter.features.ae_titles.callers import Grant
from isocenter.features.ae_titles.entries import AeService
from isocenter.platform.security import Permission, Subject

_PROVABLE = frozenset({UserIdentityType.USERNAME_AND_PASSCODE, UserIdentityType.JSON_WEB_TOKEN})
_CHARACTERS_MAX = 16_384
_PERMISSIONS = {
    AeService.STORE: Permission.STUDIES_STORE,
    AeService.FIND: Permission.STUDIES_SEARCH,
    AeService.MOVE: Permission.STUDIES_RETRIEVE,
    AeService.GET: Permission.STUDIES_RETRIEVE,
    AeService.COMMIT: Permission.STUDIES_STORE,
    AeService.WORKLIST: Permission.WORKLIST_PERFORM,
}


class IdentityVerifier(Protocol):
    """Knows users and tokens. ``address`` is where the peer calls from, for limits and the audit trail.

    None: whatever is wrong with it. Raises Unavailable when it cannot tell now.
    """

    async def by_passcode(self, user_name: str, passcode: str, *, address: str) -> Subject | None: ...

    async def by_token(self, token: str, *, address: str) -> Subject | None: ...


async def narrowed(grant: Grant, identity: UserIdentity | None, verifier: IdentityVerifier) -> Grant | None:
    """What both the AE title and its user may do; None where the user is not who it says, or belongs to
    another organisation than the AE title."""
    if identity is None or identity.identity_type not in _PROVABLE:
        return grant
    subject = await _subject(identity, verifier, grant.caller.host)
    if subject is None or subject.organization_id != grant.organization_id:
        return None
    allowed = {service for service in grant.services if subject.may(_PERMISSIONS[service])}
    return replace(grant, services=frozenset(allowed))


async def _subject(identity: UserIdentity, verifier: IdentityVerifier, address: str) -> Subject | None:
    try:
        primary, secondary = identity.primary.decode(), identity.secondary.decode()
    except UnicodeDecodeError:
        return None  # PS3.7 Table D.3-14: both are UTF-8
    if not primary or len(primary) > _CHARACTERS_MAX or len(secondary) > _CHARACTERS_MAX:
        return None
    if identity.identity_type == UserIdentityType.JSON_WEB_TOKEN:
        return await verifier.by_token(primary, address=address)
    return await verifier.by_passcode(primary, secondary, address=address)
