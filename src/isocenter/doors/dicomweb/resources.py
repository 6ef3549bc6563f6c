"""The resources that can be retrieved (PS3.18 Table 10.4.1-1 to -5) and who answers for each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from isocenter.doors.dicomweb.addresses import Addresses
from isocenter.doors.dicomweb.bulk_collections import BulkCollections
from isocenter.doors.dicomweb.bulk_data import BulkDataTransaction
from isocenter.doors.dicomweb.finding import InstanceFinder
from isocenter.doors.dicomweb.frames import FramesTransaction
from isocenter.doors.dicomweb.metadata import MetadataTransaction
from isocenter.doors.dicomweb.rendered import RenderedTransaction
from isocenter.doors.dicomweb.rendering import Renderer
from isocenter.doors.dicomweb.retrieve import RetrieveTransaction
from isocenter.doors.dicomweb.thumbnail import ThumbnailTransaction
from isocenter.doors.http.services import HttpServices

STUDY = "/studies/{study}"
SERIES = STUDY + "/series/{series}"
INSTANCE = SERIES + "/instances/{instance}"
FRAMES = INSTANCE + "/frames/{frames}"

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Retrieving:
    """``by_path``: what a GET is answered with, below the door's own address."""

    retrieve: RetrieveTransaction
    rendered: RenderedTransaction
    by_path: dict[str, Endpoint]


def retrieving_of(services: HttpServices, addresses: Addresses, finder: InstanceFinder) -> Retrieving:
    """Of the instances that ``finder`` finds."""
    images = services.images_or_new()
    retrieve = RetrieveTransaction(services, images, finder)
    frames = FramesTransaction(services, images, finder)
    bulk_data = BulkDataTransaction(services, images, finder, frames)
    collections = BulkCollections(services, addresses, finder, frames, bulk_data)
    metadata = MetadataTransaction(services, addresses, finder)
    renderer = Renderer(services.store, images)
    rendered = RenderedTransaction(finder, renderer)
    thumbnail = ThumbnailTransaction(services, finder, renderer, services.thumbnails_or_new(images))
    by_path: dict[str, Endpoint] = {
        INSTANCE + "/bulkdata/{path:path}": bulk_data.bulk_data,
        FRAMES: frames.frames,
    }
    for level in (STUDY, SERIES, INSTANCE):
        by_path[level] = retrieve.objects
        by_path[level + "/metadata"] = metadata.metadata
        by_path[level + "/bulkdata"] = collections.bulk_data
        by_path[level + "/pixeldata"] = collections.pixel_data
    for level in (STUDY, SERIES, INSTANCE, FRAMES):
        by_path[level + "/rendered"] = rendered.rendered
        by_path[level + "/thumbnail"] = thumbnail.thumbnail
    return Retrieving(retrieve, rendered, by_path)
