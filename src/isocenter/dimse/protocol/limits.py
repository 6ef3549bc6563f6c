"""What a peer may make us keep or do. Each bound is checked before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass

# A PDU's own length field counts its body only; some peers send the advertised maximum counted
# without the PDV headers. Fragments are never collected, so this much grace costs no memory.
PDATA_TOLERANCE_BYTES = 128


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for one association; sizes in bytes.

    ``pdata_bytes_max`` is what we advertise as maximum length (PS3.8 D.1): the body of a P-DATA-TF PDU. The
    default is DCMTK's largest, which every peer has met; 256 KB and 1 MB were measured to be no faster.
    ``send_pdata_bytes_max`` caps our own PDUs where a peer says "unlimited" or more than is of use.
    ``command_bytes_max`` bounds a command set, which in real life stays under 500 bytes.
    ``data_set_bytes_max`` ends a message whose fragments never end.
    """

    associate_bytes_max: int = 1 << 20
    associate_items_max: int = 8192
    presentation_contexts_max: int = 128  # PS3.8 §9.3.2.2: odd numbers from 1 to 255
    pdata_bytes_max: int = 128 << 10
    send_pdata_bytes_max: int = 1 << 20
    command_bytes_max: int = 64 << 10
    data_set_bytes_max: int = 64 << 30


DEFAULT_LIMITS = Limits()
