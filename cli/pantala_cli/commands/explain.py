"""``explain``: why a Task or an ImagePrefetch is not done."""

import contextlib
import time
from collections.abc import Iterator
from typing import Annotated

import typer

from pantala_cli.access import targets
from pantala_cli.access.options import UserAccess
from pantala_cli.access.targets import ObjectName, ObjectWords
from pantala_cli.errors import CLIError, ConsoleError
from pantala_cli.show import explanation, resources, terminal
from pantala_cli.show.words import counted
from pantala_protocol.console.views import Cause, NodeView, TaskDetail
from pantala_protocol.reasons import action_of

Node = Annotated[str, typer.Option("--node", metavar="NODE", help="Explain only this node.", show_default=False)]


def explain(access: UserAccess, target: ObjectWords, node: Node = "") -> None:
    """Say why a Task or an ImagePrefetch is not done. Each cause has its nodes, the evidence and the next step."""
    wanted = targets.one(target)
    targets.work([wanted])
    explain_one(access, wanted, node)


def explain_one(access: UserAccess, target: ObjectName, node: str = "") -> None:
    terminal.show(explanation.explain(detail(access, target), time.time(), node))


def detail(access: UserAccess, target: ObjectName) -> TaskDetail:
    """The details from the console. Without the console: the details from the resource's status."""
    if access.console_url and access.namespace:  # the cluster is asked only if the console does not answer
        with contextlib.suppress(ConsoleError), access.console() as client:
            return client.detail(target.kind, access.namespace, target.name)
    with access.cluster() as cluster:
        namespace = access.chosen(cluster)
        resource = cluster.get(target.kind, namespace, target.name)
        try:
            with access.console(cluster) as client:
                return client.detail(target.kind, namespace, target.name)
        except CLIError as error:
            terminal.note(f"note: {error} This explanation uses only the resource's status.")
            return from_status(resource, target)


def from_status(resource: resources.Object, target: ObjectName) -> TaskDetail:
    """An explanation from a resource's conditions and its late and failed nodes."""
    task = resources.summary(resource, target.kind)
    nodes = resources.troubled(resource)
    if task.ready == "True":
        return TaskDetail(task, nodes)
    url = ((resource["spec"].get("source") or {}).get("url") or "").partition("?")[0]
    evidence = (f"The source is {url}.",) if url else ()
    return TaskDetail(task, nodes, (Cause(task.reason, task.message, "", evidence), *_of_nodes(nodes, task.reason)))


def _of_nodes(nodes: tuple[NodeView, ...], known: str) -> Iterator[Cause]:
    """One cause for each reason of late and failed nodes that the condition does not name."""
    by_reason: dict[str, list[NodeView]] = {}
    for node in nodes:
        if node.reason != known:
            by_reason.setdefault(node.reason, []).append(node)
    for reason, found in by_reason.items():
        evidence = tuple(f"{node.name}: {node.message}" for node in found)
        message = f"{counted(len(found), 'node')} reported this."
        yield Cause(reason, message, action_of(reason), evidence, tuple(node.name for node in found))
