"""The end of the demo's output: the result, and commands to try next."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from demo.payload import Payload
from demo.place import Place
from demo.screen import megabytes
from demo.story import Result


def show(console: Console, payload: Payload, result: Result, *, kept: bool) -> None:
    """Print the result."""
    status = result.task["status"]
    console.print()
    if result.nodes:
        console.print(_nodes(payload, result))
        console.print()
    console.print(_bytes(payload, result))
    peers = status["peers"]
    console.print(f"\n{peers['ready']} of {peers['desired']} nodes ready {result.seconds:.1f} s after kubectl apply")
    if result.nodes:
        console.print(
            f"e.g. {result.nodes[0].path}{'' if kept else ' (deleted at the end of the demo)'}", soft_wrap=True
        )


def next_steps(place: Place, *, kept: bool, task: str) -> Iterator[str]:
    """Yield lines with commands that the user can try next."""
    if kept:
        if place.kubeconfig:
            yield f"export KUBECONFIG={place.kubeconfig} PATH={place.programs}:$PATH"
        if place.console:
            yield f"open {place.console}    # the web page"
            yield f"export PANTALA_CONSOLE={place.console}"
        yield f"kubectl get tasks.pantala.dev,peers.pantala.dev; kubectl describe tasks.pantala.dev {task}"
        yield f"kubectl pantala explain task/{task}; kubectl pantala top"
        yield "kubectl apply -f crds/samples/task.yaml    # your own file: change metadata.name and spec.source.url"
        yield f"kubectl delete tasks.pantala.dev {task}    # its files are removed within seconds"
    else:
        yield "make demo KEEP=1       # keep the processes running, to look around with kubectl"
        yield "make demo CLUSTER=1    # the same on the cluster of KUBECONFIG, with the chart installed"


def _nodes(payload: Payload, result: Result) -> Table:
    table = _table("node", "size", "sha256", "", "from origin", "supernode", "peers")
    for node in result.nodes:
        verdict = "[green]ok[/]" if node.sha256 == payload.sha256 else "[red]WRONG[/]"
        taken = ("?", "?") if node.taken is None else map(megabytes, node.taken)
        # Only the supernode reads the origin.
        table.add_row(node.node, megabytes(node.size), f"{node.sha256[:12]}…", verdict, megabytes(0), *taken)
    return table


def _bytes(payload: Payload, result: Result) -> Table:
    moved = result.task["status"]["bytes"]
    rows = (
        ("left the origin (its access log)", result.origin_bytes, f"{result.origin_requests} request"),
        ("nodes received from the supernode", moved["fromSupernode"], ""),
        ("nodes received from each other", moved["fromPeers"], ""),
    )
    table = _table("all together", "bytes", "/ size", "")
    for name, count, note in rows:
        table.add_row(name, megabytes(count), f"{count / payload.size:.3f}x", note)
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table
