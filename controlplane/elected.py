"""The life of a role that acts only while elected: campaign, act, lose or fail, begin again with nothing kept.

A term has a client of its own, whose writes carry the term's fence, and state of its own: what was learnt in one term
is not believed in the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, NoReturn

import structlog

from controlplane import election
from controlplane.settings import ElectedSettings
from controlplane.store.etcd import Etcd
from podwire import errors
from podwire.attempt import attempt
from podwire.backoff import Backoff
from podwire.client import Client

log = structlog.get_logger(__name__)

# Seconds between terms that fail at once.
_BACKOFF_FIRST: Final = 0.1
_BACKOFF_CAP: Final = 5.0
# A term this long was a good one: the next failure is the first again.
_GOOD_TERM: Final = 30.0


Act = Callable[[Client], Awaitable[NoReturn]]
# Work of a candidate that goes on through its terms and between them, given its name.
Beside = Callable[[Etcd, str], Coroutine[Any, Any, NoReturn]]


async def run(role: str, settings: ElectedSettings, act: Act, *, beside: Beside | None = None) -> None:
    """Runs `act` with a fenced client whenever this process is elected for `role`, until cancelled.

    A term ends with any error of podwire.errors; everything else is a fault of ours and ends the process.
    """
    with election.candidate(settings.run_dir, role) as name:
        async with (
            Etcd.connect(settings.etcd.endpoints, tls=settings.etcd.tls) as etcd,
            asyncio.TaskGroup() as owner,
        ):
            owner.create_task(_terms(role, name, settings, etcd, act), name="terms")
            if beside is not None:
                owner.create_task(beside(etcd, name), name="beside the terms")


async def _terms(role: str, name: str, settings: ElectedSettings, etcd: Etcd, act: Act) -> NoReturn:
    clock = asyncio.get_running_loop().time
    backoff = Backoff(_BACKOFF_FIRST, _BACKOFF_CAP)
    began = 0.0

    async def term() -> None:
        nonlocal began
        async with (
            election.elected(etcd, role, name) as fence,
            Client.connect(settings.api, tls=settings.tls, fence=fence) as client,
        ):
            began = clock()
            await act(client)

    while True:
        began = clock()
        try:
            await attempt(term())
        except* errors.PodwireError as over:
            log.warning("term over", election=role, errors=[str(error) for error in _leaves(over)])
        if clock() - began > _GOOD_TERM:
            backoff.reset()
        await asyncio.sleep(backoff.next())


def _leaves(group: BaseExceptionGroup[errors.PodwireError]) -> list[errors.PodwireError]:
    found: list[errors.PodwireError] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found
