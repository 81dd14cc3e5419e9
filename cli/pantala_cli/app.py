"""The commands of ``kubectl pantala``."""

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
    help="Show and control Pantala's Tasks, with the permissions of your kubeconfig.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_EVERY = 2.0
"""Seconds between two lists with ``--watch``."""

Name = Annotated[str, typer.Argument(metavar="TASK", help="The Task's name.", show_default=False)]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Default: the kubeconfig's.", show_default=False)]
File = Annotated[str, typer.Option("--kubeconfig", help="Default: KUBECONFIG, ~/.kube/config.", show_default=False)]
Context = Annotated[str, typer.Option("--context", help="Default: the current context.", show_default=False)]
AllNamespaces = Annotated[bool, typer.Option("--all-namespaces", "-A", help="Tasks of all namespaces.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Update the output until Ctrl-C.")]


@app.command()
def status(
    task: Annotated[str, typer.Argument(metavar="[TASK]", help="Default: all.", show_default=False)] = "",
    namespace: Namespace = "",
    all_namespaces: AllNamespaces = False,
    watch: Watch = False,
    kubeconfig: File = "",
    context: Context = "",
) -> None:
    """Show Tasks with progress, peers, origin bytes / size, and the reason of their state."""
    if task and all_namespaces:
        raise typer.BadParameter("A Task name needs one namespace. Use -n, or omit the name.")
    with connect(kubeconfig, context) as cluster:
        chosen = namespace or cluster.namespace

        def read() -> RenderableType:
            now = view.utc_now()
            if not task:
                return _list(cluster, None if all_namespaces else chosen, now)
            found = cluster.task(chosen, task)
            return Group(view.tasks_table([found], now, namespaces=False), "", view.details(found))

        _show(read, watch=watch)


@app.command()
def peers(watch: Watch = False, kubeconfig: File = "", context: Context = "") -> None:
    """Show the peers, one on each node."""
    with connect(kubeconfig, context) as cluster:

        def read() -> RenderableType:
            found = cluster.peers()
            return (
                view.peers_table(found, view.utc_now())
                if found
                else "No peer has connected yet. Check that the peers' DaemonSet runs."
            )

        _show(read, watch=watch)


@app.command()
def retry(task: Name, namespace: Namespace = "", kubeconfig: File = "", context: Context = "") -> None:
    """Retry a failed Task."""
    with connect(kubeconfig, context) as cluster:
        chosen = namespace or cluster.namespace
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        cluster.annotate(chosen, task, {REQUESTED_AT: now})
        typer.echo(f"task {chosen}/{task}: retry requested")


@app.command()
def suspend(task: Name, namespace: Namespace = "", kubeconfig: File = "", context: Context = "") -> None:
    """Stop all downloads of a Task. Its files stay."""
    with connect(kubeconfig, context) as cluster:
        chosen = namespace or cluster.namespace
        cluster.suspend(chosen, task, suspend=True)
        typer.echo(f"task {chosen}/{task} suspended")


@app.command()
def resume(task: Name, namespace: Namespace = "", kubeconfig: File = "", context: Context = "") -> None:
    """Continue a suspended Task."""
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


def _show(read: Callable[[], RenderableType], *, watch: bool) -> None:
    """Print once, or repeatedly: in place on a terminal, otherwise one block after the other."""
    console = Console(soft_wrap=True) if watch else Console()
    if not console.is_terminal:
        console = Console(width=200)  # programs that read a pipe need whole lines
    shown = read()
    if not watch:
        console.print(shown)
        return
    if not console.is_terminal:
        while True:
            console.print(shown)
            time.sleep(_EVERY)
            shown = read()
    with Live(shown, console=console, auto_refresh=False) as live:
        while True:
            time.sleep(_EVERY)
            live.update(read(), refresh=True)
