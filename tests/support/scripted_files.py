"""Files that a scripted supernode can assign."""

import hashlib
import random
from dataclasses import dataclass

from pantala_protocol import task_id
from pantala_protocol.geometry import Geometry

PIECE = 128 * 1024


def content(pieces: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(pieces * PIECE - 5)


@dataclass
class File:
    """One file that the supernode can assign."""

    name: str
    content: bytes
    piece_size: int = PIECE
    generation: str = "0123456789abcdef"
    digest_known: bool = True
    corrupt: bool = False
    """True if the supernode sends wrong bytes for the file."""

    @property
    def task_id(self) -> str:
        return task_id.compute(f"http://origin/{self.name}")

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.piece_size, len(self.content))

    def piece(self, number: int) -> bytes:
        return self.content[number * self.piece_size : (number + 1) * self.piece_size]
