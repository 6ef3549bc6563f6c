"""Pixels of one bit: frames follow without padding (PS3.5 §8.1.1), wherever in a byte they begin."""

from __future__ import annotations

import numpy as np


class BitJoiner:
    """Joins packed frames of ``frame_bits`` each, which need not fill their last byte."""

    def __init__(self, frame_bits: int) -> None:
        self._frame_bits = frame_bits
        self._waiting = np.zeros(0, np.uint8)

    def joined(self, frames: list[bytes]) -> bytes:
        """The whole bytes that there are with these frames."""
        packed = (np.frombuffer(frame, np.uint8) for frame in frames)
        bits = (np.unpackbits(frame, count=self._frame_bits, bitorder="little") for frame in packed)
        together = np.concatenate((self._waiting, *bits))
        whole = len(together) // 8 * 8
        self._waiting = together[whole:]
        return np.packbits(together[:whole], bitorder="little").tobytes()

    def rest(self) -> bytes:
        """The last bits, filled up with zeros."""
        return np.packbits(self._waiting, bitorder="little").tobytes()
