"""What an administrator decides about an identity provider, kept as JSON in its row."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from isocenter.features.accounts.openid.errors import InvalidProvider
from isocenter.platform.security import PERMISSIONS_OF_ROLE, Role

MappedRole = Literal[Role.CLINICIAN, Role.RADIOGRAPHER, Role.RADIOLOGIST, Role.ADMIN]
DefaultRole = Literal[Role.CLINICIAN, Role.RADIOGRAPHER, Role.RADIOLOGIST]
_SCOPES = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")  # RFC 6749 §3.3
_DOMAIN = r"^[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+$"


def _listed(value: Any) -> Any:
    """``"a.example, b.example"`` of the command line."""
    if isinstance(value, str):
        value = [word.strip() for word in value.split(",") if word.strip()]
    if not isinstance(value, list | tuple):
        return value
    return [word.lower() if isinstance(word, str) else word for word in value]


Claim = Annotated[str, Field(max_length=256)]
Domain = Annotated[str, Field(max_length=253, pattern=_DOMAIN)]


class ProviderSettings(BaseModel):
    """``login_claim`` becomes the login name of whoever is made; a claim inside of another is named with dots
    (``realm_access.roles``). ``roles`` maps values of ``role_claim`` to roles: where there are some, they
    decide at every login, and whoever has none of them is ``default_role``, or not let in.

    ``email_domains`` (empty: any) and ``email_verified`` hold at every login. After ``session_hours`` the
    provider is asked again: until then nobody notices here that it has let somebody go.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scopes: Annotated[str, Field(max_length=1000)] = "openid profile email"
    login_claim: Annotated[Claim, Field(min_length=1)] = "email"
    role_claim: Claim = ""
    roles: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=256)], MappedRole], Field(max_length=200)
    ] = {}
    default_role: DefaultRole | None = None
    people: Literal["invited", "create"] = "invited"
    email_domains: Annotated[tuple[Domain, ...], BeforeValidator(_listed), Field(max_length=100)] = ()
    email_verified: bool = True
    second_factor: Literal["provider", "ours-too"] = "provider"
    session_hours: Annotated[int, Field(ge=1, le=168)] = 12

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if not _SCOPES.fullmatch(self.scopes) or "openid" not in self.scopes.split():
            raise ValueError("scopes are words with one space between, 'openid' among them")
        if bool(self.roles) != bool(self.role_claim):
            raise ValueError("role_claim and roles belong together")
        if self.people == "create" and not self.roles and self.default_role is None:
            raise ValueError("whom the provider brings needs a role: set roles or default_role")
        default = self.default_role
        if (
            self.roles
            and default is not None
            and not any(_covers(role, default) for role in self.roles.values())
        ):
            raise ValueError("default_role may do more than every role in roles")
        return self

    @property
    def granted_roles(self) -> frozenset[Role]:
        """Whatever role somebody may come by."""
        default = {self.default_role} if self.default_role is not None else set()
        return frozenset(map(Role, {*self.roles.values(), *default}))

    @classmethod
    def read(cls, kept: str) -> ProviderSettings:
        """Entries of a newer Isocenter are left alone."""
        found = orjson.loads(kept)
        return cls.model_validate({name: found[name] for name in cls.model_fields if name in found})

    def changed(self, changes: dict[str, Any]) -> ProviderSettings:
        """None takes the default. Raises InvalidProvider, naming what is wrong."""
        unknown = sorted(changes.keys() - type(self).model_fields.keys())
        if unknown:
            raise InvalidProvider(
                f"No setting of an identity provider is called {', '.join(unknown)[:200]}.",
                remedy=f"There are: {', '.join(type(self).model_fields)}.",
            )
        chosen = {name: value for name, value in (self.model_dump() | changes).items() if value is not None}
        try:
            return type(self).model_validate(chosen)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, one['loc']))}: {one['msg']}".lstrip(": ")
                for one in error.errors(include_url=False)
            )
            raise InvalidProvider(f"The settings are not valid: {problems[:1000]}") from None

    def written(self) -> str:
        return orjson.dumps(self.model_dump(mode="json", exclude_defaults=True)).decode()


def _covers(role: Role, other: Role) -> bool:
    return PERMISSIONS_OF_ROLE[other] <= PERMISSIONS_OF_ROLE[role]
