"""Prometheus' metrics, of a replica and of any process: read when they are asked for, so that serving costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from podwire import kinds

if TYPE_CHECKING:
    # The other roles serve metrics too and have neither.
    from controlplane.services.users import Users
    from controlplane.sessions.agents import Agents
    from controlplane.store.cache import Cache


def serve_metrics(address: str, own: Collector) -> Callable[[], None]:
    """Serves /metrics on HOST:PORT from a thread of its own; the answer stops it."""
    registry = CollectorRegistry()
    registry.register(own)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    host, _, port = address.rpartition(":")
    server, thread = start_http_server(int(port), host or "0.0.0.0", registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


class ReplicaMetrics(Collector):
    def __init__(self, cache: Cache, agents: Agents, users: Users) -> None:
        self._cache = cache
        self._agents = agents
        self._users = users

    def collect(self) -> Iterator[Metric]:
        cache = self._cache
        yield GaugeMetricFamily("podwire_cache_revision", "etcd revision that the cache has reached", cache.revision)
        yield CounterMetricFamily("podwire_cache_starts", "How often the cache was read anew", cache.starts)
        yield GaugeMetricFamily("podwire_agent_sessions", "Sessions of agents on this replica", self._agents.sessions)
        objects = GaugeMetricFamily("podwire_objects", "Objects in the cache", labels=["kind"])
        watchers = GaugeMetricFamily("podwire_watchers", "Open watches", labels=["kind"])
        history = GaugeMetricFamily("podwire_history_changes", "Changes that watchers can resume from", labels=["kind"])
        for kind in kinds.KINDS:
            of = cache.of(kind)
            objects.add_metric([kind.name], len(of.entries))
            watchers.add_metric([kind.name], of.watchers)
            history.add_metric([kind.name], of.history)
        yield objects
        yield watchers
        yield history
        yield from self._load()

    def _load(self) -> Iterator[Metric]:
        calls = CounterMetricFamily("podwire_calls", "Calls that were let in", labels=["method"])
        for method, count in list(self._users.calls.items()):
            calls.add_metric([method], count)
        yield calls
        used = GaugeMetricFamily("podwire_load", "What is under way, of what is limited", labels=["what"])
        limit = GaugeMetricFamily("podwire_load_limit", "The limit of all users together", labels=["what"])
        waiting = GaugeMetricFamily("podwire_load_waiting", "Calls that wait for room", labels=["what"])
        refused = CounterMetricFamily("podwire_load_refused", "Calls refused with OVERLOADED", labels=["what"])
        for gate in self._users.gates:
            used.add_metric([gate.what], gate.used)
            limit.add_metric([gate.what], gate.room.total)
            waiting.add_metric([gate.what], gate.waiting)
            refused.add_metric([gate.what], gate.refused)
        yield used
        yield limit
        yield waiting
        yield refused
        outgoing = self._users.outgoing.used
        yield GaugeMetricFamily("podwire_watch_bytes", "Bytes of watches that clients have not taken yet", outgoing)
