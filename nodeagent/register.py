"""Which sandbox or container belongs to which attempt, in this process' memory of containerd.

Every try to run an attempt has a name of its own. containerd goes on undoing a create after it has failed, or after the
agent that asked for it was killed, and would take a second one of the same name down with it. So names are drawn, and
what an earlier try left is found by its labels: once for each pod that was not observed before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nodeagent import labels
from nodeagent.containerd.records import Record, Records
from nodeagent.model import ContainerId, PodUid, Role

SANDBOX = ""
"""In the place of a container's name."""


@dataclass(slots=True)
class _Pod:
    """`tries` are the names of what there is, by container and attempt; `sandboxes` those that are made or will be."""

    tries: dict[tuple[str, int], set[ContainerId]] = field(default_factory=dict)
    sandboxes: dict[int, ContainerId] = field(default_factory=dict)
    seen: bool = False


class Register:
    """`draw` gives a few characters that no other name has."""

    def __init__(self, records: Records, draw: Callable[[], str] = labels.nonce) -> None:
        self._records = records
        self._draw = draw
        self._pods: dict[PodUid, _Pod] = {}
        self._seen_all = False

    async def tries(self, uid: PodUid, name: str, attempt: int) -> Sequence[ContainerId]:
        """What there is of earlier tries to run this attempt. Raises ContainerdError."""
        if not self._seen_all and not self._pod(uid).seen:
            self.saw(uid, await self._records.list(labels.selector(uid)))
        return tuple(self._pod(uid).tries.get((name, attempt), ()))

    def add(self, uid: PodUid, name: str, attempt: int, id: ContainerId) -> None:
        """There is going to be a try called `id`."""
        self._pod(uid).tries.setdefault((name, attempt), set()).add(id)

    def sandbox(self, uid: PodUid, attempt: int) -> ContainerId:
        """The pod's sandbox of this attempt: the one that is there, else the name that it will have."""
        pod = self._pod(uid)
        if attempt not in pod.sandboxes:
            # One that an agent before this one made, if any.
            made = next(iter(pod.tries.get((SANDBOX, attempt), ())), None)
            pod.sandboxes[attempt] = made or labels.sandbox_id(uid, attempt, self._draw())
        return pod.sandboxes[attempt]

    def saw(self, uid: PodUid, records: Sequence[Record]) -> None:
        """These are all records of a pod."""
        self._pod(uid).seen = True
        for record in records:
            name = SANDBOX if record.labels[labels.ROLE] == Role.SANDBOX else record.labels[labels.CONTAINER]
            self.add(uid, name, int(record.labels[labels.ATTEMPT]), ContainerId(record.id))

    def saw_all(self) -> None:
        """Every pod that has records was seen."""
        self._seen_all = True

    def drop(self, uid: PodUid, id: ContainerId) -> None:
        """Nothing is left of `id`, and its name is not used again."""
        pod = self._pod(uid)
        for key, ids in list(pod.tries.items()):
            ids.discard(id)
            if not ids:
                del pod.tries[key]
        pod.sandboxes = {attempt: known for attempt, known in pod.sandboxes.items() if known != id}

    def drop_pod(self, uid: PodUid) -> None:
        """Nothing is left of the pod."""
        self._pods.pop(uid, None)

    def _pod(self, uid: PodUid) -> _Pod:
        return self._pods.setdefault(uid, _Pod())
