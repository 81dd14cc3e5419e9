"""A whole system with TLS in the test's process: an operator that signs, supernodes, peers, and an origin."""

import asyncio
import contextlib
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import aiohttp

from pantala_operator.adapters.supernode import HTTPSupernodeAPI
from pantala_operator.authority.endpoint import Authority, TrustedAccounts
from pantala_operator.authority.keeper import AuthorityKeeper
from pantala_operator.authority.rotation import AuthorityTiming
from pantala_peer.app import PeerApp
from pantala_process.identity import ClusterKeys, ServerClock, TokenIdentity, api_server_documents
from pantala_process.settings import ListenAddress
from pantala_process.tls import certificates
from pantala_process.tls.contexts import TLSContexts
from pantala_protocol.statement import Statement, WantedTask
from pantala_supernode.app import App, serving
from pantala_supernode.settings import Settings
from testbed.origin import Behaviour, Generated, Origin
from tests.support.cluster import MemoryCluster
from tests.support.eventually import eventually
from tests.support.peer_lab import peer
from tests.support.supernode_lab import loopback
from tests.support.token_issuer import TokenIssuer

OPERATOR, PEER, SUPERNODE = (f"system:serviceaccount:pantala:{name}" for name in ("operator", "peer", "supernode"))
OPERATOR_POD = "operator-1"
DAY = 86400.0


class LocalAccounts(TrustedAccounts):
    """Supernodes are reached at ``localhost`` here, so their certificates have this name, too."""

    def names(self, identity: TokenIdentity) -> tuple[str, ...]:
        found = super().names(identity)
        return (*found, "localhost") if identity.subject == self.supernode and found else found


class TLSLab:
    """The parts of the system. Each process has its token in a file, and its certificate in a folder."""

    def __init__(self, folder: Path, timing: AuthorityTiming | None = None) -> None:
        self.folder = folder
        self.issuer = TokenIssuer()
        self.cluster = MemoryCluster()
        self.origin = Origin()
        self.contexts = TLSContexts()
        """The operator's."""
        self.ports: dict[str, int] = {}
        """The ports that must speak TLS."""
        self.supernode: App
        self.peers: dict[str, PeerApp] = {}
        for kind in ("secrets", "configmaps"):
            self.cluster.put(kind, {"metadata": {"namespace": "pantala", "name": "tls"}})
        self.keeper = AuthorityKeeper(
            self.cluster, self.contexts, namespace="pantala", secret="tls", config_map="tls",
            names=(f"{OPERATOR_POD}.operator.pantala", "localhost"), timing=timing,
        )  # fmt: skip
        self._revision = 0
        self._stack = AsyncExitStack()
        self._lives: dict[str, AsyncExitStack] = {}
        self._endpoint = AsyncExitStack()
        self._authorities = folder / "ca.crt"

    async def __aenter__(self) -> Self:
        enter = self._stack.enter_async_context
        await enter(self.origin)
        self.api_server = await enter(self.issuer.serving())
        self._session = await enter(aiohttp.ClientSession())
        await self.sign()
        await self.start_operator()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop_operator()
        await self._stack.aclose()

    async def start_operator(self) -> None:
        clock = ServerClock()
        read = api_server_documents(self._session, self.api_server, clock, ca=None, token=None)
        accounts = LocalAccounts(PEER, SUPERNODE, "pantala/pantala-supernode")
        address = ListenAddress("127.0.0.1", self.ports.get("operator", 0))
        authority = Authority(self.keeper, ClusterKeys(read, clock), accounts, address)
        self.ports["operator"] = await self._endpoint.enter_async_context(authority.serving())

    async def stop_operator(self) -> None:
        await self._endpoint.aclose()

    async def sign(self) -> None:
        """One step of the operator. Then the kubelets bring the ConfigMap to the nodes."""
        await self.keeper.step()
        assert "" == self.keeper.problem
        new = self.folder / "ca.new"
        new.write_text(self.cluster.objects["configmaps"]["pantala/tls"]["data"]["ca.crt"])
        new.rename(self._authorities)

    def token_file(self, subject: str, node: str = "", pod: str = "") -> Path:
        path = self.folder / f"{subject.rpartition(':')[2]}-{node}{pod}.token"
        path.write_text(self.issuer.token(subject, node, pod=pod))
        return path

    def flags(self, name: str) -> dict[str, Any]:
        folder = self.folder / f"{name}-tls"
        folder.mkdir(exist_ok=True)
        url = f"https://localhost:{self.ports['operator']}"
        return {"tls_dir": folder, "tls_ca": self._authorities, "tls_authority": url, "tls_look": 0.1}

    async def start_supernode(self, **changes: Any) -> App:
        trusted = {"trusted_operator": OPERATOR, "trusted_peer": PEER, "trusted_supernode": SUPERNODE}
        token = self.token_file(SUPERNODE, pod="pantala-supernode-0")
        settings: Settings = loopback(
            self.folder / "supernode", no_auth=False, api_server=self.api_server, token_file=token,
            **trusted, **self.flags("supernode"), **changes,
        )  # fmt: skip
        self.supernode = await self._stack.enter_async_context(serving(settings))
        self.ports["api"], self.ports["pieces"] = settings.listen.port, settings.piece_listen.port
        token = self.token_file(OPERATOR, pod=OPERATOR_POD)
        self.operator = HTTPSupernodeAPI(self.url, token, self.contexts)
        self._stack.push_async_callback(self.operator.close)
        return self.supernode

    @property
    def url(self) -> str:
        return f"https://localhost:{self.ports['api']}"

    async def start_peer(self, name: str, *, token: Path | None = None, **changes: Any) -> PeerApp:
        """Start a peer. A former peer with this name ends first."""
        token = token or self.token_file(PEER, name)
        settings: dict[str, Any] = {"token_file": token, "grace": 1.0} | self.flags(name) | changes
        if name in self._lives:
            await self._lives[name].aclose()
        life = self._lives[name] = await self._stack.enter_async_context(AsyncExitStack())
        made = await life.enter_async_context(peer(self.url, self.folder / name, name, **settings))
        self.peers[name] = made
        return made

    async def connected(self, *names: str) -> None:
        await eventually(lambda: all(self.peers[name].supernodes.answered_at > 0 for name in names), within=30)

    def serve(self, size: int, path: str, **behaviour: Any) -> bytes:
        body = Generated(size, seed=size)
        self.origin.serve(path, body, always=Behaviour(**behaviour))
        return body.read(0, size)

    async def state(self, *tasks: WantedTask) -> None:
        self._revision += 1
        await self.operator.state(Statement(self._revision, tasks))

    async def published(self, path: str, content: bytes, *names: str) -> None:
        """Wait until the peers have published the file."""
        for name in names:
            file = self.folder / name / "files" / path
            await eventually(lambda file=file: file.exists() and file.read_bytes() == content, within=60)  # type: ignore[misc]

    async def call(self, path: str, contexts: TLSContexts | None, token: str, data: Any = b"") -> int:
        """The status of a request to the supernode. 0: the connection failed."""
        headers = {"Authorization": f"Bearer {token}"}
        tls = True if contexts is None else contexts.client
        method = "POST" if data else "GET"
        with contextlib.suppress(aiohttp.ClientError, OSError):
            async with self._session.request(method, self.url + path, headers=headers, data=data, ssl=tls) as answer:
                return answer.status
        return 0

    def contexts_of(self, *names: str, age: float = 0.0) -> TLSContexts:
        """The contexts of a process with these names, which the operator did not decide."""
        issuer = self.keeper._state.current
        assert issuer is not None
        key = certificates.new_key()
        signed = issuer.sign(certificates.signing_request(key), names, now=time.time() - age, lifetime=DAY)
        made = TLSContexts()
        made.load(names[0], key + signed, self._authorities.read_bytes())
        return made


async def every(seconds: float, call: Any) -> None:
    """Call a coroutine function again and again until cancelled."""
    while True:
        await call()
        await asyncio.sleep(seconds)
