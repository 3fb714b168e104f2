"""What etcd's members say of themselves, and the calls that keep them small: what upkeep and the cluster's status need.

These calls are about members, not about the store as a whole, so that each is sent to the member that it is about: to
the endpoints that this client was given, and to the addresses that the members themselves announce.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import grpc
import grpc.aio

from controlplane.store.api import etcd_pb2 as pb
from controlplane.store.endpoints import Endpoints, Member, meaning, target_of
from podwire import errors

T = TypeVar("T")

# Seconds that a member has to say how it is: one that is away must not hold up who asks for the state of all.
ANSWER_TIMEOUT: Final = 1.5
# An alarm is read and cleared through consensus, as a write is.
ALARM_TIMEOUT: Final = 5.0


@dataclass(frozen=True, slots=True)
class MemberState:
    """A member as it answers now. Where it does not, `status` is None and `error` says why.

    An `id` of 0: no member answers, and all that is known is the address at which this one was looked for.
    """

    id: int
    name: str
    client_urls: tuple[str, ...]
    learner: bool
    address: str
    status: pb.StatusResponse | None
    error: str = ""

    @property
    def leads(self) -> bool:
        return self.status is not None and self.status.leader == self.id

    @property
    def free(self) -> int:
        """Bytes of its file that hold nothing."""
        return self.status.dbSize - self.status.dbSizeInUse if self.status is not None else 0


class Maintenance:
    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints

    async def members(self, *, timeout: float = ANSWER_TIMEOUT) -> list[MemberState]:
        """Every member of the cluster, by name; answers within about `timeout`, whoever is away."""
        async with asyncio.TaskGroup() as owner:
            asked = {member.address: owner.create_task(_status(member, timeout)) for member in self._endpoints.members}
            listed = await self._listed(timeout)
            for address in {target_of(url) for member in listed for url in member.clientURLs} - set(asked):
                asked[address] = owner.create_task(_status(self._endpoints.at(address), timeout))
        answers = {address: task.result() for address, task in asked.items()}
        if not listed:
            return [MemberState(0, "", (), False, address, None, str(why)) for address, why in answers.items()]
        return sorted((_state(member, answers) for member in listed), key=lambda state: (state.name, state.id))

    async def alarms(self, *, timeout: float = ALARM_TIMEOUT) -> Sequence[pb.AlarmMember]:
        request = pb.AlarmRequest(action=pb.AlarmRequest.GET)
        return (await self._fastest(lambda member: member.maintenance.Alarm(request, timeout=timeout))).alarms

    async def disarm(self, alarm: pb.AlarmMember, *, timeout: float = ALARM_TIMEOUT) -> None:
        """Clears an alarm; one that is cleared already stays so."""
        request = pb.AlarmRequest(action=pb.AlarmRequest.DEACTIVATE, memberID=alarm.memberID, alarm=alarm.alarm)
        await self._fastest(lambda member: member.maintenance.Alarm(request, timeout=timeout))

    async def defragment(self, member: MemberState, *, timeout: float) -> None:
        """Gives the member's free space back to its file system; it answers nothing else meanwhile.

        After a timeout it goes on with that all the same.
        """
        try:
            await self._endpoints.at(member.address).maintenance.Defragment(pb.DefragmentRequest(), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise meaning(error) from None

    async def _listed(self, timeout: float) -> Sequence[pb.Member]:
        """What any member says; empty where none answers. Needs no quorum."""
        request = pb.MemberListRequest()
        try:
            answer = await self._fastest(lambda member: member.cluster.MemberList(request, timeout=timeout))
        except errors.PodwireError:
            # Why no member answers is what the status of each says.
            return ()
        return answer.members

    async def _fastest(self, call: Callable[[Member], Awaitable[T]]) -> T:
        """Asks all members what any of them can answer, so that one that is away costs no time."""

        async def attempt(member: Member) -> T | errors.PodwireError:
            try:
                return await call(member)
            except grpc.aio.AioRpcError as error:
                return meaning(error)

        async with asyncio.TaskGroup() as owner:
            asked = [owner.create_task(attempt(member)) for member in self._endpoints.members]
            for following in asyncio.as_completed(asked):
                answer = await following
                if not isinstance(answer, errors.PodwireError):
                    for task in asked:
                        task.cancel()
                    return answer
                failure = answer
        raise failure


async def _status(member: Member, timeout: float) -> pb.StatusResponse | str:
    """What the member says, or why it does not."""
    try:
        return await member.maintenance.Status(pb.StatusRequest(), timeout=timeout)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"no answer within {timeout:g} s"
        return (error.details() or error.code().name).rpartition("last error: ")[2]


def _state(member: pb.Member, answers: Mapping[str, pb.StatusResponse | str]) -> MemberState:
    urls = tuple(member.clientURLs)
    for address, answer in answers.items():
        if isinstance(answer, pb.StatusResponse) and answer.header.member_id == member.ID:
            return MemberState(member.ID, member.name, urls, member.isLearner, address, answer)
    why = _first(answers.get(target_of(url)) for url in urls)
    # A member that was added and has never been started announces no address, and has no name.
    error = why or "it has announced no address: it has not been started yet"
    return MemberState(member.ID, member.name, urls, member.isLearner, "", None, error)


def _first(answers: Iterable[pb.StatusResponse | str | None]) -> str:
    return next((answer for answer in answers if isinstance(answer, str)), "")
