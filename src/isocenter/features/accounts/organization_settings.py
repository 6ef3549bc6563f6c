"""What an organisation may decide for itself, kept as JSON in its row.

``features/archive`` reads its policies, quota and retention from the same JSON; they are written under its
names for them. What is not set follows the server's settings.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from isocenter.kit.errors import InvalidInput
from isocenter.kit.sizes import parse_bytes
from isocenter.platform.security import Role


def _bytes_told(size: Any) -> Any:
    return parse_bytes(size) if isinstance(size, str) else size


Size = Annotated[int, BeforeValidator(_bytes_told), Field(ge=0, le=1 << 62)]
"""Also as people write it: 10GB."""
Days = Annotated[int, Field(ge=1, le=36_500)]
DaysOrNone = Annotated[int, Field(ge=0, le=36_500)]


def _kept_as(name: str, kept: str) -> Any:
    return Field(default=None, validation_alias=AliasChoices(name, kept), serialization_alias=kept)


class OrganizationSettings(BaseModel):
    """``registration_role`` is what people become who register by themselves; ``quota_bytes``, which is
    operators' to set, is the most that all objects kept may come to; ``deletion_grace_days`` is how long what
    is deleted can be restored (0: not at all)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    conflict_policy: Literal["reject", "keep-first", "replace", "keep-both"] | None = _kept_as(
        "conflict_policy", "conflict"
    )
    batch_policy: Literal["accept-valid", "all-or-nothing"] | None = _kept_as("batch_policy", "batch")
    validation: Literal["strict", "standard", "lenient"] | None = _kept_as("validation", "strictness")
    accept_unknown_sop_classes: bool | None = None
    registration_open: bool = False
    registration_role: Literal[Role.CLINICIAN, Role.RADIOGRAPHER, Role.RADIOLOGIST] = Role.CLINICIAN
    quota_bytes: Size | None = None
    retention_days: Days | None = None
    deletion_grace_days: DaysOrNone | None = None

    @classmethod
    def read(cls, kept: str) -> OrganizationSettings:
        """Entries of a newer or older Isocenter are left alone, not refused."""
        known = {
            name for field, info in cls.model_fields.items() for name in (field, info.serialization_alias)
        }
        return cls.model_validate(
            {name: value for name, value in orjson.loads(kept).items() if name in known}
        )

    def changed(self, changes: dict[str, Any]) -> OrganizationSettings:
        """Raises InvalidInput, naming what is wrong."""
        unknown = sorted(changes.keys() - type(self).model_fields.keys())
        if unknown:
            raise InvalidInput(
                f"No setting of an organisation is called {', '.join(unknown)[:200]}.",
                code="invalid-organization-settings",
                remedy=f"There are: {', '.join(type(self).model_fields)}.",
            )
        try:
            return type(self).model_validate({**self.model_dump(), **changes})
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False)
            )
            raise InvalidInput(
                f"The organisation's settings are not valid: {problems}", code="invalid-organization-settings"
            ) from None

    def written_over(self, kept: str) -> str:
        """The JSON to keep: ours, and whatever was there that we do not know."""
        others = orjson.loads(kept)
        for name, info in type(self).model_fields.items():
            others.pop(name, None)
            others.pop(info.serialization_alias, None)
        ours = self.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True)
        return orjson.dumps(others | ours).decode()
