"""`podctl scale` and `podctl rollout status`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

from podctl.dry_runs import CLIENT, NONE, SERVER, SUFFIX
from podctl.failures import CommandError
from podctl.naming import qualified
from podctl.session import Session, not_found
from podctl.targets import Target, parse_targets
from podwire import errors, kinds, v1
from podwire.client import BOOKMARK, DELETED

# Writes that others' writes come before; controllers write often while a rollout goes on.
_ATTEMPTS: Final = 10


async def scale(
    session: Session, words: Sequence[str], replicas: int, *, current: int | None, dry_run: str = NONE
) -> int:
    for target in parse_targets(words):
        if target.kind not in (kinds.DEPLOYMENT, kinds.REPLICA_SET) or not target.name:
            raise CommandError(f"{target.kind.plural} cannot be scaled: name a deployment or a replica set")
        await _scale(session, target, replicas, current, dry_run)
        print(f"{qualified(target.kind, target.name)} scaled{SUFFIX[dry_run]}", flush=True)
    return 0


async def _scale(session: Session, target: Target, replicas: int, current: int | None, dry_run: str) -> None:
    client = session.client.kind(target.kind)
    for attempt in range(_ATTEMPTS):
        obj = await session.fetch(target.kind, target.name)
        if current is not None and obj.spec.replicas != current:
            raise CommandError(f"expected {current} replicas of {target.name}, but it has {obj.spec.replicas}")
        if dry_run == CLIENT:
            return
        obj.spec.replicas = replicas
        try:
            await client.update(obj, field_manager="podctl-scale", dry_run=dry_run == SERVER)
        except errors.Conflict:
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return


async def rollout_status(session: Session, words: Sequence[str], *, watch: bool, timeout: float) -> int:
    for target in parse_targets(words):
        if target.kind is not kinds.DEPLOYMENT or not target.name:
            raise CommandError("a rollout is of a deployment: podctl rollout status deployment/NAME")
        try:
            async with asyncio.timeout(timeout or None):
                await _rollout(session, target.name, watch=watch)
        except TimeoutError:
            raise CommandError("timed out waiting for the rollout; it goes on") from None
    return 0


async def _rollout(session: Session, name: str, *, watch: bool) -> None:
    events = session.client.deployments.watch(
        namespace=session.namespace, field_selector=f"metadata.name={name}", send_initial_events=True
    )
    said = ""
    async with aclosing(events):
        async for event in events:
            if event.type == BOOKMARK:
                if not said:
                    raise not_found(kinds.DEPLOYMENT, name)
                continue
            if event.type == DELETED:
                raise CommandError(f'deployment "{name}" was deleted')
            done, text = rollout_progress(event.object)
            if text != said:
                print(text, flush=True)
            said = text
            if done or not watch:
                return


def rollout_progress(deployment: v1.Deployment) -> tuple[bool, str]:
    """Whether it is complete, and kubectl's words for where it is. Raises CommandError when its deadline has passed."""
    name, spec, status = deployment.metadata.name, deployment.spec, deployment.status
    if deployment.metadata.generation > status.observed_generation:
        return False, "Waiting for deployment spec update to be observed..."
    for condition in status.conditions:
        if condition.type == "Progressing" and condition.reason == "ProgressDeadlineExceeded":
            raise CommandError(f'deployment "{name}" exceeded its progress deadline')
    waiting = f'Waiting for deployment "{name}" rollout to finish: '
    if status.updated_replicas < spec.replicas:
        return False, f"{waiting}{status.updated_replicas} out of {spec.replicas} new replicas have been updated..."
    if status.replicas > status.updated_replicas:
        old = status.replicas - status.updated_replicas
        return False, f"{waiting}{old} old replicas are pending termination..."
    if status.available_replicas < status.updated_replicas:
        return (
            False,
            f"{waiting}{status.available_replicas} of {status.updated_replicas} updated replicas are available...",
        )
    return True, f'deployment "{name}" successfully rolled out'
