"""The running product for Tasks of :mod:`tests.controlplane.whole_tables`."""

import asyncio
from typing import Any

from testbed.origin import Behaviour, Body
from tests.controlplane.whole_tables import NEVER_PUBLISHED, Given
from tests.support.product_stage import ProductStage


class WholeStage(ProductStage):
    async def give(self, name: str, given: Given, sizes: set[int]) -> None:
        """Serve a Task's file, and apply the Task. ``sizes``: those that its published file may have."""
        self.origin.serve(f"/{name}", given.body, script=given.script, always=given.always)
        if not given.spec.get("path", "").startswith(NEVER_PUBLISHED):
            self.sizes[given.path_of(name)] = sizes
        await self.apply(name, given.url or self.origin.url(f"/{name}"), **given.spec)

    async def begin(self, name: str, body: Body, how: Behaviour | None = None, **spec: Any) -> None:
        """Serve a file, and apply its Task."""
        self.origin.serve(f"/{name}", body, always=how)
        await self.apply(name, self.origin.url(f"/{name}"), **spec)

    async def unread(self, name: str) -> int:
        """Assert that the origin's file is not read any more. Returns the bytes that were read."""
        await asyncio.sleep(1)  # a request may be under way
        read = self.origin.body_bytes(f"/{name}")
        await asyncio.sleep(1)
        assert read == self.origin.body_bytes(f"/{name}")
        return read

    async def secret(self, name: str, data: dict[str, str]) -> None:
        body = {"metadata": {"name": name, "labels": {"pantala.dev/allow": "tasks"}}, "stringData": data}
        await self.ask("POST", "/api/v1/namespaces/default/secrets", body)

    def held(self, path: str) -> set[str]:
        """The nodes with a published file at this path."""
        return {name for name, at in self.published(path).items() if at.exists()}

    async def cached(self, name: str, pieces: int) -> dict[str, Any]:
        """Wait until the supernode has so many pieces. Returns the Task's status."""
        await self.until(lambda: self.status(name).get("pieces", {}).get("cached", 0) >= pieces, f"{name} is half done")
        return self.status(name)
