"""The reference page of all metrics, from the families that the processes declare."""

from collections.abc import Iterator, Mapping

from pantala_operator import metrics as operator
from pantala_peer import metrics as peer
from pantala_process.metrics import BUILD, OTHER, Family
from pantala_supernode import metrics as supernode

FAMILIES: Mapping[str, tuple[Family, ...]] = {
    "operator": operator.FAMILIES,
    "supernode": supernode.FAMILIES,
    "peer": peer.FAMILIES,
}
"""The families of each process, without those that all processes have."""

_START = """\
# Metrics

Each process serves these families at `/metrics` of its health port, for Prometheus. [Monitoring](../monitoring.md) says
how to read them, and has the alerts and the dashboard.

The values of each label come from a closed list. No label has the name of a file, a node, an image or a namespace.
"""
_ALL = """
## All processes

Each process also has the families `process_*` of the Prometheus library: CPU seconds, memory, open files and the time
of its start.
"""
_SECTIONS = {
    "operator": "Only the leading replica has conditions, late nodes, a queue and the age of reports.",
    "supernode": "Each replica has its own numbers.",
    "peer": "Each node has its own numbers. Bytes that containerd reads from a registry itself cannot be seen.",
}
_SHOWN = 8
"""The most values of a label that the page lists."""


def page() -> str:
    """The page as Markdown."""
    return "".join((_START, *_sections(), _ALL, _table([BUILD])))


def _sections() -> Iterator[str]:
    for process, families in FAMILIES.items():
        yield f"\n## {process.capitalize()}\n\n{_SECTIONS[process]}\n"
        yield _table(families)


def _table(families: tuple[Family, ...] | list[Family]) -> str:
    rows = "".join(
        f"| `{each.name}` | {each.type} | {_labels(each)} | {each.text} | {each.question} |\n" for each in families
    )
    return f"\n| family | type | labels | content | question |\n|---|---|---|---|---|\n{rows}"


def _labels(family: Family) -> str:
    return "; ".join(_label(name, values) for name, values in family.labels.items())


def _label(name: str, values: tuple[str, ...]) -> str:
    if name == "version":
        return "`version`"
    if len(values) <= _SHOWN:
        return f"`{name}`: {', '.join(f'`{value}`' for value in values)}"
    other = f", and `{OTHER}` for all other values" if OTHER in values else ""
    kind = {"reason": "the reason of a condition", "status": "an HTTP status", "type": "the type of a condition"}
    return f"`{name}`: {kind.get(name, 'one of a list')}{other}"
