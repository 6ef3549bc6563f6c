"""DCMTK's command-line tools, and its ``storescp`` as a receiver."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from services.packages import find_program
from services.processes import Process, ServiceFailed, can_connect, free_ports

TOOLS = (
    *("echoscu", "storescu", "findscu", "movescu", "getscu", "storescp"),
    "dcmqrscp",
    *("dcmdump", "dcmftest", "dcmconv", "dump2dcm", "dcmcjpeg", "dcmcjpls", "dcmcrle", "dcm2xml"),
    "dcmj2pnm",
)


@dataclass(frozen=True)
class Dcmtk:
    """The tools' paths by name: ``dcmtk.tools["storescu"]``."""

    tools: dict[str, Path]

    def run(
        self, tool: str, *args: str | int | Path, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Runs a tool to its end; output and errors are both in ``stdout``. Does not raise for a status."""
        return subprocess.run(
            [self.tools[tool], *map(str, args)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
            text=True,
            errors="replace",
        )


def find_dcmtk() -> Dcmtk:
    return Dcmtk({name: find_program(name, "dcmtk") for name in TOOLS})


class StoreScp:
    """``storescp`` on a free port; every object lands as one file in ``folder``."""

    def __init__(
        self, dcmtk: Dcmtk, folder: Path, log: Path, *options: str, ae_title: str = "STORESCP"
    ) -> None:
        self.ae_title = ae_title
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (self.port,) = free_ports(1)
        command = [dcmtk.tools["storescp"], "-aet", ae_title, "-od", folder, "+xa", *options, self.port]
        self._dcmtk = dcmtk
        self._process = Process([str(part) for part in command], log=log)
        try:
            self._process.wait_until(self._answers, "answer to C-ECHO")
        except ServiceFailed:
            self._process.stop()
            raise

    def files(self) -> list[Path]:
        return sorted(self.folder.iterdir())

    def stop(self) -> None:
        self._process.stop()

    def _answers(self) -> bool:
        if not can_connect(self.port):
            return False
        echo = self._dcmtk.run("echoscu", "-to", 5, "-aec", self.ae_title, "127.0.0.1", self.port)
        return echo.returncode == 0


class QueryRetrieveScp:
    """``dcmqrscp`` on a free port: DCMTK's own small archive. ``movers``: AE titles and ports of those to
    whom it sends."""

    ae_title = "DCMQRSCP"

    def __init__(self, dcmtk: Dcmtk, folder: Path, movers: dict[str, int]) -> None:
        storage = folder / "objects"
        storage.mkdir(parents=True)
        (self.port,) = free_ports(1)
        hosts = [
            f"mover{number} = ({title}, 127.0.0.1, {port})"
            for number, (title, port) in enumerate(movers.items())
        ]
        configuration = folder / "dcmqrscp.cfg"
        configuration.write_text(
            "\n".join(
                (
                    f"NetworkTCPPort = {self.port}",
                    "MaxPDUSize = 16384",
                    "MaxAssociations = 16",
                    "HostTable BEGIN",
                    *hosts,
                    "HostTable END",
                    "AETable BEGIN",
                    f"{self.ae_title} {storage} RW (200, 1024mb) ANY",
                    "AETable END",
                    "",
                )
            )
        )
        command = [str(dcmtk.tools["dcmqrscp"]), "-c", str(configuration)]
        self._process = Process(command, log=folder / "dcmqrscp.log")
        try:
            self._process.wait_until(lambda: can_connect(self.port), "listen")
        except ServiceFailed:
            self._process.stop()
            raise

    def stop(self) -> None:
        self._process.stop()
