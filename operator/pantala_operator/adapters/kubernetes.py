"""The API server, through the official Kubernetes client. Only this module imports that client."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import aiohttp
import msgspec
import structlog
import yaml
from kopf import ConnectionInfo
from kubernetes.aio import client, config, dynamic
from kubernetes.aio.dynamic.exceptions import DynamicApiError

from pantala_operator.adapters.encoding import APPLY, apply_body, event_body
from pantala_operator.errors import (
    ClusterConflictError,
    ClusterError,
    ClusterForbiddenError,
    ClusterNotFoundError,
    ClusterRejectedError,
    ClusterUnavailableError,
)
from pantala_operator.plan.prefetch.inputs import Workload
from pantala_operator.plan.targets import Pod
from pantala_operator.ports import DataKind, R, ResourceStatus
from pantala_operator.resources.api import (
    API_VERSION,
    GROUP,
    IMAGES_READY,
    VERSION,
    Metadata,
    Node,
    PeerResource,
    Secret,
    TaskResource,
    parse,
)
from pantala_operator.resources.conditions import Verdict
from pantala_operator.resources.lease import LeaseResource
from pantala_operator.resources.prefetch import ImagePrefetch
from pantala_operator.resources.status import Notice
from pantala_operator.resources.workloads import ForeignObject, StatefulSet
from pantala_operator.term import Term
from pantala_process.http import connection_problem
from pantala_process.identity import ServerClock
from pantala_protocol.rules import names

_CUSTOM = f"/apis/{GROUP}/{VERSION}"
_PAGE = 500
"""Objects in a page of a list. At 10,000 objects this needs half the memory of a single list."""
_TIMEOUT = 30.0
"""Seconds for one request."""
_DOCUMENTS = "application/json, application/jwk-set+json"
_MERGE = "application/merge-patch+json"
_STRATEGIC = "application/strategic-merge-patch+json"
_ERRORS: dict[int, type[ClusterError]] = {
    400: ClusterRejectedError,
    401: ClusterUnavailableError,  # a rotated token: the next request reads it again
    403: ClusterForbiddenError,
    404: ClusterNotFoundError,
    409: ClusterConflictError,
    422: ClusterRejectedError,
}

_UNDECLARED = "field not declared in schema"
"""Part of the API server's answer, with status 500, if an older CRD lacks a field of a server-side apply."""

T = TypeVar("T")

log = structlog.get_logger(__name__)


_UNREADABLE = (config.ConfigException, OSError, yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError)
"""What the client raises for a file that is not a valid kubeconfig."""


async def connect(
    kubeconfig: str, timeout: float = _TIMEOUT, term: Term | None = None, clock: ServerClock | None = None
) -> "KubernetesCluster":
    """Connect with ``kubeconfig``, or else the pod's service account, or else the file in ``KUBECONFIG``."""
    configuration = client.Configuration()
    in_pod = not kubeconfig and "KUBERNETES_SERVICE_HOST" in os.environ
    path = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    try:
        if in_pod:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            if not await asyncio.to_thread(_is_there, path):
                raise FileNotFoundError("it does not exist, or is not a file")
            await config.load_kube_config(  # type: ignore[no-untyped-call]
                path, client_configuration=configuration, persist_config=False
            )
    except _UNREADABLE as error:
        what = "it is not a kubeconfig"
        if isinstance(error, OSError | config.ConfigException):
            what = getattr(error, "strerror", None) or " ".join(str(error).split())
        source = "the pod's service account" if in_pod else f"the kubeconfig {path}"
        advice = "Let the pod mount its service account's token" if in_pod else "Give a valid file as --kubeconfig"
        raise ClusterError(f"no credentials for the API server in {source}: {what.rstrip('.')}. {advice}") from error
    configuration.client_session_kwargs = {"trust_env": False}
    return KubernetesCluster(configuration, timeout, term, clock)


def _is_there(paths: str) -> bool:
    return any(Path(each).expanduser().is_file() for each in paths.split(os.pathsep))


class KubernetesCluster:
    """A :class:`pantala_operator.ports.ClusterAPI`. It logs and ignores objects that it cannot read."""

    def __init__(
        self, configuration: Any, timeout: float = _TIMEOUT, term: Term | None = None, clock: ServerClock | None = None
    ) -> None:
        """``configuration``: the configuration of the Kubernetes client. ``timeout``: seconds for one request.

        Writes are sent only in the ``term`` of this replica, and end with it. ``None``: always. ``clock`` learns the
        API server's time.
        """
        self._configuration = configuration
        self._term = term
        self._clock = clock or ServerClock()
        self._timeout = timeout
        self._api = client.ApiClient(configuration)
        # Awaiting the client would discover all API paths, which are known, and write a cache to /tmp.
        self._client = dynamic.DynamicClient(self._api)  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        await self._api.close()  # type: ignore[no-untyped-call]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def login(self) -> ConnectionInfo:
        """Return this connection's credentials for kopf, with the newest token if it was rotated."""
        configuration = self._configuration
        authorization = await configuration.get_api_key_with_prefix("BearerToken") or ""
        scheme, _, token = authorization.partition(" ")
        return ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            token=token or None,
            scheme=scheme if token else None,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            proxy_url=configuration.proxy,
        )

    async def missing_kinds(self) -> list[str]:
        try:
            answer = await self.request("get", _CUSTOM)
        except ClusterNotFoundError:
            served = set()
        else:
            served = {each["name"] for each in answer.get("resources", ())}
        return [f"{name}.{GROUP}" for name in ("tasks", "peers") if name not in served]

    async def list_all(self, kind: type[R]) -> list[R]:
        return [each async for each in self._list(_path(kind), kind)]

    async def list_workloads(self, kind: str, namespace: str) -> list[Workload]:
        within = f"namespaces/{namespace}/" if namespace else ""
        listed = self._list(f"/apis/apps/v1/{within}{kind.lower()}s", ForeignObject)
        return [workload(kind, each) async for each in listed]

    async def list_namespaces(self) -> dict[str, dict[str, str]]:
        listed = self._list("/api/v1/namespaces", ForeignObject)
        return {each.metadata.name: each.metadata.labels async for each in listed}

    async def list_pods(self, namespace: str) -> list[Pod]:
        path = f"/api/v1/namespaces/{namespace}/pods"
        listed = self._list(path, ForeignObject, field_selector="status.phase=Running")
        return [pod(each) async for each in listed]

    async def read(self, resource: R) -> R:
        return _read(await self.request("get", _path(type(resource), resource.metadata)), type(resource))

    async def read_data(self, kind: DataKind, namespace: str, name: str) -> Secret:
        if not names.is_object(name):
            raise ClusterNotFoundError(f"{name!r} is not a valid name, so the object does not exist")
        return _read(await self.request("get", f"/api/v1/namespaces/{namespace}/{kind}/{name}"), Secret)

    async def write_data(self, kind: DataKind, found: Metadata, data: Mapping[str, str | None]) -> None:
        path = f"/api/v1/namespaces/{found.namespace}/{kind}/{found.name}"
        body = {"metadata": {"resourceVersion": found.resource_version}, "data": dict(data)}
        await self._send("patch", path, self._timeout, body=body, content_type=_MERGE)

    async def read_document(self, path: str) -> Mapping[str, Any]:
        return cast("Mapping[str, Any]", await self.request("get", path, header_params={"Accept": _DOCUMENTS}))

    async def get_stateful_set(self, namespace: str, name: str) -> StatefulSet:
        return _read(
            await self.request("get", f"/apis/apps/v1/namespaces/{namespace}/statefulsets/{name}"), StatefulSet
        )

    async def apply(self, kind: type[R], body: Mapping[str, Any]) -> R:
        path = _path(kind, msgspec.convert(body, kind).metadata)
        return _read(await self.request("patch", path, body=apply_body(body), **APPLY), kind)

    async def apply_status(self, resource: R, status: ResourceStatus) -> R:
        metadata = resource.metadata
        within = {"namespace": metadata.namespace} if metadata.namespace else {}
        # The resource version prevents a write to a new object with the same name. The UID would not.
        body = {
            "apiVersion": API_VERSION,
            "kind": resource.kind,
            "metadata": {"name": metadata.name, "resourceVersion": metadata.resource_version, **within},
            "status": msgspec.to_builtins(status),
        }
        path = f"{_path(type(resource), resource.metadata)}/status"
        return _read(await self.request("patch", path, body=apply_body(body), **APPLY), type(resource))

    async def delete(self, resource: R) -> R | None:
        metadata = resource.metadata
        known = {"uid": metadata.uid, "resourceVersion": metadata.resource_version}
        path = _path(type(resource), metadata)
        left = await self.request("delete", path, body={"preconditions": known})
        return None if left.get("kind") == "Status" else _read(left, type(resource))

    async def remove_taint(self, node: str, key: str) -> Node:
        path = f"/api/v1/nodes/{node}"
        fresh = await self.request("get", path)
        # The taints are copied as JSON, so that fields that this version does not know stay.
        taints = [taint for taint in fresh.get("spec", {}).get("taints", ()) if taint.get("key") != key]
        body = {"metadata": {"resourceVersion": fresh["metadata"]["resourceVersion"]}, "spec": {"taints": taints}}
        return _read(await self.request("patch", path, body=body, content_type=_MERGE), Node)

    async def set_images_ready(self, node: Node, verdict: Verdict, now: datetime) -> Node:
        when, former = now.isoformat().replace("+00:00", "Z"), node.images_ready
        condition = {
            "type": IMAGES_READY, "status": verdict.status.value, "reason": verdict.reason, "message": verdict.message,
            "lastHeartbeatTime": when,
        }  # fmt: skip
        if former is None or former.status != verdict.status:
            condition["lastTransitionTime"] = when
        # A strategic merge leaves all other conditions as they are.
        body = {"status": {"conditions": [condition]}}
        path = f"/api/v1/nodes/{node.metadata.name}/status"
        return _read(await self.request("patch", path, body=body, content_type=_STRATEGIC), Node)

    async def create_event(
        self, about: TaskResource | ImagePrefetch | PeerResource, notice: Notice, now: datetime
    ) -> None:
        namespace = about.metadata.namespace or "default"  # as for the Events of Nodes
        body = event_body(about.metadata, about.kind, namespace, notice, now)
        await self.request("post", f"/api/v1/namespaces/{namespace}/events", body=body)

    async def read_lease(self, metadata: Metadata) -> LeaseResource:
        return _read(await self.request("get", _lease_path(metadata)), LeaseResource)

    async def write_lease(self, lease: LeaseResource) -> LeaseResource:
        # No term is required, because this write begins the term. PUT also creates the Lease, with rights on this name
        # only.
        path = _lease_path(lease.metadata)
        try:
            return _read(await self._send("put", path, self._timeout, body=lease.body()), LeaseResource)
        except ClusterRejectedError as error:
            if lease.metadata.resource_version:
                raise
            raise ClusterConflictError(str(error)) from error  # another replica has created it meanwhile

    async def _list(self, path: str, kind: type[Any], **parameters: Any) -> AsyncIterator[Any]:
        following: str | None = None
        while True:
            page = await self.request("get", path, limit=_PAGE, _continue=following, **parameters)
            for item in page.get("items", ()):
                try:
                    yield parse(item, kind)
                except msgspec.ValidationError as error:
                    name = item.get("metadata", {}).get("name")
                    log.warning("An object is not valid, so it is ignored.", path=path, name=name, error=str(error))
            following = page.get("metadata", {}).get("continue")
            if not following:
                return

    async def request(self, method: str, path: str, **parameters: Any) -> Any:
        """Send a request. Returns the decoded JSON. Raises ``ClusterError``, and for a write ``NotLeadingError``."""
        seconds = self._timeout
        if method != "get" and self._term is not None:
            seconds = min(seconds, self._term.require())
        return await self._send(method, path, seconds, **parameters)

    async def _send(self, method: str, path: str, seconds: float, **parameters: Any) -> Any:
        began, timeout = time.monotonic(), aiohttp.ClientTimeout(total=seconds, connect=5)
        try:
            response = await self._client.request(method, path, serialize=False, _request_timeout=timeout, **parameters)
            self._clock.learn(response.headers.get("Date", ""), time.monotonic() - began)
            return await response.json()
        except DynamicApiError as error:
            text = _summary(error, f"{method.upper()} {path}")
            if _UNDECLARED in text:
                raise ClusterRejectedError(f"{text}. Apply the CRDs of the operator's version") from error
            raise _ERRORS.get(error.status, ClusterUnavailableError)(text) from error
        except (ValueError, aiohttp.ContentTypeError) as error:
            text = f"the answer of {self._configuration.host} is not one of an API server. Check its address"
            raise ClusterUnavailableError(text) from error
        except (aiohttp.ClientError, OSError) as error:
            text = f"the API server {self._configuration.host} does not answer ({connection_problem(error)})"
            raise ClusterUnavailableError(f"{text}. Check its address and the network") from error


def _read(body: Any, kind: type[T]) -> T:
    try:
        return parse(body, kind)
    except msgspec.ValidationError as error:
        name = kind.__name__.removesuffix("Resource")
        raise ClusterRejectedError(
            f"a {name} from the API server does not have the expected fields: {error}. "
            "Apply the CRDs of the operator's version (crds/)"
        ) from error


def workload(kind: str, found: ForeignObject) -> Workload:
    return Workload(kind, found.metadata.namespace, found.metadata.name, found.spec.get("template", {}))


def pod(found: ForeignObject) -> Pod:
    return Pod(found.spec.get("nodeName", ""), found.metadata.labels)


def _path(kind: type[Any], metadata: Metadata | None = None) -> str:
    """The path of one object, or of all objects of a kind."""
    prefix = "/api/v1" if kind is Node else _CUSTOM
    if metadata is None:
        return f"{prefix}/{kind.plural}"
    within = f"namespaces/{metadata.namespace}/" if metadata.namespace else ""
    return f"{prefix}/{within}{kind.plural}/{metadata.name}"


def _lease_path(metadata: Metadata) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{metadata.namespace}/leases/{metadata.name}"


def _summary(error: DynamicApiError, call: str) -> str:
    try:
        return str(msgspec.json.decode(error.body or "")["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return f"the API server answered {error.status} to {call}"
