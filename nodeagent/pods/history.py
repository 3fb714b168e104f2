"""What the containers of a pod amount to: which attempt of each is the last, whether it starts again, how a pod ended.

Planning and status both rest on these answers, so that what is reported is what is acted on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum

from nodeagent.model import ContainerId, Exit, ObservedContainer, ObservedPod, ObservedSandbox, Phase
from podwire import v1


class Outcome(StrEnum):
    """How a pod ended, spelt as its phase."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


def last_sandbox(observed: ObservedPod) -> ObservedSandbox | None:
    return max(observed.sandboxes, key=_standing, default=None)


def next_sandbox_attempt(observed: ObservedPod) -> int:
    """Above every attempt in which something ran, so that a new sandbox is never taken for an old one."""
    attempts = [sandbox.attempt for sandbox in observed.sandboxes]
    attempts += [c.sandbox_attempt for c in observed.containers if c.phase is not Phase.CREATED]
    return max(attempts, default=-1) + 1


def last_attempts(observed: ObservedPod) -> Mapping[str, ObservedContainer]:
    """Of each container, by name, its last attempt."""
    last: dict[str, ObservedContainer] = {}
    for container in observed.containers:
        known = last.get(container.name)
        if known is None or _standing(container) > _standing(known):
            last[container.name] = container
    return last


def _standing(part: ObservedSandbox | ObservedContainer) -> tuple[int, int]:
    """Later attempts count more, and of two tries at one attempt the one that got further: what runs, above all."""
    return part.attempt, (Phase.CREATED, Phase.EXITED, Phase.RUNNING).index(part.phase)


def previous_attempt(observed: ObservedPod, name: str) -> ObservedContainer | None:
    """The last attempt that has ended, apart from the very last attempt."""
    attempts = sorted((c for c in observed.containers if c.name == name), key=lambda c: c.attempt)
    ended = [container for container in attempts[:-1] if container.phase is Phase.EXITED]
    return ended[-1] if ended else None


def initialized(pod: v1.Pod, observed: ObservedPod, sandbox_attempt: int) -> bool:
    """Whether every init container has done its work in this sandbox.

    An app container that was made in it proves it too: init containers may have been removed since.
    """
    apps = {container.name for container in pod.spec.containers}
    if any(c.name in apps and c.sandbox_attempt == sandbox_attempt for c in observed.containers):
        return True
    last = last_attempts(observed)
    return all(init_done(last.get(init.name), sandbox_attempt) for init in pod.spec.init_containers)


def init_done(last: ObservedContainer | None, sandbox_attempt: int) -> bool:
    return (
        last is not None and last.exit is not None and last.exit.code == 0 and last.sandbox_attempt == sandbox_attempt
    )


def starts_again(pod: v1.Pod, ended: ObservedContainer, ending: Exit, replaced: Collection[ContainerId]) -> bool:
    """Whether an app container that ended is to start again.

    `replaced` are the containers that the agent ended itself in order to start them again.
    """
    if pod.spec.restart_policy == "Never":
        return False
    if pod.spec.restart_policy == "OnFailure":
        return ending.code != 0 or ended.id in replaced
    return True


def outcome(
    pod: v1.Pod, observed: ObservedPod, *, replaced: Collection[ContainerId], reported_phase: str
) -> Outcome | None:
    """How the pod ended, or None while something of it is still to run.

    An end, once reported, is final: `reported_phase` is the phase that was reported last.
    """
    if reported_phase in (Outcome.SUCCEEDED, Outcome.FAILED):
        return Outcome(reported_phase)
    last = last_attempts(observed)
    if pod.spec.restart_policy == "Never":
        for init in pod.spec.init_containers:
            ended = last.get(init.name)
            if ended is not None and ended.exit is not None and ended.exit.code != 0:
                return Outcome.FAILED
    codes = []
    for container in pod.spec.containers:
        ended = last.get(container.name)
        if ended is None or ended.exit is None or starts_again(pod, ended, ended.exit, replaced):
            return None
        codes.append(ended.exit.code)
    return Outcome.SUCCEEDED if not any(codes) else Outcome.FAILED
