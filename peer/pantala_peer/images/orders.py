"""Carrying out the orders: one job each, and a look now and then at whether what came is still there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import structlog

from pantala_peer.events import ImagesOrdered, PeerEvents
from pantala_peer.images import subject
from pantala_peer.images.errors import BadOrderError, OrderError, TooSlowError
from pantala_peer.images.kept import LedgerFile, render
from pantala_peer.images.ledger import Entry, Ledger
from pantala_peer.images.ports import BlobStore, Credentials, Helper, Image, Told
from pantala_peer.images.subject import Subject
from pantala_peer.mirror.grants import USER, Grants
from pantala_pieces.errors import StoreError
from pantala_protocol.images import Depth, NodeOrder

_AT_ONCE = 8
"""Pulls. The operator bounds them far lower; this bounds what a mistake of it does to the node."""

_LOOK = 30.0
"""Seconds between two looks at what is there."""

_PROGRESS = 2.0
"""Seconds between two words on how much came."""

log = structlog.get_logger()


class ImageOrders:
    """Does what is ordered of images.

    ``mirror_url`` tells how containerd reaches the mirror; ``None``: there is none. ``wall`` tells seconds since the
    epoch; ``keep`` is called with the tasks of all blobs that orders keep in the cache; ``pinned`` with whether the
    runtime honours a pin.
    """

    def __init__(
        self,
        file: LedgerFile,
        helper: Helper,
        blobs: BlobStore,
        grants: Grants,
        told: Told,
        *,
        mirror_url: Callable[[], str | None],
        wall: Callable[[], float],
        events: PeerEvents,
        keep: Callable[[set[str]], None],
        pinned: Callable[[bool], None],
    ) -> None:
        self.ledger = Ledger()
        """What is ordered."""
        self._file = file
        self._helper = helper
        self._blobs = blobs
        self._grants = grants
        self._told = told
        self._mirror_url = mirror_url
        self._wall = wall
        self._keep = keep
        self._pinned = pinned
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._counts: dict[str, Callable[[], int]] = {}
        self._dirty = asyncio.Event()
        self._look_now = asyncio.Event()
        self._found = render(self.ledger)
        events.subscribe(ImagesOrdered, self._on_orders)

    async def open(self) -> None:
        """Find what an earlier process was ordered. Raises :class:`StoreError`."""
        self.ledger = await asyncio.to_thread(self._file.read)
        self._found = render(self.ledger)
        self._keep(self.ledger.kept_tasks())

    def _on_orders(self, event: ImagesOrdered) -> None:
        """Do this, and nothing that it does not name."""
        orders = event.orders
        change = self.ledger.obey(orders, self._now())
        for key in [*change.ended, *change.begun]:
            if key in self._jobs:
                self._jobs.pop(key).cancel()
                self._counts.pop(key, None)
        for key in change.begun:
            self._begin(key)
        if change.begun or change.ended:
            log.info("orders about images", revision=orders.revision, begun=change.begun, ended=change.ended)
            self._keep(self.ledger.kept_tasks())
        self._changed()

    async def run(self) -> None:
        """Carry out, look after and remember, until cancelled."""
        for key in self.ledger.unfinished():
            if key not in self._jobs:
                self._begin(key)
        self._changed()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_looking())
                group.create_task(self._keep_counting())
                group.create_task(self._keep_writing())
        finally:
            jobs = list(self._jobs.values())
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    # One order

    def _begin(self, key: str) -> None:
        job = self._jobs[key] = asyncio.create_task(self._carry_out(key, self.ledger.entries[key].order))
        job.add_done_callback(lambda done: self._end(key, done))

    def _end(self, key: str, done: asyncio.Task[None]) -> None:
        if self._jobs.get(key) is done:
            del self._jobs[key]
        if not done.cancelled() and (error := done.exception()) is not None:
            done.get_loop().call_exception_handler({"message": "an order ended in a bug", "exception": error})

    async def _carry_out(self, key: str, order: NodeOrder) -> None:
        try:
            async with self._slots:
                if order.depth is Depth.PEER:
                    await self._fill_cache(order)
                else:
                    await self._fill_runtime(order)
        except OrderError as error:
            log.warning("an image is not here", key=key, image=order.image, reason=error.reason, error=str(error))
            self.ledger.failed(key, error.reason, str(error), self._now())
        else:
            log.info("an image is here", key=key, image=order.image)
            self.ledger.ready(key, self._now())
        self._changed()

    async def _fill_runtime(self, order: NodeOrder) -> None:
        wanted = subject.read(order.image)
        here = _find(await self._helper.images(), wanted)
        if here is None:
            await self._pull(order, wanted)
        if wanted.tagged:
            await self._helper.name(wanted.pinned, wanted.tagged)

    async def _pull(self, order: NodeOrder, wanted: Subject) -> None:
        timeout, url = order.order.timeout, self._mirror_url()
        if url is None:
            await self._helper.pull(wanted.pinned, timeout=timeout, credentials=None)
            return
        with self._grants.open(order.key, str(wanted.repository)) as grant:
            credentials = Credentials(USER, grant.password, url)
            with self._counting(order.key, lambda: grant.bytes):
                await self._helper.pull(wanted.pinned, timeout=timeout, credentials=credentials)

    async def _fill_cache(self, order: NodeOrder) -> None:
        before = self._blobs.bytes(order)
        with self._counting(order.key, lambda: max(0, self._blobs.bytes(order) - before)):
            try:
                async with asyncio.timeout(order.order.timeout):
                    await self._blobs.fetch(order)
            except TimeoutError:
                raise TooSlowError(
                    f"{order.image}: its blobs are not all in the cache after {order.order.timeout} s; "
                    "allow more time, or look at the supernode's log"
                ) from None

    @contextlib.contextmanager
    def _counting(self, key: str, count: Callable[[], int]) -> Iterator[None]:
        """Tell now and then, and at the end, how many bytes came."""
        self._counts[key] = count
        try:
            yield
        finally:
            if self._counts.get(key) is count:  # else another order has taken its place
                del self._counts[key]
                if key in self.ledger.entries:
                    self.ledger.fetched(key, count())

    async def _keep_counting(self) -> None:
        while True:
            await asyncio.sleep(_PROGRESS)
            counted = {key: count() for key, count in self._counts.items() if key in self.ledger.entries}
            if {key for key, count in counted.items() if self.ledger.fetched(key, count)}:
                self._told.report_pulls(self.ledger.states(), urgent=False)

    # What is there

    async def _keep_looking(self) -> None:
        while True:
            self._look_now.clear()
            try:
                await self._look()
            except OrderError as error:
                log.info("what is in the runtime is not known now; it is looked at again", error=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._look_now.wait()

    async def _look(self) -> None:
        """See whether what was ready is still there; give back names that went, pin and unpin."""
        ready = self.ledger.ready_entries(Depth.RUNTIME)
        if ready or self.ledger.pins:
            here = await self._helper.images()
            for entry in ready:
                image = _find(here, subject.read(entry.order.image))
                if image is None:
                    self._lose(entry)
                elif self.ledger.entries.get(entry.order.key) == entry:
                    await self._tend(entry, image)
            await self._unpin()
        for entry in self.ledger.ready_entries(Depth.PEER):
            if not self._blobs.holds(entry.order):
                self._lose(entry)

    def _lose(self, entry: Entry) -> None:
        if self.ledger.entries.get(entry.order.key) == entry:
            log.warning("an image is gone", key=entry.order.key, image=entry.order.image)
            self.ledger.gone(entry.order.key, self._now())
            self._changed(look=False)

    async def _tend(self, entry: Entry, image: Image) -> None:
        wanted = subject.read(entry.order.image)
        if wanted.tagged and wanted.tagged not in image.tags:
            await self._helper.name(wanted.pinned, wanted.tagged)
        if entry.order.pin and (wanted.pinned not in self.ledger.pins or not image.pinned):
            self.ledger.pins.add(wanted.pinned)
            self._dirty.set()
            heeded = await self._helper.pin(wanted.pinned)
            if not heeded:
                log.info("the container runtime does not heed pins", image=wanted.pinned)
            self._pinned(heeded)

    async def _unpin(self) -> None:
        """Let go what no order pins any more."""
        wanted: set[str] = set()
        for entry in self.ledger.entries.values():
            if entry.order.pin and entry.order.depth is Depth.RUNTIME:
                with contextlib.suppress(BadOrderError):
                    wanted.add(subject.read(entry.order.image).pinned)
        for image in sorted(self.ledger.pins - wanted):
            try:
                await self._helper.unpin(image)
            except OrderError as error:
                if error.reason != "NotFound":
                    raise
            self.ledger.pins.discard(image)
            self._dirty.set()

    # What is told and remembered

    def _changed(self, *, look: bool = True) -> None:
        self._told.report_pulls(self.ledger.states(), urgent=True)
        self._dirty.set()
        if look:
            self._look_now.set()

    async def _keep_writing(self) -> None:
        written = self._found
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            content = render(self.ledger)
            if content == written:
                continue
            try:
                await asyncio.to_thread(self._file.write, content)
                written = content
            except StoreError as error:
                log.warning("the ordered images cannot be remembered over a restart", error=str(error))

    def _now(self) -> int:
        return int(self._wall())


def _find(here: list[Image], wanted: Subject) -> Image | None:
    return next((image for image in here if wanted.pinned in image.digests), None)
