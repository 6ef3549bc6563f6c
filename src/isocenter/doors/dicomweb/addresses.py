"""Absolute addresses of what the archive holds: RetrieveURL and BulkDataURI."""

from __future__ import annotations

from collections.abc import Callable

import orjson
from starlette.requests import Request

from isocenter.dicom.element import BulkRange
from isocenter.dicom.json_dataset import BulkPath
from isocenter.features.archive.query import Match
from isocenter.features.archive.series_metadata import instance_path, value_path


class Addresses:
    """``public_url`` is what the world calls this server; empty: what the request called it. ``mount``: where
    the services are, with the names of path parameters in braces."""

    def __init__(self, public_url: str, mount: str) -> None:
        self._public = public_url.rstrip("/")
        self._mount = mount

    def base(self, request: Request) -> str:
        """``https://host/dicom-web`` without a trailing slash."""
        mount = self._mount.format_map(request.path_params)
        if self._public:
            return self._public + mount
        # The Host header is the client's own word; it only ever returns to that client, and quoted.
        host = _printable(request.headers.get("host", "localhost"))
        return f"{request.scope['scheme']}://{host}{_forgotten_port(host, request)}{mount}"

    def study(self, request: Request, study: str) -> str:
        return f"{self.base(request)}/studies/{study}"

    def instance(self, request: Request, study: str, series: str, instance: str) -> str:
        return self.base(request) + instance_path(study, series, instance)

    def bulk_data(self, instance: str) -> Callable[[BulkPath, BulkRange | bytes], str]:
        """What names the large values of the instance at that address."""
        return lambda path, _: instance + value_path(path)

    def retrieve_lines(self, request: Request) -> Callable[[Match], str]:
        """What writes the RetrieveURL (0008,1190) attribute of each match."""
        base = self.base(request)

        def line(match: Match) -> str:
            url = f"{base}/studies/{match.study_instance_uid}"
            if match.series_instance_uid:
                url += f"/series/{match.series_instance_uid}"
            if match.sop_instance_uid:
                url += f"/instances/{match.sop_instance_uid}"
            return f'"00081190":{{"vr":"UR","Value":[{orjson.dumps(url).decode()}]}}'

        return line


def _forgotten_port(host: str, request: Request) -> str:
    """Some clients (dicomweb-client) leave the port out of Host; a proxy's own name is left as it is."""
    address, port = request.scope["server"]
    standard = {"http": 80, "https": 443}.get(request.scope["scheme"])
    if port is None or port == standard or host not in {address, "localhost"}:
        return ""
    return f":{port}"


def _printable(host: str) -> str:
    """Without what has no place in a host and port (RFC 3986 §3.2.2); a header must not be split by it."""
    return "".join(c for c in host if c.isascii() and (c.isalnum() or c in ".:-_[]"))[:255]
