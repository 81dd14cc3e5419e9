"""The commands of ``kubectl pantala``."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live

from pantala_cli import view
from pantala_cli.cluster import REQUESTED_AT, Cluster, connect
from pantala_protocol import __version__

app = typer.Typer(
    name="kubectl-pantala",
    help="See and steer Pantala's Tasks, with the rights of your kubeconfig.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_EVERY = 2.0
"""Seconds between two looks with ``--watch``: one list each."""

Name = Annotated[str, typer.Argument(metavar="TASK", help="The Task's name.", show_default=False)]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Default: the context's.", show_default=False)]
File = Annotated[str, typer.Option("--kubeconfig", help="Default: KUBECONFIG, ~/.kube/config.", show_default=False)]
Context = Annotated[str, typer.Option("--context", help="Default: the current one.", show_default=False)]
AllNamespaces = Annotated[bool, typer.Option("--all-namespaces", "-A", help="Tasks of all namespaces.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Go on showing until Ctrl-C.")]


@app.command()
def status(
    task: Annotated[str, typer.Argument(metavar="[TASK]", help="Default: all.", show_default=False)] = "",
    namespace: Namespace = "",
    all_namespaces: AllNamespaces = False,
    watch: Watch = False,
    kubeconfig: File = "",
    context: Context = "",
) -> None:
    """Show Tasks: progress, origin bytes / size, peers, and why."""
    if task and all_namespaces:
        raise typer.BadParameter("a Task is in one namespace; give -n, or no name")
    with connect(kubeconfig, context) as cluster:
        chosen = namespace or cluster.namespace

        def look() -> RenderableType:
            now = view.utc_now()
            if not task:
                return _list(cluster, None if all_namespaces else chosen, now)
            found = cluster.task(chosen, task)
            return Group(view.tasks_table([found], now, namespaces=False), "", view.details(found))

        _show(look, watch=watch)


@app.command()
def peers(watch: Watch = False, kubeconfig: File = "", context: Context = "") -> None:
    """Show the peers: one on each node."""
    with connect(kubeconfig, context) as cluster:

        def look() -> RenderableType:
            found = cluster.peers()
            return view.peers_table(found, view.utc_now()) if found else "No peers yet: does the DaemonSet run?"

        _show(look, watch=watch)


@app.command()
def retry(task: Name, namespace: Namespace = "", kubeconfig: File = "", context: Context = "") -> None:
    """Ask for a new try of a Task that failed."""
    with connect(kubeconfig, context) as cluster:
        chosen = namespace or cluster.namespace
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        cluster.annotate(chosen, task, {REQUESTED_AT: now})
        typer.echo(f"task {chosen}/{task}: a new try is asked for")


@app.command()
def suspend(task: Name, namespace: Namespace = "", kubeconfig: File = "", context: Context = "") -> None:
    """Keep what is there of a Task, fetch and give out nothing more."""
    with connect(kubeconfig, context) as cluster:
        chosen = namespace or cluster.namespace
        cluster.suspend(chosen, task, suspend=True)
        typer.echo(f"task {chosen}/{task} suspended")


@app.command()
def resume(task: Name, namespace: Namespace = "", kubeconfig: File = "", context: Context = "") -> None:
    """Let a suspended Task go on."""
    with connect(kubeconfig, context) as cluster:
        chosen = namespace or cluster.namespace
        cluster.suspend(chosen, task, suspend=False)
        typer.echo(f"task {chosen}/{task} resumed")


@app.command()
def version(kubeconfig: File = "", context: Context = "") -> None:
    """Show the versions of this command, of the peers and of the cluster."""
    typer.echo(f"kubectl-pantala {__version__}")
    with connect(kubeconfig, context) as cluster:
        typer.echo(f"Kubernetes {cluster.version()}")
        running = sorted({(peer.get("status") or {}).get("version", "?") for peer in cluster.peers()})
        typer.echo(f"peers {', '.join(running) or 'none'}")


def _list(cluster: Cluster, namespace: str | None, now: datetime) -> RenderableType:
    tasks = cluster.tasks(namespace)
    if not tasks:
        return f"No Tasks in namespace {namespace}." if namespace else "No Tasks."
    return view.tasks_table(tasks, now, namespaces=namespace is None)


def _show(look: Callable[[], RenderableType], *, watch: bool) -> None:
    """Print once, or go on: in place on a terminal, else one block after another."""
    console = Console(soft_wrap=True) if watch else Console()
    if not console.is_terminal:
        console = Console(width=200)  # what reads a pipe wants whole lines
    shown = look()
    if not watch:
        console.print(shown)
        return
    if not console.is_terminal:
        while True:
            console.print(shown)
            time.sleep(_EVERY)
            shown = look()
    with Live(shown, console=console, auto_refresh=False) as live:
        while True:
            time.sleep(_EVERY)
            live.update(look(), refresh=True)
