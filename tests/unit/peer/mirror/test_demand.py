"""All readers of a blob have one demand: from the first missing byte, until the last reader ends."""

import random
from contextlib import AbstractContextManager

from pantala_peer.mirror.demand import BlobDemand, BlobOrigin
from pantala_peer.mirror.request import RepositoryName
from pantala_peer.tasks.room import BlobRoom
from pantala_protocol import task_id
from pantala_protocol.sync import WantedBlob

D = "sha256:" + "0" * 64
NAME = task_id.of_blob(D)


class Reports(dict[str, WantedBlob]):
    def report(self, name: str, wanted: WantedBlob | None) -> None:
        if wanted is None:
            del self[name]
        else:
            self[name] = wanted


def origin(authorization: str = "", repository: str = "a") -> BlobOrigin:
    return BlobOrigin(RepositoryName("r", repository), 9, authorization)


def test_readers_of_one_blob_share_one_demand() -> None:
    reports = Reports()
    demand = BlobDemand(BlobRoom(), reports.report)
    with demand.reader(D, origin("old"), 500) as first:
        assert WantedBlob("r", "a", D, 500, credential="old") == reports[NAME]
        with demand.reader(D, origin("new"), 100) as second:
            assert WantedBlob("r", "a", D, 100, credential="new") == reports[NAME]
            second.waits_at(700)
            assert 500 == reports[NAME].position
            first.stalled()
            assert 1 == reports[NAME].stalls
        assert WantedBlob("r", "a", D, 500, 1, "old") == reports[NAME]
        first.waits_at(600)
        assert WantedBlob("r", "a", D, 600, 0, "old") == reports[NAME], "the stall was of another byte"
    assert {} == reports


def test_an_order_counts_before_the_credentials_of_a_client() -> None:
    reports = Reports()
    demand = BlobDemand(BlobRoom(), reports.report)
    ordered = BlobOrigin(RepositoryName("r", "b"), 9, "Basic never", order="ns/b")
    with demand.reader(D, ordered, 0), demand.reader(D, origin("new"), 0):
        assert WantedBlob("r", "b", D, order="ns/b") == reports[NAME]


def test_the_last_reader_ends_the_demand() -> None:
    rng = random.Random(1)
    reports = Reports()
    demand = BlobDemand(BlobRoom(), reports.report)
    readers: list[AbstractContextManager[object]] = []
    for _ in range(200):
        if readers and rng.random() < 0.5:
            readers.pop(rng.randrange(len(readers))).__exit__(None, None, None)
        else:
            readers.append(demand.reader(D, origin(), 0))
            readers[-1].__enter__()
        assert bool(readers) is (NAME in reports)


def test_a_secret_is_not_shown() -> None:
    shown = WantedBlob("r", "a", D, credential="Basic c2VjcmV0")
    assert "c2VjcmV0" not in f"{shown!r} {shown} {shown.__rich_repr__()} {origin('Basic c2VjcmV0')!r}"
