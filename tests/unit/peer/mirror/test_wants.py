"""However many read a blob, it is wanted once: from the first missing byte, as long as anybody reads."""

import random
from contextlib import AbstractContextManager

from pantala_peer.mirror.ports import Hint
from pantala_peer.mirror.resource import Repository
from pantala_peer.mirror.wants import Wants
from pantala_protocol import task_id
from pantala_protocol.sync import Wanted

D = "sha256:" + "0" * 64
NAME = task_id.of_blob(D)


class Told(dict[str, Wanted]):
    def tell(self, name: str, wanted: Wanted | None) -> None:
        if wanted is None:
            del self[name]
        else:
            self[name] = wanted


def hint(authorization: str = "", repository: str = "a") -> Hint:
    return Hint(Repository("r", repository), 9, authorization)


def test_readers_of_one_blob_want_it_together() -> None:
    told = Told()
    wants = Wants(told.tell)
    with wants.want(D, hint("old"), 500) as first:
        assert Wanted("r", "a", D, 500, credential="old") == told[NAME]
        with wants.want(D, hint("new"), 100) as second:
            assert Wanted("r", "a", D, 100, credential="new") == told[NAME]
            second.waits_at(700)
            assert 500 == told[NAME].position
            first.stalled()
            assert 1 == told[NAME].stalls
        assert Wanted("r", "a", D, 500, 1, "old") == told[NAME]
        first.waits_at(600)
        assert Wanted("r", "a", D, 600, 0, "old") == told[NAME], "that was of another byte"
    assert {} == told


def test_an_order_goes_before_what_a_client_shows() -> None:
    told = Told()
    wants = Wants(told.tell)
    ordered = Hint(Repository("r", "b"), 9, "Basic never", order="ns/b")
    with wants.want(D, ordered, 0), wants.want(D, hint("new"), 0):
        assert Wanted("r", "b", D, order="ns/b") == told[NAME]


def test_whoever_leaves_in_whatever_order_the_last_one_ends_it() -> None:
    rng = random.Random(1)
    told = Told()
    wants = Wants(told.tell)
    readers: list[AbstractContextManager[object]] = []
    for _ in range(200):
        if readers and rng.random() < 0.5:
            readers.pop(rng.randrange(len(readers))).__exit__(None, None, None)
        else:
            readers.append(wants.want(D, hint(), 0))
            readers[-1].__enter__()
        assert bool(readers) is (NAME in told)


def test_a_secret_is_not_shown() -> None:
    shown = Wanted("r", "a", D, credential="Basic c2VjcmV0")
    assert "c2VjcmV0" not in f"{shown!r} {shown} {shown.__rich_repr__()} {hint('Basic c2VjcmV0')!r}"
