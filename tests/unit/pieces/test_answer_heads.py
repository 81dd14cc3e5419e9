"""The head of a provider's answer: ours is accepted. tests/fuzz tries any other bytes."""

import contextlib

from hypothesis import example, given
from hypothesis import strategies as st

from pantala_pieces.transfer.errors import FetchError
from pantala_pieces.transfer.requests import PieceRequest
from pantala_pieces.transfer.upload.heads import RequestHead, piece_head
from tests.support.scripted_provider import SIZE

OURS = piece_head(1000, SIZE, 999_999, RequestHead(b"", b"", b"", keep=True, announce=False))[:-4]


def test_the_head_of_our_own_sender_is_accepted() -> None:
    assert PieceRequest(b"", 1000, SIZE).check_head(OURS)


@example(at=len(b"HTTP/1.1 206 "), other=b"\r", cut=0)
@given(st.integers(min_value=0, max_value=len(OURS)), st.binary(max_size=2), st.integers(min_value=0, max_value=2))
def test_a_changed_head_of_our_own_sender_is_accepted_only_with_its_range(at: int, other: bytes, cut: int) -> None:
    head = OURS[:at] + other + OURS[at + cut :]
    with contextlib.suppress(FetchError):
        PieceRequest(b"", 1000, SIZE).check_head(head)
        lines = head.lower().split(b"\r\n")
        assert not any(b"\n" in line or b"\r" in line for line in lines)
        assert b"300000" in [line.removeprefix(b"content-length:").strip() for line in lines]
        assert any(line.partition(b":")[2].strip().startswith(b"bytes 1000-300999/") for line in lines)
