"""What browsers send of passkeys: ``PublicKeyCredential.toJSON()`` (WebAuthn Level 3 §5.1), within bounds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

CredentialId = Annotated[str, Field(min_length=1, max_length=1364)]  # 1023 bytes
ClientData = Annotated[str, Field(max_length=8192, alias="clientDataJSON")]
Transport = Annotated[str, Field(max_length=20, pattern="^[a-z-]*$")]


class _Sent(BaseModel):
    """Browsers send more than is looked at."""

    model_config = ConfigDict(extra="ignore")

    def as_sent(self) -> dict[str, Any]:
        return self.model_dump(by_alias=True, exclude_none=True)


class AttestationModel(_Sent):
    client_data_json: ClientData
    attestation_object: Annotated[str, Field(max_length=32768, alias="attestationObject")]
    transports: Annotated[list[Transport], Field(max_length=8)] = []


class NewCredentialModel(_Sent):
    """Of ``navigator.credentials.create()``."""

    id: CredentialId
    raw_id: Annotated[CredentialId, Field(alias="rawId")]
    type: Literal["public-key"]
    response: AttestationModel


class AssertionModel(_Sent):
    client_data_json: ClientData
    authenticator_data: Annotated[str, Field(max_length=8192, alias="authenticatorData")]
    signature: Annotated[str, Field(max_length=8192)]
    user_handle: Annotated[str | None, Field(max_length=128, alias="userHandle")] = None


class CredentialModel(_Sent):
    """Of ``navigator.credentials.get()``."""

    id: CredentialId
    raw_id: Annotated[CredentialId, Field(alias="rawId")]
    type: Literal["public-key"]
    response: AssertionModel


class OptionsModel(BaseModel):
    """For ``PublicKeyCredential.parseCreationOptionsFromJSON`` or ``parseRequestOptionsFromJSON``."""

    public_key: dict[str, Any]
