"""The authority: what its Secret and ConfigMap hold, when it changes, and which names it signs."""

import asyncio
import base64
import ssl
import time
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pantala_operator.authority.endpoint import TrustedAccounts
from pantala_operator.authority.issuer import CertificateIssuer
from pantala_operator.authority.keeper import AuthorityKeeper
from pantala_operator.authority.rotation import AuthorityState, AuthorityTiming
from pantala_process.identity import TokenIdentity
from pantala_process.tls import certificates
from pantala_process.tls.certificates import CertificateError
from pantala_process.tls.contexts import TLSContexts
from tests.support.cluster import MemoryCluster

NAMES = ("op-1.operator.pantala", "pantala-operator.pantala.svc")
TIMING = AuthorityTiming(authority=900.0, certificate=100.0, overlap=50.0)
BEGIN = 1_800_000_000.0
ACCOUNTS = TrustedAccounts("system:serviceaccount:p:peer", "system:serviceaccount:p:supernode", "p/pantala-supernode")


class Lab:
    """Operators and their cluster, with a clock that the test moves."""

    def __init__(self, issuer_secret: str = "") -> None:
        self.now = BEGIN
        self.cluster = MemoryCluster()
        for kind in ("secrets", "configmaps"):
            self.cluster.put(kind, {"metadata": {"namespace": "p", "name": "pantala-tls"}})
        self._issuer_secret = issuer_secret

    def keeper(self) -> AuthorityKeeper:
        return AuthorityKeeper(
            self.cluster, TLSContexts(), namespace="p", secret="pantala-tls", config_map="pantala-tls", names=NAMES,
            issuer_secret=self._issuer_secret, timing=TIMING, wall=lambda: self.now,
        )  # fmt: skip

    @property
    def bundle(self) -> bytes:
        return self._data("configmaps").get("ca.crt", "").encode()

    @property
    def authorities(self) -> int:
        return len(certificates.trusted(self.bundle))

    def secret(self, name: str) -> bytes:
        return base64.b64decode(self._data("secrets").get(name, ""))

    def give(self, issuer: CertificateIssuer) -> None:
        """Let cert-manager fill its Secret."""
        data = {"tls.crt": issuer.certificate, "tls.key": issuer.key}
        body: dict[str, Any] = {"metadata": {"namespace": "p", "name": self._issuer_secret}}
        self.cluster.put(
            "secrets", body | {"data": {name: base64.b64encode(value).decode() for name, value in data.items()}}
        )

    def _data(self, kind: str) -> dict[str, str]:
        found: dict[str, str] = self.cluster.objects[kind]["p/pantala-tls"].get("data", {})
        return found


def certified(keeper: AuthorityKeeper, lab: Lab, *names: str) -> bytes:
    key = certificates.new_key()
    identity = key + keeper.sign(certificates.signing_request(key), names)
    assert names == certificates.check(identity, lab.bundle, now=lab.now).names
    return identity


async def test_h9_the_first_operator_makes_an_authority_and_both_sign_with_it() -> None:
    lab = Lab()
    one, two = lab.keeper(), lab.keeper()
    assert one.problem
    await one.step()
    await two.step()
    assert ("", "", 1) == (one.problem, two.problem, lab.authorities)
    for keeper in (one, two):
        certified(keeper, lab, "node-1.peer.pantala")
    assert b"PRIVATE" not in lab.bundle


async def test_two_operators_that_write_at_once_agree() -> None:
    lab = Lab()
    keepers = [lab.keeper() for _ in range(3)]
    for _ in range(3):
        await asyncio.gather(*(keeper.step() for keeper in keepers))
    assert 1 == lab.authorities
    for keeper in keepers:
        certified(keeper, lab, "node-1.peer.pantala")


async def test_h9_the_authority_rotates_and_every_certificate_stays_valid_meanwhile() -> None:
    lab = Lab()
    keeper = lab.keeper()
    await keeper.step()
    identities: list[tuple[float, bytes]] = []
    authorities, counts = set(), set()
    while lab.now < BEGIN + 3 * TIMING.authority:
        lab.now += 25
        before = lab.bundle
        await keeper.step()
        identity = certified(keeper, lab, "node-1.peer.pantala")
        certificates.check(identity, before, now=lab.now)  # a process with the former list trusts it, too
        identities = [each for each in identities if each[0] > lab.now] + [(lab.now + TIMING.certificate, identity)]
        for _, each in identities:
            certificates.check(each, lab.bundle, now=min(lab.now, BEGIN + 3 * TIMING.authority))
        authorities.add(lab.secret("ca.crt"))
        counts.add(lab.authorities)
    assert ("", {1, 2}) == (keeper.problem, counts)
    assert 4 <= len(authorities) <= 6


async def test_cert_manager_gives_the_authority_and_its_next_one() -> None:
    lab = Lab("from-cert-manager")
    keeper = lab.keeper()
    await keeper.step()
    assert "from-cert-manager" in keeper.problem
    with pytest.raises(CertificateError, match="from-cert-manager"):
        keeper.sign(b"", ())
    first, second = (CertificateIssuer.new(now=lab.now, lifetime=1000.0) for _ in range(2))
    lab.give(first)
    await keeper.step()
    assert first.certificate.strip() == lab.bundle.strip()
    lab.give(second)
    await keeper.step()
    assert (first.certificate, 2) == (lab.secret("ca.crt"), lab.authorities)
    lab.now += TIMING.overlap
    await keeper.step()
    assert (second.certificate, 2) == (lab.secret("ca.crt"), lab.authorities)
    lab.now += TIMING.certificate
    await keeper.step()
    assert second.certificate.strip() == lab.bundle.strip()


async def test_a_secret_that_cannot_be_read_is_reported_and_not_replaced() -> None:
    lab = Lab()
    body = lab.cluster.objects["secrets"]["p/pantala-tls"]
    body["data"] = {"ca.crt": base64.b64encode(b"nonsense").decode(), "ca.key": base64.b64encode(b"x").decode()}
    keeper = lab.keeper()
    await keeper.step()
    assert "cannot be read" in keeper.problem
    assert "" == lab.bundle.decode()
    lab.cluster.remove("secrets", "p/pantala-tls")
    await keeper.step()
    assert "not found" in keeper.problem


async def test_a_certificate_that_cannot_be_loaded_is_reported_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def damaged(*_: object) -> None:
        raise ssl.SSLError("not enough data")

    keeper = Lab().keeper()
    monkeypatch.setattr(keeper.contexts, "load", damaged)
    await keeper.step()
    assert "not enough data" in keeper.problem


def test_h9_a_listener_trusts_an_intermediate_authority_without_its_root() -> None:
    """cert-manager gives such an authority if its issuer is not self-signed. The handshake keeps the first flags."""
    wanted = ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    assert wanted == TLSContexts().listener.verify_flags & wanted


async def test_the_operators_own_certificate_serves_and_is_renewed() -> None:
    lab = Lab()
    lab.now = time.time()
    keeper = lab.keeper()
    await keeper.step()
    contexts = keeper.contexts
    before = contexts.client
    await keeper.step()
    assert before is contexts.client
    lab.now += TIMING.certificate
    await keeper.step()
    assert (NAMES[0], True) == (contexts.name, before is not contexts.client)
    assert ssl.CERT_REQUIRED == contexts.server.verify_mode


def test_a13_a_token_proves_only_its_own_names() -> None:
    peer, supernode = ACCOUNTS.peer, ACCOUNTS.supernode
    assert ("n1.peer.pantala",) == ACCOUNTS.names(TokenIdentity(peer, "n1", "pantala-peer-x"))
    expected = (
        "pantala-supernode-1.supernode.pantala",
        "pantala-supernode-1.pantala-supernode.p",
        "pantala-supernode.p.svc",
    )
    assert expected == ACCOUNTS.names(TokenIdentity(supernode, "n1", "pantala-supernode-1"))
    for stranger in (
        TokenIdentity(peer, "", "pantala-peer-x"),
        TokenIdentity(supernode, "n1", "pantala-supernode-x"),
        TokenIdentity(supernode, "n1", "pantala-supernode-1.evil"),
        TokenIdentity(supernode, "n1", ""),
        TokenIdentity("system:serviceaccount:p:default", "n1", "pantala-supernode-1"),
        TokenIdentity("", "n1", "pantala-supernode-1"),
    ):
        assert () == ACCOUNTS.names(stranger)


def test_a13_the_names_in_a_request_are_ignored() -> None:
    issuer = CertificateIssuer.new(now=BEGIN, lifetime=1000.0)

    def request(key: Any) -> bytes:
        wish = x509.SubjectAlternativeName([x509.DNSName("node-2.peer.pantala")])
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        signed = builder.add_extension(wish, False).sign(key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    signed = issuer.sign(request(ec.generate_private_key(ec.SECP256R1())), ("n1.peer.pantala",), now=BEGIN, lifetime=60)
    assert ("n1.peer.pantala",) == certificates.facts(signed).names
    for refused in (
        request(rsa.generate_private_key(65537, 2048)),
        request(ec.generate_private_key(ec.SECP384R1())),
        b"",
    ):
        with pytest.raises(CertificateError):
            issuer.sign(refused, ("n1.peer.pantala",), now=BEGIN, lifetime=60)


def test_the_state_survives_its_secret() -> None:
    state = AuthorityState(CertificateIssuer.new(now=BEGIN, lifetime=900.0))
    state = state.advance(None, external=False, now=BEGIN + 700, timing=TIMING)
    assert state.following is not None
    state = state.advance(None, external=False, now=BEGIN + 800, timing=TIMING)
    assert state.former
    data = {name: value for name, value in state.data().items() if value is not None}
    assert state == AuthorityState.of(data)
