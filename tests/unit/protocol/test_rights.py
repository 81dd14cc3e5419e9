"""A right needs bytes of the client's own repository, and the consent of its registry, and ends in time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_protocol.rules import rights as module
from pantala_protocol.rules.rights import SECONDS, BlobClaim, EvidenceKind, HeldBlob, Rights, Ruling, rule, standing

KEY = b"k" * 32
names = st.text(max_size=6)


def new(limit: int = 100) -> Rights:
    return Rights(KEY, limit=limit)


@given(given_to=st.tuples(names, names, names), asks=st.tuples(names, names, names))
def test_repository_credential_and_thing_must_be_equal(
    given_to: tuple[str, str, str], asks: tuple[str, str, str]
) -> None:
    made = new()
    made.grant(made.subject(*given_to[:2]), given_to[2], EvidenceKind.ALLOWED, 0.0)
    found = made.find(made.subject(*asks[:2]), asks[2], 1.0)
    assert (given_to == asks) == (found is not None)


def test_c1_a_right_ends_after_its_time_although_it_is_used() -> None:
    made = new()
    client = made.subject("r/a", "Bearer x")
    made.grant(client, "d", EvidenceKind.ALLOWED, 0.0, seconds=10 * SECONDS)
    for now in (0.0, SECONDS / 2, SECONDS - 0.1):
        assert made.find(client, "d", now) is not None
    assert made.find(client, "d", SECONDS) is None


def test_c1_a_refusal_ends_a_right_and_lives_as_long_as_one() -> None:
    made = new()
    client = made.subject("r/a", "Bearer x")
    made.grant(client, "d", EvidenceKind.ALLOWED, 0.0)
    made.refuse(client, "d", 1.0)
    assert made.find(client, "d", 1.0) is None
    assert made.is_refused(client, "d", SECONDS)
    assert not made.is_refused(client, "d", SECONDS + 1.0)


def test_no_secret_is_kept() -> None:
    made = new()
    made.grant(made.subject("r/a", "Basic c2VjcmV0"), "d", EvidenceKind.ALLOWED, 0.0)
    made.refuse(made.subject("r/b", "Basic c2VjcmV0"), "d", 0.0)
    assert "c2VjcmV0" not in repr(vars(made))


def test_the_number_of_rights_and_refusals_is_bounded() -> None:
    made = new(limit=10)
    for number in range(30):
        made.grant(made.subject("r"), str(number), EvidenceKind.ALLOWED, 0.0)
        made.refuse(made.subject("s"), str(number), 0.0)
    assert (10, 10) == (len(made._rights), len(made._refusals))
    assert made.find(made.subject("r"), "29", 0.0) is not None


@pytest.mark.parametrize(
    ("blob", "expected"),
    [
        (HeldBlob(), Ruling.WAIT),
        (HeldBlob("g", ("r/a",)), Ruling.ASK),
        (HeldBlob("g", ("r/a",), whole=True), Ruling.ASK),
        (HeldBlob("g", ("r/b",)), Ruling.WAIT),
        (HeldBlob("g", ("r/b",), whole=True), Ruling.PROVE),
        (HeldBlob("g", (), whole=True), Ruling.PROVE),
        (HeldBlob("g", ("r/b", "r/a"), whole=True), Ruling.ASK),
    ],
)
def test_what_to_ask_without_a_right(blob: HeldBlob, expected: Ruling) -> None:
    made = new()
    claim = BlobClaim("r/a", "d", made.subject("r/a", "Bearer x"))
    assert expected is rule(made, claim, blob, 0.0)
    made.refuse(claim.client, "d", 0.0)
    assert Ruling.REFUSE is rule(made, claim, blob, 0.0)


def test_c1_consent_counts_only_with_bytes_of_the_same_repository_and_generation() -> None:
    made = new()
    claim = BlobClaim("r/a", "d", made.subject("r/a", "Bearer x"))
    made.grant(claim.client, "d", EvidenceKind.ALLOWED, 0.0, generation="g")
    assert Ruling.GIVE is rule(made, claim, HeldBlob("g", ("r/a",)), 1.0)
    assert Ruling.ASK is rule(made, claim, HeldBlob("h", ("r/a",)), 1.0)
    assert Ruling.PROVE is rule(made, claim, HeldBlob("g", ("r/b",), whole=True), 1.0)
    assert standing(made, claim, HeldBlob("g", ("r/b",), whole=True), 1.0) is None


def test_a_public_blob_is_for_each_client_of_its_registry_while_its_repository_is_an_origin() -> None:
    made = new()
    claim = BlobClaim("r/a", "d", made.subject("r/a", "Bearer x"))
    made.grant(made.subject("r/b"), "d", EvidenceKind.ALLOWED, 0.0, generation="g")
    assert Ruling.GIVE is rule(made, claim, HeldBlob("g", ("r/b",), whole=True), 1.0)
    assert Ruling.PROVE is rule(made, claim, HeldBlob("g", ("r/c",), whole=True), 1.0)
    other = BlobClaim("liar/a", "d", made.subject("liar/a", "Bearer x"))
    assert Ruling.PROVE is rule(made, other, HeldBlob("g", ("r/b",), whole=True), 1.0)


def test_a_client_that_may_read_the_origin_may_read_the_blob_by_another_repository() -> None:
    made = new()
    claim = BlobClaim("r/a", "d", made.subject("r/a", "Basic x"))
    made.grant(claim.client, "d", EvidenceKind.ALLOWED, 0.0, generation="g", origin="r/b")
    assert Ruling.GIVE is rule(made, claim, HeldBlob("g", ("r/b",), whole=True), 1.0)
    assert Ruling.PROVE is rule(made, claim, HeldBlob("g", ("r/c",), whole=True), 1.0)
    assert Ruling.ASK is rule(made, claim, HeldBlob("g", ("r/a",), whole=True), 1.0)


def test_the_limits_are_those_of_the_documentation() -> None:
    assert (300.0, 256) == (module.SECONDS, module.ORIGINS)
