"""Answers to clients that read slowly. A parked answer has no slot until its client has read the bytes sent so far."""

from collections import Counter

from pantala_pieces.transfer.upload.queue import Upload

_MOST = 256
"""The most parked uploads. For each, the kernel may hold a few MiB."""


class Parking:
    """Parked uploads, by connection, the oldest first. Any thread may use it."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._parked: dict[int, Upload] = {}

    def add(self, upload: Upload) -> None:
        """Park an upload. If too many are parked, abort the oldest one of the client with the most parked uploads."""
        self._parked[upload.connection.number] = upload
        if len(self._parked) > self._most:
            parked = list(self._parked.values())
            counts = Counter(each.claim.client for each in parked)
            max(parked, key=lambda each: counts[each.claim.client]).connection.abort()

    def __contains__(self, number: int) -> bool:
        return number in self._parked

    def take(self, number: int) -> Upload | None:
        """Remove and return the parked upload of a connection, if there is one."""
        return self._parked.pop(number, None)
