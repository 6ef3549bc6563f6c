"""What turns stored objects into pixels and other transfer syntaxes, composed once for all doors."""

from __future__ import annotations

from dataclasses import dataclass

from isocenter.features.archive.pixel_access import PixelAccess
from isocenter.features.archive.transcode_cache import TranscodeCache
from isocenter.features.archive.transcoded_pieces import TranscodedPieces
from isocenter.features.archive.transcoding import Transcoder
from isocenter.platform.storage.interface import ObjectStore
from isocenter.platform.workers.pool import WorkerPool

PRELOADED = ("isocenter.imaging.transcoding", "imagecodecs", "rle")
"""What every worker imports before its memory is limited."""


@dataclass(frozen=True, slots=True)
class Images:
    """``pixels`` finds frames, ``workers`` decode them, ``transcoder`` gives whole objects."""

    workers: WorkerPool
    pixels: PixelAccess
    transcoder: Transcoder

    def verifying(self, store: ObjectStore) -> Transcoder:
        """One that decodes each frame again and compares it, and keeps no copies."""
        return Transcoder(store, TranscodedPieces(store, self.pixels, self.workers, ahead=1, verify=True))

    async def close(self) -> None:
        await self.transcoder.close()
        await self.workers.close()


def open_images(
    store: ObjectStore,
    *,
    workers: WorkerPool,
    cache: TranscodeCache | None = None,
) -> Images:
    """To be closed before the store is; ``workers`` and ``cache`` are closed with it."""
    pixels = PixelAccess(store)
    pieces = TranscodedPieces(store, pixels, workers)
    return Images(workers, pixels, Transcoder(store, pieces, cache))
