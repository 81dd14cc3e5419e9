"""What the console answers over HTTP, and to whom."""

from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest

from pantala_operator.console.assets import read_assets
from pantala_operator.console.server import HEADERS, ConsoleServer, is_loopback
from pantala_operator.settings import parse
from pantala_process.settings import ListenAddress, SettingsError
from pantala_protocol.console.views import Console, TaskDetail
from tests.support.console_desk import Desk, task

# The server.


@pytest.fixture
async def url(desk: Desk) -> AsyncIterator[str]:
    desk.put(task("t"))
    async with ConsoleServer(desk.overview).serving(ListenAddress("127.0.0.1", 0)) as port:
        yield f"http://127.0.0.1:{port}"


async def test_the_answers_are_protocol_messages_without_secrets(url: str) -> None:
    async with aiohttp.ClientSession(url) as session:
        async with session.get("/api/v1/console?limit=10&unfinished=true&namespace=ns") as answer:
            body = await answer.read()
        async with session.get("/api/v1/console/tasks/ns/t") as answer:
            details = await answer.read()
    assert ["t"] == [each.name for each in msgspec.json.decode(body, type=Console).tasks]
    assert "t" == msgspec.json.decode(details, type=TaskDetail).task.name
    assert b"secret" not in body + details


@pytest.mark.parametrize(
    "path", ["/", "/page.js", "/page.css", "/api/v1/console", "/nothing", "/api/v1/console/tasks/ns/x"]
)
async def test_each_answer_has_the_security_headers(url: str, path: str) -> None:
    async with aiohttp.ClientSession(url) as session, session.get(path) as answer:
        assert HEADERS == {name: answer.headers[name] for name in HEADERS}
        assert (404 if path in {"/nothing", "/api/v1/console/tasks/ns/x"} else 200) == answer.status


async def test_only_reading_is_allowed(url: str) -> None:
    async with aiohttp.ClientSession(url) as session:
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            async with session.request(method, "/api/v1/console") as answer:
                assert (405, "GET, HEAD") == (answer.status, answer.headers["Allow"])
        async with session.head("/") as answer:
            assert 200 == answer.status


async def test_a_name_of_another_site_is_refused(url: str) -> None:
    """A web site can give its name the address 127.0.0.1. Then the browser would let it read the answers."""
    async with aiohttp.ClientSession(url) as session:
        for host in (
            "evil.example",
            "evil.example:8090",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
            "10.0.0.1",
        ):
            async with session.get("/api/v1/console", headers={"Host": host}) as answer:
                assert 421 == answer.status, host
        for host in ("localhost:18090", "LOCALHOST", "127.0.0.1:1", "[::1]:8090", "[::1]"):
            async with session.get("/api/v1/console", headers={"Host": host}) as answer:
                assert 200 == answer.status, host


def test_two_hosts_or_none_are_refused() -> None:
    assert not is_loopback([])
    assert not is_loopback(["localhost", "localhost"])


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=99999999", "unfinished=maybe"])
async def test_a_wrong_query_is_an_error(url: str, query: str) -> None:
    async with aiohttp.ClientSession(url) as session, session.get(f"/api/v1/console?{query}") as answer:
        assert 400 == answer.status


def test_the_page_makes_texts_and_never_html() -> None:
    """Messages of origins and registries appear in the page."""
    for path, asset in read_assets().items():
        for wrong in (b"innerHTML", b"outerHTML", b"insertAdjacentHTML", b"document.write", b"eval(", b"new Function"):
            assert wrong not in asset.body, path
        assert b"http://" not in asset.body.replace(b"http://www.w3.org/2000/svg", b""), path
        assert b"https://" not in asset.body, path


async def test_an_unchanged_file_is_not_sent_again(url: str) -> None:
    async with aiohttp.ClientSession(url) as session:
        async with session.get("/page.css") as answer:
            tag = answer.headers["ETag"]
        async with session.get("/page.css", headers={"If-None-Match": tag}) as answer:
            assert 304 == answer.status


@pytest.mark.parametrize("address", ["0.0.0.0:8090", "[::]:8090", ":8090", "10.0.0.1:8090"])
def test_the_console_listens_only_on_loopback(address: str) -> None:
    with pytest.raises(SettingsError, match="is not a loopback address"):
        parse(["--console-listen", address], {"PANTALA_SUPERNODE": "http://s:1"})


def test_an_empty_address_turns_the_console_off() -> None:
    assert parse(["--console-listen", ""], {"PANTALA_SUPERNODE": "http://s:1"}).console_listen is None
