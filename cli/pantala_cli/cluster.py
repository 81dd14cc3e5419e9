"""The cluster, as far as the commands need it. The only module that knows pykube."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pykube
import requests
from pykube.exceptions import HTTPError, PyKubeError

from pantala_cli import kubeconfig
from pantala_cli.errors import (
    CLIError,
    ForbiddenError,
    KubeconfigError,
    NotFoundError,
    NotInstalledError,
    RefusedError,
    UnauthorizedError,
    UnreachableError,
)

Resource = dict[str, Any]
"""A resource as the API server gives it."""

REQUESTED_AT = "pantala.dev/requested-at"
"""A new value of this annotation asks for a new try."""

_API = "pantala.dev/v1alpha1"

_TIMEOUT = 10.0
"""Seconds without a byte of an answer."""


class Cluster:
    """One cluster, with the rights of one user. Every method raises :class:`CLIError`."""

    def __init__(self, client: pykube.HTTPClient) -> None:
        self._client = client

    @property
    def namespace(self) -> str:
        """The namespace of the kubeconfig's context."""
        return str(self._client.config.namespace)

    @property
    def server(self) -> str:
        """The API server's URL."""
        return str(self._client.url)

    def tasks(self, namespace: str | None) -> list[Resource]:
        """All Tasks of a namespace; ``None``: of all namespaces."""
        return list(self._ask("GET", "Tasks", "tasks", namespace)["items"])

    def task(self, namespace: str, name: str) -> Resource:
        """One Task."""
        return self._ask("GET", f"Task {namespace}/{name}", f"tasks/{quote(name, safe='')}", namespace)

    def peers(self) -> list[Resource]:
        """All Peers."""
        return list(self._ask("GET", "Peers", "peers", None)["items"])

    def annotate(self, namespace: str, name: str, annotations: Mapping[str, str]) -> None:
        """Set annotations of a Task; others stay."""
        self._patch(namespace, name, {"metadata": {"annotations": dict(annotations)}})

    def suspend(self, namespace: str, name: str, *, suspend: bool) -> None:
        """Set ``spec.suspend`` of a Task."""
        self._patch(namespace, name, {"spec": {"suspend": suspend}})

    def version(self) -> str:
        """The API server's version, such as ``v1.34.4``."""
        return str(self._ask("GET", "the version", "", None, version="", base="/version")["gitVersion"])

    def _patch(self, namespace: str, name: str, patch: Resource) -> None:
        self._ask(
            "PATCH",
            f"Task {namespace}/{name}",
            f"tasks/{quote(name, safe='')}",
            namespace,
            headers={"Content-Type": "application/merge-patch+json"},
            data=json.dumps(patch),
        )

    def _ask(self, method: str, what: str, url: str, namespace: str | None, **more: Any) -> Resource:
        where = {"version": _API, "url": url, "namespace": namespace} | more
        try:
            response = self._client.request(method, **where)
            self._client.raise_for_status(response)
            return dict(response.json())
        except (HTTPError, requests.HTTPError) as error:
            raise _from_status(error, what) from error
        except requests.exceptions.SSLError as error:
            raise UnreachableError(f"the certificate of {self.server} is not accepted; check the kubeconfig") from error
        except requests.RequestException as error:
            raise UnreachableError(
                f"no API server answers at {self.server}; check the kubeconfig and the network"
            ) from error


@contextlib.contextmanager
def connect(file: str = "", context: str = "") -> Iterator[Cluster]:
    """The cluster of the kubeconfig ``file`` (default: as kubectl) and ``context`` (default: the current one)."""
    document = kubeconfig.load(os.environ, file=file, context=context)
    with tempfile.TemporaryDirectory(prefix="kubectl-pantala-") as folder:
        resolved = kubeconfig.resolve(document, Path(folder))
        try:
            client = pykube.HTTPClient(pykube.KubeConfig(resolved), timeout=_TIMEOUT)
        except PyKubeError as error:
            raise KubeconfigError(f"the kubeconfig cannot be used: {error}") from error
        try:
            yield Cluster(client)
        finally:
            client.session.close()


def _from_status(error: Any, what: str) -> CLIError:
    from_server: bool = isinstance(error, HTTPError)  # an answer of the API itself, not a bare page
    code = error.code if from_server else error.response.status_code
    message = str(error).splitlines()[0]
    if code == 401:
        return UnauthorizedError("the API server does not know you; renew your credentials (kubectl auth whoami)")
    if code == 403:
        return ForbiddenError(f"you may not do this: {message}; ask the cluster's administrator for the right")
    if code == 404 and from_server and "could not find the requested resource" not in message:
        return NotFoundError(f"there is no {what}; see kubectl pantala status -A")
    if code == 404:
        return NotInstalledError(
            "the cluster does not know Pantala's kinds; install the chart, or kubectl apply -f crds/"
        )
    return RefusedError(f"the API server refused {what} with {code}: {message}")
