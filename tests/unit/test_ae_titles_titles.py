"""What an AE title and a host may look like."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.dicom.ae_title import checked_title, is_ae_title
from isocenter.features.ae_titles.entries import RefusalReason, RefusedPeer
from isocenter.features.ae_titles.titles import (
    address_of,
    admitting_command,
    checked_host,
    is_loopback,
    shown_host,
)
from isocenter.kit.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "title"),
    [("CT1", "CT1"), ("  CT1 ", "CT1"), ("A B", "A B"), ("x" * 16, "x" * 16), ("a.b-c_d", "a.b-c_d")],
)
def test_good_titles(text: str, title: str) -> None:
    assert checked_title(text) == title


@pytest.mark.parametrize("text", ["", "   ", "x" * 17, "A\\B", "A\nB", "A\x7f", "MÜLLER", "A\tB"])
def test_bad_titles(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        checked_title(text)
    assert caught.value.code == "invalid-ae-title"


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("", ""),
        (" 10.0.0.5 ", "10.0.0.5"),
        ("10.0.0.5/24", "10.0.0.0/24"),
        ("10.0.0.5/32", "10.0.0.5"),
        ("2001:DB8:0::7", "2001:db8::7"),
        ("2001:db8::/32", "2001:db8::/32"),
    ],
)
def test_good_hosts(text: str, host: str) -> None:
    assert checked_host(text) == host


@pytest.mark.parametrize("text", ["ct1.example.org", "10.0.0", "10.0.0.5/33", "10.0.0.256", "1.2.3.4;x"])
def test_names_and_nonsense_are_no_hosts(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        checked_host(text)
    assert caught.value.code == "invalid-host" and caught.value.remedy


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.8.7", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("128.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("", False),
        ("localhost", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_ipv4_over_ipv6_is_ipv4() -> None:
    assert shown_host("::ffff:10.0.0.5") == "10.0.0.5"
    assert address_of("not an address") is None and shown_host("not an address") == "not an address"


@given(st.text(max_size=20))
def test_the_command_can_be_pasted_into_a_shell(title: str) -> None:
    if is_ae_title(title):
        words = shlex.split(admitting_command(title, "10.0.0.5"))
        assert words == ["isocenter", "ae", "add", title, "--host", "10.0.0.5"]


@pytest.mark.parametrize(
    ("title", "reason", "command"),
    [
        ("CT1", RefusalReason.CALLING_NOT_REGISTERED, "isocenter ae add CT1 --host 10.0.0.5"),
        ("CT 1", RefusalReason.CALLING_NOT_REGISTERED, "isocenter ae add 'CT 1' --host 10.0.0.5"),
        ("CT1", RefusalReason.CALLED_NOT_OURS, ""),
        ("A\\B", RefusalReason.CALLING_NOT_REGISTERED, ""),
        ("", RefusalReason.CALLING_NOT_REGISTERED, ""),
    ],
)
def test_a_refused_peer_knows_what_would_let_it_in(title: str, reason: str, command: str) -> None:
    assert RefusedPeer(title, "10.0.0.5", "ISOCENTER", reason, 1, 0, 0).command == command
