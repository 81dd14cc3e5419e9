"""The operator for supernodes and peers that are processes of this machine.

``PODS`` is a JSON object of the supernodes' names and URLs. ``HEALTH`` is one of the peers' names and health ports.
"""

import asyncio
import json
import os
import sys

from pantala_operator import app, settings
from pantala_operator.adapters.probe import HTTPHealthProbe
from pantala_process import logs


class LocalProbe:
    """A :class:`pantala_operator.ports.HealthProbe` of peers that have one address and several ports."""

    def __init__(self, ports: dict[str, int]) -> None:
        self._probes = {name: HTTPHealthProbe(port) for name, port in ports.items()}

    async def answers(self, name: str, host: str) -> bool:
        return await self._probes[name].answers(name, host)

    async def close(self) -> None:
        for probe in self._probes.values():
            await probe.close()


async def _run() -> None:
    pods: dict[str, str] = json.loads(os.environ["PODS"])
    probe = LocalProbe(json.loads(os.environ.get("HEALTH", "{}")))
    operator = await app.build(settings.parse(sys.argv[1:], os.environ), lambda found, pod: pods[pod], probe)
    await operator.run()


if __name__ == "__main__":
    logs.configure()
    asyncio.run(_run())
