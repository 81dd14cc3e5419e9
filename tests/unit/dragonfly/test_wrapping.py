"""Wrapped pieces, compared with numbers computed by hand from the protocol's description."""

import hashlib

import pytest

from pantala_protocol.geometry import Wrapping

FOUR_MIB = Wrapping(4 * 1024 * 1024 - 5)


def test_heads_lengths_and_ranges_of_the_worked_example() -> None:
    last = 10_000_000 - 2 * FOUR_MIB.piece_size
    assert (4194304, 1611402, 10_000_015) == (FOUR_MIB.wire_size, last, FOUR_MIB.length(10_000_000))
    assert ("043ffffb", "0418968a") == (FOUR_MIB.head(FOUR_MIB.piece_size).hex(), FOUR_MIB.head(last).hex())
    assert ["0-4194303", "4194304-8388607", "8388608-12582911"] == [FOUR_MIB.range(piece) for piece in range(3)]
    assert [0, 1, 2] == [FOUR_MIB.piece(FOUR_MIB.range(piece)) for piece in range(3)]


def test_an_empty_file_is_one_piece_without_content() -> None:
    wrapped = FOUR_MIB.wrap(b"")
    assert "d6991051769098273e82477afd2bb93e" == hashlib.md5(wrapped, usedforsecurity=False).hexdigest()
    assert (5, bytes.fromhex("040000007f")) == (FOUR_MIB.length(0), wrapped)


def test_a_head_never_has_more_than_four_bytes() -> None:
    huge = Wrapping(1 << 30)
    assert 4 == len(huge.head(1 << 30))


@pytest.mark.parametrize(
    "text", ["", "0", "-1-3", "0-4194304", "1-4194304", "4194304-8388608", "a-b", "0-4194303,5-6", "\u0660-4194303"]
)
def test_a_range_of_no_piece_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not"):
        FOUR_MIB.piece(text)
