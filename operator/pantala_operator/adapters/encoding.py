"""Encodes the bodies of server-side apply, which the API server reads as YAML.

JSON is YAML, except for some characters. The Kubernetes client writes a character such as an emoji as two escapes (a
surrogate pair), and YAML has no such pairs. Then the API server refuses the whole body. So the operator encodes these
bodies itself.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

FIELD_MANAGER: Final = "pantala-operator"

APPLY: Final[Mapping[str, Any]] = {
    "content_type": "application/apply-patch+yaml; charset=utf-8",
    "field_manager": FIELD_MANAGER,
    "force_conflicts": True,
}
"""The parameters of each such request. With this spelling of the content type, the client sends a text as it is."""

_UNPRINTABLE = re.compile("[\x7f-\x9f\ufeff\ufffe\uffff]")
"""YAML allows these characters only as escapes. JSON already escapes the ones below 0x20."""


def apply_body(body: Mapping[str, Any]) -> str:
    """The body as JSON that is YAML too."""
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", msgspec.json.encode(body).decode())
