"""An outbound client with a reader of origins."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pantala_supernode.origin.http import HTTPReader
from pantala_supernode.origin.stream import Throttle
from pantala_supernode.outbound.client import OutboundClient


@asynccontextmanager
async def http_reader(throttle: Throttle | None = None, **options: Any) -> AsyncIterator[HTTPReader]:
    """A reader whose client has these ``options``."""
    async with OutboundClient(**options) as client:
        yield HTTPReader(client, throttle=throttle)
