"""The operator for supernodes that are processes of this machine: ``PODS`` is a JSON object of pods' names and URLs."""

import asyncio
import json
import os
import sys

from pantala_operator import app, settings
from pantala_process import logs


async def _run() -> None:
    pods: dict[str, str] = json.loads(os.environ["PODS"])
    operator = await app.build(settings.parse(sys.argv[1:], os.environ), lambda found, pod: pods[pod])
    await operator.run()


if __name__ == "__main__":
    logs.configure()
    asyncio.run(_run())
