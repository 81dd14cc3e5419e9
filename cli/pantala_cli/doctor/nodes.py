"""Checks of the nodes: distribution, runtime, mirror, peers, clocks and disks. Pure."""

from collections import Counter
from collections.abc import Iterator

from pantala_cli.access.kinds import Resource, condition, status_of
from pantala_cli.doctor import platform
from pantala_cli.doctor.diagnosis import Diagnosis, Level, failed, grouped, ok, warning
from pantala_cli.doctor.facts import Facts
from pantala_cli.doctor.platform import Distribution
from pantala_cli.show.words import counted, several
from pantala_protocol.reasons import Reason

_MIRROR = "Read the log with kubectl pantala logs peer --node NODE, and see docs/mirror.md."
_PEER = "Read the log with kubectl pantala logs peer --node NODE."
_AWAY = "See the finding about the supernodes. The peer is connected again when a supernode answers."
_CLOCK = "Synchronise the clock of the node, for example with chrony."


def distribution(facts: Facts) -> Iterator[Diagnosis]:
    """Which distribution the nodes run, and whether the chart's paths fit the distribution."""
    found = Counter(map(platform.recognise, facts.nodes))
    if not found:
        return
    names = ", ".join(f"{each} on {counted(count, 'node')}" for each, count in found.most_common())
    yield ok("distribution", f"{names}, Kubernetes {facts.version}; see {found.most_common(1)[0][0].page}")
    used = _used_layout(facts)
    if used is None:
        return
    for each in found:
        # for other distributions, only the condition MirrorConfigured shows if the paths are right
        if each is not Distribution.OTHER:
            yield from _layout(each, used)


def _layout(found: Distribution, used: platform.RuntimeLayout) -> Iterator[Diagnosis]:
    wanted = platform.LAYOUTS.get(found, platform.RuntimeLayout())
    if used.certs and wanted.certs in used.certs.split(":"):
        yield ok("config_path", f"The peers write to {used.certs}, which {found} reads")
    elif used.certs:
        yield failed(
            "config_path",
            f"The peers write to {used.certs}, but containerd of {found} reads {wanted.certs}",
            f"Set the chart's value mirror.certsD={wanted.certs}. See {found.page}.",
        )
    if used.socket and used.socket != wanted.socket:
        yield warning(
            "socket",
            f"The runtime helper uses the socket in {used.socket}, but containerd of {found} has {wanted.socket}",
            f"Set the chart's values containerd.socket and containerd.content. See {found.page}.",
        )


def runtimes(facts: Facts) -> Iterator[Diagnosis]:
    """Only containerd has mirrors that ask the peer."""
    others = [(_name(node), name) for node in facts.nodes for name, _ in [platform.runtime(node)] if name]
    foreign = {node: name for node, name in others if name != "containerd"}
    if foreign:
        yield warning(
            "runtime",
            f"{several(foreign)} run {several(set(foreign.values()))}, which does not ask the mirror",
            "Files and image prefetches work on these nodes. Each node pulls from the registry. See docs/mirror.md.",
        )
    elif others:
        versions = {version for node in facts.nodes for _, version in [platform.runtime(node)]}
        yield ok("runtime", f"containerd {several(versions)} on {counted(len(others), 'node')}")


def peers(facts: Facts) -> Iterator[Diagnosis]:
    """Whether each node has a connected peer."""
    if not facts.peers:
        if facts.home and "peers" not in facts.missing:
            yield failed("peers", "No peer has connected yet", "Check the peers' DaemonSet and the supernode's log.")
        return
    unready: dict[str, list[tuple[str, str]]] = {_PEER: [], _AWAY: []}
    for peer in facts.peers:
        found = condition(peer, "Ready")
        if not _true(peer):
            step = _AWAY if found.get("reason") == Reason.SUPERNODE_UNAVAILABLE.value else _PEER
            unready[step].append((_name(peer), found.get("message", "")))
    for step, those in unready.items():
        yield from grouped("peers", Level.FAILED, those, step)
    if not any(unready.values()):
        yield ok("peers", f"{counted(len(facts.peers), 'peer')} connected")
    without = {_name(node) for node in facts.nodes} - {_name(peer) for peer in facts.peers}
    if without:
        yield warning(
            "peers",
            f"{several(without)}: no peer runs there, so the node gets no file and no image",
            "If Tasks should reach the node, set the chart's values peer.nodeSelector and peer.tolerations.",
        )
    closed = [_name(peer) for peer in facts.peers if (peer.get("spec") or {}).get("unschedulable")]
    if closed:
        yield warning(
            "peers", f"{several(closed)}: drained, so no new Task reaches it", "Run kubectl pantala drain NODE --undo."
        )


def mirror(facts: Facts) -> Iterator[Diagnosis]:
    """Whether containerd asks the peer on each node: the condition MirrorConfigured, which a real request proves."""
    wrong: list[tuple[str, str]] = []
    unknown: list[tuple[str, str]] = []
    right: list[tuple[str, str]] = []
    connected = {_name(peer) for peer in facts.peers if _true(peer)}
    for peer in facts.peers:
        found = condition(peer, "MirrorConfigured")
        message = found.get("message", "The peer has not probed the runtime yet")
        status = found.get("status", "Unknown")
        (right if status == "True" else wrong if status == "False" else unknown).append((_name(peer), message))
    yield from grouped("mirror", Level.FAILED, wrong, _MIRROR)
    yield from grouped("mirror", Level.WARNING, unknown, _MIRROR)
    right = [(name, message) for name, message in right if name in connected]  # the others tested it long ago
    if right:
        yield ok("mirror", f"containerd asks the peer on {counted(len(right), 'node')}")


def clocks(facts: Facts) -> Iterator[Diagnosis]:
    """Whether the nodes' clocks agree with the API server's clock."""
    known = [(_name(peer), condition(peer, "ClockSynchronized")) for peer in facts.peers]
    wrong = [(node, found["message"]) for node, found in known if found.get("status") == "False"]
    yield from grouped("clocks", Level.FAILED, wrong, _CLOCK)
    right = sum(found.get("status") == "True" for _, found in known)
    if right and not wrong:
        yield ok("clocks", f"The clocks of {counted(right, 'node')} are right")


def disks(facts: Facts) -> Iterator[Diagnosis]:
    """Whether the kubelet reports a full disk."""
    full = [
        (_name(node), each.get("message", "the kubelet reports DiskPressure"))
        for node in facts.nodes
        for each in status_of(node).get("conditions") or ()
        if each["type"] == "DiskPressure" and each["status"] == "True"
    ]
    yield from grouped(
        "disks",
        Level.FAILED,
        full,
        "Free space on the node. Pantala fetches no file that would use the headroom of the disk.",
    )
    if facts.nodes and not full:
        yield ok("disks", f"The kubelets of {counted(len(facts.nodes), 'node')} report no full disk")


def _used_layout(facts: Facts) -> platform.RuntimeLayout | None:
    """The paths in the peers' DaemonSet."""
    for each in facts.workloads:
        if each["kind"] == "DaemonSet":
            spec = each["spec"]["template"]["spec"]
            words = [
                word
                for container in (*spec.get("initContainers", ()), *spec.get("containers", ()))
                for word in (*(container.get("command") or ()), *(container.get("args") or ()))
            ]
            certs = next((word.removeprefix("--certs-d=") for word in words if word.startswith("--certs-d=/")), "")
            sockets = (
                (volume.get("hostPath") or {}).get("path", "")
                for volume in spec.get("volumes", ())
                if volume["name"] == "socket"
            )
            return platform.RuntimeLayout(certs, next(sockets, ""))
    return None


def _true(peer: Resource) -> bool:
    return condition(peer, "Ready").get("status") == "True"


def _name(resource: Resource) -> str:
    return str(resource["metadata"]["name"])
