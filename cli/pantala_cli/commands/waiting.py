"""``wait``: until Tasks and ImagePrefetches are ready, or until one of them cannot become ready without a user."""

import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from pantala_cli.access import targets
from pantala_cli.access.cluster import Cluster
from pantala_cli.access.kinds import condition, is_current
from pantala_cli.access.options import UserAccess
from pantala_cli.access.targets import ObjectName, ObjectWords
from pantala_cli.errors import WaitError
from pantala_cli.show import resources, tables, terminal
from pantala_cli.show.words import share
from pantala_protocol.console.views import TaskSummary

_EVERY = 1.0
"""Seconds between two reads of the objects. A wait concerns few objects, so a read is cheap."""

For = Annotated[str, typer.Option("--for", metavar="condition=TYPE", help="The condition, as in kubectl wait.")]
Timeout = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="The longest wait, such as 90s, 10m or 1h. 0: no limit.")
]

_NUMBER = "([0-9]+(?:[.][0-9]+)?)"
_DURATION = re.compile(f"(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s?)?")


def wait(access: UserAccess, target: ObjectWords, for_: For = "condition=Ready", timeout: Timeout = "10m") -> None:
    """Wait until Tasks and ImagePrefetches are ready. Exit code 1: an object failed, or the time is over."""
    wanted = targets.work(targets.several(target))
    what = for_.removeprefix("condition=")
    if what == for_ or not what:
        raise typer.BadParameter(f"--for {for_} is not supported. Use --for condition=TYPE.")
    limit = seconds(timeout)
    with access.cluster() as cluster:
        until(cluster, access.chosen(cluster), wanted, limit, what)
    for kind, name in wanted:
        typer.echo(f"{kind.printed(name)} condition met")


def until(
    cluster: Cluster,
    namespace: str,
    wanted: Sequence[ObjectName],
    limit: float,
    what: str = "Ready",
    *,
    show: bool = False,
) -> None:
    """Wait for a condition of all objects. ``show``: print each change of the progress to stderr.

    Raises :class:`WaitError`.
    """
    ends = deadline(limit)
    kind_of, _, status = what.partition("=")
    last: dict[ObjectName, str] = {}
    while True:
        waiting = []
        for target in wanted:
            resource = cluster.get(target.kind, namespace, target.name)
            current = is_current(resource)
            found = condition(resource, kind_of) if current else {}
            if found.get("status", "").lower() == (status or "true").lower():
                continue
            waiting.append((target, resource))
            if kind_of == "Ready" and current and resources.stalled(resource):
                raise WaitError(_why(target, resource, "failed"))
            if show:
                _show(resources.summary(resource, target.kind), target, last)
        if not waiting:
            return
        if time.monotonic() >= ends:
            target, resource = waiting[0]
            raise WaitError(_why(target, resource, f"is not {what} after {limit:.0f} s"))
        time.sleep(_EVERY)


def seconds(text: str) -> float:
    """Read a duration such as ``90s``, ``10m``, ``1h30m`` or ``45``. Raises :class:`typer.BadParameter`."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a duration. Use a duration such as 90s, 10m or 1h.")
    hours, minutes, rest = (float(each or 0) for each in found.groups())
    return hours * 3600 + minutes * 60 + rest


def deadline(limit: float) -> float:
    """The end of a wait by the monotonic clock. A ``limit`` of 0 means no end."""
    return time.monotonic() + limit if limit else math.inf


def _why(target: ObjectName, resource: Mapping[str, Any], what: str) -> str:
    ready = condition(resource, "Ready")
    message = str(ready.get("message", resources.NOT_SEEN)).removesuffix(".")
    return (
        f"{target.kind.kind} {target.name} {what}: {ready.get('reason', 'NotSeenYet')}: {message}. "
        f"More: kubectl pantala explain {target.kind.singular}/{target.name}"
    )


def _show(task: TaskSummary, target: ObjectName, last: dict[ObjectName, str]) -> None:
    done = "" if task.progress is None else f"{share(task.progress)}, "
    state = f"{done}{tables.nodes(task.nodes)} nodes" if task.nodes.desired else "not started"
    line = f"{target.kind.singular} {target.name}: {state} ({task.reason})"
    if last.get(target) != line:
        last[target] = line
        terminal.note(line)
