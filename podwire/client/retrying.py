"""What becomes of a call that failed: the policy that says which are sent again, for how long, and how far apart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from podwire import errors
from podwire.backoff import Backoff

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Times in seconds: `client.with_retry(RetryPolicy(patience=60)).pods.list()`.

    A call is sent again only where that cannot do anything twice. A read is, after every error that is `retryable`. A
    write is where it was refused before it did anything: `retryable`, and not `in_doubt`. A write whose answer was
    lost is never sent again, whatever the policy: read to find out, or use what is made for it, `KindClient.modify`
    and `KindClient.create_or_get`.
    """

    # From the first attempt to the last, the search for a server that answers included: longer than a control plane's
    # restart takes.
    patience: float = 5.0
    # Between attempts: doubles up to the cap, up to half of it taken away at random. A server that has too much to do
    # says itself for how long to stay away; then it is that if it is longer.
    backoff_first: float = 0.05
    backoff_cap: float = 1.0
    reads: bool = True
    refused_writes: bool = True

    NEVER: ClassVar[RetryPolicy]

    def backoff(self) -> Backoff:
        return Backoff(self.backoff_first, self.backoff_cap)

    def tries_again(self, error: errors.PodwireError, *, write: bool) -> bool:
        """Whether a call that failed with `error` may be sent again."""
        if write:
            return self.refused_writes and error.retryable and not error.in_doubt
        return self.reads and error.retryable


# One attempt; patience is then only for finding a server.
RetryPolicy.NEVER = RetryPolicy(reads=False, refused_writes=False)


async def persist(policy: RetryPolicy, attempt: Callable[[], Awaitable[R]], *, write: bool, at_least: int = 1) -> R:
    """What `attempt` gives, or raises when the policy has no further attempt for it.

    So many attempts as `at_least` outlast patience: that a server is frozen or cut off shows only after 9 s, and the
    next one may be well.
    """
    clock = asyncio.get_running_loop().time
    backoff, deadline = policy.backoff(), clock() + policy.patience
    made = 0
    while True:
        made += 1
        try:
            return await attempt()
        except errors.PodwireError as error:
            delay = backoff.next(at_least=error.retry_after)
            if not policy.tries_again(error, write=write) or (clock() + delay > deadline and made >= at_least):
                raise
        await asyncio.sleep(delay)
