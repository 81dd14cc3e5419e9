"""Encodes the bodies of Events and of server-side apply. The API server reads the latter as YAML.

JSON is YAML, except for some characters. The Kubernetes client writes a character such as an emoji as two escapes (a
surrogate pair), and YAML has no such pairs. Then the API server refuses the whole body. So the operator encodes the
bodies of server-side apply itself.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from pantala_operator.resources.api import API_VERSION, Metadata
from pantala_operator.resources.status import Notice

FIELD_MANAGER: Final = "pantala-operator"

APPLY: Final[Mapping[str, Any]] = {
    "content_type": "application/apply-patch+yaml; charset=utf-8",
    "field_manager": FIELD_MANAGER,
    "force_conflicts": True,
}
"""The parameters of each such request. With this spelling of the content type, the client sends a text as it is."""

_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""YAML allows these characters only as escapes, or reads them as ends of lines and removes the blanks around them.

JSON already escapes the ones below 0x20.
"""


def apply_body(body: Mapping[str, Any]) -> str:
    """The body as JSON that is YAML too."""
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", msgspec.json.encode(body).decode())


def event_body(about: Metadata, kind: str, namespace: str, notice: Notice, now: datetime) -> dict[str, Any]:
    """An Event in ``namespace`` about one of our resources."""
    when = now.isoformat().replace("+00:00", "Z")
    involved = {
        "apiVersion": API_VERSION,
        "kind": kind,
        "namespace": about.namespace,
        "name": about.name,
        "uid": about.uid,
        "resourceVersion": about.resource_version,
    }
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{about.name[:200]}.", "namespace": namespace},
        "involvedObject": {name: value for name, value in involved.items() if value},
        "type": "Warning" if notice.warning else "Normal",
        "reason": notice.reason,
        "message": notice.message,
        "firstTimestamp": when,
        "lastTimestamp": when,
        "count": 1,
        "source": {"component": FIELD_MANAGER},
        "reportingComponent": FIELD_MANAGER,
    }
