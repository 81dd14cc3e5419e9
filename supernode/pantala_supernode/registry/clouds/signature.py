"""Signs requests to AWS with Signature Version 4. Pure.

AWS's library is not used, because it is many times larger than the supernode, which needs only this part. The tests use
the test vectors that AWS publishes.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"
_PORTS = {"http": 80, "https": 443}


class AWSKeys(NamedTuple):
    """Temporary keys of a role. All but the first are secret."""

    access_key: str
    secret_key: str
    session_token: str = ""

    def __repr__(self) -> str:
        return "<AWSKeys>"


class AWSScope(NamedTuple):
    """The region and the service for which a signature is valid."""

    region: str
    service: str


def signed(
    method: str, url: str, headers: Mapping[str, str], body: bytes, *, keys: AWSKeys, scope: AWSScope, now: datetime
) -> dict[str, str]:
    """``headers`` and the headers that authenticate the request at ``now`` (UTC). The signature covers all headers."""
    time = now.strftime("%Y%m%dT%H%M%SZ")
    own = {"X-Amz-Date": time, **({"X-Amz-Security-Token": keys.session_token} if keys.session_token else {})}
    fields = {name.lower(): " ".join(value.split()) for name, value in {**headers, **own, "Host": _host(url)}.items()}
    names = ";".join(sorted(fields))
    parts = urlsplit(url)
    canonical = "\n".join(
        (
            method,
            parts.path or "/",
            _query(parts.query),
            *(f"{name}:{fields[name]}" for name in sorted(fields)),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        )
    )
    day = time[:8]
    credential = f"{day}/{scope.region}/{scope.service}/aws4_request"
    text = "\n".join((_ALGORITHM, time, credential, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{keys.secret_key}".encode()
    for part in (day, scope.region, scope.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    given = f"{_ALGORITHM} Credential={keys.access_key}/{credential}, SignedHeaders={names}, Signature={signature}"
    return {**headers, **own, "Authorization": given}


def _host(url: str) -> str:
    """The ``Host`` header of a request to ``url``."""
    parts = urlsplit(url)
    name = parts.netloc.rpartition("@")[2]
    return name.removesuffix(f":{_PORTS[parts.scheme]}") if parts.port == _PORTS[parts.scheme] else name


def _query(text: str) -> str:
    pairs = [(quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in parse_qsl(text, True)]
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))
