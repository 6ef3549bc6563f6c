"""The server as it runs, its commands, and another author's identity provider: from set-up to logout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import orjson
import pytest

from services.isocenter import Isocenter
from services.openid_flow import BROWSER, ProviderMock


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Isocenter]:
    made = Isocenter(tmp_path / "server", auth="required")
    yield made
    made.stop()


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[ProviderMock]:
    made = ProviderMock(tmp_path)
    yield made
    made.stop()


def test_from_set_up_to_logout(server: Isocenter, mock: ProviderMock) -> None:
    added = server.run(
        *("idp", "add", "mock", "--issuer", mock.issuer, "--client-id", "isocenter", "--client-secret-stdin"),
        *("people=create", "role_claim=groups", "--map", "radiology=radiologist", "--json"),
        input_text="s3cret-of-ours\n",
    )
    assert added.returncode == 0, added.stderr
    tested = server.run("idp", "test", "mock", "--json")
    assert orjson.loads(tested.stdout)["ok"] is True, tested.stdout
    claims = {"email": "jane@example.org", "email_verified": True, "groups": ["radiology"]}
    mock.put_user("jane", claims)
    with httpx2.Client(base_url=server.url) as browser:
        start = browser.get("/api/v1/auth/oidc/default.mock/start?return_to=/health/live")
        inside = browser.get(
            mock.sign_in(start.headers["location"], "jane"), headers=BROWSER, follow_redirects=True
        )
        assert (inside.status_code, inside.url.path) == (200, "/health/live")
        tokens = browser.post("/api/v1/auth/refresh").json()
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        assert browser.get("/api/v1/me", headers=bearer).json()["user"]["role"] == "radiologist"
        assert browser.get("/dicom-web/studies", headers=bearer).status_code in {200, 204}
        assert server.run("idp", "change", "mock", "--off").returncode == 0  # by another process
        assert browser.post("/api/v1/auth/refresh").status_code == 401
    trail = server.run("audit", "list").stdout
    assert "identity-provider mock" in trail and "made as radiologist" in trail
    log = server.log.read_text()
    assert "s3cret-of-ours" not in log and tokens["access_token"] not in log and "jane" not in log
