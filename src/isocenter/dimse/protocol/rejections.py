"""Why an association is refused (PS3.8 Table 9-21), for the wire and in words."""

from __future__ import annotations

from isocenter.dimse.protocol.pdu import AssociateReject

PERMANENT, TRANSIENT = 1, 2
SERVICE_USER, SERVICE_PROVIDER_ACSE, SERVICE_PROVIDER_PRESENTATION = 1, 2, 3

NO_REASON = AssociateReject(PERMANENT, SERVICE_USER, 1)
APPLICATION_CONTEXT_NOT_SUPPORTED = AssociateReject(PERMANENT, SERVICE_USER, 2)
CALLING_AE_TITLE_NOT_RECOGNIZED = AssociateReject(PERMANENT, SERVICE_USER, 3)
CALLED_AE_TITLE_NOT_RECOGNIZED = AssociateReject(PERMANENT, SERVICE_USER, 7)
ACSE_NO_REASON = AssociateReject(PERMANENT, SERVICE_PROVIDER_ACSE, 1)
PROTOCOL_VERSION_NOT_SUPPORTED = AssociateReject(PERMANENT, SERVICE_PROVIDER_ACSE, 2)
TEMPORARY_CONGESTION = AssociateReject(TRANSIENT, SERVICE_PROVIDER_PRESENTATION, 1)
LOCAL_LIMIT_EXCEEDED = AssociateReject(TRANSIENT, SERVICE_PROVIDER_PRESENTATION, 2)

_RESULTS = {PERMANENT: "permanently", TRANSIENT: "for now"}
_SOURCES = {
    SERVICE_USER: "the application",
    SERVICE_PROVIDER_ACSE: "the network layer (ACSE)",
    SERVICE_PROVIDER_PRESENTATION: "the network layer (presentation)",
}
_REASONS = {
    (SERVICE_USER, 1): "no reason given",
    (SERVICE_USER, 2): "the application context name is not supported",
    (SERVICE_USER, 3): "the calling AE title is not known there",
    (SERVICE_USER, 7): "the called AE title is not known there",
    (SERVICE_PROVIDER_ACSE, 1): "no reason given",
    (SERVICE_PROVIDER_ACSE, 2): "the protocol version is not supported",
    (SERVICE_PROVIDER_PRESENTATION, 1): "temporary congestion",
    (SERVICE_PROVIDER_PRESENTATION, 2): "it has as many associations as it allows",
}


def describe(reject: AssociateReject) -> str:
    """``"refused for now by the network layer (presentation): temporary congestion"``."""
    result = _RESULTS.get(reject.result, f"with result {reject.result}")
    source = _SOURCES.get(reject.source, f"source {reject.source}")
    reason = _REASONS.get((reject.source, reject.reason), f"reason {reject.reason}")
    return f"refused {result} by {source}: {reason}"
