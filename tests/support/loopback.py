"""A supernode's settings where all its clients are on this machine."""

from pathlib import Path
from typing import Any

from pantala_process.settings import ListenAddress
from pantala_supernode.settings import Settings


def loopback(data: Path, port: int, piece_port: int, **changes: Any) -> Settings:
    """Nobody has to prove who he is; ``changes`` are the settings that the test is about."""
    return Settings(
        listen=ListenAddress("127.0.0.1", port),
        piece_listen=ListenAddress("127.0.0.1", piece_port),
        data=data,
        advertise="127.0.0.1",
        no_auth=True,
        **changes,
    )
