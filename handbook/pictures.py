"""Draws the pictures of the documentation as SVG files in ``docs/pictures``.

The pictures load nothing from other servers, and follow the colour scheme of the reader's system.
``python -m handbook.pictures`` writes all files.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "pictures"

_STYLE = """\
text { font: 14px system-ui, sans-serif; fill: #1f2933; dominant-baseline: central; }
.label { font-size: 12px; paint-order: stroke; stroke: #ffffff; stroke-width: 5px; stroke-linejoin: round; }
.small { font-size: 12px; }
.box { fill: #e0f2f1; stroke: #00796b; stroke-width: 1.5; }
.outside { fill: #f0f0f0; stroke: #6b7280; stroke-width: 1.5; }
.group { fill: none; stroke: #6b7280; stroke-dasharray: 4 4; }
.arrow { fill: none; stroke: #37474f; stroke-width: 1.6; }
.dashed { stroke-dasharray: 6 4; }
.head { fill: #37474f; }
@media (prefers-color-scheme: dark) {
  text { fill: #e5e7eb; }
  .label { stroke: #1e2129; }
  .box { fill: #134e4a; stroke: #4db6ac; }
  .outside { fill: #374151; stroke: #9ca3af; }
  .arrow { stroke: #cfd8dc; }
  .head { fill: #cfd8dc; }
}
"""
_LINE = 18
_GAP = 4


@dataclass(frozen=True)
class Box:
    """A rectangle with lines of text. ``x`` and ``y`` are its middle."""

    x: int
    y: int
    lines: Sequence[str]
    width: int = 150
    height: int = 56
    kind: str = "box"

    def border(self, x: float, y: float) -> tuple[float, float]:
        """The point of the border in the direction of ``(x, y)``, a little outside."""
        dx, dy = x - self.x, y - self.y
        scale = min(
            (self.width / 2 + _GAP) / abs(dx) if dx else math.inf,
            (self.height / 2 + _GAP) / abs(dy) if dy else math.inf,
        )
        return self.x + dx * scale, self.y + dy * scale

    def svg(self) -> Iterator[str]:
        left, top = self.x - self.width / 2, self.y - self.height / 2
        yield (
            f'<rect class="{self.kind}" x="{left:g}" y="{top:g}" width="{self.width}" height="{self.height}" rx="8"/>'
        )
        first = top + 14 if self.kind == "group" else self.y - _LINE * (len(self.lines) - 1) / 2
        for number, line in enumerate(self.lines):
            style = ' class="small"' if number or self.kind == "group" else ""
            yield f'<text{style} x="{self.x}" y="{first + number * _LINE:g}">{escape(line)}</text>'


@dataclass(frozen=True)
class Arrow:
    """A line between two boxes. ``shift`` moves it sideways, so that two arrows fit between the same boxes."""

    start: Box
    end: Box
    label: str = ""
    both: bool = False
    dashed: bool = False
    shift: int = 0
    below: bool = False
    """True if the label is below the line."""

    def svg(self) -> Iterator[str]:
        dx, dy = self.end.x - self.start.x, self.end.y - self.start.y
        length = math.hypot(dx, dy)
        aside = (-dy / length * self.shift, dx / length * self.shift)
        x1, y1 = self.start.border(self.end.x, self.end.y)
        x2, y2 = self.end.border(self.start.x, self.start.y)
        x1, x2, y1, y2 = x1 + aside[0], x2 + aside[0], y1 + aside[1], y2 + aside[1]
        style = "arrow dashed" if self.dashed else "arrow"
        ends = ' marker-end="url(#head)"' + (' marker-start="url(#head)"' if self.both else "")
        yield f'<path class="{style}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"{ends}/>'
        if self.label:
            beside = abs(dy) > 2 * abs(dx)
            x, y = (x1 + x2) / 2 + (8 if beside else 0), (y1 + y2) / 2 + (0 if beside else (12 if self.below else -12))
            anchor = ' text-anchor="start"' if beside else ""
            yield f'<text class="label" x="{x:.1f}" y="{y:.1f}"{anchor}>{escape(self.label)}</text>'


@dataclass
class Picture:
    """A picture with its title, and a description for screen readers."""

    width: int
    height: int
    title: str
    description: str
    parts: list[Box | Arrow] = field(default_factory=list)

    def svg(self) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" text-anchor="middle" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" role="img" aria-labelledby="title description">\n'
            f'<title id="title">{escape(self.title)}</title>\n'
            f'<desc id="description">{escape(self.description)}</desc>\n'
            f"<style>\n{_STYLE}</style>\n"
            '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" markerHeight="9" '
            'orient="auto-start-reverse"><path class="head" d="M0 0L8 4L0 8z"/></marker>\n'
        )
        # Boxes first, so that no box hides a label.
        ordered = sorted(self.parts, key=lambda part: isinstance(part, Arrow))
        return head + "".join(f"{line}\n" for part in ordered for line in part.svg()) + "</svg>\n"


def processes() -> Picture:
    """The processes and their conversations."""
    user = Box(90, 60, ["kubectl apply"], kind="outside")
    api = Box(360, 60, ["kube-apiserver"], kind="outside")
    operator = Box(650, 60, ["operator", "Deployment"])
    origin = Box(90, 210, ["origin", "or registry"], kind="outside")
    supernode = Box(360, 210, ["supernode", "StatefulSet, volume"])
    replica = Box(650, 210, ["supernode", "another replica"])
    node = Box(300, 410, ["node 1"], 560, 190, "group")
    other = Box(720, 410, ["node 2"], 200, 190, "group")
    containerd = Box(110, 460, ["containerd"], 130, 50, "outside")
    helper = Box(110, 370, ["runtime helper"], 130, 50)
    peer = Box(460, 415, ["peer", "DaemonSet"], 130)
    peer2 = Box(720, 415, ["peer"], 130)
    return Picture(
        840, 520, "Pantala's processes",
        "The operator watches the API server and sends statements to the supernodes. The supernode reads each byte of "
        "an origin once. Peers on the nodes get pieces from the supernode and from each other. containerd pulls from "
        "the peer.",
        [
            user, api, operator, origin, supernode, replica, node, other, containerd, helper, peer, peer2,
            Arrow(user, api), Arrow(api, operator, "watch, status", both=True),
            Arrow(operator, supernode, "statement, reports", both=True),
            Arrow(origin, supernode, "each byte once"), Arrow(supernode, replica, "copies", both=True),
            Arrow(supernode, peer, "exchange, pieces", both=True),
            Arrow(supernode, peer2, "exchange, pieces", both=True),
            Arrow(peer, peer2, "pieces", both=True),
            Arrow(containerd, peer, "pulls from the mirror", below=True), Arrow(peer, helper, "orders"),
            Arrow(helper, containerd, "CRI"),
        ],
    )  # fmt: skip


def file() -> Picture:
    """How the pieces of a file reach the nodes."""
    origin = Box(90, 150, ["origin"], 110, 56, "outside")
    supernode = Box(320, 150, ["supernode", "pieces 1 2 3 4 5 6"], 170)
    first = Box(620, 40, ["node 1", "has 1 4, fetches 2"], 170)
    second = Box(620, 150, ["node 2", "has 2 5, fetches 3"], 170)
    third = Box(620, 260, ["node 3", "has 3 6, sends 3"], 170)
    return Picture(
        760, 300, "How a file reaches the nodes",
        "The supernode reads the origin once and sends different pieces to different nodes. The nodes get the other "
        "pieces from each other.",
        [
            origin, supernode, first, second, third,
            Arrow(origin, supernode, "once"),
            Arrow(supernode, first, "1 4"), Arrow(supernode, second, "2 5"), Arrow(supernode, third, "3 6", below=True),
            Arrow(second, first, "2"), Arrow(third, second, "3"),
        ],
    )  # fmt: skip


def image() -> Picture:
    """How a container image reaches a node."""
    pod = Box(80, 60, ["pod or order"], 130, 50, "outside")
    containerd = Box(290, 60, ["containerd"], 130, 50, "outside")
    mirror = Box(530, 60, ["mirror", "peer of the node"], 140)
    peers = Box(770, 60, ["peers", "of other nodes"], 140)
    supernode = Box(530, 210, ["supernode"], 140, 50)
    registry = Box(290, 210, ["registry"], 130, 50, "outside")
    return Picture(
        860, 260, "How an image reaches a node",
        "containerd asks the mirror of its node. The mirror gets blobs from other peers and from the supernode. The "
        "supernode reads each blob once, and asks the registry if each client may read it. If the mirror is slow, "
        "containerd reads from the registry.",
        [
            pod, containerd, mirror, peers, supernode, registry,
            Arrow(pod, containerd, "pull"), Arrow(containerd, mirror, "blob"),
            Arrow(mirror, peers, "pieces", both=True),
            Arrow(mirror, supernode, "pieces, rights", both=True), Arrow(supernode, registry, "once", both=False),
            Arrow(containerd, registry, "if the mirror is slow", dashed=True),
        ],
    )  # fmt: skip


def states() -> Picture:
    """The states of a Task."""
    new = Box(70, 150, ["new"], 90, 50, "outside")
    working = Box(260, 150, ["Reconciling", "reads, distributes, retries"], 200)
    ready = Box(660, 50, ["Ready", "each selected node has it"], 200)
    stalled = Box(660, 250, ["Stalled", "needs a correction"], 200)
    return Picture(
        780, 300, "The states of a Task",
        "A new Task is Reconciling until every selected node has the file. Then it is Ready. A failure that needs a "
        "correction makes it Stalled. A new node, a correction or a request makes it Reconciling again.",
        [
            new, working, ready, stalled,
            Arrow(new, working), Arrow(working, ready, "complete", shift=-14),
            Arrow(ready, working, "new node", dashed=True, shift=-14, below=True),
            Arrow(working, stalled, "no retry helps", shift=14, below=True),
            Arrow(stalled, working, "correction, retry", dashed=True, shift=14),
        ],
    )  # fmt: skip


PICTURES = {"processes": processes, "file": file, "image": image, "states": states}


def outputs() -> dict[Path, str]:
    """All files with their content."""
    return {FOLDER / f"{name}.svg": draw().svg() for name, draw in PICTURES.items()}


def main() -> None:
    """Write all files."""
    FOLDER.mkdir(exist_ok=True)
    for path, text in outputs().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
