"""Asks the operator's console, through a forwarded port or at a given address."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar
from urllib.parse import quote

import msgspec
import requests

from pantala_cli.access.cluster import Cluster, of_one_place
from pantala_cli.access.kinds import IMAGE, POD, Resource, ResourceKind, condition, selector_of, status_of
from pantala_cli.errors import ConsoleError, ObjectMissingError, PermissionMissingError
from pantala_protocol.console.views import Console, TaskDetail

PORT = 8090
"""The console's port, unless the operator's flag ``--console-listen`` names another."""
_FLAG = "--console-listen="
_TIMEOUT = (3.0, 15.0)
_Answer = TypeVar("_Answer")

Forward = Callable[[str, str, int], AbstractContextManager[int]]
"""Forwards a port: namespace, pod, port to the local port."""


class ConsoleClient:
    """The console at one address. Every method raises :class:`ConsoleError`."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy cannot reach a loopback address of this machine

    def console(self, namespace: str = "", *, unfinished: bool = False, limit: int = 500) -> Console:
        """The state of the installation, with the Tasks of one namespace or of all namespaces."""
        params = {"namespace": namespace, "unfinished": "true" if unfinished else "", "limit": str(limit)}
        return self._get("api/v1/console", Console, {key: value for key, value in params.items() if value})

    def detail(self, kind: ResourceKind, namespace: str, name: str) -> TaskDetail:
        """One Task or ImagePrefetch. Raises :class:`ObjectMissingError` if the console does not know it."""
        room = "images" if kind == IMAGE else "tasks"
        path = f"api/v1/console/{room}/{quote(namespace, safe='')}/{quote(name, safe='')}"
        return self._get(path, TaskDetail, {})

    def close(self) -> None:
        self._session.close()

    def _get(self, path: str, kind: type[_Answer], params: dict[str, str]) -> _Answer:
        try:
            answer = self._session.get(f"{self.url}/{path}", params=params, timeout=_TIMEOUT)
        except requests.RequestException as error:
            raise ConsoleError(
                f"The operator's console does not answer at {self.url}. Check the operator's pod and its log."
            ) from error
        if answer.status_code == 404:
            what = path.partition("/console/")[2].replace("tasks/", "Task ").replace("images/", "ImagePrefetch ")
            raise ObjectMissingError(
                f"{what} is not known to the console. List all with kubectl pantala get tasks,images -A."
                if what
                else f"No console is at {self.url}. Check --console, and the operator's version."
            )
        if not answer.ok:
            raise ConsoleError(f"The console at {self.url} answered {answer.status_code}. Read the operator's log.")
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except msgspec.MsgspecError as error:
            raise ConsoleError(
                f"The answer of {self.url} is not the console's: {error}. Use the version of the operator."
            ) from error


@contextlib.contextmanager
def at(url: str) -> Iterator[ConsoleClient]:
    """The console at a given address."""
    client = ConsoleClient(url if "://" in url else f"http://{url}")
    try:
        yield client
    finally:
        client.close()


@contextlib.contextmanager
def through(cluster: Cluster, forward: Forward, home: str) -> Iterator[ConsoleClient]:
    """The console of the leading operator in the namespace ``home``.

    Without ``home``, its pod is searched in all namespaces.
    """
    pods = operators(cluster, home)
    with contextlib.ExitStack() as stack:
        client = _reach(stack, forward, pods[0])
        first = client.console(limit=1)
        leader = next((pod for pod in pods if pod["metadata"]["name"] == first.leader), None)
        if not first.leads and leader is not None and leader is not pods[0]:
            stack.pop_all().close()
            client = _reach(stack, forward, leader)
        yield client


def operators(cluster: Cluster, home: str) -> list[Resource]:
    """The operator's running pods, ready ones first. All are in one namespace.

    Raises :class:`ConsoleError` if there is none, and the errors of :func:`of_one_place`.
    """
    try:
        pods = cluster.objects(POD, home or None, selector_of("operator"))
    except PermissionMissingError as error:
        hint = "" if home else " If you may read pods in its namespace, name the namespace with --pantala-namespace."
        raise PermissionMissingError(f"The operator's pod cannot be found: {error}{hint}") from error
    running = [pod for pod in pods if status_of(pod).get("phase") == "Running"]
    if not running:
        where = f"in namespace {home}" if home else "in this cluster"
        raise ConsoleError(f"No pod of Pantala's operator runs {where}. Check its Deployment, or use --console URL.")
    of_one_place(running, "Pantala's operator")
    return sorted(running, key=lambda pod: (condition(pod, "Ready").get("status") != "True", pod["metadata"]["name"]))


def _reach(stack: contextlib.ExitStack, forward: Forward, pod: Resource) -> ConsoleClient:
    metadata = pod["metadata"]
    local = stack.enter_context(forward(metadata["namespace"], metadata["name"], port_of(pod)))
    return stack.enter_context(at(f"http://127.0.0.1:{local}"))


def port_of(pod: Resource) -> int:
    """The console's port, from the last flag of the operator's container. Raises :class:`ConsoleError` if it is off."""
    port = PORT
    for container in pod["spec"].get("containers", ()):
        words: Sequence[str] = [*(container.get("command") or ()), *(container.get("args") or ())]
        for word in words:
            if word == _FLAG:
                raise ConsoleError("The operator's console is off. Remove --console-listen= from operator.extraArgs.")
            if word.startswith(_FLAG) and word.rpartition(":")[2].isdigit():
                port = int(word.rpartition(":")[2])
    return port
