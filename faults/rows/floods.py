"""Clients that hold as many connections as they can."""

import asyncio
import contextlib
import itertools
import resource
import socket
import time
from collections.abc import AsyncIterator
from functools import partial

import aiohttp

from faults.row import Case, Plan, Row, Tally, few_descriptors
from pantala_process.listening import allow_files
from pantala_protocol import task_id
from pantala_protocol.statement import WantedTask
from testbed.origin import Behaviour, Generated, Origin
from tests.support.eventually import eventually
from tests.support.manual_peer import ManualPeer
from tests.support.peer_lab import peer
from tests.support.supernode_lab import SupernodeProcess

SIZE = 10 * 1024 * 1024
SOCKETS = 2_000
DESCRIPTORS = 2 * SOCKETS + 500
ADDRESSES = tuple(f"127.0.1.{number}" for number in range(1, 9))
"""The flood comes from other addresses than the honest peer, as in a cluster."""
FILES = (1024, 4096)
"""The soft and the hard limit of the supernode's open files, as many systems have them."""
IDLE = 1_100
"""The idle sockets of a hostile tenant."""
EACH = 16
"""The readers, the slow origins and the dead names of a hostile tenant."""
SLOWER = 2.0
"""An honest download may take so many times as long as without the flood."""
NOISE = 0.5
"""Seconds by which two equal downloads may differ on a busy machine."""


class SlowSocket:
    """A connection that never finishes its request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: int) -> None:
        self._reader = reader
        self.writer = writer
        self._kind = kind

    async def run(self) -> None:
        """Send nothing, or one byte a second of a head, or a body that never ends."""
        beginning = (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"POST /api/v1/sync HTTP/1.1\r\nHost: x\r\n")
        self.writer.write(beginning[self._kind])
        if self._kind == 2:
            self.writer.write(b"Content-Length: 900\r\n\r\n")
        with contextlib.suppress(OSError):
            while self._kind and not self._reader.at_eof():
                await asyncio.sleep(1.0)
                self.writer.write(b"x")
                await self.writer.drain()


async def slow_sockets(plan: Plan, tally: Tally) -> None:
    """Open 2,000 slow sockets to a supernode and to a peer that serves, and download meanwhile."""
    allow_files()
    folder = plan.folder
    async with Origin() as origin, SupernodeProcess(folder / "supernode") as supernode:
        supernode.spawn()
        resource.prlimit(supernode.running.pid, resource.RLIMIT_NOFILE, FILES)  # before its code can raise the limit
        await eventually(supernode.is_ready, within=20, ignoring=(OSError, aiohttp.ClientError))
        async with peer(supernode.url, folder / "node-1", "node-1"), peer(supernode.url, folder / "node-2", "node-2"):
            quiet = [await _seconds(supernode, origin, number) for number in range(3)]
            tally.measure("seconds_without_them", sorted(quiet)[1])
            for case in plan.cases(SOCKETS):
                async with _flood(supernode, min(plan.count, SOCKETS), tally):
                    await _compare(case, tally, supernode, origin, sorted(quiet)[1])


async def _compare(case: Case, tally: Tally, supernode: SupernodeProcess, origin: Origin, quiet: float) -> None:
    begun = time.monotonic()
    try:
        async with asyncio.timeout(5):
            alive = await supernode.is_ready()
    except (TimeoutError, OSError):
        alive = False
    tally.check(alive, f"the supernode does not answer at its health route: {time.monotonic() - begun:.1f} s", case)
    taken = sorted([await _seconds(supernode, origin, 100 + 10 * case.number + n) for n in range(3)])[1]
    tally.measure("seconds_with_them", taken)
    tally.check(taken < SLOWER * quiet + NOISE, f"a download took {taken:.2f} s instead of {quiet:.2f} s", case)


async def _seconds(supernode: SupernodeProcess, origin: Origin, number: int) -> float:
    """Let both peers download a file, and return how long it takes."""
    path = f"/{number}"
    origin.serve(path, Generated(SIZE, seed=number))
    url = origin.url(path)
    wanted = WantedTask(
        f"u{number}", f"ns/{number}", task_id.compute(url), url, path=f"ns/{number}", peers=("node-1", "node-2")
    )
    begun = time.monotonic()
    await supernode.state(*supernode.standing, wanted)
    await supernode.until(lambda found: any(r.uid == wanted.uid and len(r.ready_peers) == 2 for r in found.tasks))
    return time.monotonic() - begun


@contextlib.asynccontextmanager
async def _flood(supernode: SupernodeProcess, count: int, tally: Tally) -> AsyncIterator[None]:
    peers = {each.name: each.port for each in (await supernode.changes()).peers}
    ports = (supernode.port, supernode.port, supernode.piece_port, peers["node-1"])
    places = zip(range(count), itertools.cycle(ports), strict=False)
    sockets: list[SlowSocket] = []
    running: list[asyncio.Task[None]] = []
    try:
        for number, port in places:
            source = (ADDRESSES[number % len(ADDRESSES)], 0)
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(1):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=source)
                sockets.append(SlowSocket(reader, writer, number % 3))
                running.append(asyncio.create_task(sockets[-1].run()))
            tally.add(sockets=1)
        tally.add(sockets_accepted=len(sockets))
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for each in sockets:
            each.writer.transport.abort()


async def tenants(plan: Plan, tally: Tally) -> None:
    """Let one tenant flood everything that tenants share, while another one downloads."""
    allow_files()
    async with contextlib.AsyncExitStack() as stack:
        origin = await stack.enter_async_context(Origin())
        supernode = await stack.enter_async_context(SupernodeProcess(plan.folder / "supernode"))
        supernode.spawn("tests.support.dead_names")
        await eventually(supernode.is_ready, within=20, ignoring=(OSError, aiohttp.ClientError))
        for name in ("node-1", "node-2"):
            await stack.enter_async_context(peer(supernode.url, plan.folder / name, name))
        for case in plan.cases():
            first = 1000 * case.number
            quiet = sorted([await _seconds(supernode, origin, first + number) for number in range(3)])[1]
            tally.measure("seconds_without_them", quiet)
            hostile = _HostileTenant(supernode, origin, tally)
            async with hostile.flooding(), _flood(supernode, IDLE, tally):
                supernode.standing = hostile.tasks
                taken = sorted([await _seconds(supernode, origin, first + 500 + number) for number in range(3)])[1]
            supernode.standing = ()
            await supernode.state()
            tally.measure("seconds_with_them", taken)
            tally.measure("times_as_long", taken / quiet)
            slow = f"a download took {taken:.2f} s instead of {quiet:.2f} s"
            tally.check(taken < SLOWER * quiet + NOISE, slow, case)
            tally.add(floods=1)


class _HostileTenant:
    """A tenant with slow and dead origins, and with a peer that asks for bytes and does not read them."""

    def __init__(self, supernode: SupernodeProcess, origin: Origin, tally: Tally) -> None:
        self._supernode = supernode
        self._tally = tally
        self._body = Generated(30 * 1024 * 1024, seed=77)
        origin.serve("/bad", self._body)
        self._readable = self._wanted(origin.url("/bad"), "readable")
        slow = []
        for number in range(EACH):
            origin.serve(f"/slow-{number}", self._body, always=Behaviour(rate=1500))
            slow.append(self._wanted(origin.url(f"/slow-{number}"), f"slow-{number}"))
        dead = [self._wanted(f"http://dead-{number}.example/f", f"dead-{number}") for number in range(EACH)]
        self.tasks = (self._readable, *slow, *dead)

    def _wanted(self, url: str, name: str) -> WantedTask:
        return WantedTask(f"bad-{name}", f"bad/{name}", task_id.compute(url), url, path=f"bad/{name}", peers=("bad",))

    @contextlib.asynccontextmanager
    async def flooding(self) -> AsyncIterator[None]:
        await self._supernode.state(self._readable)
        work = (await ManualPeer(self._supernode, "bad").work())[0]
        await self._supernode.until(
            lambda found: any(each.digest for each in found.tasks if each.task_id == self._readable.task_id)
        )
        await self._supernode.state(*self.tasks)
        sockets = []
        for _ in range(EACH):
            opened = socket.socket()
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            opened.setblocking(False)
            await asyncio.get_running_loop().sock_connect(opened, (work.host, work.port))
            lines = [
                f"GET /pieces/{work.task_id}/{work.generation} HTTP/1.1",
                "Host: x",
                f"X-Pantala-Ticket: {work.ticket}",
            ]
            head = "\r\n".join([*lines, f"Range: bytes=0-{self._body.size - 1}", "", ""])
            await asyncio.get_running_loop().sock_sendall(opened, head.encode())
            sockets.append(opened)
        self._tally.add(readers=len(sockets), slow_origins=EACH, dead_names=EACH)
        await eventually(lambda: any(_is_answered(each) for each in sockets), what="a reader that gets bytes")
        try:
            yield
            self._tally.add(readers_with_bytes=sum(map(_is_answered, sockets)))
        finally:
            for each in sockets:
                each.close()


def _is_answered(opened: socket.socket) -> bool:
    """True if the socket got the begin of a piece, which stays unread. Any other answer would be no flood."""
    with contextlib.suppress(BlockingIOError):
        return opened.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 206"
    return False


ROWS = (
    Row("slow-sockets", "2,000 connections to a supernode and a peer send nothing, or a byte a second",
        "The health route answers, and an honest download takes at most twice as long.", ("T9", "H8", "F20"), SOCKETS,
        SOCKETS, "sockets", slow_sockets, partial(few_descriptors, DESCRIPTORS)),
    Row("flooding-tenants",
        "one tenant has 16 readers that do not read, 16 slow origins, 16 dead names and 1,100 idle sockets",
        "A download of another tenant takes at most twice as long.", ("T9", "H7", "H8"), 5, 1, "floods", tenants,
        partial(few_descriptors, DESCRIPTORS)),
)  # fmt: skip
