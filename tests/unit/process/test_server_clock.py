"""Tokens are checked by the API server's time, so that a wrong clock of this machine refuses none."""

import asyncio
import base64
import json
import time
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pantala_process.identity import ClusterKeys, ServerClock, TokenRejectedError

ISSUER = "https://issuer.example"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
NOW = 1_800_000_000


def _text(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()


class Machine:
    """A machine whose clock is ``ahead`` seconds ahead of the API server's."""

    def __init__(self, ahead: float) -> None:
        self.ahead = ahead
        self.passed = 0.0
        self.slept = 0.0
        """Seconds for which the machine, and so its monotonic clock, stood still."""
        self.answers_with_date = True
        self.reads = 0
        self.away = False
        self.clock = ServerClock(lambda: self.now + self.ahead, lambda: 5000.0 + self.passed)
        self.keys = ClusterKeys(self.read, self.clock)

    @property
    def now(self) -> float:
        """The API server's time."""
        return NOW + self.passed + self.slept

    async def read(self, path: str) -> Mapping[str, Any]:
        self.reads += 1
        if self.away:
            raise OSError("away")
        if self.answers_with_date:
            self.clock.learn(formatdate(self.now, usegmt=True))
        if "jwks" not in path:
            return {"issuer": ISSUER}
        numbers = KEY.public_key().public_numbers()
        return {"keys": [{"kty": "RSA", "alg": "RS256", "kid": "k", "n": _text(numbers.n), "e": _text(numbers.e)}]}

    def token(self, **changes: Any) -> str:
        issued = int(self.now)
        claims = {"iss": ISSUER, "aud": ["pantala"], "sub": "s", "iat": issued, "nbf": issued, "exp": issued + 600}
        return jwt.encode({**claims, **changes}, KEY, algorithm="RS256", headers={"kid": "k"})


@pytest.mark.parametrize(
    ("curve", "algorithm"), [(ec.SECP256R1(), "ES256"), (ec.SECP384R1(), "ES384"), (ec.SECP521R1(), "ES512")]
)
async def test_an_api_server_may_sign_with_any_curve_of_kubernetes(curve: ec.EllipticCurve, algorithm: str) -> None:
    machine, key = Machine(0), ec.generate_private_key(curve)
    public = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)

    async def read(path: str) -> Mapping[str, Any]:
        return {"issuer": ISSUER, "keys": [{"kty": "of-the-future", "kid": "f"}, {**public, "kid": "k"}]}

    claims = jwt.decode(machine.token(), options={"verify_signature": False})
    token = jwt.encode(claims, key, algorithm=algorithm, headers={"kid": "k"})
    keys = ClusterKeys(read, machine.clock)
    machine.clock.learn(formatdate(machine.now, usegmt=True))
    assert "s" == (await keys.verify(token)).subject
    forged = jwt.encode(claims, "x" * 64, algorithm="HS256", headers={"kid": "k"})
    with pytest.raises(TokenRejectedError):
        await keys.verify(forged)


@pytest.mark.parametrize("ahead", [0, 15, -15, 3600, -3600, 86_400 * 365])
async def test_m5_a_wrong_clock_refuses_no_valid_token(ahead: float) -> None:
    machine = Machine(ahead)
    token = machine.token()
    assert "s" == (await machine.keys.verify(token)).subject
    assert machine.keys.known(token) is not None
    machine.passed += 700
    assert machine.keys.known(token) is None
    with pytest.raises(TokenRejectedError, match="expired"):
        await machine.keys.verify(token)


@pytest.mark.parametrize("jump", [3600, -3600])
async def test_m5_a_jump_of_the_clock_changes_nothing(jump: float) -> None:
    machine = Machine(0)
    token = machine.token()
    await machine.keys.verify(token)
    machine.ahead = jump
    assert machine.keys.known(token) is not None
    assert "s" == (await machine.keys.verify(machine.token())).subject
    machine.passed += 700
    with pytest.raises(TokenRejectedError, match="expired"):
        await machine.keys.verify(token)


async def test_m5_a_machine_that_slept_learns_the_time_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pantala_process.identity._MIN_RELOAD_INTERVAL", 0.0)
    machine = Machine(0)
    old = machine.token()
    await machine.keys.verify(old)
    machine.slept = 7200
    assert "s" == (await machine.keys.verify(machine.token())).subject
    assert machine.keys.known(old) is None
    with pytest.raises(TokenRejectedError, match="expired"):
        await machine.keys.verify(old)


@pytest.mark.parametrize(("ahead", "valid"), [(50, True), (-50, True), (-70, False), (670, False)])
async def test_m5_without_the_servers_time_clocks_may_differ_by_a_minute(*, ahead: float, valid: bool) -> None:
    machine = Machine(ahead)
    machine.answers_with_date = False
    if valid:
        await machine.keys.verify(machine.token())
        return
    with pytest.raises(TokenRejectedError):
        await machine.keys.verify(machine.token())


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW - 61}, {"nbf": NOW + 62}, {"iat": NOW + 62}, {"exp": "soon"}, {"exp": float("nan")},
        {"exp": None}, {"nbf": [1]}, {"iat": "x"},
    ],
)  # fmt: skip
async def test_m5_a_token_outside_of_its_times_is_refused(claims: dict[str, Any]) -> None:
    machine = Machine(0)
    with pytest.raises(TokenRejectedError):
        await machine.keys.verify(_signed(machine, claims))


def _signed(machine: Machine, claims: dict[str, Any]) -> str:
    """A token with times that the library would not sign."""
    whole = jwt.decode(machine.token(), options={"verify_signature": False}) | claims
    return jwt.api_jws.encode(json.dumps(whole).encode(), KEY, algorithm="RS256", headers={"kid": "k"})


@pytest.mark.parametrize("text", ["", "yesterday", "Thu, 99 Foo 2026 00:00:00 GMT", "\x00", "0"])
def test_m5_an_answer_without_a_valid_date_changes_nothing(text: str) -> None:
    clock = ServerClock()
    clock.learn(text)
    assert clock.skew is None
    assert abs(clock.now() - time.time()) < 5


def test_m5_the_skew_is_known() -> None:
    machine = Machine(40)
    machine.clock.learn(formatdate(NOW, usegmt=True))
    assert machine.clock.skew is not None
    assert abs(machine.clock.skew - 40) <= 0.5


async def test_f10_the_keys_stay_while_the_api_server_is_away() -> None:
    """They are read again every hour. A failure costs no request of a client."""
    machine = Machine(0)
    await machine.keys.verify(machine.token())
    machine.away = True
    machine.keys._loaded_at -= 3700
    for number in range(3):
        assert "s" == (await machine.keys.verify(machine.token(jti=str(number)))).subject
        await asyncio.sleep(0)
    assert 3 == machine.reads, "one attempt"
    machine.away = False
    machine.keys._loaded_at -= 3700
    await machine.keys.verify(machine.token(jti="later"))
    await asyncio.sleep(0.01)
    assert 5 == machine.reads


def test_m5_a_slow_answer_does_not_tell_the_time() -> None:
    """On a busy machine, an answer may be read long after the server has written it."""
    machine = Machine(0)
    machine.clock.learn(formatdate(NOW - 9, usegmt=True), took=9.0)
    assert machine.clock.skew is None
    machine.clock.learn(formatdate(NOW - 1, usegmt=True), took=2.0)
    assert machine.clock.skew is not None
    assert abs(machine.clock.skew) <= 0.5
