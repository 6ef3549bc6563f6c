"""The value representations of PS3.5 §6.2 as far as bytes are concerned: header form, byte order, padding."""

from __future__ import annotations

from array import array

# PS3.5 table 7.1-2: these have a 16-bit length; every other one, future ones too, has a 32-bit length.
SHORT_LENGTH_VRS = frozenset(
    "AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()  # noqa: SIM905
)
LONG_LENGTH_VRS = frozenset("OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # noqa: SIM905

# Bytes that change places between the byte orders (PS3.5 §7.3).
WORD_BYTES = {
    **dict.fromkeys(("AT", "OW", "SS", "US"), 2),
    **dict.fromkeys(("FL", "OF", "OL", "SL", "UL"), 4),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8),
}
_ARRAY_TYPES = {2: "H", 4: "I", 8: "Q"}

# PS3.5 §6.2: text is padded with a space, UIDs and octets with a null.
_NULL_PADDED = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UI", "UN", *WORD_BYTES))

# The two characters of a VR, read as one 16-bit word of either byte order.
SHORT_VR_BY_WORD = {
    order: {int.from_bytes(vr.encode(), order): vr for vr in SHORT_LENGTH_VRS} for order in ("little", "big")
}
LONG_VR_BY_WORD = {
    order: {int.from_bytes(vr.encode(), order): vr for vr in LONG_LENGTH_VRS} for order in ("little", "big")
}


def swap_bytes(value: bytes, vr: str) -> bytes:
    """``value`` in the other byte order; bytes that do not fill a last word stay as they are."""
    word_bytes = WORD_BYTES.get(vr)
    if word_bytes is None:
        return value
    whole = len(value) // word_bytes * word_bytes
    words = array(_ARRAY_TYPES[word_bytes], value[:whole])
    words.byteswap()
    return words.tobytes() + value[whole:]


def padded(value: bytes, vr: str) -> bytes:
    """``value`` made even in length as its VR demands."""
    if len(value) % 2 == 0:
        return value
    return value + (b"\0" if vr in _NULL_PADDED else b" ")
