"""One data element (PS3.5 §7.1) as the rest of the program passes it around."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BulkRange:
    """A value left where it is: ``length`` bytes at ``offset`` of the buffer that was read.

    ``encapsulated`` marks compressed Pixel Data (PS3.5 A.4); the range then spans the item headers
    from the Basic Offset Table up to, and without, the Sequence Delimitation Item.
    """

    offset: int
    length: int
    encapsulated: bool = False


@dataclass(slots=True)
class Element:
    """``tag`` is ``0xGGGGEEEE``; ``vr`` two letters (``UN`` where an implicit data set does not tell).

    ``value`` is the raw value in little-endian byte order, padding included; for ``SQ`` the items,
    each a list of elements in the order read; or a range for values that were not worth copying.
    """

    tag: int
    vr: str
    value: bytes | list[list[Element]] | BulkRange
