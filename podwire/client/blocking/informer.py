"""A local picture of the objects of a kind for callers without an event loop.

Handlers are called in a thread of the informer's own, not in the loop's, so that they may block and may use the
client; what the picture holds can be ahead of what they have heard.
"""

from __future__ import annotations

import concurrent.futures
import queue
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Generic, Self, TypeVar

from podwire.client import informer
from podwire.client.blocking.loop import LoopThread, Running, wait_for_any
from podwire.client.informer import Handler
from podwire.client.kind_client import KindClient
from podwire.keys import Object

R = TypeVar("R")
T = TypeVar("T", bound=Object)


class Informer(Generic[T]):
    """`with client.pods.informer() as pods:` keeps the picture until the block ends.

    An error that no retry can help against (a wrong selector, no access), and whatever a handler raises, ends it: every
    method raises that from then on, and so does the end of the block.
    """

    def __init__(
        self,
        loop: LoopThread,
        client: KindClient[T],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
    ) -> None:
        self._loop = loop
        self._informer = informer.Informer(
            client, namespace=namespace, label_selector=label_selector, field_selector=field_selector
        )
        # What handlers are to hear; None: no more.
        self._heard: queue.SimpleQueue[tuple[Handler[T], str, T | None, T | None] | None] = queue.SimpleQueue()
        self._handling = threading.Thread(target=self._handle, name="podwire-informer", daemon=True)
        self._keeping: Running[None] | None = None
        # Done with an exception where the informer has failed.
        self._failed: concurrent.futures.Future[None] = concurrent.futures.Future()

    def __enter__(self) -> Self:
        self._keeping = self._loop.start(self._informer.run)
        self._keeping.outcome.add_done_callback(self._ended)
        self._handling.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._keeping is not None, "entered"
        failed = self._failed.exception() if self._failed.done() else None
        self._stop()
        concurrent.futures.wait([self._keeping.outcome])
        self._handling.join()
        if error is None and failed is not None:
            raise failed

    @property
    def synced(self) -> bool:
        """Whether the picture was complete once."""
        return self._ask(lambda: self._informer.synced)

    @property
    def resource_version(self) -> str:
        """Everything up to this revision is in the picture."""
        return self._ask(lambda: self._informer.resource_version)

    def wait_synced(self, timeout: float | None = None) -> None:
        """Until the picture is complete; TimeoutError after `timeout` seconds."""
        synced = self._loop.start(self._informer.wait_synced)
        wait_for_any([synced.outcome, self._failed], timeout)
        if not synced.outcome.done():
            synced.cancel()
            if self._failed.done():
                self._failed.result()
            raise TimeoutError(f"the informer was not synced within {timeout} s")
        synced.outcome.result()

    def get(self, key: str) -> T | None:
        """The object of the key, `"namespace/name"`. It is shared: change a copy."""
        return self._ask(lambda: self._informer.get(key))

    def values(self) -> list[T]:
        return self._ask(lambda: list(self._informer.values()))

    def keys(self) -> list[str]:
        return self._ask(lambda: list(self._informer.keys()))

    def add_handler(self, handler: Handler[T]) -> None:
        """Calls `handler(key, old, new)` for every change from now on, and first for every object there is."""
        self._ask(lambda: self._informer.add_handler(lambda key, old, new: self._heard.put((handler, key, old, new))))

    def add_index(self, name: str, values_of: Callable[[T], Iterable[str]]) -> None:
        """Makes `by_index(name, value)` find the objects for which `values_of` gives `value`; it must not block."""
        self._ask(lambda: self._informer.add_index(name, values_of))

    def by_index(self, name: str, value: str) -> list[T]:
        return self._ask(lambda: self._informer.by_index(name, value))

    def _ask(self, answer: Callable[[], R]) -> R:
        """Looks at the picture in the loop, where it does not change meanwhile."""
        if self._failed.done():
            self._failed.result()

        async def asked() -> R:
            return answer()

        return self._loop.run(asked)

    def _handle(self) -> None:
        while (heard := self._heard.get()) is not None:
            handler, key, old, new = heard
            try:
                handler(key, old, new)
            except BaseException as error:
                # Raised wherever the informer is used: this thread has nobody to tell.
                self._fail(error)
                return

    def _ended(self, outcome: concurrent.futures.Future[None]) -> None:
        if (error := outcome.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        try:
            self._failed.set_exception(error)
        except concurrent.futures.InvalidStateError:
            pass  # The first one counts.
        self._stop()

    def _stop(self) -> None:
        if self._keeping is not None and not self._keeping.outcome.done():
            self._keeping.cancel()
        self._heard.put(None)
