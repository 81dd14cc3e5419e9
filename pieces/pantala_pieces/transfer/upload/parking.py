"""The answers whose clients read slowly. They have no slot until their clients have read what was sent."""

from collections import Counter

from pantala_pieces.transfer.upload.queue import Upload

_MOST = 256
"""The kernel may hold a few MiB of each."""


class Parking:
    """Parked uploads, by connection, the oldest first. Any thread may use it."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._parked: dict[int, Upload] = {}

    def add(self, upload: Upload) -> None:
        """Park an upload. If there are too many, break the oldest one of the client that has the most of them."""
        self._parked[upload.connection.number] = upload
        if len(self._parked) > self._most:
            parked = list(self._parked.values())
            counts = Counter(each.claim.client for each in parked)
            max(parked, key=lambda each: counts[each.claim.client]).connection.abort()

    def __contains__(self, number: int) -> bool:
        return number in self._parked

    def take(self, number: int) -> Upload | None:
        """Take the upload of a connection, if it has one."""
        return self._parked.pop(number, None)
