"""How users request another attempt of a Task, or another run of an ImagePrefetch: by an annotation. Pure.

The status repeats the request that the operator has handled. So a client sees whether the status is about its request.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

REQUESTED_AT: Final = "pantala.dev/requested-at"
"""The annotation whose new value requests a new attempt."""

MAX_REQUEST: Final = 1024
"""The most characters of such a value in a status and in a message. The CRDs have the same limit."""


def requested(annotations: Mapping[str, str], handled: str = "") -> str:
    """The newest request. To remove the annotation requests nothing, so the ``handled`` request stays the newest.

    A digest stands for a value that is too long for messages.
    """
    value = annotations.get(REQUESTED_AT, "")
    if len(value) > MAX_REQUEST:
        return hashlib.sha256(value.encode()).hexdigest()
    return value or handled
