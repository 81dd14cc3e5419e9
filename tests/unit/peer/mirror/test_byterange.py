"""A Range header, read as RFC 9110 has it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_peer.mirror.byterange import ByteRange, UnsatisfiableError, parse


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("bytes=0-", ByteRange(0, 10)),
        ("bytes=3-5", ByteRange(3, 6)),
        ("Bytes = 3-5", ByteRange(3, 6)),
        ("bytes=9-", ByteRange(9, 10)),
        ("bytes=3-99", ByteRange(3, 10)),
        ("bytes=-3", ByteRange(7, 10)),
        ("bytes=-99", ByteRange(0, 10)),
        ("bytes=5-3", None),
        ("bytes=-", None),
        ("bytes=0-1,3-4", None),
        ("items=0-1", None),
        ("bytes=٣-", None),
        ("bytes=+1-", None),
        ("bytes=" + "9" * 19 + "-", None),
    ],
)
def test_what_is_asked_for(header: str | None, expected: ByteRange | None) -> None:
    assert expected == parse(header, 10)


@pytest.mark.parametrize(
    ("header", "length"), [("bytes=10-", 10), ("bytes=11-12", 10), ("bytes=-0", 10), ("bytes=0-", 0)]
)
def test_what_is_beyond_the_end_cannot_be_given(header: str, length: int) -> None:
    with pytest.raises(UnsatisfiableError):
        parse(header, length)


@given(
    header=st.from_regex(r"bytes=\d{0,4}-\d{0,4}", fullmatch=True) | st.text(max_size=30), length=st.integers(1, 3000)
)
def test_a_range_lies_inside_and_is_not_empty(header: str, length: int) -> None:
    try:
        found = parse(header, length)
    except UnsatisfiableError:
        return
    assert found is None or 0 <= found.start < found.end <= length
