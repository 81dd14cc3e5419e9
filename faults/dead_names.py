"""``python -m faults.dead_names MODULE ...`` runs a module whose name server never answers for the hosts ``dead-*``."""

from __future__ import annotations

import runpy
import socket
import sys
import time
from typing import Any

PATIENCE = 30.0
"""Seconds until a lookup fails, as with the usual settings of a resolver."""


def main(arguments: list[str]) -> None:
    """Run the module with its arguments."""
    right = socket.getaddrinfo

    def lookup(host: Any, *rest: Any, **options: Any) -> Any:
        if str(host).startswith("dead-"):
            time.sleep(PATIENCE)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return right(host, *rest, **options)

    socket.getaddrinfo = lookup
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
