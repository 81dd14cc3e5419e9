"""``fetch`` and ``prefetch``: create a Task or an ImagePrefetch from the command line."""

import hashlib
import re
from typing import Annotated, Any

import typer

from pantala_cli.access.kinds import IMAGE, PANTALA, TASK, Resource, ResourceKind
from pantala_cli.access.options import UserAccess
from pantala_cli.access.targets import ObjectName
from pantala_cli.commands.waiting import Timeout, seconds, until
from pantala_cli.show import terminal

URL = Annotated[str, typer.Argument(metavar="URL", help="The URL of the file.", show_default=False)]
Images = Annotated[list[str], typer.Argument(metavar="IMAGE", help="An image, such as nginx:1.29.", show_default=False)]
Name = Annotated[
    str,
    typer.Option(
        "--name",
        metavar="NAME",
        show_default=False,
        help="The name of the resource. Default: made from the URL or the image.",
    ),
]
Path = Annotated[
    str,
    typer.Option(
        "--path", metavar="PATH", help="The path of the file on nodes, such as default/model.bin.", show_default=False
    ),
]
Digest = Annotated[
    str,
    typer.Option(
        "--digest", metavar="DIGEST", help="The digest that the file must have, such as sha256:...", show_default=False
    ),
]
Headers = Annotated[
    str,
    typer.Option(
        "--headers-from", metavar="SECRET", help="A Secret with HTTP headers for the origin.", show_default=False
    ),
]
Secrets = Annotated[
    list[str] | None,
    typer.Option(
        "--pull-secret", metavar="SECRET", help="Credentials of a registry. May be repeated.", show_default=False
    ),
]
Nodes = Annotated[
    str,
    typer.Option(
        "--nodes", metavar="SELECTOR", help="Only nodes with these labels, such as disk=ssd.", show_default=False
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until all nodes are ready.")]
Print = Annotated[bool, typer.Option("--dry-run", help="Print the resource as YAML, and create nothing.")]

_NAME = 53
"""The most characters of a name, without the hash."""


def fetch(
    access: UserAccess,
    url: URL,
    name: Name = "",
    path: Path = "",
    digest: Digest = "",
    headers_from: Headers = "",
    nodes: Nodes = "",
    wait: Wait = False,
    timeout: Timeout = "10m",
    dry_run: Print = False,
) -> None:
    """Create a Task, which brings a file to nodes."""
    check_url(url)
    spec: dict[str, Any] = {"source": {"url": url}}
    spec |= {"path": path} if path else {}
    spec |= {"digest": digest} if digest else {}
    spec |= {"headersFrom": {"secretRef": {"name": headers_from}}} if headers_from else {}
    last = url.partition("?")[0].rstrip("/").rpartition("/")[2]
    _create(access, TASK, name or named(last, url), spec, nodes, timeout, wait=wait, dry_run=dry_run)


def prefetch(
    access: UserAccess,
    image: Images,
    name: Name = "",
    pull_secret: Secrets = None,
    nodes: Nodes = "",
    wait: Wait = False,
    timeout: Timeout = "10m",
    dry_run: Print = False,
) -> None:
    """Create an ImagePrefetch, which brings images to nodes."""
    spec: dict[str, Any] = {"images": [{"image": each} for each in image]}
    spec |= {"pullSecrets": list(pull_secret)} if pull_secret else {}
    first = image[0].partition("@")[0].rpartition("/")[2]
    _create(access, IMAGE, name or named(first, *image), spec, nodes, timeout, wait=wait, dry_run=dry_run)


def check_url(url: str) -> None:
    """Find the usual mistakes before the API server does. Raises :class:`typer.BadParameter`."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("http", "https") or not rest.partition("/")[0]:
        raise typer.BadParameter(f"{url!r} is not a valid URL. Begin with http:// or https:// and a host.")


def named(words: str, *source: str) -> str:
    """A valid name from readable words, and a hash of the source that makes it unique."""
    readable = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:_NAME].strip("-")
    digest = hashlib.sha256("\n".join(source).encode()).hexdigest()[:8]
    return f"{readable}-{digest}" if readable else digest


def selected(selector: str) -> dict[str, str]:
    """Read ``disk=ssd,zone=a`` as labels. Raises :class:`typer.BadParameter`."""
    labels = {}
    for each in filter(None, selector.split(",")):
        label, equals, value = each.partition("=")
        if not equals or not label.strip():
            raise typer.BadParameter(f"{each!r} is not a valid label=value. Use --nodes label=value,label=value.")
        labels[label.strip()] = value.removeprefix("=").strip()
    return labels


def _create(
    access: UserAccess,
    kind: ResourceKind,
    name: str,
    spec: dict[str, Any],
    nodes: str,
    timeout: str,
    *,
    wait: bool,
    dry_run: bool,
) -> None:
    labels, limit = selected(nodes), seconds(timeout)
    spec |= {"target": {"nodeSelector": labels}} if labels else {}
    body: Resource = {"apiVersion": PANTALA, "kind": kind.kind, "metadata": {"name": name}, "spec": spec}
    if dry_run:
        if access.namespace:
            body["metadata"]["namespace"] = access.namespace
        terminal.document(body, "yaml")
        return
    with access.cluster() as cluster:
        namespace = access.chosen(cluster)
        cluster.create(kind, namespace, body)
        typer.echo(f"{kind.printed(name)} created")
        if wait:
            until(cluster, namespace, [ObjectName(kind, name)], limit, show=True)
            typer.echo(f"{kind.printed(name)} ready")
