"""The ID of a task. Requests with the same URL, digest, scope and credentials get the same ID."""

import functools
import hashlib
import re
from collections.abc import Iterable
from typing import NewType

TaskID = NewType("TaskID", str)
"""64 lower-case hex digits. They are safe in paths, label values and URLs."""

_TASK_ID = re.compile(r"[0-9a-f]{64}")


def parse(text: str) -> TaskID:
    """Check a task ID from a request or a file name. Raises :class:`ValueError`."""
    if _TASK_ID.fullmatch(text) is None:
        raise ValueError("A task ID must have 64 lower-case hex digits.")
    return TaskID(text)


def compute(url: str, *, digest: str = "", scope: str = "", credentials: str = "") -> TaskID:
    """The ID for a ``url`` that is already filtered (see :func:`without_query_parameters`).

    ``scope`` and ``credentials`` (an identity, never the secret itself) separate tenants. If both are empty, the whole
    cluster shares the task. So one of them must be set if ``url`` lacks a part of what is sent to the origin.
    Each part has a length prefix, so two different tuples never collide.
    """
    state = hashlib.sha256(b"pantala task v1")
    for part in (url, digest, scope, credentials):
        data = part.encode()
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return TaskID(state.hexdigest())


@functools.lru_cache(maxsize=16384)
def of_blob(digest: str) -> TaskID:
    """The ID for an image's blob. It is the same for all registries and repositories."""
    return compute("", digest=digest)


def without_query_parameters(url: str, names: Iterable[str]) -> str:
    """Remove the query parameters ``names`` (exact, still encoded) from ``url``. All other parameters stay unchanged.

    Signed URLs of one file differ only by signature and expiry. Dragonfly's ``--filter`` does the same.
    """
    dropped = set(names)
    head, mark, query = url.partition("?")
    if not mark or not dropped:
        return url
    query, hash_mark, fragment = query.partition("#")
    kept = [part for part in query.split("&") if part.partition("=")[0] not in dropped]
    return head + ("?" + "&".join(kept) if kept else "") + hash_mark + fragment
