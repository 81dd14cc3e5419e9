"""``logs``, ``ui`` and ``version``: commands about Pantala's own processes."""

import os
import subprocess
import webbrowser
from enum import StrEnum
from typing import Annotated

import typer

from pantala_cli.access.cluster import Cluster, of_one_place
from pantala_cli.access.console import ConsoleClient
from pantala_cli.access.forward import kubectl
from pantala_cli.access.kinds import PEER, POD, VERSION, Resource, labels, selector_of, status_of
from pantala_cli.access.options import UserAccess
from pantala_cli.commands.top import follow
from pantala_cli.errors import CLIError, ObjectMissingError
from pantala_cli.show import terminal
from pantala_cli.show.words import printable
from pantala_protocol import __version__

_LOOK = 5.0
"""Seconds between two checks whether the console still answers."""


class Component(StrEnum):
    """Pantala's processes."""

    OPERATOR = "operator"
    SUPERNODE = "supernode"
    PEER = "peer"
    RUNTIME = "runtime"


Which = Annotated[Component, typer.Argument(metavar="PROCESS", help="operator, supernode, peer or runtime.")]
Node = Annotated[str, typer.Option("--node", metavar="NODE", help="Only the pods of this node.", show_default=False)]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Show new lines until Ctrl-C.")]
Tail = Annotated[
    int, typer.Option("--tail", metavar="N", help="The number of the newest lines of each pod. -1: all lines.")
]
Since = Annotated[
    str,
    typer.Option("--since", metavar="DURATION", help="Only lines newer than this, such as 10m.", show_default=False),
]
Previous = Annotated[bool, typer.Option("--previous", "-p", help="The log of the container before its restart.")]
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Print the page's address, and open no browser.")]
Client = Annotated[bool, typer.Option("--client", help="Show only this command's version, without a cluster.")]


def logs(
    access: UserAccess,
    process: Which = Component.PEER,
    node: Node = "",
    follow: Follow = False,
    tail: Tail = 100,
    since: Since = "",
    previous: Previous = False,
) -> None:
    """Show the log of one of Pantala's processes."""
    with access.cluster() as cluster:
        # -n can only mean Pantala's own namespace here
        pods = pods_of(cluster, access.home or access.namespace, process, node)
    container = "runtime" if process is Component.RUNTIME else process.value
    flags = [f"--tail={tail}", f"--container={container}"]
    flags += ["--follow"] if follow else []
    flags += [f"--since={since}"] if since else []
    flags += ["--previous"] if previous else []
    namespace = f"--namespace={pods[0]['metadata']['namespace']}"
    if len(pods) == 1:
        what = [f"pod/{pods[0]['metadata']['name']}"]
    else:
        what = [f"--selector={selector(process)}", "--prefix", f"--max-log-requests={len(pods)}"]
    _run([kubectl(), *access.flags(), "logs", namespace, *what, *flags])


def ui(access: UserAccess, no_browser: NoBrowser = False) -> None:
    """Open the console's web page, until Ctrl-C."""
    shown = ""

    def look(client: ConsoleClient) -> None:
        nonlocal shown
        client.console(limit=1)  # fail here if no console answers at the address
        if client.url != shown:  # a new connection has another port
            shown = client.url
            typer.echo(f"Pantala's console is at {shown}/ until Ctrl-C.")
            if not no_browser and _has_display():
                webbrowser.open(f"{shown}/")

    follow(access, _LOOK, look)


def version(access: UserAccess, client: Client = False) -> None:
    """Show the versions of this command, the cluster and Pantala."""
    typer.echo(f"kubectl-pantala {__version__}")
    if client:
        return
    with access.cluster() as cluster:
        typer.echo(f"Kubernetes {cluster.version()}")
        for name, found in (("operator", _of_operator), ("peers", _of_peers)):
            try:
                typer.echo(printable(f"{name} {', '.join(sorted(found(cluster, access.home))) or 'none'}"))
            except CLIError as error:
                terminal.note(f"note: {error} So the version of {name} is not known.")


def selector(process: Component) -> str:
    """The labels of a process's pods. The runtime helper is a container of the peer's pod."""
    return selector_of(Component.PEER if process is Component.RUNTIME else process)


def pods_of(cluster: Cluster, home: str, process: Component, node: str = "") -> list[Resource]:
    """The pods of a process, all in one namespace.

    Raises :class:`ObjectMissingError` if there is none, and the errors of :func:`of_one_place`.
    """
    pods = cluster.objects(POD, home or None, selector(process))
    if node:
        pods = [pod for pod in pods if pod["spec"].get("nodeName") == node]
    if not pods:
        where = f" on node {node}" if node else ""
        raise ObjectMissingError(f"No pod of Pantala's {process} runs{where}. Check with kubectl pantala doctor.")
    of_one_place(pods, f"Pantala's {process}")
    return pods


def _of_operator(cluster: Cluster, home: str) -> set[str]:
    pods = cluster.objects(POD, home or None, selector(Component.OPERATOR))
    of_one_place(pods, "Pantala's operator")
    return {labels(pod).get(VERSION, "?") for pod in pods}


def _of_peers(cluster: Cluster, _home: str) -> set[str]:
    return {status_of(peer).get("version") or "?" for peer in cluster.objects(PEER)}


def _has_display() -> bool:
    return os.name == "nt" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ or os.uname()[0] == "Darwin"


def _run(command: list[str]) -> None:
    """Run kubectl with this program's output. If kubectl fails, this command fails too."""
    ended = subprocess.run(command, check=False)  # noqa: S603 - kubectl, with fixed flags
    if ended.returncode:
        raise CLIError(f"kubectl logs ended with code {ended.returncode}. Read its message above.")
