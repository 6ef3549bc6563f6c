"""How long each frame of a cine is shown (PS3.3 C.7.6.5)."""

from __future__ import annotations

from isocenter.imaging.rendering import tags
from isocenter.imaging.rendering.attributes import Attributes

_DEFAULT_MS = 100.0
_SHORTEST_MS, _LONGEST_MS = 4.0, 10_000.0


def frame_time_ms(attributes: Attributes) -> float:
    """What is recommended for showing, else how the frames were made."""
    for tag in (tags.RECOMMENDED_DISPLAY_FRAME_RATE, tags.CINE_RATE):
        rate = attributes.number(tag)
        if rate and rate > 0:
            return _bounded(1000 / rate)
    time = attributes.number(tags.FRAME_TIME)
    if time and time > 0:
        return _bounded(time)
    steps = [step for step in attributes.numbers(tags.FRAME_TIME_VECTOR) if step > 0]
    return _bounded(sum(steps) / len(steps)) if steps else _DEFAULT_MS


def representative_frame(attributes: Attributes, number_of_frames: int) -> int:
    """From 0: the one that the object names (0028,6010), else the middle one."""
    named = attributes.integer(tags.REPRESENTATIVE_FRAME_NUMBER)
    return named - 1 if 1 <= named <= number_of_frames else number_of_frames // 2


def _bounded(milliseconds: float) -> float:
    return min(max(milliseconds, _SHORTEST_MS), _LONGEST_MS)
