"""The digest of a whole file."""

import hashlib
import io

from pantala_pieces.digests import RunningDigest, sha256_of
from tests.support.pieces import sha256 as digest_of

SIZE = (1 << 20) + 5


def test_pieces_in_order_give_the_digest_of_the_whole() -> None:
    running = RunningDigest()
    assert digest_of(b"") == running.of(0)
    for piece, data in enumerate((b"a", b"b", b"c")):
        assert running.of(3) is None
        running.feed(piece, data)
        running.feed(piece, data)
    assert digest_of(b"abc") == running.of(3)
    assert running.of(2) is None


def test_a_piece_out_of_order_ends_the_digest_of_the_whole() -> None:
    running = RunningDigest()
    for piece in (0, 2, 1, 2):
        running.feed(piece, b"x")
    assert running.of(3) is None


class EndlessFile(io.BytesIO):
    """A file that grows while it is read."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        self.taken += size
        assert size >= 0
        assert SIZE >= self.taken
        return bytes(size)


def test_the_digest_of_a_file_that_grows_is_that_of_its_known_size() -> None:
    assert hashlib.sha256(bytes(SIZE)).hexdigest() == sha256_of(EndlessFile(), SIZE)
