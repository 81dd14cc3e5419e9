"""Sets of nodes, and messages that name each node once."""

from collections.abc import Set

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_protocol import task_id
from pantala_protocol.images import Depth, PullOrder, WantedImage
from pantala_protocol.nodes.numbers import named, numbered
from pantala_protocol.nodes.sets import NodeSet, NodeTable
from pantala_protocol.statement import Statement, WantedTask

NAMES = tuple("abcdefgh")
URL = "http://origin.example/f"
some = st.frozensets(st.sampled_from(NAMES))


def wanted(number: int, *peers: str) -> WantedTask:
    url = f"{URL}/{number}"
    return WantedTask(f"u{number}", f"ns/{number}", task_id.compute(url), url, path=f"ns/{number}", peers=peers)


def form(names: frozenset[str], table: NodeTable, *, compact: bool) -> Set[str]:
    return NodeSet(table, table.mask(names)) if compact else names


@given(some, some, st.booleans(), st.booleans(), st.permutations(NAMES), st.sets(st.sampled_from(NAMES)))
def test_h10_a_set_of_nodes_acts_like_a_frozenset(
    one: frozenset[str], other: frozenset[str], compact: bool, same_table: bool, order: list[str], lacking: set[str]
) -> None:
    """Whatever the other set is: a frozenset, or a set of the same or of another table."""
    table = NodeTable(NAMES)
    elsewhere = NodeTable(name for name in order if name not in lacking or name in other)
    left = NodeSet(table, table.mask(one))
    right = form(other, table if same_table else elsewhere, compact=compact)
    assert one == left
    assert one & other == left & right
    assert one & other == right & left
    assert one - other == left - right
    assert one | other == left | right
    assert one | other == right | left
    assert (one <= other) == (left <= right)
    assert len(one) == len(left)
    assert bool(one) == bool(left)
    assert set(one) == set(left)
    assert [name in one for name in (*NAMES, "z")] == [name in left for name in (*NAMES, "z")]


def test_h10_a_union_with_unknown_nodes_keeps_them() -> None:
    table = NodeTable("ab")
    assert {"a", "z"} == NodeSet(table, 1) | frozenset("z")


def test_h10_numbers_beyond_the_table_are_left_out() -> None:
    assert {"b"} == NodeTable("ab").parse("1-900")
    with pytest.raises(ValueError, match="not a valid range"):
        NodeTable("ab").parse("x")


@given(st.lists(some, max_size=5), st.dictionaries(st.sampled_from(NAMES), st.integers(1, 3)))
def test_h10_numbers_and_names_say_the_same(sets: list[frozenset[str]], attempts: dict[str, int]) -> None:
    tasks = tuple(wanted(number, *sorted(peers)) for number, peers in enumerate(sets))
    image = WantedImage(
        "ns/i", "r.example/i@sha256:0", Depth.PEER,
        platforms=dict.fromkeys(attempts, "linux/amd64"),
        orders={node: PullOrder("run", number) for node, number in attempts.items()},
    )  # fmt: skip
    statement = Statement(7, tasks, images=(image,), epoch=3)
    sent = msgspec.json.decode(msgspec.json.encode(numbered(statement)), type=Statement)
    received = named(sent)
    assert statement == msgspec.structs.replace(received, nodes=())
    assert all(not task.peers for task in sent.tasks)


def test_h10_a_number_without_a_set_is_refused() -> None:
    task = msgspec.structs.replace(wanted(1), node_set=1)
    with pytest.raises(ValueError, match="The statement lacks the node set"):
        named(Statement(1, (task,), nodes=("a",), node_sets=("0",)))


def test_h10_a_statement_names_each_node_once() -> None:
    """The statement of 10,000 Tasks on 1,000 nodes would have 160 MB with names."""
    nodes = tuple(f"worker-{number:04}.example" for number in range(1000))
    statement = Statement(1, tuple(wanted(number, *nodes) for number in range(500)))
    content = msgspec.json.encode(numbered(statement))
    assert 1 == content.count(nodes[7].encode())
    assert len(content) < 20_000 + 500 * 400
    received = named(msgspec.json.decode(content, type=Statement))
    assert 1 == len({id(task.peers) for task in received.tasks})


secrets = st.sampled_from(['{"auths":{}}', "{}", "x"])
header_sets = st.dictionaries(st.sampled_from(["Authorization", "Cookie"]), st.sampled_from("12"))


@given(st.lists(header_sets, max_size=6), st.lists(st.lists(secrets, max_size=3), max_size=4))
def test_h10_credentials_in_tables_and_in_place_say_the_same(
    headers: list[dict[str, str]], pulls: list[list[str]]
) -> None:
    tasks = tuple(msgspec.structs.replace(wanted(number, "a"), headers=each) for number, each in enumerate(headers))
    images = tuple(WantedImage(f"ns/{number}", "r/i", credentials=tuple(each)) for number, each in enumerate(pulls))
    statement = Statement(7, tasks, images=images)
    sent = msgspec.json.decode(msgspec.json.encode(numbered(statement, credentials=True)), type=Statement)
    assert statement == msgspec.structs.replace(named(sent), nodes=())
    assert not any(task.headers for task in sent.tasks)
    assert not any(image.credentials for image in sent.images)
    assert len(sent.header_sets) == len({tuple(sorted(each.items())) for each in headers if each})
    assert len(sent.pull_secrets) == len({text for each in pulls for text in each})


def test_h10_a_supernode_of_the_former_version_gets_credentials_in_place() -> None:
    statement = Statement(7, (msgspec.structs.replace(wanted(1), headers={"Cookie": "c"}),))
    assert {"Cookie": "c"} == numbered(statement).tasks[0].headers


@pytest.mark.parametrize("given_tables", [{}, {"header_sets": ({},), "pull_secrets": ("x",)}])
def test_h10_a_number_without_a_credential_is_refused(given_tables: dict[str, tuple[object, ...]]) -> None:
    task = msgspec.structs.replace(wanted(1), header_set=1)
    image = WantedImage("ns/i", "r/i", secrets=(0, 1))
    for statement in (Statement(1, (task,)), Statement(1, images=(image,))):
        with pytest.raises(ValueError, match="The statement lacks the credential 1"):
            named(msgspec.structs.replace(statement, **given_tables))
