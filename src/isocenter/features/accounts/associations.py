"""Who is behind an association (PS3.7 D.3.3.7): what the DIMSE door asks of accounts."""

from __future__ import annotations

from isocenter.features.accounts.authentication import Authentication
from isocenter.features.accounts.login import Login
from isocenter.kit.errors import Unauthenticated
from isocenter.platform.security import Subject


class AssociationIdentities:
    """The DIMSE door's ``IdentityVerifier``. None: whatever is wrong with it."""

    def __init__(self, login: Login, authentication: Authentication) -> None:
        self._login = login
        self._authentication = authentication

    async def by_passcode(self, user_name: str, passcode: str, *, address: str) -> Subject | None:
        """A person's login and password; not where a second factor is on, which DICOM has no room for."""
        try:
            return await self._login.identify(user_name, passcode, address=address)
        except Unauthenticated:
            return None

    async def by_token(self, token: str, *, address: str) -> Subject | None:
        """An access token as HTTP takes it."""
        try:
            return await self._authentication.subject_of(f"Bearer {token}", address)
        except Unauthenticated:
            return None
