"""kopf's login: the same credentials as the operator's own client has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import kopf

from pantala_operator.ports import Login


def register(registry: kopf.OperatorRegistry, find: Callable[[], Awaitable[Login]]) -> None:
    """Log in with what ``find`` finds: at the start, and when the API server refuses a token that was rotated since."""

    async def credentials(**_: Any) -> kopf.ConnectionInfo:
        login = await find()
        return kopf.ConnectionInfo(
            server=login.server,
            ca_path=login.ca_path,
            insecure=login.insecure,
            token=login.token,
            scheme="Bearer" if login.token else None,
            certificate_path=login.certificate_path,
            private_key_path=login.private_key_path,
            proxy_url=login.proxy,
        )

    kopf.on.login(registry=registry)(credentials)
