"""What clients learn of a slow, refusing or changing origin."""

import hashlib
import time

import pytest

from pantala_supernode.dragonfly.registration import RegistrationTimeouts
from testbed.origin import Behaviour, Bytes, Generated
from tests.support.dragonfly_stage import REGISTRATION, WAYS, DragonflyStage, P, code_of


@pytest.mark.parametrize(
    ("status", "dfdaemon", "code"),
    [
        *((404, False, 607), (401, False, 607), (401, True, 608)),
        *((403, True, 607), (407, False, 607), (407, True, 608)),
    ],
)
async def test_a_refusal_of_the_origin_is_told(stage: DragonflyStage, status: int, dfdaemon: bool, code: int) -> None:
    stage.serve(P, status=status)
    async with stage.dfget(dfdaemon=dfdaemon) as client:
        assert code == await code_of(client.register())


async def test_an_origin_that_refused_is_not_asked_for_each_client_again(stage: DragonflyStage) -> None:
    body = Bytes(b"there now")
    stage.origin.serve("/f", body, script=[Behaviour(status=404)])
    for _ in range(3):
        async with stage.dfget() as client:
            assert 607 == await code_of(client.register())
    assert 1 == len(stage.origin.requests("/f"))
    stage.app.dragonfly.service.registrations._tried.clear()
    async with stage.dfget() as client:
        assert body.data == await client.run()


async def test_a_registration_does_not_ask_before_the_time_that_the_origin_named(stage: DragonflyStage) -> None:
    registrations = stage.app.dragonfly.service.registrations
    registrations._timeouts = RegistrationTimeouts(registration=0.5)
    stage.serve(P, status=503, headers={"Retry-After": "60"})
    for _ in range(3):
        async with stage.dfget() as client:
            assert 607 == await code_of(client.register(tries=1))
        registrations._tried.clear()
    assert 1 == len(stage.origin.requests("/f"))


async def test_an_origin_that_keeps_failing_costs_clients_a_few_seconds(stage: DragonflyStage) -> None:
    """The first client waits for the retries, the next learns their result at once. A later one begins new retries."""
    content = stage.serve(P, status=503)
    async with stage.dfget() as client:
        began_at = time.monotonic()
        assert 607 == await code_of(client.register(tries=1))
        waited = time.monotonic() - began_at
        assert (True, True) == (waited < 4.8, len(stage.origin.requests("/f")) > 1)
        answer = await client.post("/peer/registry", REGISTRATION | {"rawUrl": client.url})
        assert (607, True) == (answer["code"], "answered 503" in answer["msg"])
        assert time.monotonic() - began_at < waited + 1
        stage.serve(P)
        stage.app.dragonfly.service.registrations._tried.clear()
        assert content == await client.run()


async def test_a_client_does_not_wait_for_the_rest_of_a_file_that_never_arrives(stage: DragonflyStage) -> None:
    stage.app.dragonfly.service._timeouts = RegistrationTimeouts(hold=0.1, outage=1.0)
    broken = [Behaviour(reset_after=4 * P)]
    stage.origin.serve("/f", Generated(10 * P, seed=1), script=broken, always=Behaviour(status=503))
    async with stage.dfget() as client:
        assert 604 == await code_of(client.run())
        assert {0, 1, 2, 3} >= client.pieces.keys() > set()


async def test_a_slow_origin_that_fails_once_ends_no_client(stage: DragonflyStage) -> None:
    """The client has waited for longer than an outage may take, but the origin has only been slow."""
    stage.app.dragonfly.service._timeouts = RegistrationTimeouts(hold=0.1, outage=2.5)
    body = Generated(4 * P, seed=1)
    failing = Behaviour(status=503, headers={"Retry-After": "1"})
    stage.origin.serve("/f", body, script=[Behaviour(rate=P / 4, reset_after=P - 1), failing])
    async with stage.dfget() as client:
        assert body.read(0, body.size) == await client.run()


async def test_a_slow_origin_is_waited_for(stage: DragonflyStage) -> None:
    """Each answer comes within the client's 5 s. The client asks again after 609."""
    content = stage.serve(P, delay=5.0)
    async with stage.dfget() as client:
        began_at = time.monotonic()
        assert 609 == await code_of(client.register(tries=1))
        assert time.monotonic() - began_at < 4.8
        assert content == await client.run()
    assert P == stage.origin.body_bytes("/f")


async def test_a_file_with_another_md5_never_finishes(stage: DragonflyStage) -> None:
    content = stage.serve(2 * P)
    right = hashlib.md5(content, usedforsecurity=False).hexdigest()
    async with stage.dfget(md5="0" * 32) as wrong, stage.dfget(md5=right) as client:
        assert 604 == await code_of(wrong.run())
        assert 600 not in wrong.codes
        assert content == await client.run()


async def test_old_and_new_content_are_never_mixed(stage: DragonflyStage) -> None:
    """A client with pieces of the former content cannot continue, also after another registration."""
    old, new = Generated(10 * P, seed=1), Bytes(b"new" * 4 * P)
    stage.origin.serve("/f", old, script=[Behaviour(reset_after=4 * P), Behaviour(replace=new)])
    async with stage.dfget() as client:
        assert [604] * 2 == [await code_of(client.run()), await code_of(client.register())]
    async with stage.dfget() as later:
        assert new.data == await later.run()


@pytest.mark.parametrize(("pattern", "old"), WAYS)
async def test_a_client_continues_when_the_file_is_read_again(stage: DragonflyStage, pattern: str, old: bool) -> None:
    """Without validators, only the new bytes can show that the client's pieces belong to the same content."""
    content = stage.serve(20 * P, validators="none", rate=4_000_000)
    body = Generated(20 * P, seed=20 * P)
    cut = Behaviour(close_after=10 * P, validators="none", rate=4_000_000)
    stage.origin.serve("/f", body, script=[cut], always=Behaviour(validators="none", rate=4_000_000))
    async with stage.dfget(pattern=pattern, old=old) as client:
        assert content == await client.run()
    assert 2 == len(stage.origin.requests("/f"))


async def test_credentials_part_the_tasks(stage: DragonflyStage) -> None:
    body = Bytes(b"secret")
    stage.origin.serve("/f", body, always=Behaviour(require={"authorization": "Bearer a"}))
    async with stage.dfget(headers=("Authorization: Bearer a", "User-Agent: x")) as client, stage.dfget() as stranger:
        assert body.data == await client.run()
        assert 607 == await code_of(stranger.run())
