"""A token server as used by registries. A client with a password gets a token that a real registry accepts.

::

    with TokenServer(tmp_path / "tokens", {"ann": "secret"}) as tokens, Registry(tmp_path, tokens=tokens) as registry:
        push(image, registry.host, "team/app", "1", account=("ann", "secret"))
        assert tokens.requests[-1] == TokenRequest("ann", ("repository:team/app:pull,push",))
"""

import base64
import json
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import parse_qs, parse_qsl, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from testbed.pki import Authority

_ISSUER = "pantala testbed"
_SKEW = 10
_SECONDS = 300
"""The life of a token."""
_MOST = 64 * 1024


class TokenRequest(NamedTuple):
    """One request for a token."""

    user: str
    """The account. Empty for an anonymous client."""
    scopes: tuple[str, ...]
    given: bool = True
    """True if the client got a token, False if the answer was 401."""


class _Server(ThreadingHTTPServer):
    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)


class TokenServer:
    """A token server that runs while its context is entered.

    An account gets all scopes that it asks for. An anonymous client may pull from repositories whose name begins with
    ``public``. For others it gets a token without any scope, as from Docker Hub.
    """

    service = "pantala-testbed"
    """The registry's name in its tokens."""
    issuer = _ISSUER
    """The issuer that the registry trusts."""

    def __init__(self, folder: Path, accounts: Mapping[str, str], *, host: str = "127.0.0.1") -> None:
        authority = Authority(folder)
        self._host = host
        self._accounts = accounts
        self.certificate, key = authority.issue("tokens", _ISSUER)
        """The certificate of the key that signs tokens."""
        self._key = key.read_bytes()
        signer = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        self._chain = [base64.b64encode(signer.public_bytes(serialization.Encoding.DER)).decode()]
        self.bundle = authority.certificate_file
        """The certificate of the authority that has issued ``certificate``. The registry trusts it."""
        self.requests: list[TokenRequest] = []
        """All requests, until a test clears the list."""
        self._server: ThreadingHTTPServer | None = None

    @property
    def realm(self) -> str:
        """The URL of the token server."""
        if self._server is None:
            raise RuntimeError("The token server does not run, so its address is not known.")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._server.server_address[1]}/token"

    def __enter__(self) -> Self:
        self._server = _Server((self._host, 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="tokens", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, user: str, password: str, scopes: Sequence[str]) -> bytes | None:
        """The JSON answer with a token. ``None`` if the password is wrong."""
        right = not user or self._accounts.get(user) == password
        self.requests.append(TokenRequest(user, tuple(scopes), right))
        if not right:
            return None
        access = [each for scope in scopes if (each := self._access(user, scope)) is not None]
        now = int(time.time())
        claims = {"iat": now, "nbf": now - _SKEW, "exp": now + _SECONDS, "iss": _ISSUER, "aud": self.service}
        token = jwt.encode({**claims, "sub": user, "access": access}, self._key, "ES256", {"x5c": self._chain})
        document = {"token": token, "access_token": token, "expires_in": _SECONDS}
        return json.dumps(document).encode()

    def _access(self, user: str, scope: str) -> dict[str, object] | None:
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        allowed = actions.split(",") if user else ["pull"] if name.startswith("public/") else []
        return {"type": kind, "name": name, "actions": allowed} if allowed else None


def _handler(tokens: TokenServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            user, password = _basic(self.headers.get("Authorization", ""))
            query = parse_qsl(urlsplit(self.path).query)
            self._answer(user, password, [scope for name, scope in query if name == "scope"])

        def do_POST(self) -> None:
            """Answer a token request in the OAuth 2 form, which containerd tries first."""
            length = min(int(self.headers.get("Content-Length", "0")), _MOST)
            form = {name: values[-1] for name, values in parse_qs(self.rfile.read(length).decode()).items()}
            self._answer(form.get("username", ""), form.get("password", ""), form.get("scope", "").split())

        def _answer(self, user: str, password: str, scopes: list[str]) -> None:
            document = tokens.answer(user, password, scopes)
            body = document if document is not None else b'{"details":"incorrect username or password"}'
            self.send_response(200 if document is not None else 401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
            """Print nothing: :attr:`TokenServer.requests` has the requests."""

    return Handler


def _basic(header: str) -> tuple[str, str]:
    user, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
    return user, password
