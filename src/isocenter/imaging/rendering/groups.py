"""Functional groups: what an enhanced multi-frame object says of one frame, or of all (PS3.3 C.7.6.16)."""

from __future__ import annotations

from isocenter.imaging.rendering import tags
from isocenter.imaging.rendering.attributes import Attributes


class FrameGroups:
    """``frame`` counts from 0."""

    __slots__ = ("_levels",)

    def __init__(self, attributes: Attributes, frame: int) -> None:
        own = attributes.item(tags.PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, frame)
        shared = attributes.item(tags.SHARED_FUNCTIONAL_GROUPS_SEQUENCE)
        self._levels = [level for level in (own, shared) if level is not None]

    def item(self, sequence: int) -> Attributes | None:
        """The macro's item: the frame's own, else the shared one."""
        for level in self._levels:
            found = level.item(sequence)
            if found is not None:
                return found
        return None
