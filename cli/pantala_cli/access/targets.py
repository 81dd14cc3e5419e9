"""What users name on the command line: ``task/x``, ``image y``, or only ``x`` for a Task. Pure."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import typer

from pantala_cli.access import kinds
from pantala_cli.access.kinds import IMAGE, TASK, ResourceKind

ObjectWords = Annotated[
    list[str],
    typer.Argument(metavar="TYPE/NAME", help="task/NAME, image/NAME, or the name of a Task.", show_default=False),
]
"""The argument of a command about Tasks and ImagePrefetches."""


class ObjectName(NamedTuple):
    """One object."""

    kind: ResourceKind
    name: str


def one(words: Sequence[str]) -> ObjectName:
    """Read ``task/x``, ``task x`` or ``x``. Raises :class:`typer.BadParameter`."""
    found = several(words)
    if len(found) != 1:
        raise typer.BadParameter("Name one Task or ImagePrefetch, such as task/model or image/inference.")
    return found[0]


def several(words: Sequence[str]) -> list[ObjectName]:
    """Read ``task/x image/y``, ``image x y`` or ``x y``. Raises :class:`typer.BadParameter`."""
    first = kinds.named(words[0]) if len(words) > 1 else None
    rest = words[1:] if first is not None else words
    return [_target(word, first or TASK) for word in rest]


def _target(word: str, default: ResourceKind) -> ObjectName:
    prefix, slash, name = word.partition("/")
    if not slash:
        return ObjectName(default, word)
    kind = kinds.named(prefix)
    if kind is None or not name or "/" in name:
        raise typer.BadParameter(f"{word!r} is not a name. Use TYPE/NAME, such as task/model.")
    return ObjectName(kind, name)


def work(targets: Sequence[ObjectName]) -> Sequence[ObjectName]:
    """Check that all targets are Tasks or ImagePrefetches. Raises :class:`typer.BadParameter`."""
    for target in targets:
        if target.kind not in (TASK, IMAGE):
            name = f"{target.kind.singular}/{target.name}"
            see = f"To see it, run kubectl pantala get {name} -o wide"
            raise typer.BadParameter(f"{name} is not a Task or an ImagePrefetch. {see}")
    return targets
