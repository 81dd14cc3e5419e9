"""Decides whether an answer continues the pieces of a copy, or starts a new generation."""

from collections.abc import Callable

from pantala_pieces.errors import StoreFullError
from pantala_pieces.file import PieceFile
from pantala_pieces.meta import Meta
from pantala_pieces.store import PieceStore
from pantala_protocol.redaction import RedactedURL
from pantala_supernode import errors
from pantala_supernode.cdn.attempts import Attempts
from pantala_supernode.cdn.disk import VolumeWriter
from pantala_supernode.cdn.recorder import Recorder
from pantala_supernode.cdn.tools import FetchTools
from pantala_supernode.origin import freshness
from pantala_supernode.origin.source import Answer, Provenance, Resume
from pantala_supernode.tasks.copy import FetchOrder
from pantala_supernode.tasks.shares import for_clients
from pantala_supernode.tasks.tenancy import ReadBudget


class Adoption:
    """Provides the recorder for the answers of one try. ``on_begin`` is called when a new generation starts."""

    def __init__(
        self,
        order: FetchOrder,
        attempts: Attempts,
        writer: VolumeWriter,
        tools: FetchTools,
        *,
        budget: ReadBudget,
        pinned: bool,
        on_begin: Callable[[], None],
    ) -> None:
        self._order = order
        self._attempts = attempts
        self._writer = writer
        self._tools = tools
        self._budget = budget
        self._pinned = pinned
        self._on_begin = on_begin
        self._shown = RedactedURL(order.source.url)

    async def adopt(self, answer: Answer, resume: Resume | None) -> tuple[Recorder, bool]:
        """The recorder for the answer, and True if the answer continues its pieces.

        False: the answer has other content, so the recorder is new and has a new generation.
        """
        attempts = self._attempts
        recorder = attempts.recorder
        if answer.provenance is not None:
            return await self._join(answer, answer.provenance)
        if recorder is not None and is_foreign(recorder.meta, self._order):
            raise errors.SourceChangedError.with_action(f"The pieces of {self._shown} came from another repository")
        pinned = self._pinned and resume is not None  # an answer with the whole file is not joined to older pieces
        if recorder is not None and freshness.same_content(answer, recorder.meta, pinned=pinned):
            if not freshness.same_content(answer, recorder.meta):
                attempts.unverified_join = True
            if recorder.client != self._order.source.client:
                recorder.client = ""
            return recorder, True
        if recorder is not None and resume is not None:
            may_restart = not attempts.budget.spent
            freshness.check_other(answer, resume, recorder.meta, self._shown, may_restart=may_restart)
            if resume.validator:
                attempts.restart(same_content=False)
        freshness.check_end_is_seen(answer, self._shown, digest_known=self._pinned)
        return await self._begin(answer), False

    async def _join(self, answer: Answer, provenance: Provenance) -> tuple[Recorder, bool]:
        """As :meth:`adopt`, for the answer of a replica. Its content is the same if its generation is the same."""
        recorder = self._attempts.recorder
        continued = recorder is not None and recorder.meta.generation == provenance.generation
        if recorder is None or not continued:
            recorder = await self._begin(answer)
        recorder.client = ""
        self._attempts.join(provenance)
        return recorder, continued

    async def _begin(self, answer: Answer) -> Recorder:
        provenance, tools, origin = answer.provenance, self._tools, self._order.source.origin
        if answer.length is not None:
            self._budget.claim(answer.length)
        size_rule = tools.piece_sizes.clients if for_clients(self._order.source) else tools.piece_sizes.peers
        meta = Meta(
            task_id=self._order.task_id,
            generation=provenance.generation if provenance is not None else f"{tools.rng.getrandbits(64):016x}",
            piece_size=provenance.piece_size if provenance is not None else size_rule(answer.length),
            length=answer.length,
            etag=answer.etag,
            last_modified=answer.last_modified,
            confirmed=tools.wall() if provenance is None else 0.0,
            lifetime=answer.lifetime,
            origins=provenance.origins if provenance is not None else (origin,) if origin else (),
        )
        self._attempts.discard()
        self._attempts.stale = False
        self._on_begin()
        file = await self._writer.run(lambda: _create(self._writer.store, meta), answer.length or meta.piece_size)
        client = self._order.source.client if provenance is None else ""
        recorder = Recorder(file, verified=True, client=client)
        self._attempts.recorder = recorder
        return recorder


def is_foreign(meta: Meta, order: FetchOrder) -> bool:
    """True if an incomplete blob comes from another repository. A copy must not mix the bytes of two repositories."""
    origin = order.source.origin
    return bool(origin) and origin not in meta.origins and not meta.digest


def _create(store: PieceStore, meta: Meta) -> PieceFile:
    file = store.create(meta)
    try:
        file.reserve()
    except StoreFullError:
        store.delete(meta.task_id)
        raise
    return file
