"""Invariants of the protocol's pure parts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_protocol import digest, ranges, task_id, ticket
from pantala_protocol.geometry import MAX_PIECE_SIZE, MIN_PIECE_SIZE, Geometry, piece_size
from pantala_protocol.redaction import RedactedURL

lengths = st.integers(min_value=0, max_value=1 << 44)
masks = st.sets(st.integers(min_value=0, max_value=5000)).map(lambda pieces: sum(1 << piece for piece in pieces))


@given(lengths)
def test_pieces_cover_the_file_once_and_in_order(length: int) -> None:
    size = piece_size(length)
    geometry = Geometry(size, length)
    assert 0 == size & (size - 1)
    assert MIN_PIECE_SIZE <= size <= MAX_PIECE_SIZE
    if geometry.pieces:
        last = geometry.pieces - 1
        assert length == geometry.offset(last) + geometry.size(last)
        assert 0 < geometry.size(last) <= size
    assert length == geometry.bytes_of(geometry.all)


@pytest.mark.parametrize(
    ("length", "expected"),
    [(0, 131072), (1, 131072), (32 << 20, 131072), (64 << 20, 262144), (1 << 30, 4 << 20), (1 << 40, 4 << 20)],
)
def test_the_piece_size_follows_the_length(length: int, expected: int) -> None:
    assert expected == piece_size(length)


@given(masks)
def test_ranges_are_read_as_they_were_written(mask: int) -> None:
    assert mask == ranges.parse(ranges.render(mask))
    assert mask == sum(1 << piece for piece in ranges.members(mask))


@given(st.text(alphabet="0123456789-, +_x", max_size=20))
def test_ranges_are_read_or_refused_with_a_value_error(text: str) -> None:
    try:
        mask = ranges.parse(text)
    except ValueError:
        return
    assert mask == ranges.parse(ranges.render(mask))


@pytest.mark.parametrize("text", ["1-0", "-1", "1-", "01", "1,,2", " 1", "4194304", "0-9999999", "٣", "0-3,3", "5,1"])
def test_wrong_ranges_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="range"):
        ranges.parse(text)


@given(st.tuples(st.text(), st.text(), st.text(), st.text()), st.tuples(st.text(), st.text(), st.text(), st.text()))
def test_task_ids_differ_where_anything_differs(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    ids = [task_id.compute(url, digest=d, scope=s, credentials=c) for url, d, s, c in (one, other)]
    assert (one == other) == (ids[0] == ids[1])
    assert ids[0] == task_id.parse(ids[0])


@pytest.mark.parametrize(
    ("url", "names", "expected"),
    [
        ("http://o/f", ["a"], "http://o/f"),
        ("http://o/f?a=1", ["a"], "http://o/f"),
        ("http://o/f?b=2&a=1&c", ["a"], "http://o/f?b=2&c"),
        ("http://o/f?a=1&a=2#x", ["a"], "http://o/f#x"),
        ("http://o/f?ab=1", ["a"], "http://o/f?ab=1"),
    ],
)
def test_query_parameters_are_dropped_by_name(url: str, names: list[str], expected: str) -> None:
    assert expected == task_id.without_query_parameters(url, names)


@given(st.binary(min_size=16, max_size=32), st.integers(min_value=0, max_value=1 << 33))
def test_a_ticket_is_good_for_its_task_its_key_and_its_time_only(key: bytes, now: int) -> None:
    text = ticket.issue(key, "t", "g", now=now)
    assert ticket.check(key, "t", "g", text, now=now + ticket.LIFETIME)
    assert not ticket.check(key, "t", "g", text, now=now + ticket.LIFETIME + 1)
    assert not ticket.check(key, "u", "g", text, now=now)
    assert not ticket.check(key, "t", "h", text, now=now)
    assert not ticket.check(key + b"x", "t", "g", text, now=now)


@given(st.text(max_size=100))
def test_any_text_may_be_shown_as_a_ticket(text: str) -> None:
    assert not ticket.check(b"key", "t", "g", text, now=0)


@given(st.text())
def test_any_text_may_be_redacted(text: str) -> None:
    assert "secret" not in RedactedURL(f"http://user:secret@host/path?token=secret#{text}")
    RedactedURL(text)


def test_a_redacted_url_still_says_where() -> None:
    assert "https://…@h.example:444/a/b?…" == RedactedURL("https://u:p@h.example:444/a/b?sig=1")
    assert "http://[::1]:80/" == RedactedURL("http://[::1]:80/")
    assert "<unreadable URL>" == RedactedURL("not a url")


@pytest.mark.parametrize(
    "text", ["", "md5:" + "0" * 32, "sha256:" + "0" * 63, "sha256:" + "A" * 64, "sha512:" + "0" * 64]
)
def test_other_digests_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="digest"):
        digest.parse(text)


def test_weak_algorithms_are_refused() -> None:
    with pytest.raises(ValueError, match="does not guarantee integrity"):
        digest.new("md5")
