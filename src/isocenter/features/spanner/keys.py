"""Matching keys as a source understands them."""

from __future__ import annotations

from isocenter.dicom.dictionary import vr_of
from isocenter.dicom.matching import RANGE_VRS
from isocenter.features.spanner.entries import Quirks


def understood(quirks: Quirks, tag: int, text: str) -> str:
    """The key's text; empty where the source does not understand it: then its rows are matched here."""
    vr = vr_of(tag)
    if not quirks.wildcards and ("*" in text or "?" in text):
        return ""
    if not quirks.ranges and vr in RANGE_VRS and "-" in text:
        return ""
    return text.upper() if vr == "PN" and quirks.upper_case_names else text
