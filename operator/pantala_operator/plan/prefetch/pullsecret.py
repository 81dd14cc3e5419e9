"""Pull secrets as registries' clients read them. Pure."""

from __future__ import annotations

import base64
import binascii

import msgspec

from pantala_operator.plan.problem import Problem
from pantala_operator.resources.api import Secret

CONFIG, LEGACY = ".dockerconfigjson", ".dockercfg"


def docker_config(secret: Secret) -> str | Problem:
    """The Secret's content as ``{"auths": ...}``, or what is wrong with it without showing any of it."""
    key = CONFIG if CONFIG in secret.data else LEGACY
    if key not in secret.data:
        return _invalid(secret, f"it has neither {CONFIG} nor {LEGACY}")
    try:
        content = msgspec.json.decode(base64.b64decode(secret.data[key], validate=True))
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return _invalid(secret, f"its {key} is no JSON")
    auths = content.get("auths") if key == CONFIG and isinstance(content, dict) else content
    if not isinstance(auths, dict) or not all(isinstance(each, dict) for each in auths.values()):
        return _invalid(secret, f"its {key} has no credentials by registry")
    return msgspec.json.encode({"auths": auths}, order="sorted").decode()


def _invalid(secret: Secret, why: str) -> Problem:
    action = "Make it with kubectl create secret docker-registry."
    return Problem("SecretInvalid", f"The Secret {secret.metadata.name} is no pull secret: {why}. {action}")
