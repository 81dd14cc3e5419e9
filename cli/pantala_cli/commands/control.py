"""``retry``, ``suspend`` and ``resume``: small changes of a Task or an ImagePrefetch."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import typer

from pantala_cli.access import targets
from pantala_cli.access.options import UserAccess
from pantala_cli.access.targets import ObjectWords
from pantala_protocol.rules.requests import REQUESTED_AT


def retry(access: UserAccess, target: ObjectWords) -> None:
    """Request another attempt of a failed Task or ImagePrefetch."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    _change(access, target, {"metadata": {"annotations": {REQUESTED_AT: now}}}, " retry requested")


def suspend(access: UserAccess, target: ObjectWords) -> None:
    """Stop all downloads of a Task or an ImagePrefetch. Files and images on nodes stay."""
    _change(access, target, {"spec": {"suspend": True}}, " suspended")


def resume(access: UserAccess, target: ObjectWords) -> None:
    """Continue a suspended Task or ImagePrefetch."""
    _change(access, target, {"spec": {"suspend": False}}, " resumed")


def _change(access: UserAccess, words: list[str], patch: Mapping[str, Any], done: str) -> None:
    wanted = targets.work(targets.several(words))
    with access.cluster() as cluster:
        namespace = access.chosen(cluster)
        for kind, name in wanted:
            cluster.patch(kind, namespace, name, patch)
            typer.echo(f"{kind.printed(name)}{done}")
