"""The name of a task: who asks for the same bytes gets the same name, and nobody else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import NewType

TaskID = NewType("TaskID", str)
"""64 lower-case hex digits: safe as a path component, a label value's suffix and a URL segment."""

_TASK_ID = re.compile(r"[0-9a-f]{64}")


def parse(text: str) -> TaskID:
    """Check a task ID that came from outside. Raises :class:`ValueError`."""
    if _TASK_ID.fullmatch(text) is None:
        raise ValueError("a task ID has 64 lower-case hex digits")
    return TaskID(text)


def compute(url: str, *, digest: str = "", scope: str = "", credentials: str = "") -> TaskID:
    """Name the task of ``url`` (already filtered, see :func:`without_query_parameters`).

    ``scope`` and ``credentials`` (an identity, never the secret itself) part what different tenants may see: with
    both empty the task is shared by the whole cluster. The tuple is length-prefixed, so no two tuples collide.
    """
    state = hashlib.sha256(b"pantala task v1")
    for part in (url, digest, scope, credentials):
        data = part.encode()
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return TaskID(state.hexdigest())


def of_blob(digest: str) -> TaskID:
    """Name the task of an image's blob: one in the cluster, whatever the registry and the repository."""
    return compute("", digest=digest)


def without_query_parameters(url: str, names: Iterable[str]) -> str:
    """Drop the query parameters ``names`` (exact, still encoded) from ``url``, keep the others' order and spelling.

    Signed URLs differ by signature and expiry only; without those they name one file. Source: Dragonfly's ``--filter``.
    """
    dropped = set(names)
    head, mark, query = url.partition("?")
    if not mark or not dropped:
        return url
    query, hash_mark, fragment = query.partition("#")
    kept = [part for part in query.split("&") if part.partition("=")[0] not in dropped]
    return head + ("?" + "&".join(kept) if kept else "") + hash_mark + fragment
