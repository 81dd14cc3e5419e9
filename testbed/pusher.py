"""Pushes blobs and manifests to one repository of a registry, over one connection."""

import base64
import http.client
import json
import re
import ssl
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import IO
from urllib.parse import urlencode, urlsplit

_PUSH_SECONDS = 120
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class Pusher:
    """A connection to a registry, open while its context is entered. It skips blobs that the registry has."""

    def __init__(
        self, registry: str, repository: str, account: tuple[str, str] | None, tls: ssl.SSLContext | None
    ) -> None:
        self._connection = (
            http.client.HTTPSConnection(registry, timeout=_PUSH_SECONDS, context=tls)
            if tls is not None
            else http.client.HTTPConnection(registry, timeout=_PUSH_SECONDS)
        )
        self._repository = repository
        self._base = f"/v2/{repository}"
        self._headers: dict[str, str] = {}
        if account is not None:
            self._headers["Authorization"] = "Basic " + base64.b64encode(":".join(account).encode()).decode()

    def __enter__(self) -> None:
        self._connection.connect()
        self._connection.request("GET", "/v2/", headers=self._headers)
        response = self._connection.getresponse()
        response.read()
        challenge = response.headers.get("WWW-Authenticate", "")
        if response.status == http.client.UNAUTHORIZED and challenge.startswith("Bearer "):
            self._headers["Authorization"] = f"Bearer {self._token(dict(_PARAMETER.findall(challenge)))}"

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def blob(self, digest: str, path: Path) -> None:
        """Push a blob from a file. Raises :class:`RuntimeError` with the registry's answer."""
        if self._ask("HEAD", f"{self._base}/blobs/{digest}", expected=(200, 404))[0] == 200:
            return
        _, location = self._ask("POST", f"{self._base}/blobs/uploads/", expected=(202,))
        parts = urlsplit(location)
        query = f"{parts.query}&digest={digest}" if parts.query else f"digest={digest}"
        size = {"Content-Length": str(path.stat().st_size), "Content-Type": "application/octet-stream"}
        with path.open("rb") as file:
            self._ask("PUT", f"{parts.path}?{query}", file, size, expected=(201,))

    def manifest(self, target: str, body: bytes) -> None:
        """Push a manifest or an index under a tag or its digest."""
        kind = {"Content-Type": json.loads(body)["mediaType"]}
        self._ask("PUT", f"{self._base}/manifests/{target}", body, kind, expected=(201,))

    def _ask(
        self,
        method: str,
        path: str,
        body: IO[bytes] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        expected: tuple[int, ...],
    ) -> tuple[int, str]:
        self._connection.request(method, path, body, {**self._headers, **(headers or {})})
        response = self._connection.getresponse()
        content = response.read()
        if response.status not in expected:
            raise RuntimeError(f"{method} {path.partition('?')[0]}: {response.status} {content[:300]!r}")
        return response.status, response.headers.get("Location", "")

    def _token(self, challenge: Mapping[str, str]) -> str:
        """Get a token that allows this account to push. ``challenge`` has the fields of ``WWW-Authenticate``."""
        query = {"service": challenge["service"], "scope": f"repository:{self._repository}:pull,push"}
        request = urllib.request.Request(f"{challenge['realm']}?{urlencode(query)}", headers=self._headers)
        with urllib.request.urlopen(request, timeout=_PUSH_SECONDS) as answer:
            return str(json.load(answer)["token"])
