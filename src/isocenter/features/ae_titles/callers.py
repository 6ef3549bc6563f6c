"""Somebody at the DIMSE door, and what was granted to them."""

from __future__ import annotations

from dataclasses import dataclass

from isocenter.features.ae_titles.certificates import PeerCertificate
from isocenter.features.ae_titles.entries import AeService


@dataclass(frozen=True, slots=True)
class Caller:
    """As it presents itself; the address and the certificate it cannot make up."""

    ae_title: str
    host: str
    certificate: PeerCertificate | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """Whose data a caller works on, and what it may do with them. ``spans``: the title that it has called
    stands for many archives."""

    organization_id: int
    services: frozenset[AeService]
    caller: Caller
    spans: bool = False
