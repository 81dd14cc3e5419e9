"""SourcePolicies: their rules in the statement, and their status."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import trustme

from pantala_operator.plan.sources import plan
from pantala_operator.resources.conditions import find
from pantala_operator.resources.sources import SourcePolicy
from pantala_protocol.statement import SourceRule
from tests.support.eventually import eventually
from tests.support.operator_stage import OperatorStage

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PEM = trustme.CA().cert_pem.bytes().decode()
DAMAGED = PEM[:100] + "\u200b" + PEM[100:]


def policy(**spec: Any) -> SourcePolicy:
    return msgspec.convert({"metadata": {"name": "corp", "generation": 3}, "spec": spec}, SourcePolicy)


def test_m2_a_policy_becomes_a_rule_and_is_accepted() -> None:
    spec = {"hosts": ["files.corp"], "cidrs": ["10.0.0.0/8", "fd00::/8"], "ports": [443], "caBundle": PEM}
    made = plan(policy(**spec, limits={"maxBytes": 5}), NOW)
    rule = SourceRule(
        "corp", hosts=("files.corp",), networks=("10.0.0.0/8", "fd00::/8"), ports=(443,), authorities=PEM, max_bytes=5
    )
    assert rule == made.rule
    accepted = find(made.status.conditions, "Accepted")
    assert accepted is not None
    assert ("True", "Accepted", 3) == (accepted.status, accepted.reason, accepted.observed_generation)


def test_m2_a_bundle_may_have_comments_in_any_language() -> None:
    """The bundle of curl has the names of the authorities above their certificates, such as this one."""
    bundle = f"NetLock Arany (Class Gold) F\u0151tan\u00fas\u00edtv\u00e1ny\n=====\n{PEM}"
    made = plan(policy(hosts=["files.corp"], caBundle=bundle), NOW)
    assert made.rule is not None
    assert bundle == made.rule.authorities


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, "Set spec.hosts, spec.cidrs or both"),
        ({"ports": [443]}, "Set spec.hosts, spec.cidrs or both"),
        ({"hosts": ["*"]}, "is not a host name"),
        ({"hosts": ["10.0.0.1"]}, "is not a host name"),
        ({"hosts": ["Files.corp"]}, "is not a host name"),
        ({"cidrs": ["10.0.0.1/8"]}, "is not a network in CIDR notation"),
        ({"cidrs": ["169.254.169.254/32"]}, "is within 169.254.0.0/16, which is never read"),
        ({"cidrs": ["fe80::/64"]}, "which is never read"),
        ({"hosts": ["files.corp"], "caBundle": "x"}, "spec.caBundle has no readable certificate"),
        ({"hosts": ["files.corp"], "caBundle": "\u017f"}, "spec.caBundle has no readable certificate"),
        ({"hosts": ["files.corp"], "caBundle": DAMAGED}, "spec.caBundle has no readable certificate"),
    ],
)
def test_m2_a_policy_that_is_not_valid_allows_nothing(spec: dict[str, Any], said: str) -> None:
    made = plan(policy(**spec), NOW)
    assert made.rule is None
    accepted = find(made.status.conditions, "Accepted")
    assert accepted is not None
    assert ("False", "Invalid", True) == (accepted.status, accepted.reason, said in accepted.message)


@pytest.mark.virtual_time
async def test_m2_the_statement_has_the_policies_in_force() -> None:
    stage = OperatorStage()
    async with stage.operator():

        def rules() -> list[str]:
            statements = stage.supernode.statements
            return [rule.name for rule in statements[-1].sources] if statements else ["none yet"]

        await eventually(lambda: rules() == [])
        body = {"metadata": {"name": "corp"}, "spec": {"cidrs": ["10.0.0.0/8"]}}
        stage.cluster.put("sourcepolicies", body)
        await eventually(lambda: rules() == ["corp"])
        await eventually(lambda: stage.cluster.objects["sourcepolicies"]["corp"].get("status", {}).get("conditions"))
        stage.cluster.put("sourcepolicies", {**body, "spec": {"cidrs": ["no"]}})
        await eventually(lambda: rules() == [])
        stage.cluster.put("sourcepolicies", body, watched=False)  # the next full list finds it
        stage.cluster.put("sourcepolicies", {"metadata": {"name": "b"}, "spec": {"hosts": ["files.corp"]}})
        await eventually(lambda: "b" in rules())
        stage.cluster.remove("sourcepolicies", "b")
        await eventually(lambda: "b" not in rules())
