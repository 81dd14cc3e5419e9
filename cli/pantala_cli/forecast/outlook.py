"""What a resource would do: its nodes, its bytes, and what would block it. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pantala_cli.access.kinds import IMAGE, Resource, ResourceKind, key_of, status_of
from pantala_cli.forecast.matching import Match
from pantala_cli.show.tables import plain
from pantala_cli.show.words import counted, several, size, together

_NO_MATCH = "no node has the names and labels of spec.target. Compare it with kubectl get nodes --show-labels."


class Outlook(NamedTuple):
    """The forecast for one resource."""

    kind: ResourceKind
    namespace: str
    name: str
    change: str
    """``created``, ``changed`` or ``unchanged``."""
    match: Match
    path: str = ""
    """Where nodes publish the file. Empty for an image."""
    conflicts: tuple[str, ...] = ()
    """What would block the resource."""
    each: int | None = None
    """Bytes for each node. ``None``: not known."""
    basis: str = ""
    """The source of ``each``, or why ``each`` is not known."""

    @property
    def possible(self) -> bool:
        return not self.conflicts and self.match.expected > 0


def outlook(
    kind: ResourceKind, wanted: Resource, former: Resource | None, match: Match, others: Iterable[Resource]
) -> Outlook:
    """Forecast one resource. ``others``: the known Tasks, or the ImagePrefetches, of all namespaces."""
    metadata, spec = wanted["metadata"], wanted["spec"]
    namespace, name = metadata["namespace"], metadata["name"]
    others = [each for each in others if key_of(each) != (namespace, name)]
    change = "created" if former is None else "unchanged" if former["spec"] == spec else "changed"
    if kind == IMAGE:
        each, basis = _image_bytes(spec, [*others, *([former] if former else [])])
        return Outlook(kind, namespace, name, change, match, each=each, basis=basis)
    each, basis = _file_bytes(spec, [*others, *([former] if former else [])])
    path = "" if (spec.get("source") or {}).get("image") else spec.get("path") or f"{namespace}/{name}"
    conflicts = []
    owner = next((each for each in others if path and _path(each) == path), None)
    if owner is not None:
        conflicts.append(f"The path {path} belongs to the Task {'/'.join(key_of(owner))}. Choose another spec.path.")
    if path and not path.startswith("/") and not path.startswith(f"{namespace}/"):
        conflicts.append(
            f"The path {path} does not begin with {namespace}/. This works only if the chart's value paths.shared "
            "allows it."
        )
    return Outlook(kind, namespace, name, change, match, path, tuple(conflicts), each, basis)


def picture(found: Outlook) -> Table:
    """The forecast as lines."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    match = found.match
    nodes = counted(match.expected, "node")
    chosen = f"{nodes}: {several(match.nodes)}" if match.limit is None else f"{nodes} of {several(match.nodes)}"
    nothing = "none of the nodes below" if match.passed_over else _NO_MATCH
    table.add_row("nodes", Text(chosen if match.nodes else nothing, "" if match.nodes else "red"))
    for line in together(match.passed_over.items()):
        table.add_row("not", line)
    if found.path:
        table.add_row("path", found.path)
    if found.each is None:
        table.add_row("bytes", f"not known: {found.basis}")
    else:
        whole = found.each * match.expected
        table.add_row("bytes", f"{size(found.each)} for each node, {size(whole)} for all, from {found.basis}")
    for conflict in found.conflicts:
        table.add_row(Text("conflict", "red"), conflict)
    return table


def planned(plan: Mapping[str, Any]) -> Group:
    """The operator's plan for images: what each node would download."""
    table = plain("NODE", "IMAGES", "BYTES", "DISK FREE", "AFTERWARDS")
    for each in plan.get("nodes") or ():
        free = (size(each.get("diskFree")), size(each.get("diskFreeAfter")))
        table.add_row(each["node"], str(each.get("images", 0)), size(each.get("bytes")), *free)
    parts: list[RenderableType] = [table] if table.row_count else []
    for each in plan.get("leftOut") or ():
        what = f"{each['node']}: {each['image']}" if each.get("image") else each["node"]
        parts.append(Text(f"{what}: {each['reason']}: {each.get('message', '')}", "yellow"))
    text = f"{size(plan.get('bytes', 0))} for all nodes, {size(plan.get('registryBytes', 0))} from the registry"
    return Group(*parts, Text(text))


def _file_bytes(spec: Mapping[str, Any], known: Iterable[Resource]) -> tuple[int | None, str]:
    source = spec.get("source") or {}
    for each in known:
        length = status_of(each).get("contentLength")
        if length is not None and (each["spec"].get("source") or {}) == source:
            return int(length), f"the Task {'/'.join(key_of(each))}"
    return None, "the supernode asks the origin when the Task exists"


def _image_bytes(spec: Mapping[str, Any], known: Iterable[Resource]) -> tuple[int | None, str]:
    images = [each["image"] for each in spec.get("images") or ()]
    sizes = {
        image["image"]: image["bytes"]
        for each in known
        for image in status_of(each).get("images") or ()
        if image.get("bytes")
    }
    if images and not spec.get("from") and all(image in sizes for image in images):
        return sum(sizes[image] for image in images), "earlier ImagePrefetches of the same images"
    return None, "--exact asks the registry"


def _path(task: Resource) -> str:
    return str(status_of(task).get("path") or task["spec"].get("path") or "/".join(key_of(task)))
