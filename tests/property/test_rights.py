"""Whatever tenants, registries and credentials do: no client gets a byte of a private blob without a right to it."""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.support.examples import examples
from tests.support.tenants import PEERS, PRIVATE, Client, Repository, World

PRIVATE_REPOSITORIES = ("h.example/a", "h.example/b", "g.example/a")
LIARS = ("l.example/x", "l.example/y", "m.example/z")
LIES = ("garbage", "zeros", "short", "long", "prefix", "late", "missing", "hangs", "")
CREDENTIALS = ("", "Basic ann", "Basic bob", "Bearer eve")

clients = st.builds(
    Client, st.sampled_from(PEERS), st.sampled_from(PRIVATE_REPOSITORIES + LIARS), st.sampled_from(CREDENTIALS)
)


class Tenants(RuleBasedStateMachine):
    """Honest tenants and others, two private registries, and registries that lie about the blob."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(Path(self.folder.name))
        self.run(self.world.begin())

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(work)

    def act(self, *steps: Callable[[], None]) -> None:
        """Carry out steps inside the loop, and then wait until nothing happens any more."""

        async def acting() -> None:
            for step in steps:
                step()
            await self.world.settle()

        self.run(acting())

    def teardown(self) -> None:
        self.run(self.world.end())
        self.loop.close()
        self.folder.cleanup()

    @initialize(lies=st.tuples(*(st.sampled_from(LIES[:-1]) for _ in LIARS)), page=st.booleans())
    def registries(self, lies: tuple[str, ...], page: bool) -> None:
        self.world.page = page
        for name, readers in zip(PRIVATE_REPOSITORIES, ({"Basic ann"}, {"Basic bob"}, {"Basic ann"}), strict=True):
            self.world.repositories[name] = Repository(name, readers)
        for name, lie in zip(LIARS, lies, strict=True):
            self.world.repositories[name] = Repository(name, {""}, lie)

    @rule(client=clients)
    def want(self, client: Client) -> None:
        self.act(lambda: self.world.want(client))

    @rule(peer=st.sampled_from(PEERS))
    def unwant(self, peer: str) -> None:
        self.act(lambda: self.world.unwant(peer))

    @rule(asked=st.lists(clients, min_size=1, max_size=3))
    def ask(self, asked: list[Client]) -> None:
        self.act(*(partial(self.world.ask, client) for client in asked))

    @rule()
    def end_questions(self) -> None:
        self.act(self.world.end_questions)

    @rule(seconds=st.sampled_from([1.0, 2.0, 6.0, 61.0, 150.0, 299.0, 301.0]))
    def advance(self, seconds: float) -> None:
        self.run(self.world.advance(seconds))

    @rule(name=st.sampled_from(LIARS), lie=st.sampled_from(LIES[:-1]))
    def lie(self, name: str, lie: str) -> None:
        self.world.repositories[name].lie = lie

    @rule(name=st.sampled_from(LIARS))
    def publish(self, name: str) -> None:
        """A tenant that has the blob pushes it to another registry."""
        self.world.repositories[name].lie = ""

    @rule(name=st.sampled_from(PRIVATE_REPOSITORIES), credential=st.sampled_from(CREDENTIALS))
    def change_readers(self, name: str, credential: str) -> None:
        self.world.repositories[name].readers ^= {credential}

    @rule(name=st.sampled_from(PRIVATE_REPOSITORIES), lie=st.sampled_from(["", "", "missing", "hangs"]))
    def lose(self, name: str, lie: str) -> None:
        self.world.repositories[name].lie = lie

    @rule()
    def restart(self) -> None:
        self.run(self.world.restart())
        self.act()

    @invariant()
    def nobody_reads_without_a_right(self) -> None:
        if self.world.repositories:
            self.world.check()


@pytest.mark.timeout(300)
def test_c1_no_byte_of_a_private_blob_without_a_right() -> None:
    run_state_machine_as_test(
        Tenants,
        settings=settings(
            max_examples=examples(40),
            stateful_step_count=20,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )


def test_the_machine_gives_rights_too(tmp_path: Path) -> None:
    """Otherwise the invariant would be empty."""

    async def story() -> None:
        world = World(tmp_path)
        await world.begin()
        for name in PRIVATE_REPOSITORIES:
            world.repositories[name] = Repository(name, {"Basic ann"})
        ann, again, other = (
            Client(peer, name, "Basic ann")
            for peer, name in (("n1", "h.example/a"), ("n2", "h.example/b"), ("n3", "g.example/a"))
        )
        for client in (ann, again, other):
            world.ask(client)
            world.want(client)
            await world.settle()
            await world.advance(6.0)
            world.check()
        assert [ann, again, other] == [client for client, _ in world.given]
        assert PRIVATE == b"".join(world.pieces().values())
        task = next(iter(world.managers.tasks))
        assert set(PEERS) == task.fetchers
        assert ("h.example/a", "g.example/a") == task.copy.origins
        await world.restart()
        await world.settle()
        assert PRIVATE == b"".join(world.pieces().values())
        world.ask(other)
        await world.settle()
        assert [other] == [client for client, _ in world.given]
        await world.end()

    asyncio.run(story())


def test_c1_a_right_from_a_fetch_ends_like_all_others(tmp_path: Path) -> None:
    """The client whose credential fetched a copy must be allowed by the registry again after 300 s."""

    async def story() -> None:
        world = World(tmp_path)
        await world.begin()
        repository = world.repositories["h.example/a"] = Repository("h.example/a", {"Basic ann"})
        ann = Client("n1", "h.example/a", "Basic ann")
        world.ask(ann)
        await world.settle()
        assert [ann] == [client for client, _ in world.given]
        await world.advance(301.0)
        world.ask(ann)
        await world.settle()
        assert [ann, ann] == [client for client, _ in world.given], "the registry still allows it"
        repository.readers.clear()
        await world.advance(301.0)
        world.ask(ann)
        await world.settle()
        assert [ann, ann] == [client for client, _ in world.given]
        await world.end()

    asyncio.run(story())
