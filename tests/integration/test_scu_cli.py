"""``isocenter scu``: what a person sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from isocenter.cli.scu import finding, sending
from isocenter.dimse.scu.finding import Level
from isocenter.dimse.scu.outgoing import OutgoingObject
from isocenter.dimse.scu.peers import Peer
from isocenter.dimse.scu.sending import SendOutcome, Sent
from services.archive import Image


def isocenter(*words: str | int | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "isocenter", *map(str, words)],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("send", "127.0.0.1", 1), "Nothing to send."),
        (("echo", "127.0.0.1", 1, "--called", "SEVENTEEN-LETTERS"), "--called: an AE title has 1 to 16"),
        (("echo", "127.0.0.1", 1, "--calling", "A\\B"), "--calling: an AE title has 1 to 16"),
        (("find", "127.0.0.1", 1, "--level", "frame"), "'frame' is no level."),
        (("find", "127.0.0.1", 1, "PatientNam=X"), "No attribute is called 'PatientNam'"),
        (("find", "127.0.0.1", 1, "--level", "image", "Rows=many"), "Rows (US) cannot be matched"),
        (("echo", "127.0.0.1", 1, "--tls-ca", __file__), "The TLS files cannot be used"),
    ],
)
def test_mistakes_end_as_sentences(tmp_path: Path, words: tuple[Any, ...], says: str) -> None:
    done = isocenter("scu", *words, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"isocenter: {says}")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()  # nothing is made for a command that needs no archive


def test_a_run_without_a_peer_lists_what_did_not_arrive(tmp_path: Path, free_port: int) -> None:
    for number in range(3):
        (tmp_path / f"{number}.dcm").write_bytes(Image(sop=f"1.2.3.{number}").file)
    (tmp_path / "broken.dcm").write_bytes(Image(sop="1.2.3.9").file[:140])
    done = isocenter("scu", "send", "127.0.0.1", free_port, "--json", tmp_path, cwd=tmp_path)
    assert done.returncode == 1
    *lines, last = map(orjson.loads, done.stdout.splitlines())
    assert {line["outcome"] for line in lines} == {"failed"}
    assert len(lines) == 4
    assert last["summary"] == {
        "objects": 4,
        "bytes_arrived": 0,
        "outcomes": {"failed": 4},
        "rewritten": 0,
        "left_alone": 0,
    }


def test_columns_are_the_usual_ones_or_those_asked_for() -> None:
    columns, asked = finding._keys(Level.STUDY, ["PatientName=DOE*"])
    assert len(columns) > 5 and asked[0x00100010] == "DOE*" and asked[0x0020000D] == ""
    columns, asked = finding._keys(Level.STUDY, ["PatientName=DOE*", "00081030"])
    assert columns == [0x00081030, 0x00100010, 0x0020000D]
    assert asked == {0x00081030: "", 0x00100010: "DOE*", 0x0020000D: ""}


def test_what_a_peer_writes_does_not_steer_the_terminal() -> None:
    assert finding._cell({"Value": [{"Alphabetic": "\x1b[31mDOE^JANE\n"}]}) == "?[31mDOE^JANE?"
    assert finding._cell({"Value": ["x" * 200]}).endswith("…")
    assert finding._cell({"Value": [1, None, 2.5]}) == "1\\\\2.5"
    report = sending.SendReport(Peer("host", 104, "PEER", "US"))
    one = OutgoingObject("1.2", "1.2.3", "1.2.840.10008.1.2", lambda: b"", 0, "a\x1b[2Jb.dcm")
    run = sending._Sending(report.peer, 1, as_json=False)
    run._note(Sent(one, SendOutcome.REFUSED, "C000H, failure (\x1b[2J)", 0xC000))
    told = sending._summary(run.report)
    assert "\x1b" not in told
    assert "a?[2Jb.dcm: C000H, failure (?[2J)" in told
    assert not run.report.complete


def test_more_failures_than_fit_are_counted() -> None:
    run = sending._Sending(Peer("host", 104, "PEER", "US"), 1, as_json=False)
    for number in range(30):
        one = OutgoingObject("1.2", f"1.2.{number}", "1.2.840.10008.1.2", lambda: b"", 0, f"{number}.dcm")
        run._note(Sent(one, SendOutcome.NOT_ACCEPTED, "PEER does not take it"))
    told = sending._summary(run.report)
    assert "30  not-accepted" in told
    assert "… and 10 more (--json lists them)" in told
