"""What a worker remembers of its pod between two plans; all of it can be found again or done without."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from nodeagent.containers.lifecycle import Prepared
from nodeagent.model import ContainerId, Exit, Image, ObservedContainer, ObservedPod, ObservedSandbox, Phase
from nodeagent.pods import backoff
from nodeagent.pods.backoff import Failure, Pace
from nodeagent.pods.planning import Facts, Start, Termination


@dataclass(slots=True)
class Memory:
    """`observed` is what containerd had at the last look, with the results of our own steps since.

    `changes` counts those results: a look that was under way meanwhile may not show them and is repeated.
    """

    observed: ObservedPod
    changes: int = 0
    images: dict[str, Image] = field(default_factory=dict)
    volumes_ready: bool = False
    prepared: dict[Start, Prepared] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    replaced: set[ContainerId] = field(default_factory=set)
    termination: Termination | None = None

    def facts(self, now: datetime, busy: Iterable[str], unhealthy: Iterable[ContainerId], reported_phase: str) -> Facts:
        return Facts(
            now=now,
            busy=frozenset(busy),
            images=self.images,
            volumes_ready=self.volumes_ready,
            prepared=self.prepared,
            failures=self.failures,
            unhealthy=frozenset(unhealthy),
            replaced=self.replaced,
            termination=self.termination,
            reported_phase=reported_phase,
        )

    def keep_sandbox(self, sandbox: ObservedSandbox) -> None:
        # An earlier try at the same attempt, which has another id, is gone.
        others = [known for known in self.observed.sandboxes if known.attempt != sandbox.attempt]
        self._keep(sandboxes=(*others, sandbox))

    def drop_sandbox(self, sandbox: ObservedSandbox) -> None:
        self._keep(sandboxes=tuple(known for known in self.observed.sandboxes if known.id != sandbox.id))

    def keep_container(self, container: ObservedContainer) -> None:
        this = (container.name, container.attempt)
        others = [known for known in self.observed.containers if (known.name, known.attempt) != this]
        self._keep(containers=(*others, container))

    def drop_container(self, container: ObservedContainer) -> None:
        self._keep(containers=tuple(known for known in self.observed.containers if known.id != container.id))
        self.replaced.discard(container.id)

    def ended(self, container: ObservedContainer, ending: Exit) -> None:
        self.keep_container(replace(container, phase=Phase.EXITED, exit=ending, pid=0))

    def failed(self, key: str, reason: str, message: str, now: datetime, pace: Pace) -> None:
        self.failures[key] = backoff.failed(self.failures.get(key), reason, message, now, pace)

    def succeeded(self, key: str) -> None:
        self.failures.pop(key, None)

    def running(self) -> list[ObservedContainer]:
        return [container for container in self.observed.containers if container.phase is Phase.RUNNING]

    def _keep(
        self,
        *,
        sandboxes: tuple[ObservedSandbox, ...] | None = None,
        containers: tuple[ObservedContainer, ...] | None = None,
    ) -> None:
        self.changes += 1
        self.observed = replace(
            self.observed,
            sandboxes=self.observed.sandboxes if sandboxes is None else sandboxes,
            containers=self.observed.containers if containers is None else containers,
        )
