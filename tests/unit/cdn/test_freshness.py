"""How long an answer is fresh."""

import pytest

from pantala_pieces.file import Meta
from pantala_protocol import task_id
from pantala_supernode.origin.freshness import LONGEST, is_fresh, lifetime
from pantala_supernode.tasks.copy import FetchOrder, FileSource

TASK = task_id.compute("test")
DATE = "Mon, 23 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Cache-Control": "max-age=60"}, 60.0),
        ({"Cache-Control": "public, Max-Age=60"}, 60.0),
        ({"Cache-Control": 'max-age="60"'}, 60.0),
        ({"Cache-Control": "max-age=60, s-maxage=5"}, 5.0),
        ({"Cache-Control": "max-age=60", "Age": "50"}, 10.0),
        ({"Cache-Control": "max-age=60", "Age": "90"}, 0.0),
        ({"Cache-Control": "max-age=60", "Age": "x"}, 60.0),
        ({"Cache-Control": "max-age=60, no-cache"}, 0.0),
        ({"Cache-Control": "no-store"}, 0.0),
        ({"Cache-Control": "private, max-age=60"}, 0.0),
        ({"Cache-Control": "max-age=9999999999"}, LONGEST),
        ({"Cache-Control": "max-age=-1"}, None),
        ({"Cache-Control": "max-age"}, None),
        ({"Cache-Control": "public"}, None),
        ({"Date": DATE, "Expires": "Mon, 23 Nov 2026 12:01:00 GMT"}, 60.0),
        ({"Date": DATE, "Expires": "Mon, 23 Nov 2026 11:01:00 GMT"}, 0.0),
        ({"Date": DATE, "Expires": "0"}, 0.0),
        ({"Expires": "Mon, 23 Nov 2026 12:01:00 GMT"}, 0.0),
        ({"Date": DATE, "Expires": "Mon, 23 Nov 2026 12:01:00 GMT", "Cache-Control": "max-age=5"}, 5.0),
    ],
)
def test_the_lifetime_comes_from_the_headers(headers: dict[str, str], seconds: float | None) -> None:
    assert seconds == lifetime(headers)


@pytest.mark.parametrize(
    ("meta", "order", "sure"),
    [
        ({"etag": '"v"', "confirmed": 995.0}, {}, True),
        ({"last_modified": "then", "confirmed": 995.0}, {}, True),
        ({"etag": '"v"', "confirmed": 990.0}, {}, False),
        ({"etag": '"v"', "confirmed": 1001.0}, {}, False),  # the clock was set back
        ({"confirmed": 1000.0}, {}, False),  # nothing that it could be asked for by
        ({"confirmed": 995.0, "lifetime": 6.0}, {}, True),
        ({"etag": '"v"', "confirmed": 995.0, "lifetime": 0.0}, {}, False),
        ({"etag": '"v"', "confirmed": 900.0, "lifetime": 200.0}, {}, True),
        ({}, {"source": FileSource("http://origin/file", digest="sha256:" + "0" * 64)}, True),
        ({"claims": ("uid",)}, {"claims": frozenset({"uid", "other"})}, True),
        ({"claims": ("former",)}, {"claims": frozenset({"uid"})}, False),
    ],
)
def test_a_fresh_copy_needs_no_request(meta: dict, order: dict, sure: bool) -> None:  # type: ignore[type-arg]
    known = Meta(TASK, "g", 1, **meta)
    wanted = FetchOrder(TASK, **{"source": FileSource("http://origin/file"), **order})
    assert sure is is_fresh(known, wanted, now=1000.0, fresh_for=10.0)
