"""What informers show, set by the test: services and endpoint slices, with one revision that grows by each change."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Generic, TypeVar

from podwire import v1
from podwire.keys import Object, key_of

T = TypeVar("T", bound=Object)


class Revision:
    """The store's revision: of all kinds."""

    def __init__(self) -> None:
        self.number = 100


class Picture(Generic[T]):
    """The part of an informer that the proxy uses. Changes are made in the proxy's loop."""

    def __init__(self, revision: Revision) -> None:
        self._objects: dict[str, T] = {}
        self._handlers: list[Callable[[str, T | None, T | None], None]] = []
        self._values_of: Callable[[T], Iterable[str]] = lambda obj: ()
        self._revision = revision

    @property
    def resource_version(self) -> str:
        return str(self._revision.number)

    def get(self, key: str) -> T | None:
        return self._objects.get(key)

    def keys(self) -> Collection[str]:
        return self._objects.keys()

    def by_index(self, name: str, value: str) -> list[T]:
        return [obj for obj in self._objects.values() if value in self._values_of(obj)]

    def add_index(self, name: str, values_of: Callable[[T], Iterable[str]]) -> None:
        self._values_of = values_of

    def add_handler(self, handler: Callable[[str, T | None, T | None], None]) -> None:
        self._handlers.append(handler)
        for key, obj in self._objects.items():
            handler(key, None, obj)

    async def wait_synced(self) -> None:
        return

    def put(self, obj: T) -> None:
        """Adds or replaces."""
        self.change(key_of(obj), obj)

    def change(self, key: str, new: T | None) -> None:
        old = self._objects.pop(key, None)
        if new is not None:
            self._objects[key] = new
        self._revision.number += 1
        for handler in self._handlers:
            handler(key, old, new)


def service(name: str, address: str, *, protocol: str = "TCP", node_port: int = 0, **spec: object) -> v1.Service:
    port = v1.ServicePort(name="main", protocol=protocol, port=80)
    if node_port:
        port.node_port = node_port
    made = v1.ServiceSpec(type="NodePort" if node_port else "ClusterIP", cluster_ip=address, ports=[port])
    made.MergeFrom(v1.ServiceSpec(**spec))  # type: ignore[arg-type]
    return v1.Service(metadata=v1.ObjectMeta(namespace="default", name=name), spec=made)


def slice_of(
    name: str, endpoints: Iterable[tuple[str, str]], *, protocol: str = "TCP", port: int = 8080
) -> v1.EndpointSlice:
    """A slice of ready endpoints, given as (address, node name)."""
    return v1.EndpointSlice(
        metadata=v1.ObjectMeta(namespace="default", name=f"{name}-1", labels={"kubernetes.io/service-name": name}),
        address_type="IPv4",
        ports=[v1.EndpointPort(name="main", protocol=protocol, port=port)],
        endpoints=[
            v1.Endpoint(addresses=[address], node_name=node, conditions=v1.EndpointConditions(ready=True, serving=True))
            for address, node in endpoints
        ],
    )
