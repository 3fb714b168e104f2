"""From `deploy/web` to a pod of it, for logs and exec; and which of a pod's containers is meant."""

from __future__ import annotations

import sys

from podctl.failures import CommandError
from podctl.naming import qualified
from podctl.session import Session
from podctl.targets import Target, parse_target
from podwire import kinds, v1
from podwire.selectors import LabelSelector

# Says which container is meant where the user does not; kubectl has the same.
_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


async def find_pod(session: Session, word: str) -> v1.Pod:
    """The pod that `word` names, or one of the workload or service that it names: a ready one if there is one."""
    target = parse_target(word, kinds.POD)
    if target.kind is kinds.POD:
        pod: v1.Pod = await session.fetch(kinds.POD, target.name)
        return pod
    selector = await _selector(session, target)
    listed = await session.client.pods.list(namespace=session.namespace, label_selector=str(selector))
    pods = sorted(listed.items, key=_preference)
    if not pods:
        raise CommandError(f"there are no pods of {qualified(target.kind, target.name)}")
    if len(pods) > 1:
        print(f"Found {len(pods)} pods, using {qualified(kinds.POD, pods[0].metadata.name)}", file=sys.stderr)
    return pods[0]


async def _selector(session: Session, target: Target) -> LabelSelector:
    obj = await session.fetch(target.kind, target.name)
    match target.kind:
        case kinds.DEPLOYMENT | kinds.REPLICA_SET:
            return LabelSelector.from_message(obj.spec.selector)
        case kinds.SERVICE if obj.spec.selector:
            return LabelSelector.from_labels(obj.spec.selector)
    raise CommandError(f"{qualified(target.kind, target.name)} has no pods")


def _preference(pod: v1.Pod) -> tuple[bool, bool, str]:
    conditions = {condition.type: condition.status for condition in pod.status.conditions}
    return conditions.get("Ready") != "True", pod.status.phase != "Running", pod.metadata.name


def choose_container(pod: v1.Pod, wanted: str) -> str:
    """The container named `wanted`, or the first one; says so where there are others."""
    containers = [container.name for container in pod.spec.containers]
    names = [*containers, *(container.name for container in pod.spec.init_containers)]
    if wanted:
        if wanted not in names:
            raise CommandError(f'pod "{pod.metadata.name}" has no container "{wanted}": it has {", ".join(names)}')
        return wanted
    if (default := pod.metadata.annotations.get(_DEFAULT_CONTAINER)) in containers and default:
        return default
    if len(containers) > 1:
        print(f'Defaulted container "{containers[0]}" out of: {", ".join(names)}', file=sys.stderr)
    return containers[0]
