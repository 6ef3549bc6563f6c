"""Processes count attempts together in a real Redis, and each goes on alone while it is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from isocenter.features.accounts.attempts import Attempts
from isocenter.kit.clock import ManualClock
from isocenter.kit.errors import InvalidInput, RateLimited
from isocenter.platform.cache import RedisLink, open_redis
from isocenter.platform.cache.redis import PAUSE_S
from services.accounts import PASSWORD
from services.isocenter import Isocenter
from services.redis import RedisServer

_CALL_S = 0.3
_HOME = "192.0.2.1"

Start = Callable[..., Attempts]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def start(redis_server: RedisServer, clock: ManualClock) -> AsyncIterator[Start]:
    """Another process's attempts, with a connection of their own."""
    async with AsyncExitStack() as opened:

        def started(url: str = "", scope: str = "") -> Attempts:
            link = open_redis(url or redis_server.url, clock, call_s=_CALL_S)
            opened.push_async_callback(link.close)
            return Attempts(clock, scope=scope, redis=link)

        yield started


async def tried(attempts: Attempts, count: int = 1, *, address: str = _HOME, login: str = "jane") -> int:
    """How many of so many wrong attempts are looked at."""
    looked_at = 0
    for _ in range(count):
        try:
            await attempts.begin(address, login)
        except RateLimited:
            continue
        looked_at += 1
    return looked_at


async def test_five_a_minute_in_all_processes_together(start: Start, clock: ManualClock) -> None:
    here, there = start(), start()
    assert await tried(here, 3) == 3
    clock.advance(10)
    assert await tried(there, 4) == 2
    for attempts in (here, there):
        with pytest.raises(RateLimited) as refused:
            await attempts.begin(_HOME, "jane")
        assert refused.value.retry_after_s == 51
    assert await tried(there, address="192.0.2.2") == 0  # the login is held up, whoever asks
    assert await tried(there, login="joe") == 0  # and the address, whomever it asks for
    assert await tried(there, address="192.0.2.2", login="joe") == 1
    clock.advance(50)
    assert await tried(here, 4) == 3  # those of the first ten seconds are over


async def test_a_process_that_just_started_knows_what_the_others_saw(start: Start) -> None:
    assert await tried(start(), 5) == 5
    assert await tried(start()) == 0


async def test_what_is_tried_elsewhere_is_counted_apart(start: Start) -> None:
    """Logins that begin at an identity provider use up no attempt at a password."""
    assert await tried(start(scope="oidc-start "), 9) == 5
    assert await tried(start()) == 1
    assert await tried(start(scope="oidc-start ")) == 0


async def test_what_was_right_holds_nobody_up_anywhere(start: Start) -> None:
    here, there = start(), start()
    assert await tried(there, 4) == 4
    for _ in range(7):
        for attempts in (here, there):
            await attempts.forgive(await attempts.begin(_HOME, "jane"))
    assert await tried(here, 2) == 1


async def test_many_at_once_from_everywhere_are_counted_too(start: Start) -> None:
    processes = [start() for _ in range(4)]
    assert sum(await asyncio.gather(*(tried(one) for one in processes * 10))) == 5


async def test_a_refused_attempt_is_none_and_nothing_stays(start: Start, redis_server: RedisServer) -> None:
    here = start()
    await tried(here, 5, login="")
    await tried(here, 20)
    assert redis_server.ask("DBSIZE") == ":1"  # nothing under the login
    left_ms = int(redis_server.ask("PTTL", '"isocenter:{attempts}:address 192.0.2.1"').removeprefix(":"))
    assert 0 < left_ms <= 60_000
    await tried(start(), address="x" * 10_000, login="patient " * 1000)
    assert redis_server.ask("KEYS", "*patient*") == "*0"


async def test_redis_goes_and_comes_back(start: Start, redis_server: RedisServer, clock: ManualClock) -> None:
    here, there = start(), start()
    assert await tried(here, 3) == 3
    redis_server.stop()
    with capture_logs() as told:
        assert await tried(there) == 1  # not locked out
        assert await tried(here, 5) == 2  # not open either: what this process saw still counts
        assert await tried(there, 5) == 4
        clock.advance(PAUSE_S)  # one more failed call tells nothing new
        assert await tried(here, login="joe", address="192.0.2.9") == 1
    assert [line["log_level"] for line in told] == ["warning", "warning"]  # one a process
    assert str(redis_server.port) in told[0]["server"] and "Connect" in told[0]["reason"]
    redis_server.start()
    assert await tried(here, login="ann", address="192.0.2.10") == 1
    assert redis_server.ask("DBSIZE") == ":0"  # it is not asked at each attempt while it may be away
    clock.advance(PAUSE_S)
    with capture_logs() as told:
        assert await tried(here, 3, login="ann", address="192.0.2.10") == 3
        assert await tried(there, 3, login="ann", address="192.0.2.10") == 2
    assert [line["log_level"] for line in told] == ["info", "info"]


async def test_who_was_refused_by_all_is_not_counted_here(start: Start, redis_server: RedisServer) -> None:
    here, there = start(), start()
    assert await tried(there, 5) == 5
    assert await tried(here, 9) == 0
    redis_server.stop()
    assert await tried(here, 9) == 5


async def test_one_call_finds_out_whether_it_is_back(
    start: Start, redis_server: RedisServer, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = start()
    redis_server.stop()
    await tried(here)
    clock.advance(PAUSE_S)
    called = []
    call = RedisLink._call

    async def noted(self: RedisLink, script: str, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        called.append(keys)
        return await call(self, script, keys, arguments)

    monkeypatch.setattr(RedisLink, "_call", noted)
    counted = await asyncio.gather(*(tried(here, login=f"l{n}", address=f"10.0.0.{n}") for n in range(9)))
    assert (sum(counted), len(called)) == (9, 1)


async def test_a_redis_that_hangs_delays_one_login_and_stops_none(
    start: Start, redis_server: RedisServer, clock: ManualClock
) -> None:
    here = start()
    assert await tried(here) == 1
    redis_server.hang()
    try:
        begun = time.monotonic()
        counted = await asyncio.gather(
            *(tried(here, login=f"l{n}", address=f"10.0.0.{n}") for n in range(40))
        )
        assert sum(counted) == 40
        assert await tried(here, 9) == 4
        for _ in range(3):
            clock.advance(PAUSE_S)
            assert await tried(here, login="joe", address="192.0.2.3") == 1
        assert time.monotonic() - begun < 4 * _CALL_S + 5  # the rest is a slow machine's
    finally:
        redis_server.go_on()
    clock.advance(PAUSE_S)
    assert await tried(here, login="ann", address="192.0.2.4") == 1
    assert await tried(start(), 5, login="ann", address="192.0.2.4") == 4


async def test_a_redis_that_refuses_is_as_good_as_none(
    start: Callable[..., Attempts], tmp_path: Path
) -> None:
    guarded = RedisServer(tmp_path / "guarded", "--requirepass", "s3cret")
    try:
        for url in (guarded.url, guarded.url.replace("://", "://:wr0ng@")):
            with capture_logs() as told:
                assert await tried(start(url), 9) == 5
            assert [line["log_level"] for line in told] == ["warning"]
            assert "wr0ng" not in str(told)
        right = guarded.url.replace("://", "://:s3cret@")
        assert await tried(start(right), 3) == 3
        assert await tried(start(right), 3) == 2
    finally:
        guarded.stop()


@pytest.mark.parametrize(
    "url", ["redis://host?bananas=1", "redis://host?socket_timeout=soon", "redis://host:x"]
)
def test_a_url_that_makes_no_sense_is_said_at_once(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        open_redis(url, ManualClock())
    assert refused.value.code == "invalid-redis-url"


@pytest.fixture
def two_servers(tmp_path: Path, postgres_url: str, redis_server: RedisServer) -> Iterator[list[Isocenter]]:
    """Two `isocenter serve` over one database and one Redis."""
    with ExitStack() as running:
        servers = []
        for name in ("one", "other"):
            server = Isocenter(
                tmp_path / name,
                *("--database-url", postgres_url, "--redis-url", redis_server.url),
                environ={"ISOCENTER_INSTALLATION_KEY": "0123456789abcdef" * 4},
                auth="required",
            )
            running.callback(server.stop)
            servers.append(server)
        made = servers[0].run("admin", "create", "chief", "--password-stdin", input_text=PASSWORD + "\n")
        assert made.returncode == 0, made.stderr
        yield servers


def logged_in(server: Isocenter, password: str) -> int:
    body = f'{{"login": "chief", "password": "{password}"}}'.encode()
    return server.request("POST", "/api/v1/auth/login", body, {"Content-Type": "application/json"})[0]


def test_two_servers_refuse_together_and_survive_without(
    two_servers: list[Isocenter], redis_server: RedisServer
) -> None:
    one, other = two_servers
    assert logged_in(one, PASSWORD) == 200
    assert [logged_in(one, "wrong") for _ in range(3)] == [401] * 3
    assert [logged_in(other, "wrong") for _ in range(3)] == [401, 401, 429]
    assert logged_in(one, PASSWORD) == 429
    redis_server.stop()
    assert logged_in(one, PASSWORD) == logged_in(other, PASSWORD) == 200
    for server in two_servers:
        log = server.log.read_text()
        assert log.count("Redis cannot be used") == 1
    assert 429 in [logged_in(one, "wrong") for _ in range(6)]
    assert one.terminate() == other.terminate() == 0
