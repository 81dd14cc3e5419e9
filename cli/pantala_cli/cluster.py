"""Access to the cluster's API server. Only this module uses pykube."""

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
    KubeconfigError,
    NotInstalledError,
    ObjectMissingError,
    PermissionMissingError,
    RefusedError,
    UnauthorizedError,
    UnreachableError,
)

Resource = dict[str, Any]
"""A resource as the API server returns it."""

REQUESTED_AT = "pantala.dev/requested-at"
"""A new value of this annotation requests a retry."""

_API = "pantala.dev/v1alpha1"

_TIMEOUT = 10.0
"""Seconds to wait for the next byte of an answer."""


class Cluster:
    """A cluster, with the permissions of one user. Every method raises :class:`CLIError`."""

    def __init__(self, client: pykube.HTTPClient) -> None:
        self._client = client

    @property
    def namespace(self) -> str:
        """The namespace of the current context."""
        return str(self._client.config.namespace)

    @property
    def server(self) -> str:
        return str(self._client.url)

    def tasks(self, namespace: str | None) -> list[Resource]:
        """List the Tasks of a namespace, or of all namespaces."""
        return list(self._ask("GET", "Tasks", "tasks", namespace)["items"])

    def task(self, namespace: str, name: str) -> Resource:
        return self._ask("GET", f"Task {namespace}/{name}", f"tasks/{quote(name, safe='')}", namespace)

    def peers(self) -> list[Resource]:
        return list(self._ask("GET", "Peers", "peers", None)["items"])

    def annotate(self, namespace: str, name: str, annotations: Mapping[str, str]) -> None:
        """Add annotations to a Task."""
        self._patch(namespace, name, {"metadata": {"annotations": dict(annotations)}})

    def suspend(self, namespace: str, name: str, *, suspend: bool) -> None:
        self._patch(namespace, name, {"spec": {"suspend": suspend}})

    def version(self) -> str:
        """Return the API server's version, such as ``v1.34.4``."""
        return str(self._ask("GET", "its version", "", None, version="", base="/version")["gitVersion"])

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
            raise UnreachableError(f"The certificate of {self.server} is not trusted. Check the kubeconfig.") from error
        except requests.RequestException as error:
            raise UnreachableError(
                f"No API server answers at {self.server}. Check the kubeconfig and the network."
            ) from error


@contextlib.contextmanager
def connect(file: str = "", context: str = "") -> Iterator[Cluster]:
    """Connect with the kubeconfig ``file`` (default: as kubectl) and ``context`` (default: the current one)."""
    document = kubeconfig.load(os.environ, file=file, context=context)
    with tempfile.TemporaryDirectory(prefix="kubectl-pantala-") as folder:
        resolved = kubeconfig.resolve(document, Path(folder))
        try:
            client = pykube.HTTPClient(pykube.KubeConfig(resolved), timeout=_TIMEOUT)
        except PyKubeError as error:
            raise KubeconfigError(f"The kubeconfig cannot be used: {error}. Correct it.") from error
        try:
            yield Cluster(client)
        finally:
            client.session.close()


def _from_status(error: Any, what: str) -> CLIError:
    from_server: bool = isinstance(error, HTTPError)  # an answer of the API itself, and not a web page
    code = error.code if from_server else error.response.status_code
    message = str(error).splitlines()[0]
    if code == 401:
        return UnauthorizedError("The API server rejected your credentials. Renew them (kubectl auth whoami).")
    if code == 403:
        return PermissionMissingError(
            f"You may not do this: {message}. Ask the cluster's administrator for permission."
        )
    if code == 404 and from_server and "could not find the requested resource" not in message:
        return ObjectMissingError(f"{what} does not exist. To list all Tasks, run kubectl pantala status -A.")
    if code == 404:
        return NotInstalledError(
            "The cluster does not have Pantala's CRDs. Install Pantala's chart, or run kubectl apply -f crds/."
        )
    return RefusedError(f"The API server rejected the request for {what} with {code}: {message}")
