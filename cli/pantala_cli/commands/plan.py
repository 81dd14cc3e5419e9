"""``plan``: what the resources in a file would do if they were applied. It applies no resource."""

import secrets
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.text import Text

from pantala_cli.access import kinds
from pantala_cli.access.cluster import Cluster
from pantala_cli.access.kinds import IMAGE, TASK, Resource, ResourceKind
from pantala_cli.access.options import UserAccess
from pantala_cli.commands.waiting import Timeout, deadline, seconds
from pantala_cli.errors import CLIError, ExitCode, ObjectMissingError, WaitError
from pantala_cli.forecast.matching import match
from pantala_cli.forecast.outlook import Outlook, outlook, picture, planned
from pantala_cli.show import resources, terminal

File = Annotated[
    str,
    typer.Option(
        "--filename", "-f", metavar="FILE", help="A file with Tasks and ImagePrefetches. -: stdin.", show_default=False
    ),
]


Exact = Annotated[
    bool,
    typer.Option(
        "--exact", help="Ask the registry, with a temporary ImagePrefetch in mode Plan. It downloads nothing."
    ),
]

_NOT_PLANNED = ("schedule", "startupTaint", "suspend", "mode")
_EVERY = 0.5


def plan(access: UserAccess, filename: File, exact: Exact = False, timeout: Timeout = "2m") -> None:
    """Say what the resources in a file would do. Exit code 1: a resource cannot work."""
    limit = seconds(timeout)
    wanted = read(filename)
    possible = True
    with access.cluster() as cluster:
        for kind, body in wanted:
            found = _forecast(cluster, access.chosen(cluster), kind, body)
            head = kind.called(found.namespace, found.name)
            terminal.show(Text.assemble((head, "bold"), f" would be {found.change}. The API server accepts it"))
            terminal.show(picture(found))
            if exact and kind == IMAGE:
                terminal.show(planned(ask(cluster, found.namespace, body, limit)))
            possible = possible and found.possible
    if not possible:
        raise typer.Exit(ExitCode.FAILED)


def ask(cluster: Cluster, namespace: str, body: Resource, limit: float) -> Resource:
    """Let the operator plan a copy of an ImagePrefetch, and return its plan. The copy is deleted."""
    name = f"plan-{secrets.token_hex(4)}"
    spec = {key: value for key, value in body["spec"].items() if key not in _NOT_PLANNED} | {"mode": "Plan"}
    copy = {"apiVersion": body["apiVersion"], "kind": IMAGE.kind, "metadata": {"name": name}, "spec": spec}
    cluster.create(IMAGE, namespace, copy)
    try:
        ends = deadline(limit)
        while True:
            found = cluster.get(IMAGE, namespace, name)
            ready = kinds.condition(found, "Ready")
            if ready.get("reason") == "Planned":
                return dict(found["status"].get("plan") or {})
            if resources.stalled(found) or time.monotonic() >= ends:
                why = ready.get("message", resources.NOT_SEEN)
                raise WaitError(f"The operator has no plan for {body['metadata']['name']}: {why}")
            time.sleep(_EVERY)
    finally:
        cluster.delete(IMAGE, namespace, name)


def read(name: str) -> list[tuple[ResourceKind, Resource]]:
    """Read Tasks and ImagePrefetches from YAML. Raises :class:`CLIError`."""
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text()
        documents = [each for each in yaml.safe_load_all(text) if each]
    except OSError as error:
        raise CLIError(f"{name} cannot be read: {error.strerror}. Check its name and your access to it.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CLIError(f"{name} is not valid YAML: {_problem(error)}. Correct it.") from error
    found = []
    for each in _flat(documents):
        kind = next((kind for kind in (TASK, IMAGE) if isinstance(each, dict) and each.get("kind") == kind.kind), None)
        if kind is None or not str(each.get("apiVersion", "")).startswith("pantala.dev/"):
            continue
        if not isinstance(each.get("metadata"), dict) or not each["metadata"].get("name"):
            raise CLIError(f"A {kind.kind} in {name} has no metadata.name. Add a name.")
        found.append((kind, each))
    if not found:
        raise CLIError(f"{name} has no Task and no ImagePrefetch of pantala.dev. Check apiVersion and kind.")
    return found


def _problem(error: Exception) -> str:
    """What is wrong, and in which line."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(error).splitlines()[0]
    return f"line {mark.line + 1}, column {mark.column + 1}: {getattr(error, 'problem', '') or 'unexpected text'}"


def _flat(documents: list[Any]) -> list[Any]:
    """The documents, with the items of each List."""
    return [
        item
        for each in documents
        for item in ((each.get("items") or ()) if isinstance(each, dict) and each.get("kind") == "List" else (each,))
    ]


def _forecast(cluster: Cluster, default: str, kind: ResourceKind, body: Resource) -> Outlook:
    namespace = body["metadata"].get("namespace") or default
    name = body["metadata"]["name"]
    try:
        former = cluster.get(kind, namespace, name)
    except ObjectMissingError:
        former = None
    accepted = cluster.try_apply(kind, namespace, body)
    target = accepted["spec"].get("target") or {}
    pods = cluster.objects(kinds.POD, namespace) if "podSelector" in target else []
    selected = match(target, cluster.objects(kinds.NODE), cluster.objects(kinds.PEER), pods)
    return outlook(kind, accepted, former, selected, cluster.objects(kind))
