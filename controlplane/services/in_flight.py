"""How much of something is under way at once, in all and for each user: requests, open streams, bytes of lists.

A gate has room for so much. A user takes no more of it than a share; ordinary users together leave a part of it to the
system (agents, scheduler, controllers), so that whoever asks too much delays others like themselves and nothing else.
What finds no room waits in its user's own short queue. Room that becomes free goes round: one to each user in turn,
however many each has waiting. Who would be one too many in a queue, or has waited too long, is refused with a delay
after which the queue should have moved.

All of it is plain counting in the event loop; where there is room, entering costs less than a microsecond.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from controlplane.settings import Room
from controlplane.store.channels import BATCH_BYTES
from podwire import errors

# A watcher's buffers on the way have as much.
SMALL_BATCH_BYTES: Final = 64 * 1024
# Bounds of the delay that refused requests are told, in seconds: below, they come back before anything has moved;
# above, they stay away from a server that has long been idle.
SHORTEST_DELAY: Final = 0.2
LONGEST_DELAY: Final = 10.0
# The rate at which a gate is left is measured over at least so many seconds.
_RATE_SECONDS: Final = 1.0


@dataclass(slots=True, eq=False)
class _Waiting:
    cost: int
    entered: asyncio.Future[None]


class Outgoing:
    """Bytes of watches that are held because clients have not taken them: large batches while these are few.

    Nobody waits here, as one who does not read would hold up those who do: batches only become small. That bounds the
    memory by `budget` and a small batch for each watcher more.
    """

    def __init__(self, budget: int) -> None:
        self.used = 0
        self._budget = budget

    def batch(self) -> int:
        """How many bytes the next batch may have."""
        return BATCH_BYTES if self.used < self._budget else SMALL_BATCH_BYTES


class Gate:
    """`what` names the unit in errors, as in "requests in flight"."""

    def __init__(self, what: str, room: Room, clock: Callable[[], float]) -> None:
        self.what = what
        self.room = room
        self.used = 0
        # Of `used`, what is not the system's.
        self.used_by_users = 0
        self.waiting = 0
        self.refused = 0
        self._clock = clock
        # Ordinary users wait, and not for their own limit: who comes now does not overtake them.
        self._full = False
        # Who has somebody waiting, the next one first.
        self._turns: deque[Share] = deque()
        self._left = 0
        # Where the measurement of the rate began: the time and the count of those who had left by then.
        self._since = (clock(), 0)
        self._rate = 0.0

    def overloaded(self, share: Share) -> errors.Overloaded:
        """The refusal of one more of `share`'s."""
        self.refused += 1
        delay = self._delay(len(share.waiting) + 1)
        return errors.Overloaded(
            f"too many {self.what}: {share.user} has {share.used} of at most {self.room.user}, "
            f"all together {self.used} of {self.room.total}; try again in {delay:.1f} s",
            retry_after=delay,
            metadata={"user": share.user},
        )

    def _delay(self, ahead: int) -> float:
        """Until as many as are ahead of a share's next have left, when every share in turn gets one in."""
        now = self._clock()
        since, left = self._since
        if now - since >= _RATE_SECONDS:
            self._rate = (self._left - left) / (now - since)
            self._since = (now, self._left)
        turns = max(len(self._turns), 1)
        delay = ahead * turns / self._rate if self._rate else 1.0
        return min(max(delay, SHORTEST_DELAY), LONGEST_DELAY)

    def _fits(self, share: Share, cost: int) -> bool:
        """Whether there is room for it; what is larger than a limit fits alone."""
        room = self.room
        if self.used and self.used + cost > room.total:
            return False
        if share.system:
            return True
        return not self.used_by_users or self.used_by_users + cost <= room.total - room.system

    def _take(self, share: Share, cost: int) -> None:
        share.used += cost
        self.used += cost
        if not share.system:
            self.used_by_users += cost

    def _give_back(self, share: Share, cost: int) -> None:
        share.used -= cost
        self.used -= cost
        if not share.system:
            self.used_by_users -= cost
        self._left += 1
        if self._turns:
            self._let_in()

    def _let_in(self) -> None:
        """As many as there is room for, one of each share in turn.

        One that there is no room for keeps the smaller ones behind it out, or it would wait for ever; ordinary users
        do not keep the system out.
        """
        self._full = False
        moved = True
        while moved:
            moved = False
            for share in list(self._turns):
                first = share.waiting[0]
                # One that has given up in this turn of the loop takes itself out.
                if first.entered.done() or (self._full and not share.system) or not share.may_have(first.cost):
                    continue
                if not self._fits(share, first.cost):
                    self._full = True
                    if share.system:
                        return
                    continue
                self._take(share, first.cost)
                first.entered.set_result(None)
                self._remove(share, first)
                moved = True

    def _add(self, share: Share, place: _Waiting) -> None:
        if not share.waiting:
            self._turns.append(share)
        share.waiting.append(place)
        self.waiting += 1
        self._full = self._full or share.may_have(place.cost)

    def _remove(self, share: Share, place: _Waiting) -> None:
        """Out of the queue; whoever else the share has waiting comes after all others."""
        share.waiting.remove(place)
        self._turns.remove(share)
        if share.waiting:
            self._turns.append(share)
        self.waiting -= 1


class Share:
    """One user's part of a gate."""

    __slots__ = ("_gate", "system", "used", "user", "waiting")

    def __init__(self, gate: Gate, user: str, *, system: bool) -> None:
        self.user = user
        self.system = system
        self.used = 0
        self.waiting: deque[_Waiting] = deque()
        self._gate = gate

    @property
    def idle(self) -> bool:
        return not self.used and not self.waiting

    def may_have(self, cost: int) -> bool:
        return not self.used or self.used + cost <= self._gate.room.user

    def enter_now(self, cost: int = 1) -> bool:
        """Takes room if it is there and nobody of the same user waits for it."""
        gate = self._gate
        if self.waiting or (gate._full and not self.system):
            return False
        if not self.may_have(cost) or not gate._fits(self, cost):
            return False
        gate._take(self, cost)
        return True

    async def enter(self, cost: int = 1) -> None:
        """Takes room, after waiting for it if need be. Raises Overloaded."""
        if self.enter_now(cost):
            return
        gate = self._gate
        if len(self.waiting) >= gate.room.queue:
            raise gate.overloaded(self)
        place = _Waiting(cost, asyncio.get_running_loop().create_future())
        gate._add(self, place)
        try:
            async with asyncio.timeout(gate.room.wait):
                await place.entered
        except BaseException as ended:
            if place.entered.done() and not place.entered.cancelled():
                # It came in at the very moment in which it gave up.
                gate._give_back(self, cost)
            else:
                gate._remove(self, place)
                # It may have kept smaller ones out.
                gate._let_in()
            if isinstance(ended, TimeoutError):
                raise gate.overloaded(self) from None
            raise

    def leave(self, cost: int = 1) -> None:
        self._gate._give_back(self, cost)
