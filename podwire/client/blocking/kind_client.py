"""The verbs of one kind for callers without an event loop: each waits for the method of the same name and signature.

What a verb does, raises and tries again is written there, in `podwire.client.kind_client` and `podwire.client.pods`;
the signatures stand here once more so that editors and type checkers see them, and a test holds them equal.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from podwire import v1
from podwire.client import kind_client, pods
from podwire.client.blocking.informer import Informer
from podwire.client.blocking.loop import LoopThread
from podwire.client.kind_client import Applied, Listed
from podwire.client.retrying import RetryPolicy
from podwire.client.watching import WatchEvent
from podwire.keys import Object
from podwire.kinds import Kind

T = TypeVar("T", bound=Object)


class KindClient(Generic[T]):
    """Safe for any number of threads at once."""

    def __init__(self, loop: LoopThread, client: kind_client.KindClient[T]) -> None:
        self._loop = loop
        self._client = client

    @property
    def kind(self) -> Kind:
        return self._client.kind

    @property
    def retry(self) -> RetryPolicy:
        return self._client.retry

    def with_retry(self, retry: RetryPolicy) -> KindClient[T]:
        return KindClient(self._loop, self._client.with_retry(retry))

    def create(self, obj: T, *, field_manager: str = "", dry_run: bool = False) -> T:
        return self._loop.run(lambda: self._client.create(obj, field_manager=field_manager, dry_run=dry_run))

    def create_or_get(self, obj: T, *, field_manager: str = "") -> T:
        return self._loop.run(lambda: self._client.create_or_get(obj, field_manager=field_manager))

    def get(self, name: str, *, namespace: str = "", cached: bool = False, resource_version: str = "") -> T:
        return self._loop.run(
            lambda: self._client.get(name, namespace=namespace, cached=cached, resource_version=resource_version)
        )

    def list(
        self,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        cached: bool = False,
        resource_version: str = "",
        exact: bool = False,
    ) -> Listed[T]:
        return self._loop.run(
            lambda: self._client.list(
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                cached=cached,
                resource_version=resource_version,
                exact=exact,
            )
        )

    def watch(
        self,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        epoch: str = "",
        send_initial_events: bool = False,
        known: Iterable[T] = (),
    ) -> Generator[WatchEvent[T], None, None]:
        """Leave the loop, or press Ctrl-C, to end the watch."""
        return self._loop.iterate(
            lambda: self._client.watch(
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                resource_version=resource_version,
                epoch=epoch,
                send_initial_events=send_initial_events,
                known=known,
            )
        )

    def informer(self, *, namespace: str = "", label_selector: str = "", field_selector: str = "") -> Informer[T]:
        """A local picture of the objects: `with client.pods.informer(namespace="default") as pods:`."""
        return Informer(
            self._loop,
            self._client,
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
        )

    def update(self, obj: T, *, field_manager: str = "", dry_run: bool = False) -> T:
        return self._loop.run(lambda: self._client.update(obj, field_manager=field_manager, dry_run=dry_run))

    def update_status(self, obj: T, *, dry_run: bool = False) -> T:
        return self._loop.run(lambda: self._client.update_status(obj, dry_run=dry_run))

    def modify(
        self,
        name: str,
        change: Callable[[T], object],
        *,
        namespace: str = "",
        status: bool = False,
        field_manager: str = "",
        attempts: int = 10,
    ) -> T:
        """`change` is called in the client's own thread: it changes its argument and calls no method of the client."""
        return self._loop.run(
            lambda: self._client.modify(
                name, change, namespace=namespace, status=status, field_manager=field_manager, attempts=attempts
            )
        )

    def patch(
        self,
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        namespace: str = "",
        subresource: str = "",
        field_manager: str = "",
        dry_run: bool = False,
    ) -> T:
        return self._loop.run(
            lambda: self._client.patch(
                name, patch, namespace=namespace, subresource=subresource, field_manager=field_manager, dry_run=dry_run
            )
        )

    def apply(
        self,
        manifest: Mapping[str, Any],
        *,
        namespace: str = "",
        field_manager: str = "podctl",
        force: bool = False,
        dry_run: bool = False,
    ) -> Applied[T]:
        return self._loop.run(
            lambda: self._client.apply(
                manifest, namespace=namespace, field_manager=field_manager, force=force, dry_run=dry_run
            )
        )

    def delete(
        self,
        name: str,
        *,
        namespace: str = "",
        uid: str = "",
        resource_version: str = "",
        grace_period_seconds: int | None = None,
        propagation_policy: str = "",
        dry_run: bool = False,
    ) -> T:
        return self._loop.run(
            lambda: self._client.delete(
                name,
                namespace=namespace,
                uid=uid,
                resource_version=resource_version,
                grace_period_seconds=grace_period_seconds,
                propagation_policy=propagation_policy,
                dry_run=dry_run,
            )
        )

    def delete_collection(
        self,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        grace_period_seconds: int | None = None,
        propagation_policy: str = "",
        dry_run: bool = False,
    ) -> Sequence[v1.DeletedObject]:
        return self._loop.run(
            lambda: self._client.delete_collection(
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                grace_period_seconds=grace_period_seconds,
                propagation_policy=propagation_policy,
                dry_run=dry_run,
            )
        )


class PodClient(KindClient[v1.Pod]):
    def __init__(self, loop: LoopThread, client: pods.PodClient) -> None:
        super().__init__(loop, client)
        self._pods = client

    def with_retry(self, retry: RetryPolicy) -> PodClient:
        return PodClient(self._loop, self._pods.with_retry(retry))

    def bind(self, name: str, namespace: str, uid: str, node_name: str) -> v1.Pod:
        return self._loop.run(lambda: self._pods.bind(name, namespace, uid, node_name))

    def logs(self, request: v1.LogsRequest) -> Generator[bytes, None, None]:
        return self._loop.iterate(lambda: self._pods.logs(request))

    @contextmanager
    def exec(self, start: v1.ExecStart) -> Generator[ExecSession, None, None]:
        context = self._pods.exec(start)
        session = self._loop.run(context.__aenter__)
        try:
            yield ExecSession(self._loop, session)
        finally:
            self._loop.run(lambda: context.__aexit__(None, None, None))


class ExecSession:
    """A command that runs in a container: iterate for its output, from one thread, and write to it from any."""

    def __init__(self, loop: LoopThread, session: pods.ExecSession) -> None:
        self._loop = loop
        self._session = session

    @property
    def exit_code(self) -> int:
        return self._session.exit_code

    def write(self, data: bytes) -> None:
        self._loop.run(lambda: self._session.write(data))

    def close_stdin(self) -> None:
        self._loop.run(self._session.close_stdin)

    def resize(self, rows: int, columns: int) -> None:
        self._loop.run(lambda: self._session.resize(rows, columns))

    def __iter__(self) -> Generator[tuple[str, bytes], None, None]:
        return self._loop.iterate(self._session.__aiter__)
