"""The user's access to the cluster's API server. Only this module uses pykube."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pykube
import requests
from pykube.exceptions import HTTPError, PyKubeError

from pantala_cli.access import kubeconfig, login
from pantala_cli.access.kinds import PANTALA, Resource, ResourceKind
from pantala_cli.errors import (
    CLIError,
    ForeignLabelsError,
    KubeconfigError,
    NotInstalledError,
    ObjectMissingError,
    PermissionMissingError,
    UnauthorizedError,
    UnreachableError,
)

_TIMEOUT = 10.0
"""Seconds to wait for the next byte of an answer."""
_WATCH_SECONDS = 300
"""Seconds after which the API server ends a watch. The caller starts the next watch."""
_MANAGER = "kubectl-pantala"


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

    def objects(self, kind: ResourceKind, namespace: str | None = None, selector: str = "") -> list[Resource]:
        """List the objects of a namespace, or of all namespaces."""
        return self.listing(kind, namespace, selector)[0]

    def listing(
        self, kind: ResourceKind, namespace: str | None, selector: str = "", name: str = ""
    ) -> tuple[list[Resource], str]:
        """List objects, and return the version at which a watch continues. ``name``: list only this object."""
        answer = self._ask("GET", kind.many, kind.plural, kind, namespace, params=_selected(selector, name))
        head = {"apiVersion": kind.api, "kind": kind.kind}
        with self._translated(kind.many):
            return [head | each for each in answer["items"]], answer.get("metadata", {}).get("resourceVersion", "")

    def watch(
        self, kind: ResourceKind, namespace: str | None, selector: str, version: str, name: str = ""
    ) -> Iterator[tuple[str, Resource]]:
        """Yield each change after ``version`` as its type and the object, until the API server ends the watch."""
        params = _selected(selector, name) | {
            "watch": "1", "resourceVersion": version, "timeoutSeconds": str(_WATCH_SECONDS), "allowWatchBookmarks": "1",
        }  # fmt: skip
        with self._translated(kind.many):
            answer = self._client.get(
                version=kind.api, url=kind.plural, namespace=namespace if kind.namespaced else None,
                params=params, stream=True, timeout=(_TIMEOUT, _WATCH_SECONDS + _TIMEOUT),
            )  # fmt: skip
            if answer.status_code == requests.codes.gone:
                yield "ERROR", {"code": answer.status_code}
                return
            _check(answer)
            with answer:
                for line in answer.iter_lines(chunk_size=None):
                    if line:
                        event = json.loads(line)
                        yield event["type"], event["object"]

    def get(self, kind: ResourceKind, namespace: str, name: str) -> Resource:
        return self._ask("GET", kind.called(namespace, name), _url(kind, name), kind, namespace)

    def patch(self, kind: ResourceKind, namespace: str, name: str, patch: Mapping[str, Any]) -> Resource:
        """Merge a patch into an object."""
        return self._ask(
            "PATCH",
            kind.called(namespace, name),
            _url(kind, name),
            kind,
            namespace,
            headers={"Content-Type": "application/merge-patch+json"},
            data=json.dumps(patch),
        )

    def create(self, kind: ResourceKind, namespace: str, body: Resource) -> Resource:
        what = kind.called(namespace, body["metadata"]["name"])
        return self._ask("POST", what, kind.plural, kind, namespace, params={"fieldManager": _MANAGER}, json=body)

    def delete(self, kind: ResourceKind, namespace: str, name: str) -> None:
        self._ask("DELETE", kind.called(namespace, name), _url(kind, name), kind, namespace)

    def try_apply(self, kind: ResourceKind, namespace: str, body: Resource) -> Resource:
        """Let the API server check an object, as ``kubectl apply --dry-run=server`` does. It stores nothing."""
        name = body["metadata"]["name"]
        return self._ask(
            "PATCH",
            kind.called(namespace, name),
            _url(kind, name),
            kind,
            namespace,
            params={"fieldManager": _MANAGER, "dryRun": "All", "force": "true", "fieldValidation": "Strict"},
            headers={"Content-Type": "application/apply-patch+yaml"},
            data=json.dumps(body),
        )

    def version(self) -> str:
        """Return the API server's version, such as ``v1.34.4``."""
        with self._translated("its version"):
            answer = self._client.get(version="", base="/version", url="")
            _check(answer)
            return str(answer.json()["gitVersion"])

    def _ask(
        self, method: str, what: str, url: str, kind: ResourceKind, namespace: str | None, **more: Any
    ) -> Resource:
        where = {"version": kind.api, "url": url, "namespace": namespace if kind.namespaced else None}
        with self._translated(what):
            response = self._client.request(method, **where, **more)
            _check(response)
            return dict(response.json())

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except (HTTPError, requests.HTTPError) as error:
            raise _from_status(error, what) from error
        except requests.exceptions.SSLError as error:
            raise UnreachableError(f"The certificate of {self.server} is not trusted. Check the kubeconfig.") from error
        except requests.RequestException as error:
            raise UnreachableError(
                f"No API server answers at {self.server}. Check the kubeconfig and the network."
            ) from error
        except (KeyError, TypeError, ValueError) as error:
            raise UnreachableError(
                f"The answer of {self.server} is not one of an API server. Check the server in the kubeconfig."
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
            login.configure(client.session, document, resolved)
            yield Cluster(client)
        finally:
            client.session.close()


def of_one_place(objects: Sequence[Resource], whose: str) -> str:
    """The namespace of objects that were found by Pantala's labels. Empty without objects.

    Every user may give the same labels to objects, and so show a log or a console of their own. Raises
    :class:`ForeignLabelsError` if the objects are in several namespaces.
    """
    places = sorted({each["metadata"]["namespace"] for each in objects})
    if len(places) > 1:
        raise ForeignLabelsError(
            f"Objects with the labels of {whose} are in the namespaces {', '.join(places)}. "
            "A cluster should have only one release. Name its namespace with --pantala-namespace."
        )
    return "".join(places)


def _url(kind: ResourceKind, name: str) -> str:
    return f"{kind.plural}/{quote(name, safe='')}"


def _check(answer: requests.Response) -> None:
    """Raise :class:`HTTPError` for an error of the API server, or ``requests.HTTPError`` for one of a proxy.

    pykube does the same, but it fails if a proxy answers with JSON, or without the type of its content.
    """
    if answer.ok:
        return
    try:
        body = answer.json()
    except requests.JSONDecodeError:
        body = None
    if isinstance(body, dict) and body.get("kind") == "Status":
        raise HTTPError(answer.status_code, str(body.get("message") or answer.reason or answer.status_code))
    answer.raise_for_status()


def missing(what: str) -> ObjectMissingError:
    """The error for an object that does not exist. ``what`` names it as :meth:`ResourceKind.called`."""
    listed = "peers" if what.startswith("Peer ") else "tasks,images -A"
    return ObjectMissingError(f"{what} does not exist. To list all, run kubectl pantala get {listed}.")


def _selected(selector: str, name: str) -> dict[str, str]:
    found = {"labelSelector": selector, "fieldSelector": f"metadata.name={name}" if name else ""}
    return {key: value for key, value in found.items() if value}


def _from_status(error: Any, what: str) -> CLIError:
    from_server: bool = isinstance(error, HTTPError)  # an answer of the API server, and not a web page of a proxy
    code = error.code if from_server else error.response.status_code
    message = str(error).splitlines()[0]
    if code == 401:
        return UnauthorizedError("The API server rejected your credentials. Renew them (kubectl auth whoami).")
    if code == 403:
        return PermissionMissingError(
            f"You lack the permission for this request: {message}. Ask the cluster's administrator for the permission."
        )
    if code == 404 and from_server and "could not find the requested resource" not in message:
        return missing(what)
    if code == 404:
        return NotInstalledError(
            f"The cluster does not have Pantala's CRDs ({PANTALA}). Install Pantala's chart, or run "
            "kubectl apply -f crds/."
        )
    if code == 409 and "already exists" in message:
        return CLIError(f"{what} exists already. See its state with kubectl pantala explain, or use another --name.")
    return CLIError(f"The API server rejected the request for {what} with {code}: {message}")
