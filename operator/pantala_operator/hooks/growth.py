"""``python3 -m pantala_operator.hooks.growth``: makes the supernodes' volumes larger, run by a hook of the chart.

A StatefulSet's claim templates cannot change. So the hook requests more storage in each existing claim, and deletes the
StatefulSet without its pods and claims. Helm then creates the StatefulSet again with the new size, and it adopts the
pods and claims.
"""

import argparse
import asyncio
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from pantala_operator.errors import ClusterError, ClusterForbiddenError, ClusterNotFoundError, ClusterRejectedError
from pantala_protocol.rules import quantity

_TIMEOUT = 10.0
_INTERVAL = 0.5
_GONE_SECONDS = 60.0
"""How long the garbage collector may take to release the pods and claims of a deleted StatefulSet."""
_MERGE = "application/merge-patch+json"

Request = Callable[..., Awaitable[Any]]
"""See :meth:`pantala_operator.adapters.kubernetes.KubernetesCluster.request`."""


class Growth(NamedTuple):
    """The changes for one StatefulSet."""

    larger: tuple[str, ...]
    """The claims that request more storage."""
    recreate: bool
    """True if the StatefulSet has another size in its template."""


def plan(stateful_set: Any, claims: Sequence[Any], volume: str, size: str) -> Growth:
    """Compare the cluster with the wanted size. A claim is never made smaller."""
    wanted = quantity.parse(size)
    name = re.escape(f"{volume}-{stateful_set['metadata']['name']}")
    larger = [
        claim["metadata"]["name"]
        for claim in claims
        if re.fullmatch(f"{name}-[0-9]+", claim["metadata"]["name"]) and _requested(claim) < wanted
    ]
    templates = stateful_set["spec"].get("volumeClaimTemplates", [])
    current = [_requested(each) for each in templates if each["metadata"]["name"] == volume]
    return Growth(tuple(sorted(larger)), bool(current) and current != [wanted])


async def grow(request: Request, namespace: str, name: str, volume: str, size: str) -> str:
    """Make the volumes larger, if the API server would allow all changes. Returns what was done.

    Raises a ``ClusterError``, whose text says if nothing was changed.
    """
    path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets/{name}"
    claims_path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
    try:
        found = await request("get", path)
    except ClusterNotFoundError:
        return "The StatefulSet does not exist yet, so nothing needs to grow."
    selector = ",".join(f"{key}={value}" for key, value in found["spec"]["selector"]["matchLabels"].items())
    claims = (await request("get", claims_path, label_selector=selector))["items"]
    todo = plan(found, claims, volume, size)
    body = {"spec": {"resources": {"requests": {"storage": size}}}}
    for trial in (True, False):  # first, the API server only says if it would allow all requests
        more = {"dry_run": "All"} if trial else {}
        for claim in todo.larger:
            try:
                await request("patch", f"{claims_path}/{claim}", body=body, content_type=_MERGE, **more)
            except (ClusterForbiddenError, ClusterRejectedError) as error:
                text = _refused(claim, claims, size, error)
                raise type(error)(f"{text}. Nothing was changed" if trial else text) from error
    lines = [f"Larger volumes of {size} are requested for {', '.join(todo.larger)}."] if todo.larger else []
    if todo.recreate:
        await request("delete", path, propagation_policy="Orphan")
        await _gone(request, path)
        lines.append("The StatefulSet is deleted, and its pods and claims stay. Helm creates it again.")
    return " ".join(lines) or f"Each volume has at least {size}, so nothing needs to grow."


async def _gone(request: Request, path: str) -> None:
    clock = asyncio.get_running_loop()
    end = clock.time() + _GONE_SECONDS
    while clock.time() < end:
        try:
            await request("get", path)
        except ClusterNotFoundError:
            return
        await asyncio.sleep(_INTERVAL)
    raise ClusterError(f"The StatefulSet still exists after {_GONE_SECONDS:.0f} s. Run helm upgrade again")


def _requested(claim: Any) -> int:
    return quantity.parse(claim["spec"]["resources"]["requests"]["storage"])


def _refused(name: str, claims: Sequence[Any], size: str, error: ClusterError) -> str:
    (claim,) = (each for each in claims if each["metadata"]["name"] == name)
    storage_class = claim["spec"].get("storageClassName") or "(none)"
    return (
        f"The claim {name} cannot grow to {size}: {error}. Its StorageClass {storage_class} must have "
        "allowVolumeExpansion: true, and its provisioner must be able to expand volumes. "
        f"Or keep supernode.persistence.size at {claim['spec']['resources']['requests']['storage']}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command. The exit code is 2 for invalid flags, 1 for a failure, else 0."""
    parser = argparse.ArgumentParser(
        prog="pantala_operator.hooks.growth", description="Makes the supernodes' volumes larger before an upgrade."
    )
    parser.add_argument("--statefulset", metavar="NAMESPACE/NAME", required=True, help="the supernodes")
    parser.add_argument("--volume", default="data", help="the name of the claim template (data)")
    parser.add_argument("--size", required=True, help="the size that each volume should have, such as 100Gi")
    given = parser.parse_args(arguments)
    namespace, _, name = given.statefulset.partition("/")
    if not (namespace and name):
        parser.error(f"--statefulset: {given.statefulset!r} is not NAMESPACE/NAME")
    try:
        quantity.parse(given.size)
    except ValueError as error:
        parser.error(f"--size: {error}")
    try:
        print(asyncio.run(_run(namespace, name, given.volume, given.size)))
    except ClusterError as error:
        print(f"{error}.")
        sys.exit(1)


async def _run(namespace: str, name: str, volume: str, size: str) -> str:
    from pantala_operator.adapters import kubernetes  # a slow import, which invalid flags do not need

    async with await kubernetes.connect("", _TIMEOUT) as cluster:
        return await grow(cluster.request, namespace, name, volume, size)


if __name__ == "__main__":
    main()
