"""What is sent again after an error, and what never is."""

import asyncio

import pytest

from podwire import errors, v1
from podwire.client import Client, RetryPolicy
from podwire.client.retrying import persist
from tests.unit.podwire.fake_api import FakePods


def pod(name: str) -> v1.Pod:
    return v1.Pod(metadata=v1.ObjectMeta(name=name, namespace="default"))


@pytest.mark.parametrize("error", [kind for kind in errors.ERRORS if kind.retryable])
def test_a_read_may_be_sent_again_and_a_write_only_if_it_cannot_have_happened(error: type[errors.PodwireError]) -> None:
    failed = error("no")
    assert RetryPolicy().tries_again(failed, write=False)
    assert RetryPolicy().tries_again(failed, write=True) != error.in_doubt
    assert not RetryPolicy.NEVER.tries_again(failed, write=False)
    assert not RetryPolicy.NEVER.tries_again(failed, write=True)


@pytest.mark.parametrize("error", [kind for kind in errors.ERRORS if not kind.retryable])
def test_what_can_not_succeed_later_is_not_sent_again(error: type[errors.PodwireError]) -> None:
    assert not RetryPolicy().tries_again(error("no"), write=False)
    assert not RetryPolicy().tries_again(error("no"), write=True)


async def test_a_write_that_the_server_refused_is_sent_again(client: Client, pods: FakePods) -> None:
    pods.fail("Create", errors.Overloaded("busy", retry_after=0.001))
    assert (await client.pods.create(pod("a"))).metadata.name == "a"
    assert pods.calls["Create"] == 2


async def test_a_policy_of_one_attempt_makes_one(client: Client, pods: FakePods) -> None:
    pods.fail("Get", errors.Unavailable("starting"))
    pods.fail("Create", errors.Overloaded("busy", retry_after=0.001))
    once = client.with_retry(RetryPolicy.NEVER)
    with pytest.raises(errors.Unavailable):
        await once.pods.get("a", namespace="default")
    with pytest.raises(errors.Overloaded):
        await once.pods.create(pod("a"))
    assert (pods.calls["Get"], pods.calls["Create"]) == (1, 1)


async def test_a_policy_can_be_chosen_for_one_kind_and_leaves_the_client_as_it_was(
    client: Client, pods: FakePods
) -> None:
    pods.put("a")
    pods.fail("Get", *(errors.Unavailable("starting") for _ in range(3)))
    with pytest.raises(errors.Unavailable):
        await client.pods.with_retry(RetryPolicy.NEVER).get("a", namespace="default")
    await client.pods.get("a", namespace="default")
    assert pods.calls["Get"] == 4


async def test_the_server_says_for_how_long_to_stay_away() -> None:
    async def refused() -> None:
        raise errors.Overloaded("busy", retry_after=10)

    with pytest.raises(errors.Overloaded):
        # Patience ends before the server would listen: at once.
        async with asyncio.timeout(5):
            await persist(RetryPolicy(patience=9), refused, write=False)


async def test_modify_reads_again_where_another_was_faster(client: Client, pods: FakePods) -> None:
    pods.put("a")
    pods.fail("Update", errors.Conflict("changed"), errors.Conflict("changed"))
    modified = await client.pods.modify("a", lambda p: p.metadata.labels.update(app="x"), namespace="default")
    assert dict(modified.metadata.labels) == {"app": "x"}
    assert (pods.calls["Get"], pods.calls["Update"]) == (3, 3)


async def test_modify_gives_up_after_its_attempts(client: Client, pods: FakePods) -> None:
    pods.put("a")
    pods.fail("UpdateStatus", *(errors.Conflict("changed") for _ in range(9)))
    with pytest.raises(errors.Conflict):
        await client.pods.modify(
            "a", lambda p: setattr(p.status, "phase", "Failed"), namespace="default", status=True, attempts=3
        )
    assert pods.calls["UpdateStatus"] == 3


async def test_modify_does_not_repeat_what_may_have_happened(client: Client, pods: FakePods) -> None:
    pods.put("a")
    pods.fail("Update", errors.Unavailable("etcd did not answer"))
    with pytest.raises(errors.Unavailable):
        await client.pods.modify("a", lambda p: p.metadata.labels.update(app="x"), namespace="default")
    assert pods.calls["Update"] == 1


async def test_modify_writes_nothing_where_nothing_changed(client: Client, pods: FakePods) -> None:
    pods.put("a", app="x")
    await client.pods.modify("a", lambda p: p.metadata.labels.update(app="x"), namespace="default")
    assert pods.calls["Update"] == 0


async def test_create_or_get_can_be_repeated_and_is(client: Client, pods: FakePods) -> None:
    pods.put("a", app="there")
    pods.fail("Create", errors.Unavailable("the answer was lost"), errors.AlreadyExists("there"))
    assert dict((await client.pods.create_or_get(pod("a"))).metadata.labels) == {"app": "there"}
    assert pods.calls["Create"] == 2


async def test_create_or_get_creates_what_was_deleted_in_between(client: Client, pods: FakePods) -> None:
    pods.fail("Create", errors.AlreadyExists("there"))
    pods.fail("Get", errors.NotFound("gone"))
    assert (await client.pods.create_or_get(pod("a"))).metadata.name == "a"
    assert (pods.calls["Create"], pods.calls["Get"]) == (2, 1)


async def test_create_or_get_refuses_a_generated_name(client: Client) -> None:
    with pytest.raises(ValueError, match="needs an object with a name"):
        await client.pods.create_or_get(v1.Pod(metadata=v1.ObjectMeta(generate_name="a-")))


@pytest.mark.parametrize(("at_least", "attempts"), [(1, 1), (3, 3)])
async def test_every_server_is_tried_however_long_the_one_before_took(at_least: int, attempts: int) -> None:
    made = 0

    async def attempt() -> None:
        nonlocal made
        made += 1
        raise errors.Unavailable("frozen")

    with pytest.raises(errors.Unavailable):
        await persist(RetryPolicy(patience=0.0, backoff_first=0.001), attempt, write=False, at_least=at_least)
    assert made == attempts
