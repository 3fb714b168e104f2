"""Upkeep as a candidate for the role `controllers` runs it: beside its terms, with metrics of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any, NoReturn

from controlplane.metrics import serve_metrics
from controlplane.settings import UpkeepSettings
from controlplane.store.etcd import Etcd
from controlplane.upkeep.metrics import UpkeepMetrics
from controlplane.upkeep.upkeep import Upkeep


def keeping(settings: UpkeepSettings) -> Callable[[Etcd, str], Coroutine[Any, Any, NoReturn]]:
    """For `elected.run`."""

    async def keep(etcd: Etcd, candidate: str) -> NoReturn:
        upkeep = Upkeep(etcd, candidate, asyncio.get_running_loop().time, history=settings.history)
        with ExitStack() as undo:
            if settings.metrics is not None:
                undo.callback(serve_metrics(settings.metrics, UpkeepMetrics(upkeep)))
            await upkeep.run()

    return keep
