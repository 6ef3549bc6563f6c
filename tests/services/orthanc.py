"""Orthanc with its DICOMweb plugin: the archive that everybody knows, as our peer."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from services.packages import find_file, find_program
from services.processes import Process, ServiceFailed, free_ports

PACKAGES = "orthanc orthanc-dicomweb"
PLUGIN_FOLDERS = ["/usr/share/orthanc/plugins", "/usr/lib/orthanc", "/usr/local/share/orthanc/plugins"]


class Orthanc:
    """``url`` has no closing slash; DICOMweb is at ``dicom_web_url``. Everybody may store and query."""

    ae_title = "ORTHANC"

    def __init__(self, folder: Path) -> None:
        program = find_program("Orthanc", PACKAGES)
        plugin = find_file("libOrthancDicomWeb.so*", PLUGIN_FOLDERS, PACKAGES)
        folder.mkdir()
        http_port, self.dicom_port = free_ports(2)
        self.url = f"http://127.0.0.1:{http_port}"
        self.dicom_web_url = f"{self.url}/dicom-web"
        configuration = folder / "orthanc.json"
        configuration.write_text(json.dumps(self._configuration(folder, http_port, plugin), indent=1))
        self._process = Process([program, configuration], log=folder / "orthanc.log")
        try:
            self._process.wait_until(self._answers, "answer to /system")
        except ServiceFailed:
            self._process.stop()
            raise

    def _configuration(self, folder: Path, http_port: int, plugin: Path) -> dict[str, Any]:
        return {
            "Name": "peer of the tests",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "index"),
            "TemporaryDirectory": str(folder),
            "Plugins": [str(plugin)],
            "HttpPort": http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "SslEnabled": False,
            "DicomAet": self.ae_title,
            "DicomPort": self.dicom_port,
            "DicomCheckModalityHost": False,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "UnknownSopClassAccepted": True,
            "SynchronousCMove": True,
            "OverwriteInstances": True,
            "SaveJobs": False,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
        }

    def add_modality(self, name: str, *, ae_title: str, port: int, host: str = "127.0.0.1") -> None:
        """Makes a peer known under ``name``: for C-MOVE destinations and ``/modalities/{name}/store``."""
        self.request("PUT", f"/modalities/{name}", {"AET": ae_title, "Host": host, "Port": port})

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """One call of Orthanc's REST API; ``bytes`` go as they are, all else as JSON. Answers in JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = response.read()
        is_json = response.headers.get("Content-Type", "").startswith("application/json")
        return json.loads(answer) if answer and is_json else answer

    def clear(self) -> None:
        """Forgets every patient and every modality."""
        for patient in self.request("GET", "/patients"):
            self.request("DELETE", f"/patients/{patient}")
        for name in self.request("GET", "/modalities"):
            self.request("DELETE", f"/modalities/{name}")

    def stop(self) -> None:
        self._process.stop(timeout_s=0)  # it takes seconds to end in good order, and its files go anyway

    def _answers(self) -> bool:
        try:
            self.request("GET", "/system")
        except OSError:
            return False
        return True
