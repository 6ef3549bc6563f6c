"""An object that is to be sent, whatever keeps it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from isocenter.dimse.net.bodies import Body


@dataclass(frozen=True, slots=True)
class OutgoingObject:
    """``body()`` gives the data set, encoded in ``transfer_syntax_uid``; it is called once more for each new
    attempt. ``size``: bytes of the data set. ``name`` is for people: a path or a UID."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    body: Callable[[], Body]
    size: int
    name: str
