"""A peer's cache with the pieces of one file."""

import hashlib
from pathlib import Path

from pantala_peer.cache.pieces import PieceCache
from pantala_pieces.digests import PieceHash
from pantala_pieces.file import Piece, PieceFile
from pantala_pieces.verification import FileVerdict, VerificationPass
from pantala_protocol.geometry import Geometry
from pantala_protocol.sync import Assignment, Delivery, PieceWork

TASK = "a" * 64
PIECE = 1024
CONTENT = bytes(range(256)) * 12 + b"end"
GEOMETRY = Geometry(PIECE, len(CONTENT))
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
WRONG_DIGEST = "sha256:" + "0" * 64
DELIVERIES = (Delivery("uid", "a"),)


def assignment(
    generation: str = "g",
    length: int | None = len(CONTENT),
    digest: str = DIGEST,
    deliveries: tuple[Delivery, ...] = DELIVERIES,
) -> Assignment:
    return Assignment(TASK, generation, PIECE, length, digest, deliveries)


def received(content: bytes, number: int, size: int, task: str, generation: str = "g") -> tuple[PieceWork, Piece]:
    """One piece of a file with this content, and the work for it."""
    data = content[number * size :][:size]
    digest = PieceHash(data)
    work = PieceWork(task, generation, number, number * size, len(data), "h", 1, "t", digest=digest.hexdigest())
    return work, Piece(number, data, digest.digest())


def piece(number: int, generation: str = "g") -> tuple[PieceWork, Piece]:
    return received(CONTENT, number, PIECE, TASK, generation)


async def fill(cache: PieceCache, wanted: Assignment | None = None, *, in_order: bool = True) -> None:
    """Fill the cache. If the pieces come out of order, the digest of the whole file is not computed meanwhile."""
    await cache.hold(wanted or assignment())
    for number in range(GEOMETRY.pieces) if in_order else reversed(range(GEOMETRY.pieces)):
        cache.put(*piece(number))


async def checked(cache: PieceCache, wanted: Assignment | None = None) -> PieceFile:
    """The whole file, ready for its publication."""
    file = await cache.check(wanted or assignment())
    assert file is not None
    return file


async def scrubbed(cache: PieceCache) -> list[FileVerdict]:
    """Let the scrub verify all files that were never verified."""
    found = []
    for candidate in list(cache.candidates()):
        if candidate.pressing or not candidate.checked:
            verification = VerificationPass(candidate.file, candidate.digest)
            while (finding := verification.step()) is None:
                pass
            found.append(finding.verdict)
            await cache.conclude(candidate.file, candidate.digest, finding)
    return found


async def reopened(cache: PieceCache) -> tuple[PieceCache, list[str]]:
    cache.close()
    again = PieceCache(Path(cache._store.root))
    return again, await again.open()
