"""Which compressed answers of an origin are the file."""

import pytest

from pantala_supernode import errors
from pantala_supernode.origin.body import Layout
from pantala_supernode.tasks.copy import FileSource
from testbed.origin import Behaviour, Origin
from tests.support.http_answers import BODY, ask
from tests.support.outbound import http_reader


@pytest.mark.parametrize("value", ["gzip", "identity, gzip", "GZIP ,identity"])
async def test_each_compression_in_a_list_counts(value: str) -> None:
    with pytest.raises(errors.SourceUnusableError, match="gzip"):
        await ask(Behaviour(headers={"Content-Encoding": value}))


@pytest.mark.parametrize(
    ("label", "path", "pinned", "accepted"),
    [
        ("x-gzip", "/a.tar.gz", False, True),
        ("gzip", "/a.tgz", False, True),
        ("gzip", "/calls.vcf.bgz", False, True),
        ("gzip", "/logo.svgz", False, True),
        ("x-gzip", "/serde-1.0.crate", False, True),
        ("gzip", "/a.TGZ", False, True),
        ("zstd", "/a.tar.zst", False, True),
        ("gzip", "/a.tar", True, True),
        ("br", "/a.bin", True, True),
        ("aws-chunked", "/a.bin", False, True),
        ("none", "/a.bin", False, True),
        ("utf-8", "/a.bin", False, True),
        ("identity", "/a.bin", False, True),
        ("gzip", "/a.bin", False, False),
        ("x-gzip", "/a.tar", False, False),
        ("deflate", "/a.gz", False, False),
        ("br", "/a.gz", False, False),
        ("zstd", "/a.tar.gz", False, False),
        ("gzip", "/a.bin?name=a.gz", False, False),
    ],
)
async def test_a_compression_is_refused_only_where_it_changes_an_unpinned_file(
    label: str, path: str, *, pinned: bool, accepted: bool
) -> None:
    digest = f"sha256:{'0' * 64}" if pinned else None
    async with Origin() as origin, http_reader() as reader:
        origin.serve(path.partition("?")[0], BODY, always=Behaviour(headers={"Content-Encoding": label}))
        try:
            async with reader.open(FileSource(origin.url(path), digest=digest)) as answer:
                body = b"".join([block async for block in answer.body.blocks(Layout(65536))])
        except errors.SourceUnusableError:
            assert not accepted
        else:
            assert accepted
            assert BODY.read(0, BODY.size) == body


@pytest.mark.parametrize(
    ("fields", "accepted"),
    [
        ({"Content-Type": "application/gzip"}, True),
        ({"Content-Type": "application/x-gzip; charset=binary"}, True),
        ({"Content-Type": "application/x-compressed-tar"}, True),
        ({"Content-Disposition": 'attachment; filename="a 1.tar.gz"'}, True),
        ({"Content-Disposition": "attachment; filename=a.tgz; size=4"}, True),
        ({"Content-Type": "application/x-tar"}, False),
        ({"Content-Type": "application/json"}, False),
        ({"Content-Disposition": 'attachment; filename="a.gz.json"'}, False),
    ],
)
async def test_an_answer_can_say_that_its_file_is_stored_with_gzip(fields: dict[str, str], *, accepted: bool) -> None:
    how = Behaviour(headers={"Content-Encoding": "gzip", **fields})
    if accepted:
        assert BODY.read(0, BODY.size) == (await ask(how))[1]
        return
    with pytest.raises(errors.SourceUnusableError):
        await ask(how)
