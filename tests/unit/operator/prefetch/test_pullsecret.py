"""Pull secrets as registries' clients read them."""

from __future__ import annotations

import base64
import json

import pytest

from pantala_operator.plan.prefetch.pullsecret import docker_config
from pantala_operator.plan.problem import Problem
from pantala_operator.resources.api import Metadata, Secret

AUTHS = {"registry.example": {"username": "ann", "password": "hidden"}}


def secret(**data: object) -> Secret:
    encoded = {
        f".{key}": base64.b64encode(json.dumps(value).encode()).decode() if not isinstance(value, str) else value
        for key, value in data.items()
    }
    return Secret(Metadata("s"), encoded)


@pytest.mark.parametrize(
    "data", [{"dockerconfigjson": {"auths": AUTHS, "credsStore": "x"}}, {"dockercfg": AUTHS}], ids=["new", "legacy"]
)
def test_both_kinds_become_one(data: dict[str, object]) -> None:
    config = docker_config(secret(**data))
    assert isinstance(config, str)
    assert {"auths": AUTHS} == json.loads(config)


@pytest.mark.parametrize(
    "data",
    [
        {"other": {}},
        {"dockerconfigjson": "no base64 of hidden"},
        {"dockerconfigjson": base64.b64encode(b"hidden").decode()},
        {"dockerconfigjson": {"registry.example": "hidden"}},
        {"dockerconfigjson": {"auths": {"registry.example": "hidden"}}},
        {"dockercfg": ["hidden"]},
    ],
)
def test_what_is_none_is_said_without_its_content(data: dict[str, object]) -> None:
    found = docker_config(secret(**data))
    assert isinstance(found, Problem)
    assert "SecretInvalid" == found.reason
    assert found.message.startswith("The Secret s is no pull secret: it")
    assert found.message.endswith("Make it with kubectl create secret docker-registry.")
    assert "hidden" not in found.message
