"""The blobs that readers on this node wait for, each stated once however many read it. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from pantala_peer.mirror.ports import Hint
from pantala_protocol import task_id
from pantala_protocol.sync import Wanted


class Want:
    """One reader's."""

    def __init__(self, digest: str, hint: Hint, position: int, changed: Callable[[], None]) -> None:
        self.digest = digest
        self.hint = hint
        self.position = position
        self.stalls = 0
        """How often it waited for long for the byte at its position."""
        self._changed = changed

    def waits_at(self, position: int) -> None:
        """This is the byte that it cannot go on without."""
        if position != self.position:
            self.position, self.stalls = position, 0
            self._changed()

    def stalled(self) -> None:
        """It waits for long: ask again."""
        self.stalls += 1
        self._changed()


class Wants:
    """All readers' wants. ``tell`` is called with a task's ID and what is wanted of it now; ``None``: nothing."""

    def __init__(self, tell: Callable[[str, Wanted | None], None]) -> None:
        self._tell = tell
        self._readers: dict[str, list[Want]] = {}

    def wanted(self, name: str) -> bool:
        """Whether anybody reads a task's blob."""
        return name in self._readers

    @contextlib.contextmanager
    def want(self, digest: str, hint: Hint, position: int) -> Iterator[Want]:
        """Want a blob from ``position`` on, while the context is entered."""
        name = task_id.of_blob(digest)
        readers = self._readers.setdefault(name, [])
        want = Want(digest, hint, position, lambda: self._tell(name, _joined(readers)))
        readers.append(want)
        self._tell(name, _joined(readers))
        try:
            yield want
        finally:
            readers.remove(want)
            if not readers:
                del self._readers[name]
            self._tell(name, _joined(readers))


def _joined(readers: list[Want]) -> Wanted | None:
    """What all of them want, together. The youngest one's credential is the one that is good for longest.

    An order goes before it: its own credentials are good as long as it is stated.
    """
    if not readers:
        return None
    youngest = next((reader for reader in reversed(readers) if reader.hint.order), readers[-1])
    return Wanted(
        registry=youngest.hint.repository.registry,
        repository=youngest.hint.repository.name,
        digest=youngest.digest,
        position=min(reader.position for reader in readers),
        stalls=max(reader.stalls for reader in readers),
        credential="" if youngest.hint.order else youngest.hint.authorization,
        order=youngest.hint.order,
    )
