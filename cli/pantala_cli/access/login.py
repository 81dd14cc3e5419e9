"""How the user logs in at the API server, as far as pykube does not read it from the kubeconfig."""

from collections.abc import Mapping
from typing import Any

import requests

from pantala_cli.access import kubeconfig


class Login(requests.auth.AuthBase):
    """Gives each request the user's token. When the API server refuses it, asks for a new one, as kubectl does.

    Without it, requests would send a password from ``~/.netrc`` in place of the token.
    """

    def __init__(self, document: kubeconfig.Document, token: str) -> None:
        self._document = document
        self._token = token

    def __repr__(self) -> str:
        return "<Login>"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
            request.register_hook("response", self._again)
        return request

    def _again(self, response: requests.Response, **how: Any) -> requests.Response:
        """Repeat a refused request with a new token, if there is one."""
        if response.status_code != requests.codes.unauthorized:
            return response
        token = kubeconfig.token(self._document)
        if token in ("", self._token):
            return response
        self._token = token
        response.close()
        request = response.request.copy()
        request.headers["Authorization"] = f"Bearer {token}"
        return response.connection.send(request, **how)


def configure(session: requests.Session, document: kubeconfig.Document, resolved: kubeconfig.Document) -> None:
    """Let ``session`` use all of ``document``, whose current context is ``resolved``."""
    cluster: Mapping[str, Any] = resolved["clusters"][0]["cluster"]
    user: Mapping[str, Any] = resolved["users"][0]["user"]
    session.auth = Login(document, user.get("token") or "")
    session.headers.update(kubeconfig.impersonation(user))
    if proxy := cluster.get("proxy-url"):
        session.proxies = {"http": proxy, "https": proxy}
        session.trust_env = False  # otherwise the proxy of the environment comes first
