"""The role `controllers`: all of them in one process, on the same informers."""

from __future__ import annotations

import asyncio
import random
from typing import NoReturn, Protocol

import structlog

from controlplane.controllers.deployments import Deployments
from controlplane.controllers.endpoint_slices import EndpointSlices
from controlplane.controllers.namespaces import Namespaces
from controlplane.controllers.node_readiness import NodeReadiness
from controlplane.controllers.owners import Owners
from controlplane.controllers.replica_sets import ReplicaSets
from controlplane.controllers.shared import Informers, Shared
from podwire.client import Client
from podwire.client.recorder import EventRecorder

log = structlog.get_logger(__name__)


class Controller(Protocol):
    async def run(self) -> NoReturn: ...


async def run(client: Client) -> NoReturn:
    """Runs them until cancelled, or until one raises (errors.Fenced when the election is lost)."""
    recorder = EventRecorder(client.events, component="podwire-controllers")
    shared = Shared(client, Informers.of(client), recorder, random.Random())
    controllers: dict[str, Controller] = {
        # The first to hear of a pod's change is the first to act on it: traffic waits for this one.
        "endpoint slices": EndpointSlices(shared),
        "deployments": Deployments(shared),
        "replica sets": ReplicaSets(shared),
        "node readiness": NodeReadiness(shared),
        "namespaces": Namespaces(shared),
        "owners": Owners(shared),
    }
    async with asyncio.TaskGroup() as owner:
        shared.informers.start(owner)
        owner.create_task(recorder.run(), name="events")
        await shared.informers.wait_synced()
        log.info("controllers begin", controllers=list(controllers))
        for name, controller in controllers.items():
            owner.create_task(controller.run(), name=name)
    raise AssertionError("controllers do not end")
