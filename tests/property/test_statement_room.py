"""Whatever the objects of one namespace are, the statement fits, and holds the objects of the other namespaces."""

from collections.abc import Callable, Iterable

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pantala_operator.supernodes.statement_room import equal_share, fit
from pantala_protocol.images import Depth, ImageBlob, PullOrder, WantedImage
from pantala_protocol.nodes.numbers import named, numbered
from pantala_protocol.statement import MAX_STATEMENT, Statement, WantedTask
from pantala_supernode.http.application import MAX_BODY

MOST = 40_000
NODES = tuple(f"node-{number:02}.example" for number in range(12))
URL = "http://origin.example/"
texts = st.text('ab"\\é', max_size=60).map(lambda text: text * 20)
nodes = st.sets(st.sampled_from(NODES)).map(lambda names: tuple(sorted(names)))


def _task(url: str, value: str, peers: tuple[str, ...], path: str) -> WantedTask:
    headers = {"Authorization": value} if value else {}
    return WantedTask("", "", "id", URL + url, headers=headers, path=path, peers=peers)


def _image(secrets: tuple[str, ...], names: tuple[str, ...], blobs: int, run: str) -> WantedImage:
    found = tuple(ImageBlob(f"sha256:{number:064}", number) for number in range(blobs))
    return WantedImage(
        "", "r.example/i@sha256:0", Depth.PEER, credentials=secrets, blobs={"linux/amd64": found},
        platforms=dict.fromkeys(names, "linux/amd64"),
        orders={name: PullOrder(run[:200], number + 1) for number, name in enumerate(names)},
    )  # fmt: skip


tasks = st.lists(st.builds(_task, texts, texts, nodes, texts), max_size=25)
images = st.lists(
    st.builds(_image, st.lists(texts, max_size=3).map(tuple), nodes, st.integers(0, 60), texts), max_size=12
)
surveys = st.lists(st.integers(0, 999).map(lambda number: f"sha256:{number:064}"), max_size=200).map(tuple)
packs = st.sampled_from([
    lambda statement: statement,
    numbered,
    lambda statement: numbered(statement, credentials=True),
])  # fmt: skip


def owned(namespace: str, content: Iterable[WantedTask]) -> list[WantedTask]:
    return [replace(each, uid=f"{namespace}-{n}", name=f"{namespace}/{n}") for n, each in enumerate(content)]


def images_of(namespace: str, content: Iterable[WantedImage]) -> list[WantedImage]:
    return [replace(each, key=f"{namespace}/i{n}") for n, each in enumerate(content)]


QUIET_TASKS = owned("quiet", [_task("f", "token", NODES, "quiet/f"), _task("g", "", NODES[:3], "quiet/g")])
QUIET_IMAGES = images_of("quiet", [_image(("{}",), NODES, 3, "run")])


@given(tasks, images, st.integers(0, 300), surveys, packs)
def test_m1_no_objects_of_one_namespace_keep_out_those_of_another(
    flood: list[WantedTask],
    pulls: list[WantedImage],
    keys: int,
    survey: tuple[str, ...],
    pack: Callable[[Statement], Statement],
) -> None:
    stated = owned("flood", flood) + QUIET_TASKS, images_of("flood", pulls) + QUIET_IMAGES
    unchanged = ("quiet/u", *(f"flood/{'u' * 200}{number}" for number in range(keys)))
    statement = Statement(7, tuple(stated[0]), images=tuple(stated[1]), unchanged=unchanged, survey=survey)
    fitted = fit(statement, pack, MOST)
    body = msgspec.json.encode(fitted.statement)
    assert len(body) <= MOST
    received = named(msgspec.json.decode(body, type=Statement))
    assert QUIET_TASKS == [task for task in received.tasks if task.namespace == "quiet"]
    assert QUIET_IMAGES == [image for image in received.images if image.key.startswith("quiet/")]
    assert "quiet/u" in received.unchanged
    # Each loss is reported, and nothing else is.
    kept = {task.uid: task for task in received.tasks} | {image.key: image for image in received.images}
    lost = {task.uid for task in stated[0] if kept.get(task.uid) != task}
    lost |= {image.key for image in stated[1] if kept.get(image.key) != image}
    lost |= set(unchanged) - set(received.unchanged)
    assert lost == set(fitted.cut)
    if len(msgspec.json.encode(pack(statement))) <= MOST:
        assert not lost
    for task in received.tasks:
        assert task.uid not in lost or (task.suspended and not task.headers)


@given(st.lists(st.integers(0, 1000), max_size=9), st.integers(0, 2000))
def test_m1_shares_are_equal_and_leave_no_room_unused(needs: list[int], room: int) -> None:
    share = equal_share(needs, room)
    used = sum(min(need, share) for need in needs)
    assert used <= room
    assert used == sum(needs) or room - used < len(needs)


def test_m1_the_youngest_lose_first() -> None:
    flood = owned("flood", [_task("f" * 2000, "h" * 200, (), "flood/f")] * 40)
    fitted = fit(Statement(7, tuple(flood)), numbered, MOST)
    left = [task.uid for task in fitted.statement.tasks]
    assert [task.uid for task in flood[: len(left)]] == left
    assert len(left) > 10
    assert "flood-39" in fitted.cut
    assert "lacks this object" in fitted.cut["flood-39"].message


def test_m1_copies_go_before_credentials() -> None:
    flood = owned("flood", [_task("f", "h" * 2000 + str(number), (), "flood/f") for number in range(40)])
    fitted = fit(Statement(7, tuple(flood)), numbered, MOST)
    assert [task.uid for task in flood] == [task.uid for task in fitted.statement.tasks]
    assert 10 < sum(bool(task.headers) for task in fitted.statement.tasks) < 20


def test_m1_a_supernode_takes_the_largest_statement() -> None:
    assert MAX_STATEMENT <= MAX_BODY
