"""An OpenID provider that does as it should, and as it never should: each answer can be bent.

It checks what a provider has to check (client, redirect URI, PKCE, single use of codes), so that a client
that leaves something out does not get through.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

CLIENT_ID, CLIENT_SECRET = "isocenter:1", "s3cret/with:odd%chars"
Bend = Callable[[dict[str, Any]], None]


@functools.cache
def new_key(kind: str = "RSA", kid: str = "first") -> Any:
    parameters = {"kid": kid}
    match kind:
        case "RSA":
            return RSAKey.generate_key(2048, parameters)
        case "EC":
            return ECKey.generate_key("P-256", parameters)
        case _:
            return OKPKey.generate_key("Ed25519", parameters)


@dataclass
class Asked:
    """One request that the provider got."""

    path: str
    authorization: str
    form: dict[str, str]


@dataclass
class OpenIdProvider:
    """``person`` are the claims of whoever logs in. ``bend_*`` change what is answered, ``answers`` (by path:
    /discovery, /keys, /token, /userinfo) replace it: ``(status, headers, body)``, or a callable that is given
    the handler."""

    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    algorithm: str = "RS256"
    person: dict[str, Any] = field(
        default_factory=lambda: {
            "sub": "248289761001",
            "email": "jane@st-marys.example",
            "email_verified": True,
            "name": "Jane Doe",
            "groups": ["radiology"],
        }
    )
    in_userinfo: frozenset[str] = frozenset()
    bend_discovery: Bend = lambda _: None
    bend_claims: Bend = lambda _: None
    bend_header: Bend = lambda _: None
    bend_tokens: Bend = lambda _: None
    bend_answer: Bend = lambda _: None
    answers: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.key = new_key()
        self.published: list[dict[str, Any]] = [self.key.as_dict(private=False)]
        self.asked: list[Asked] = []
        self.silence = threading.Event()
        self.codes: dict[str, dict[str, str]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        self.silence.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def issuer(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}/realm"

    def use_key(self, key: Any, algorithm: str, *, publish: bool = True) -> None:
        self.key, self.algorithm = key, algorithm
        if publish:
            self.published = [key.as_dict(private=False)]

    def count(self, path: str) -> int:
        return sum(one.path == path for one in self.asked)

    def sign_in(self, authorization_url: str) -> str:
        """What a browser with a session at the provider is sent back to."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(authorization_url).query).items()}
        assert asked["response_type"] == "code" and "openid" in asked["scope"].split()
        assert asked["client_id"] == CLIENT_ID and asked["code_challenge_method"] == "S256"
        code = base64.urlsafe_b64encode(hashlib.sha256(asked["state"].encode()).digest()).decode()
        self.codes[code] = asked
        answer = {"code": code, "state": asked["state"], "iss": self.issuer}
        self.bend_answer(answer)
        return f"{asked['redirect_uri']}?{urlencode(answer)}"

    def discovery(self) -> dict[str, Any]:
        here = self.issuer
        document: dict[str, Any] = {
            "issuer": here,
            "authorization_endpoint": f"{here}/authorize?theme=dark",
            "token_endpoint": f"{here}/token",
            "jwks_uri": f"{here}/keys",
            "userinfo_endpoint": f"{here}/userinfo",
            "end_session_endpoint": f"{here}/logout",
            "response_types_supported": ["code"],
            "id_token_signing_alg_values_supported": [self.algorithm],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }
        self.bend_discovery(document)
        return document

    def token(self, asked: Asked) -> tuple[int, dict[str, Any]]:
        form = asked.form
        if self._client(asked) != (CLIENT_ID, CLIENT_SECRET):
            return 401, {"error": "invalid_client"}
        begun = self.codes.pop(form.get("code", ""), None)
        if begun is None or form["redirect_uri"] != begun["redirect_uri"]:
            return 400, {"error": "invalid_grant", "error_description": "<script>"}
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest())
        if challenge.decode().rstrip("=") != begun["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        access_token = "an-access-token"
        tokens: dict[str, Any] = {"access_token": access_token, "token_type": "Bearer", "expires_in": 60}
        tokens["id_token"] = self.id_token(begun["nonce"], access_token)
        self.bend_tokens(tokens)
        return 200, tokens

    def id_token(self, nonce: str, access_token: str) -> str:
        digest = (hashlib.sha512 if self.algorithm == "EdDSA" else hashlib.sha256)(
            access_token.encode()
        ).digest()
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            "nonce": nonce,
            "at_hash": base64.urlsafe_b64encode(digest[: len(digest) // 2]).decode().rstrip("="),
            **{name: value for name, value in self.person.items() if name not in self.in_userinfo},
        }
        self.bend_claims(claims)
        header: dict[str, Any] = {"alg": self.algorithm, "typ": "JWT", "kid": self.key.kid}
        self.bend_header(header)
        return signed(header, claims, self.key)

    def _client(self, asked: Asked) -> tuple[str, str]:
        scheme, _, word = asked.authorization.partition(" ")
        if scheme == "Basic":
            client, _, secret = base64.b64decode(word).decode().partition(":")
            return unquote_plus(client), unquote_plus(secret)
        return asked.form.get("client_id", ""), asked.form.get("client_secret", "")


def signed(header: dict[str, Any], claims: dict[str, Any], key: Any) -> str:
    """By whatever algorithm the header names; a key of None leaves the signature empty."""
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signature = b""
    if key is not None and header["alg"] != "none":
        signature = jws.JWSRegistry.algorithms[header["alg"]].sign(b".".join(encoded), key)
    return b".".join([*encoded, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def _handler(provider: OpenIdProvider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            self._answer({name: values[0] for name, values in parse_qs(body).items()})

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _answer(self, form: dict[str, str]) -> None:
            path = urlsplit(self.path).path.removeprefix("/realm")
            path = "/discovery" if path == "/.well-known/openid-configuration" else path
            asked = Asked(path, self.headers.get("Authorization", ""), form)
            provider.asked.append(asked)
            if bent := provider.answers.get(path):
                if callable(bent):
                    bent(self)
                else:
                    self.send(*bent)
                return
            match path:
                case "/discovery":
                    self._json(200, provider.discovery())
                case "/keys":
                    self._json(200, {"keys": provider.published})
                case "/token":
                    self._json(*provider.token(asked))
                case "/userinfo" if asked.authorization == "Bearer an-access-token":
                    self._json(200, provider.person)
                case _:
                    self._json(404, {})

        def _json(self, status: int, document: dict[str, Any]) -> None:
            self.send(status, {"Content-Type": "application/json"}, json.dumps(document).encode())

        def send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            try:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                self.close_connection = True  # who asked has heard enough

    return Handler
