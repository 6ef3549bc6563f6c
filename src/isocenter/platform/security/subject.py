"""Who is asking: the only thing that a use case has to know of how somebody came in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from isocenter.kit.errors import Forbidden
from isocenter.platform.security.permissions import Permission


class SubjectKind(StrEnum):
    USER = "user"
    API_KEY = "api-key"
    AE_TITLE = "ae-title"
    SHARE_LINK = "share-link"
    SERVICE = "service"  # this program itself: scheduled work, the command line
    ANYBODY = "anybody"  # of this machine, where the operator switched logins off


@dataclass(frozen=True, slots=True)
class Subject:
    """``id`` is stable and tells nothing (a number, an AE title); ``name`` is for people and for the audit
    trail; ``address`` is where the request came from. ``session_id``: the login that a token belongs to."""

    kind: SubjectKind
    id: str
    organization_id: int
    permissions: frozenset[Permission]
    name: str = ""
    address: str = ""
    session_id: str = ""

    @property
    def called(self) -> str:
        """What is kept of who said something."""
        return self.name or self.id

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions

    def require(self, permission: Permission) -> None:
        """Raises Forbidden."""
        if permission not in self.permissions:
            raise Forbidden(
                f"This needs the permission {permission}.",
                code="permission-missing",
                remedy="Ask an administrator of your organisation for it.",
            )


def anybody(organization_id: int) -> Subject:
    """Who asks where the operator switched logins off (``--no-auth``, loopback only): may do everything."""
    return Subject(SubjectKind.ANYBODY, "anybody", organization_id, frozenset(Permission), "anybody")
