"""The agent: where all its parts meet, in the order in which they may start.

What runs already comes first: what a killed agent left half done is cleared away, and every pod has its worker again
before the control plane is asked for anything. New pods begin when the node has its network and the API's picture is
complete.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from importlib.metadata import version
from typing import Final, NoReturn, TypeVar

import structlog

from nodeagent import node_facts
from nodeagent.clock import SystemClock
from nodeagent.containerd.client import RuntimeUnavailable
from nodeagent.node_network import NodeNetwork, NodeRoutes
from nodeagent.node_object import NodeState
from nodeagent.pods.checkpoints import Checkpoints
from nodeagent.pods.pods import Pods
from nodeagent.pods.surroundings import Surroundings
from nodeagent.pods.turns import Turns
from nodeagent.probes.actions import Actions
from nodeagent.proxy.proxy import Proxy, ProxySettings
from nodeagent.registration import Registration
from nodeagent.reporting import StatusReporter
from nodeagent.runtime import Runtime, RuntimeSettings
from nodeagent.session import Identity, Session
from nodeagent.settings import AgentSettings
from nodeagent.streams import Streams
from nodeagent.volumes.volumes import Volumes
from podwire import errors, v1
from podwire.backoff import Backoff
from podwire.client import Client, Informer
from podwire.client.recorder import EventRecorder

log = structlog.get_logger(__name__)

_T = TypeVar("_T")
# Sandboxes and containers being started at the same time: a start waits for disk and kernel half of its time.
_STARTS_PER_CPU: Final = 2
_NO_NETWORK: Final = "the pod network is not set up: the node has no range of addresses yet"


class Agent:
    """One agent; `run` it once."""

    def __init__(self, settings: AgentSettings, client: Client, runtime: Runtime, actions: Actions) -> None:
        self._settings = settings
        self._client = client
        self._runtime = runtime
        self._clock = SystemClock()
        self._network = NodeNetwork(settings)
        self._network_cidr = ""
        mine = f"spec.nodeName={settings.node_name}"
        self._pod_informer: Informer[v1.Pod] = Informer(client.pods, field_selector=mine)
        self._nodes: Informer[v1.Node] = Informer(client.nodes)
        self._services: Informer[v1.Service] = Informer(client.services)
        self._slices: Informer[v1.EndpointSlice] = Informer(client.endpoint_slices)
        self._recorder = EventRecorder(client.events, component="podwire-agent", host=settings.node_name)
        self._reporter = StatusReporter(self._clock, self._pod_informer.get)
        self._checkpoints = Checkpoints(settings.state_dir / "pods")
        self._pods = Pods(
            Surroundings(
                runtime=runtime,
                volumes=Volumes(settings.state_dir / "pods"),
                checkpoints=self._checkpoints,
                asks=actions,
                announce=self._announce,
                report=self._reporter.report,
                turns=Turns(_STARTS_PER_CPU * len(os.sched_getaffinity(0))),
                forget=self._forget,
                clock=self._clock,
                uniform=random.random,
                host_ip=settings.node_ip,
            )
        )

    async def run(self) -> NoReturn:
        """Until cancelled; pods keep running then."""
        settings = self._settings
        for folder in (settings.state_dir / "pods", settings.run_dir, settings.log_dir):
            folder.mkdir(parents=True, exist_ok=True)
        containerd = await self._once_up(self._runtime.version)
        checkpoints = await self._checkpoints.load()
        log.info("agent starts", node=settings.node_name, containerd=containerd, pods=len(checkpoints))
        if (pod_cidr := self._network.remembered()) is not None:
            await self._use_network(pod_cidr)
        # A pod has its checkpoint before anything else, so what has none is a leftover. Now, while nothing is started.
        await self._once_up(lambda: self._runtime.sweep(checkpoints.keys()))
        observed = await self._once_up(self._runtime.observe)
        for pod in checkpoints.values():
            self._reporter.assume(pod, pod.status)

        state = NodeState(
            name=settings.node_name,
            address=settings.node_ip,
            labels=settings.labels,
            facts=node_facts.read(settings.state_dir, containerd),
            troubles=(_NO_NETWORK,),
        )
        registration = Registration(self._client.nodes, self._nodes, state, self._clock)
        session = Session(
            self._client.pods.connection,
            Identity(settings.node_name, secrets.token_hex(8), version("podwire")),
            self._reporter,
            Streams(self._pods, self._runtime),
            self._clock,
        )
        routes = NodeRoutes(settings.node_name, self._nodes)
        proxy = Proxy(
            ProxySettings(settings.node_name, settings.cluster_cidr, settings.xtables_lock),
            on_flush=self._network.repair,
        )
        self._pod_informer.add_handler(self._pods.changed)
        self._pod_informer.add_handler(self._reporter.seen)
        loops: Mapping[str, Callable[[], Awaitable[object]]] = {
            "pods": lambda: self._pods.run(checkpoints, observed),
            "containers' changes": self._follow_runtime,
            "pod informer": self._pod_informer.run,
            "node informer": self._nodes.run,
            "service informer": self._services.run,
            "endpoint slice informer": self._slices.run,
            "session": session.run,
            "registration": registration.run,
            "events": self._recorder.run,
            "proxy": lambda: proxy.run(self._services, self._slices),
            "bring-up": lambda: self._bring_up(registration, state),
        }
        if settings.cni_conf_dir is None:
            loops = {**loops, "routes": routes.run}
        async with asyncio.TaskGroup() as owner:
            for name, loop in loops.items():
                owner.create_task(_never_returns(name, loop), name=name)
        raise RuntimeError("the agent's loops have ended")

    async def _bring_up(self, registration: Registration, state: NodeState) -> NoReturn:
        """From a node that looks after its pods to one that takes new ones."""
        pod_cidr = await registration.pod_cidr()
        if pod_cidr != self._network_cidr:
            await self._use_network(pod_cidr)
        registration.report(replace(state, troubles=()))
        await self._pod_informer.wait_synced()
        self._pods.settle(self._pod_informer.values())
        self._pods.open()
        log.info("node is ready for pods", pod_cidr=pod_cidr)
        while True:
            # A node that was deleted and registered again may have been given another range.
            pod_cidr = await registration.pod_cidr(other_than=pod_cidr)
            await self._use_network(pod_cidr)

    async def _use_network(self, pod_cidr: str) -> None:
        self._runtime.set_network(await self._network.set_up(pod_cidr))
        self._network_cidr = pod_cidr

    async def _follow_runtime(self) -> NoReturn:
        async for uid in self._runtime.changes():
            self._pods.runtime_changed(uid)
        raise RuntimeError("the runtime's changes have ended")

    async def _once_up(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """The answer of `call`, once containerd gives one."""
        backoff = Backoff(0.1, 5.0)
        while True:
            try:
                return await call()
            except RuntimeUnavailable as error:
                delay = backoff.next()
                log.warning("containerd does not answer", socket=str(self._settings.containerd), error=str(error))
                await asyncio.sleep(delay)

    def _announce(self, pod: v1.Pod, kind: str, reason: str, message: str, container: str = "") -> None:
        self._recorder.event(pod, kind, reason, message, field_path=_field_path(pod, container))

    async def _forget(self, pod: v1.Pod) -> None:
        meta = pod.metadata
        try:
            await self._client.pods.delete(meta.name, namespace=meta.namespace, uid=meta.uid, grace_period_seconds=0)
        except (errors.NotFound, errors.PreconditionFailed, errors.Conflict):
            # It is gone, or its name is another pod's by now.
            return


async def run(settings: AgentSettings) -> NoReturn:
    """Runs the agent of `settings` until it is cancelled."""
    async with AsyncExitStack() as resources:
        # Each agent tries the replicas in an order of its own, so that all together spread over them.
        endpoints = random.sample(settings.api, len(settings.api))
        client = await resources.enter_async_context(Client.connect(endpoints, tls=settings.tls))
        runtime = await resources.enter_async_context(Runtime(runtime_settings(settings)))
        actions = await resources.enter_async_context(Actions(runtime))
        await Agent(settings, client, runtime, actions).run()
    raise AssertionError("the agent returned")


def runtime_settings(settings: AgentSettings) -> RuntimeSettings:
    return RuntimeSettings(
        containerd_socket=settings.containerd,
        containerd_namespace=settings.containerd_namespace,
        runc_root=settings.runc_root,
        state_dir=settings.state_dir,
        run_dir=settings.run_dir,
        log_dir=settings.log_dir,
        logs_socket=settings.logs_socket,
        cgroup_parent=settings.cgroup_parent,
        node_name=settings.node_name,
    )


async def _never_returns(name: str, loop: Callable[[], Awaitable[object]]) -> None:
    await loop()
    raise RuntimeError(f"{name} returned")


def _field_path(pod: v1.Pod, container: str) -> str:
    """Where in the pod's object the container is, as Kubernetes writes it."""
    if not container:
        return ""
    part = "initContainers" if any(c.name == container for c in pod.spec.init_containers) else "containers"
    return f"spec.{part}{{{container}}}"
