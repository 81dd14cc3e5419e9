"""Which requests of clients are understood, and which are refused."""

import json

import aiohttp
import pytest

from pantala_protocol import task_id
from tests.support.dragonfly_stage import REGISTRATION, DragonflyStage, P


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        json.dumps(REGISTRATION | {"rawUrl": "file:///etc/passwd"}).encode(),
        json.dumps(REGISTRATION | {"cid": ""}).encode(),
        json.dumps(REGISTRATION | {"ip": "10.0.0.256"}).encode(),
        json.dumps(REGISTRATION | {"port": 10**30}).encode(),
        json.dumps(REGISTRATION | {"path": ""}).encode(),
        json.dumps(REGISTRATION | {"md5": "A" * 32}).encode(),
        json.dumps(REGISTRATION | {"headers": ["A: b\r\nC: d"]}).encode(),
        b'{"rawUrl":"http://a.b/\xff","cid":"c"}',
    ],
)
async def test_garbage_is_a_bad_parameter(stage: DragonflyStage, body: bytes) -> None:
    async with aiohttp.ClientSession() as http, http.post(f"http://{stage.node}/peer/registry", data=body) as answer:
        assert (200, 501) == (answer.status, (await answer.json())["code"])


@pytest.mark.parametrize(
    "query",
    [
        "",
        "status=x",
        "status=701&result=502",
        "status=701&result=503&range=-5-3",
        "status=701&result=503&range=0-0",
        "status=701&result=503&range=99999999999999999-999999999999999999",
        f"status=701&result=503&range={100 * (P + 5)}-{101 * (P + 5) - 1}",
    ],
)
async def test_a_garbled_pull_is_a_bad_parameter(stage: DragonflyStage, query: str) -> None:
    stage.serve(P)
    async with stage.dfget() as client:
        await client.register()
        answer = await client.get(f"/peer/task?srcCid={client.cid}&taskId={client.task_id}&{query}")
        assert 501 == answer["code"]


async def test_keys_come_in_any_case_and_numbers_as_text(stage: DragonflyStage) -> None:
    stage.serve(P)
    async with stage.dfget() as client:
        body = {"RAWURL": client.url, "taskurl": client.url, "cID": client.cid, "IP": "127.0.0.1", "Port": "15000"}
        body["PATH"] = client.path
        answer = await client.post("/v1.2/peer/registry", body)
        assert (200, P) == (answer["code"], answer["data"]["fileLength"])
        assert task_id.compute(client.url) == answer["data"]["taskId"]


@pytest.mark.parametrize(
    ("typed", "path"), [("/文件 名?q=文", "/%E6%96%87%E4%BB%B6%20%E5%90%8D"), ("/a%20b", "/a%20b")]
)
async def test_a_url_is_asked_for_as_the_origin_expects_it(stage: DragonflyStage, typed: str, path: str) -> None:
    content = stage.serve(P, path)
    async with stage.dfget(typed) as client:
        assert content == await client.run()


async def test_the_origin_gets_header_names_in_the_user_s_spelling(stage: DragonflyStage) -> None:
    stage.serve(P)
    async with stage.dfget(headers=("X-toKEN: a", "authorization: Basic b")) as client:
        await client.run()
    assert {"X-toKEN", "authorization"} <= set(stage.origin.requests("/f")[0].names)
