"""Carrying out the steps of a plan: the calls, the events that users see, and what failures mean.

A step that fails is remembered under its key with the time of its retry; the worker's next plan leaves it out until
then. Nothing is retried here.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from cni.errors import CniError
from nodeagent.containerd.client import ContainerdError, RuntimeUnavailable
from nodeagent.containers.errors import ContainerError, ImageError, SandboxError
from nodeagent.containers.specs import Request
from nodeagent.model import Exit, ObservedContainer, Phase, PodUid
from nodeagent.pods.backoff import IMAGE_PACE, NODE_PACE, START_PACE, Pace
from nodeagent.pods.environment import CONFIG_ERROR, environment
from nodeagent.pods.hashing import spec_hash
from nodeagent.pods.memory import Memory
from nodeagent.pods.planning import (
    EnsureImage,
    PrepareContainer,
    PrepareVolumes,
    RemoveContainer,
    RemovePod,
    RemoveSandbox,
    RunSandbox,
    Start,
    StartContainer,
    Step,
    StopContainer,
    StopReason,
)
from nodeagent.pods.status import ERR_IMAGE_PULL
from nodeagent.pods.surroundings import Surroundings
from nodeagent.pods.turns import Urgency
from nodeagent.volumes.volumes import UnsupportedVolume, VolumeError
from podwire import errors, v1
from podwire.keys import key_of

log = structlog.get_logger(__name__)

FAILED_MOUNT: Final = "FailedMount"
# Kubernetes mounts again after 0.5 s, doubling up to 2 min 2 s.
VOLUME_PACE: Final = Pace(0.5, 122.0)


class Steps:
    def __init__(self, surroundings: Surroundings, memory: Memory) -> None:
        self._with = surroundings
        self._memory = memory
        self.removed = False
        """Nothing of the pod is left but its checkpoint, and the API knows."""

    async def carry_out(self, pod: v1.Pod, step: Step, *, gone: bool) -> None:
        """Does the step and remembers what came of it; `gone`: the API has the pod no longer."""
        try:
            await self._do(pod, step, gone=gone)
        except ImageError as error:
            self._failed(step, error.reason, error.message, IMAGE_PACE)
            self._announce_image_failure(pod, step, error)
        except ContainerError as error:
            self._failed(step, error.reason, error.message, START_PACE)
            self._announce_failure(pod, step, error.message)
        except UnsupportedVolume as error:
            self._failed(step, CONFIG_ERROR, str(error), START_PACE)
            self._announce_failure(pod, step, str(error))
        except VolumeError as error:
            self._failed(step, FAILED_MOUNT, str(error), VOLUME_PACE)
            self._with.announce(pod, "Warning", FAILED_MOUNT, str(error))
        except SandboxError as error:
            self._failed(step, error.reason, error.message, NODE_PACE)
            self._announce_sandbox_failure(pod, step, error.message)
        except (RuntimeUnavailable, errors.Unavailable, errors.Overloaded, errors.Timeout) as error:
            self._failed(step, type(error).__name__, str(error), NODE_PACE)
        except (ContainerdError, CniError, errors.PodwireError, OSError) as error:
            log.warning("step failed", pod=key_of(pod), step=step.key, error=str(error))
            self._failed(step, type(error).__name__, str(error), NODE_PACE)
        else:
            self._memory.succeeded(step.key)

    async def _do(self, pod: v1.Pod, step: Step, *, gone: bool) -> None:
        runtime = self._with.runtime
        match step:
            case RunSandbox():
                if step.attempt > 0:
                    text = "Pod sandbox changed, it will be killed and re-created."
                    self._with.announce(pod, "Normal", "SandboxChanged", text)
                async with self._with.turns.take(Urgency.SANDBOX):
                    self._memory.keep_sandbox(await runtime.run_sandbox(pod, step.attempt))
            case RemoveSandbox():
                await runtime.remove_sandbox(step.sandbox)
                self._memory.drop_sandbox(step.sandbox)
            case PrepareVolumes():
                await self._with.volumes.prepare(pod)
                self._memory.volumes_ready = True
            case EnsureImage():
                await self._ensure_image(pod, _container(pod, step.name))
            case PrepareContainer():
                await self._prepare(pod, step.start)
            case StartContainer():
                await self._start(pod, step.start)
            case StopContainer():
                await self._stop(pod, step)
            case RemoveContainer():
                await runtime.remove_container(step.container)
                self._memory.drop_container(step.container)
            case RemovePod():
                await self._remove(pod, gone=gone)

    async def _ensure_image(self, pod: v1.Pod, container: v1.Container) -> None:
        announce, clock = self._with.announce, self._with.clock
        began = clock.monotonic()
        pulled = False

        def pulling() -> None:
            nonlocal pulled
            pulled = True
            announce(pod, "Normal", "Pulling", f'Pulling image "{container.image}"', container.name)

        image = await self._with.runtime.ensure_image(container.image, container.image_pull_policy, pulling=pulling)
        if pulled:
            took = clock.monotonic() - began
            text = f'Successfully pulled image "{container.image}" in {took:.3f}s'
        else:
            text = f'Container image "{container.image}" already present on machine'
        announce(pod, "Normal", "Pulled", text, container.name)
        self._memory.images[container.name] = image

    async def _prepare(self, pod: v1.Pod, start: Start) -> None:
        container = _container(pod, start.name)
        # Its pull policy is asked before each start; one that fails may have failed because of the image.
        image = self._memory.images.pop(start.name)
        request = Request(
            pod,
            container,
            start.role,
            start.attempt,
            start.sandbox_attempt,
            image,
            mounts=await self._with.volumes.mounts(pod, container),
            env=environment(container),
            backoff_seconds=start.backoff_seconds,
        )
        self._memory.prepared[start] = await self._with.runtime.prepare_container(request)

    async def _start(self, pod: v1.Pod, start: Start) -> None:
        if start not in self._memory.prepared:
            await self._prepare(pod, start)
        # Whatever becomes of it, it is prepared no longer.
        prepared = self._memory.prepared.pop(start)
        try:
            async with self._with.turns.take(Urgency.CONTAINER):
                started = await self._with.runtime.start_container(prepared)
        except ContainerError as error:
            if pod.spec.restart_policy == "Never":
                self._memory.keep_container(never_started(prepared.request, error.message, self._with.clock.now()))
            raise
        self._memory.keep_container(started)
        log.info("container started", pod=key_of(pod), container=start.name, attempt=start.attempt)
        self._with.announce(pod, "Normal", "Created", f"Created container {start.name}", start.name)
        self._with.announce(pod, "Normal", "Started", f"Started container {start.name}", start.name)

    async def _stop(self, pod: v1.Pod, step: StopContainer) -> None:
        text = step.reason.value.format(name=step.container.name)
        if step.reason in (StopReason.UNHEALTHY, StopReason.CHANGED) and pod.spec.restart_policy != "Never":
            text = f"{text}, will be restarted"
            self._memory.replaced.add(step.container.id)
        log.info("stopping container", pod=key_of(pod), container=step.container.name, reason=step.reason.name)
        self._with.announce(pod, "Normal", "Killing", text, step.container.name)
        ending = await self._with.runtime.stop_container(step.container, grace=step.grace)
        self._memory.ended(step.container, ending)

    async def _remove(self, pod: v1.Pod, *, gone: bool) -> None:
        uid = PodUid(pod.metadata.uid)
        await self._with.runtime.remove_pod(uid, pod.metadata.namespace, pod.metadata.name)
        await self._with.volumes.remove(uid)
        if not gone:
            await self._with.forget(pod)
        self.removed = True

    def _failed(self, step: Step, reason: str, message: str, pace: Pace) -> None:
        self._memory.failed(step.key, reason, message, self._with.clock.now(), pace)

    def _announce_failure(self, pod: v1.Pod, step: Step, message: str) -> None:
        name = step.start.name if isinstance(step, PrepareContainer | StartContainer) else ""
        self._with.announce(pod, "Warning", "Failed", f"Error: {message}", name)

    def _announce_sandbox_failure(self, pod: v1.Pod, step: Step, message: str) -> None:
        if isinstance(step, RunSandbox):
            text = f"Failed to create pod sandbox: {message}"
            self._with.announce(pod, "Warning", "FailedCreatePodSandBox", text)
        else:
            self._with.announce(pod, "Warning", "FailedKillPod", f"error killing pod: {message}")

    def _announce_image_failure(self, pod: v1.Pod, step: Step, error: ImageError) -> None:
        if not isinstance(step, EnsureImage):
            return
        announce = self._with.announce
        image = _container(pod, step.name).image
        if error.reason != ERR_IMAGE_PULL:
            announce(pod, "Warning", error.reason, error.message, step.name)
            announce(pod, "Warning", "Failed", f"Error: {error.reason}", step.name)
            return
        announce(pod, "Warning", "Failed", f'Failed to pull image "{image}": {error.message}', step.name)
        announce(pod, "Warning", "Failed", f"Error: {ERR_IMAGE_PULL}", step.name)
        announce(pod, "Normal", "BackOff", f'Back-off pulling image "{image}"', step.name)


def never_started(request: Request, why: str, now: datetime) -> ObservedContainer:
    """A container that could not be started and is not to be tried again, ended as Kubernetes reports it."""
    return ObservedContainer(
        id=request.id,
        pod_uid=request.uid,
        role=request.role,
        name=request.container.name,
        attempt=request.attempt,
        spec_hash=spec_hash(request.container),
        phase=Phase.EXITED,
        image=request.image.name,
        image_id=f"{request.image.name}@{request.image.digest}",
        created_at=now,
        started_at=None,
        exit=Exit(128, now, "StartError", why),
        pid=0,
        backoff_seconds=request.backoff_seconds,
        sandbox_attempt=request.sandbox_attempt,
        # It wrote nothing.
        log_path=Path(os.devnull),
    )


def _container(pod: v1.Pod, name: str) -> v1.Container:
    return next(c for c in (*pod.spec.init_containers, *pod.spec.containers) if c.name == name)
