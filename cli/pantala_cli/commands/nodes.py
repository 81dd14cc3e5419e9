"""``drain``: prepares one node for maintenance."""

import time
from collections.abc import Callable
from typing import Annotated

import typer

from pantala_cli.access.cluster import Cluster
from pantala_cli.access.kinds import PEER, status_of
from pantala_cli.access.options import UserAccess
from pantala_cli.commands.waiting import Timeout, deadline, seconds
from pantala_cli.errors import CLIError, ObjectMissingError, WaitError
from pantala_cli.show import terminal
from pantala_cli.show.words import counted
from pantala_protocol.console.views import Console

_EVERY = 1.0
_CALM = 3
"""The number of checks in a row without an upload, after which the node counts as drained."""

Node = Annotated[str, typer.Argument(metavar="NODE", help="The node's name.", show_default=False)]
Undo = Annotated[bool, typer.Option("--undo", help="Let the node get Tasks again.")]


def drain(access: UserAccess, node: Node, undo: Undo = False, timeout: Timeout = "5m") -> None:
    """Prepare a node for maintenance. It gets no new files and images. Its present files and images stay."""
    limit = seconds(timeout)
    with access.cluster() as cluster:
        _mark(cluster, node, drained=not undo)
        if undo:
            typer.echo(f"peer {node} gets Tasks again")
            return
        typer.echo(f"peer {node} gets no new files and images. Its unfinished downloads end")
        try:
            with access.console(cluster) as client:
                _quiet(lambda: _from_console(client.console(limit=1), node), node, limit)
        except CLIError as error:
            if isinstance(error, WaitError | ObjectMissingError):
                raise
            terminal.note(f"note: {error} This command reads the Peer's status instead.")
            _quiet(lambda: int(status_of(cluster.get(PEER, "", node)).get("uploads", 0)), node, limit)
    typer.echo(
        f"peer {node} is drained: no node reads from it. After the maintenance, run kubectl pantala drain {node} --undo"
    )


def _mark(cluster: Cluster, node: str, *, drained: bool) -> None:
    try:
        cluster.patch(PEER, "", node, {"spec": {"unschedulable": drained}})
    except ObjectMissingError as error:
        raise ObjectMissingError(
            f"No peer runs on node {node}. List all peers with kubectl pantala get peers."
        ) from error


def _from_console(console: Console, node: str) -> int:
    """How many uploads of the node run, or how many nodes still show a rate from it."""
    edges = sum(edge.provider == node and edge.rate > 0 for edge in console.edges)
    return max(edges, sum(peer.uploads for peer in console.peers if peer.name == node))


def _quiet(uploads: Callable[[], int], node: str, limit: float) -> None:
    ends, calm, last = deadline(limit), 0, -1
    while calm < _CALM:
        running = uploads()
        calm = calm + 1 if not running else 0
        if running and running != last:
            terminal.note(f"{counted(running, 'upload')} of {node} still run")
        last = running
        if calm < _CALM and time.monotonic() >= ends:
            raise WaitError(
                f"Other nodes still read from {node} after {limit:.0f} s. When the peer stops, they continue "
                f"with other providers. Raise --timeout, or continue with the maintenance."
            )
        if calm < _CALM:
            time.sleep(_EVERY)
