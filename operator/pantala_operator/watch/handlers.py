"""The only kopf handlers: ``on.event``, which writes nothing to the objects and sets no finalizer."""

from __future__ import annotations

from typing import Any

import kopf

from pantala_operator.ports import Inbox
from pantala_operator.resources.api import GROUP, VERSION
from pantala_operator.resources.prefetch import PLURAL


def register(registry: kopf.OperatorRegistry, inbox: Inbox) -> None:
    """Put every event of Tasks, ImagePrefetches, Peers and Nodes into ``inbox``."""

    async def tasks(event: kopf.RawEvent, **_: Any) -> None:
        inbox.put("tasks", event["type"], event["object"])

    async def prefetches(event: kopf.RawEvent, **_: Any) -> None:
        inbox.put(PLURAL, event["type"], event["object"])

    async def peers(event: kopf.RawEvent, **_: Any) -> None:
        inbox.put("peers", event["type"], event["object"])

    async def nodes(event: kopf.RawEvent, **_: Any) -> None:
        inbox.put("nodes", event["type"], event["object"])

    kopf.on.event(GROUP, VERSION, "tasks", registry=registry)(tasks)
    kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)(prefetches)
    kopf.on.event(GROUP, VERSION, "peers", registry=registry)(peers)
    kopf.on.event("", "v1", "nodes", registry=registry)(nodes)
