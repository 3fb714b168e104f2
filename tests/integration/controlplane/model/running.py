"""Programs, run: every client's script as a task, with watches beside them, and all of it recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from controlplane.store.etcd import Etcd
from podwire import errors, kinds, v1
from podwire.client import Client
from podwire.client.connection import Stream
from podwire.kinds import Kind
from tests.integration.controlplane.model.facts import FINALIZER, Request, facts_of, node_of
from tests.integration.controlplane.model.programs import (
    EVERYTHING,
    KINDS,
    TIERS,
    Program,
    Selection,
    Step,
    Verb,
    selections_of,
)
from tests.integration.controlplane.model.truth import Seen, Truth, read_truth, seen

# What a request may be refused with; anything else is a fault.
_REFUSALS: Final = (
    errors.NotFound,
    errors.AlreadyExists,
    errors.Conflict,
    errors.PreconditionFailed,
    errors.Invalid,
)


@dataclass(frozen=True)
class Listed:
    kind: Kind
    selection: Selection
    revision: int
    items: list[Any]


@dataclass
class Observed:
    """A watch: its responses, each as its events, bookmarks included."""

    kind: Kind
    selection: Selection
    start: int
    responses: list[list[Seen]] = field(default_factory=list)

    @property
    def reached(self) -> int:
        return self.responses[-1][-1].revision if self.responses else self.start


@dataclass
class Run:
    namespace: str
    # The end of history, once it is known: watches go on until they have reached it.
    end: asyncio.Future[int]
    requests: list[Request] = field(default_factory=list)
    lists: list[Listed] = field(default_factory=list)
    watches: list[Observed] = field(default_factory=list)
    # Requests that got no answer: nothing can be said about such a run.
    unanswered: int = 0
    truth: Truth = field(default_factory=lambda: Truth(0))

    async def watch(self, owner: asyncio.TaskGroup, client: Client, observed: Observed) -> None:
        """Opens the watch, and leaves a task that reads it to the end."""
        self.watches.append(observed)
        request = v1.WatchRequest(
            namespace=self.namespace,
            label_selector=observed.selection.labels,
            field_selector=observed.selection.fields,
            resource_version=str(observed.start),
            bookmark_interval_seconds=1,
        )
        kind = observed.kind
        connection = client.kind(kind).connection
        stream = await connection.open("unary_stream", f"/{kind.service}/Watch", kind.watch_response, request)
        owner.create_task(self._read(stream, observed), name=f"watch {kind.plural} {observed.selection}")

    async def _read(self, stream: Stream, observed: Observed) -> None:
        try:
            while not (self.end.done() and observed.reached >= self.end.result()):
                response = await stream.read()
                assert response is not None, "the server ended a watch"
                observed.responses.append([seen(event.type, event.object) for event in response.events])
        finally:
            stream.cancel()

    async def list(self, client: Client, kind: Kind, selection: Selection, limit: int) -> int:
        """All pages of a list; the revision that it is of."""
        request = v1.ListRequest(
            namespace=self.namespace, label_selector=selection.labels, field_selector=selection.fields, limit=limit
        )
        items: list[Any] = []
        revisions = set()
        while True:
            page = await client.kind(kind).connection.read(f"/{kind.service}/List", request, kind.list_message)
            items.extend(page.items)
            revisions.add(int(page.metadata.resource_version))
            following = getattr(page.metadata, "continue")
            if not following:
                break
            assert len(page.items) == limit
            setattr(request, "continue", following)
        (revision,) = revisions
        self.lists.append(Listed(kind, selection, revision, items))
        return revision


class Script:
    """One client at work. `seen` is what it knows of the objects; it may be old, which is what conditions are for."""

    def __init__(self, run: Run, number: int, client: Client) -> None:
        self._run = run
        self._number = number
        self._client = client
        self._marks = 0
        self._seen: dict[tuple[Kind, str], Any] = {}
        self._latest = 0

    async def run(self, owner: asyncio.TaskGroup, steps: Sequence[Step]) -> None:
        for step in steps:
            try:
                await self._do(owner, step)
            except _REFUSALS:
                # What it knew of the object is not so any more.
                self._seen.pop((step.kind, step.name), None)
            except (errors.Unavailable, errors.Timeout):
                self._run.unanswered += 1

    async def _do(self, owner: asyncio.TaskGroup, step: Step) -> None:
        of_kind = selections_of(step.kind)
        match step.verb:
            case Verb.LIST:
                selection = of_kind[step.choice % len(of_kind)]
                self._latest = await self._run.list(self._client, step.kind, selection, 1 + step.choice % 3)
            case Verb.WATCH:
                if self._latest:
                    observed = Observed(step.kind, of_kind[step.choice % len(of_kind)], self._latest)
                    await self._run.watch(owner, self._client, observed)
            case _:
                request, answer = await self._write(step)
                self._run.requests.append(replace(request, answer=answer))
                self._seen[step.kind, step.name] = answer
                self._latest = int(answer.metadata.resource_version)

    async def _write(self, step: Step) -> tuple[Request, Any]:
        self._marks += 1
        mark = str(1_000 * (self._number + 1) + self._marks)
        tier = TIERS[step.choice % 3]
        request = Request(step.verb, step.kind, step.name, mark, tier=tier, count="0")
        api: Any = self._client.kind(step.kind)
        named = {"name": step.name, "namespace": self._run.namespace}
        match step.verb:
            case Verb.CREATE:
                return request, await api.create(_new(step, self._run.namespace, mark, tier))
            case Verb.APPLY:
                tree = _tree(step, self._run.namespace, mark, tier)
                applied = await api.apply(tree, field_manager=f"client{self._number}", force=True)
                return request, applied.object
            case Verb.LABEL:
                tier = "" if step.choice == 11 else tier
                patch = {"metadata": {"labels": {"tier": tier or None}, "annotations": {"by": mark}}}
                return replace(request, tier=tier), await api.patch(patch=patch, **named)
            case Verb.FINALIZE:
                finalizers = [FINALIZER] if step.choice % 2 else []
                patch = {"metadata": {"finalizers": finalizers or None, "annotations": {"by": mark}}}
                if step.conditional:
                    version = (await self._known(step)).metadata.resource_version
                    patch["metadata"]["resourceVersion"] = version
                    request = replace(request, revision=version)
                return replace(request, finalizers=tuple(finalizers)), await api.patch(patch=patch, **named)
        known = await self._known(step)
        meta = known.metadata
        if step.conditional:
            request = replace(request, revision=meta.resource_version, uid=meta.uid)
        match step.verb:
            case Verb.COUNT:
                count = facts_of(known).count
                return replace(request, count=count, revision="", uid=""), await api.patch(
                    patch=_counted(count, mark), **named
                )
            case Verb.DELETE:
                request = replace(request, revision="") if step.choice % 2 else request
                request = replace(request, grace=(None, 0, 5)[step.choice % 3])
                return request, await api.delete(
                    **named, uid=request.uid, resource_version=request.revision, grace_period_seconds=request.grace
                )
        if not step.conditional:
            meta.ClearField("resource_version")
            meta.ClearField("uid")
        if step.verb is Verb.STATUS:
            _set_status(known, mark, running=step.choice % 2 == 0)
            return request, await api.update_status(known)
        count = str(int(facts_of(known).count) + 1)
        meta.labels["tier"] = tier
        meta.annotations.update({"count": count, "by": mark})
        return replace(request, count=count, finalizers=tuple(meta.finalizers)), await api.update(known)

    async def _known(self, step: Step) -> Any:
        """A copy of what this client saw of the object last; it looks where it knows nothing."""
        known = self._seen.get((step.kind, step.name))
        if known is None:
            known = await self._client.kind(step.kind).get(step.name, namespace=self._run.namespace)
            self._seen[step.kind, step.name] = known
        copy = step.kind.message()
        copy.CopyFrom(known)
        return copy


def _new(step: Step, namespace: str, mark: str, tier: str) -> Any:
    made: Any = step.kind.message()
    made.metadata.name, made.metadata.namespace = step.name, namespace
    made.metadata.labels["tier"] = tier
    made.metadata.annotations.update({"count": "0", "by": mark})
    if step.kind is kinds.POD:
        made.spec.containers.add(name="main", image="docker.io/library/busybox:1")
        made.spec.node_name = node_of(step.name)
    elif step.kind is kinds.DEPLOYMENT:
        made.spec.selector.match_labels["app"] = "web"
        made.spec.template.metadata.labels["app"] = "web"
        made.spec.template.spec.containers.add(name="main", image="docker.io/library/busybox:1")
    return made


def _tree(step: Step, namespace: str, mark: str, tier: str) -> dict[str, Any]:
    """The same as a manifest."""
    container = {"containers": [{"name": "main", "image": "docker.io/library/busybox:1"}]}
    tree: dict[str, Any] = {
        "apiVersion": step.kind.api_version,
        "kind": step.kind.name,
        "metadata": {
            "name": step.name,
            "namespace": namespace,
            "labels": {"tier": tier},
            "annotations": {"count": "0", "by": mark},
        },
    }
    if step.kind is kinds.POD:
        node = node_of(step.name)
        tree["spec"] = {**container, "nodeName": node} if node else container
    elif step.kind is kinds.DEPLOYMENT:
        labels = {"app": "web"}
        template = {"metadata": {"labels": labels}, "spec": container}
        tree["spec"] = {"selector": {"matchLabels": labels}, "template": template}
    return tree


def _counted(count: str, mark: str) -> list[dict[str, Any]]:
    path = "/metadata/annotations"
    return [
        {"op": "test", "path": f"{path}/count", "value": count},
        {"op": "replace", "path": f"{path}/count", "value": str(int(count) + 1)},
        {"op": "replace", "path": f"{path}/by", "value": mark},
    ]


def _set_status(obj: Any, mark: str, *, running: bool) -> None:
    match obj:
        case v1.Pod():
            obj.status.message = mark
            obj.status.phase = "Running" if running else "Pending"
        case v1.Deployment():
            obj.status.collision_count = int(mark)
        case _:
            raise errors.Invalid(f"a {type(obj).__name__} has no status")


async def run_program(program: Program, namespace: str, start: int, clients: Sequence[Client], etcd: Etcd) -> Run:
    """Runs all scripts at once, with watches from the start beside them, and further ones of the past behind them."""
    run = Run(namespace, asyncio.get_running_loop().create_future())
    async with asyncio.timeout(120), asyncio.TaskGroup() as owner:
        for number, kind in enumerate(KINDS):
            for selection in selections_of(kind):
                client = clients[number % len(clients)]
                await run.watch(owner, client, Observed(kind, selection, start))
        async with asyncio.TaskGroup() as scripts:
            for number, steps in enumerate(program):
                script = Script(run, number, clients[number % len(clients)])
                scripts.create_task(script.run(owner, steps), name=f"client {number}")
        run.truth = await read_truth(etcd, namespace, start)
        await _look_back(run, owner, clients)
        run.end.set_result(run.truth.end)
    return run


async def _look_back(run: Run, owner: asyncio.TaskGroup, clients: Sequence[Client]) -> None:
    """Watches that resume, and lists that are exact, at revisions of all ages."""
    for number, change in enumerate(run.truth.changes[:: max(1, len(run.truth.changes) // 6)]):
        client = clients[number % len(clients)]
        for kind in KINDS:
            selection = selections_of(kind)[number % len(selections_of(kind))]
            await run.watch(owner, client, Observed(kind, selection, change.revision))
            listed = await client.kind(kind).list(
                namespace=run.namespace,
                label_selector=selection.labels,
                field_selector=selection.fields,
                resource_version=str(change.revision),
                exact=True,
            )
            assert int(listed.resource_version) == change.revision
            run.lists.append(Listed(kind, selection, change.revision, listed.items))
    for kind in KINDS:
        await run.list(clients[0], kind, EVERYTHING, 100)
