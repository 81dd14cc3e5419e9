"""The options that each command has: namespace, kubeconfig, context and console."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from pantala_cli.access import console, forward
from pantala_cli.access.cluster import Cluster, connect
from pantala_cli.access.console import ConsoleClient

Namespace = Annotated[
    str,
    typer.Option(
        "--namespace", "-n", metavar="NAMESPACE", show_default=False,
        help="The namespace. Default: the namespace of the context.",
    ),
]  # fmt: skip
File = Annotated[
    str,
    typer.Option(
        "--kubeconfig", metavar="FILE", show_default=False,
        help="The kubeconfig. Default: the files in KUBECONFIG, or ~/.kube/config.",
    ),
]  # fmt: skip
Context = Annotated[
    str,
    typer.Option(
        "--context", metavar="CONTEXT", show_default=False,
        help="The context of the kubeconfig. Default: the current context.",
    ),
]  # fmt: skip
ConsoleURL = Annotated[
    str,
    typer.Option(
        "--console", metavar="URL", envvar="PANTALA_CONSOLE", show_default=False,
        help="The console's address. Default: through kubectl port-forward.",
    ),
]  # fmt: skip
Home = Annotated[
    str,
    typer.Option(
        "--pantala-namespace", metavar="NAMESPACE", envvar="KUBECTL_PANTALA_NAMESPACE", show_default=False,
        help="The namespace of Pantala. Default: search all namespaces.",
    ),
]  # fmt: skip

SHARED: dict[str, Any] = {
    "namespace": Namespace, "kubeconfig": File, "context": Context, "console_url": ConsoleURL, "home": Home,
}  # fmt: skip

VALUED = ("--namespace", "-n", "--kubeconfig", "--context", "--console", "--pantala-namespace")
"""Options with a value that may also stand before the command."""


@dataclass(frozen=True, slots=True)
class UserAccess:
    """How one command reaches the cluster and the console."""

    namespace: str = ""
    kubeconfig: str = ""
    context: str = ""
    console_url: str = ""
    home: str = ""

    def cluster(self) -> AbstractContextManager[Cluster]:
        return connect(self.kubeconfig, self.context)

    @contextlib.contextmanager
    def console(self, cluster: Cluster | None = None) -> Iterator[ConsoleClient]:
        """Reach the console. With ``--console``, the cluster is not asked."""
        with contextlib.ExitStack() as stack:
            if self.console_url:
                yield stack.enter_context(console.at(self.console_url))
                return
            cluster = cluster or stack.enter_context(self.cluster())
            yield stack.enter_context(console.through(cluster, self.forward, self.home))

    def forward(self, namespace: str, pod: str, port: int) -> AbstractContextManager[int]:
        return forward.forwarded(self.flags(), namespace, pod, port)

    def flags(self) -> list[str]:
        """The same kubeconfig and context, as flags of kubectl."""
        named = {"--kubeconfig": self.kubeconfig, "--context": self.context}
        return [f"{flag}={value}" for flag, value in named.items() if value]

    def chosen(self, cluster: Cluster) -> str:
        """The namespace of the flag, or of the kubeconfig's context."""
        return self.namespace or cluster.namespace


def connected(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command these options. It gets them as its first argument, an :class:`UserAccess`."""

    @functools.wraps(command)
    def run(**arguments: Any) -> Any:
        access = UserAccess(**{name: arguments.pop(name) for name in SHARED})
        return command(access, **arguments)

    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default="", annotation=option)
        for name, option in SHARED.items()
    ]
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own] + shared
    vars(run)["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run
