"""The supernode, but that it keeps what is no longer wanted for ``GRACE`` seconds: tests wait that out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pantala_supernode import __main__, process, settings


def _read(argv: Sequence[str], environment: Mapping[str, str]) -> settings.Settings:
    return replace(settings.read(argv, environment), grace=float(os.environ["GRACE"]))


if __name__ == "__main__":
    process.read = _read
    __main__.main()
