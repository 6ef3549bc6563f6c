"""Data sets as DIMSE carries them, to and from DICOM JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from isocenter.dicom.charsets import encoder_for
from isocenter.dicom.dataset import read_dataset, write_dataset
from isocenter.dicom.json_dataset import dataset_json, elements_from_json
from isocenter.dicom.opening import open_data_set
from isocenter.dicom.scan_limits import ScanLimits
from isocenter.dicom.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.features.worklist.datasets import DataSet, items, parsed

SPECIFIC_CHARACTER_SET = "00080005"

# Reading holds up the event loop; performed steps list a few thousand images at most.
_LIMITS = ScanLimits(elements_max=100_000, inflated_bytes_max=4 << 20)


def from_dimse(data_set: bytes, transfer_syntax_uid: str) -> DataSet:
    """Raises ScanError, InvalidInput."""
    elements = read_dataset(data_set, transfer_syntax_uid, limits=_LIMITS)
    return parsed(dataset_json([one for one in elements if one.tag > 0x0007FFFF and one.tag & 0xFFFF]))


def to_dimse(
    data_set: Mapping[str, Any], transfer_syntax_uid: str, character_sets: bytes | None = None
) -> bytes:
    """In the requester's character sets where they hold all of its text, else in UTF-8."""
    text = orjson.dumps(data_set).decode()
    beyond = () if text.isascii() else ("".join(c for c in text if not c.isascii()),)
    encoder = encoder_for(character_sets, beyond)
    kept = {name: one for name, one in data_set.items() if name != SPECIFIC_CHARACTER_SET}
    return write_dataset(elements_from_json(kept, encoder=encoder), transfer_syntax_uid)


def shaped(asked: Mapping[str, Any], found: Mapping[str, Any]) -> DataSet:
    """What was asked for, empty where there is none (PS3.4 C.4.1.1.3.2); a sequence asked for without an
    item is given whole."""
    answer: DataSet = {}
    for name, attribute in asked.items():
        if name == SPECIFIC_CHARACTER_SET:
            continue
        tag, inner = int(name, 16), items(asked, int(name, 16))
        if attribute["vr"] == "SQ" and inner and inner[0]:
            answer[name] = {"vr": "SQ", "Value": [shaped(inner[0], item) for item in items(found, tag)]}
        else:
            answer[name] = found.get(name) or {"vr": attribute["vr"]}
    return answer


def from_file(content: bytes) -> DataSet:
    """A file's data set, with or without a file header. Raises ScanError."""
    found = open_data_set(content, None, _LIMITS)
    if found.deflated:
        syntax = DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
    elif found.encoding.implicit_vr:
        syntax = IMPLICIT_VR_LITTLE_ENDIAN
    else:
        syntax = EXPLICIT_VR_BIG_ENDIAN if found.encoding.big_endian else EXPLICIT_VR_LITTLE_ENDIAN
    return from_dimse(content[found.header_size :], syntax)
