"""The verbs, retries, and moving between endpoints."""

from pathlib import Path

import pytest

from podwire import errors, v1
from podwire.client import Client, Fence, Tls
from tests.unit.podwire.certificates import certificates
from tests.unit.podwire.conftest import IMPATIENT, QUICK
from tests.unit.podwire.fake_api import FakePods, serving, serving_tls


def pod(name: str) -> v1.Pod:
    return v1.Pod(metadata=v1.ObjectMeta(name=name, namespace="default"))


async def test_a_read_is_tried_again_while_the_server_is_unavailable(client: Client, pods: FakePods) -> None:
    pods.put("a")
    pods.fail("Get", errors.Unavailable("starting"), errors.Overloaded("busy", retry_after=0.001))
    assert (await client.pods.get("a", namespace="default")).metadata.name == "a"
    assert pods.calls["Get"] == 3


async def test_a_read_gives_up_when_patience_ends(client: Client, pods: FakePods) -> None:
    pods.fail("Get", errors.Overloaded("busy", retry_after=3600))
    with pytest.raises(errors.Overloaded, match="busy"):
        await client.pods.get("a", namespace="default")


async def test_a_write_is_sent_once_whatever_happens(client: Client, pods: FakePods) -> None:
    pods.fail("Create", errors.Unavailable("etcd did not answer"))
    with pytest.raises(errors.Unavailable, match="etcd did not answer"):
        await client.pods.create(pod("a"))
    assert pods.calls["Create"] == 1


async def test_errors_cross_the_wire_with_their_fields(client: Client, pods: FakePods) -> None:
    wrong = [errors.FieldError("spec.containers", "Required value"), errors.FieldError("metadata.name", "no")]
    pods.fail("Create", errors.Invalid.fields('Pod "a"', wrong))
    with pytest.raises(errors.Invalid) as raised:
        await client.pods.create(pod("a"))
    assert list(raised.value.errors) == wrong


async def test_a_list_is_put_together_from_its_pages(client: Client, pods: FakePods) -> None:
    for i in range(7):
        pods.put(f"p{i}")
    pods.page = 3
    listed = await client.pods.list()
    assert [item.metadata.name for item in listed.items] == [f"p{i}" for i in range(7)]
    assert (listed.resource_version, listed.epoch, pods.calls["List"]) == ("17", "first", 3)


async def test_a_list_whose_pages_were_compacted_begins_again(client: Client, pods: FakePods) -> None:
    pods.put("a", "b")
    pods.fail("List", errors.HistoryLost("compacted"))
    assert len((await client.pods.list()).items) == 2


async def test_a_cached_read_says_so(client: Client, pods: FakePods) -> None:
    await client.pods.list(cached=True, namespace="default", label_selector="a=b", field_selector="spec.nodeName=n")
    request = pods.requests[-1][1]
    assert (request.resource_version, request.namespace) == ("any", "default")
    assert (request.label_selector, request.field_selector) == ("a=b", "spec.nodeName=n")


async def test_apply_tells_its_result_and_warnings(client: Client, pods: FakePods) -> None:
    applied = await client.pods.apply({"kind": "Pod"}, namespace="default")
    assert (applied.result, applied.warnings) == ("created", ("spec.affinity: has no effect", "two"))
    assert pods.requests[-1][1].manifest == b'{"kind": "Pod"}'


async def test_a_grace_period_of_zero_is_not_an_absent_one(client: Client, pods: FakePods) -> None:
    await client.pods.delete("a", namespace="default", uid="u", grace_period_seconds=0)
    assert pods.requests[-1][1].HasField("grace_period_seconds")
    await client.pods.delete("a", namespace="default")
    assert not pods.requests[-1][1].HasField("grace_period_seconds")


async def test_every_call_of_a_leader_carries_its_fence(pods: FakePods, tmp_path: Path) -> None:
    fence = Fence(key="/podwire/elections/scheduler/7", create_revision=42)
    async with serving(pods, tmp_path / "s") as endpoint, Client.connect(endpoint, fence=fence) as client:
        await client.pods.bind("a", "default", "u", "node1")
        assert pods.metadata == [("podwire-fence", "42:/podwire/elections/scheduler/7")]
        await client.pods.list()
        assert pods.metadata == [("podwire-fence", "42:/podwire/elections/scheduler/7")]


async def test_a_client_moves_on_to_an_endpoint_that_answers(pods: FakePods, tmp_path: Path) -> None:
    endpoints = [f"unix:{tmp_path / 'nobody'}", "127.0.0.1:1", f"unix:{tmp_path / 's'}"]
    async with serving(pods, tmp_path / "s"), Client.connect(endpoints, settings=QUICK) as client:
        await client.pods.create(pod("a"))
        assert pods.calls["Create"] == 1


async def test_a_read_is_tried_on_the_other_endpoint_when_one_is_unavailable(tmp_path: Path) -> None:
    broken, whole = FakePods(), FakePods()
    broken.fail("Get", *(errors.Unavailable("no etcd here") for _ in range(100)))
    whole.put("a")
    async with (
        serving(broken, tmp_path / "1") as one,
        serving(whole, tmp_path / "2") as two,
        Client.connect([one, two], settings=QUICK) as client,
    ):
        await client.pods.get("a", namespace="default")
        assert (broken.calls["Get"], whole.calls["Get"]) == (1, 1)


async def test_where_nobody_answers_the_error_names_the_addresses(tmp_path: Path) -> None:
    async with Client.connect(f"unix:{tmp_path / 'nobody'}", settings=IMPATIENT) as client:
        with pytest.raises(errors.Unavailable, match=r"no control plane answers at unix:.*/nobody"):
            await client.pods.list()


async def test_a_client_comes_back_to_a_server_that_was_started_again(pods: FakePods, tmp_path: Path) -> None:
    async with Client.connect(f"unix:{tmp_path / 's'}", settings=QUICK) as client:
        for _ in range(2):
            async with serving(pods, tmp_path / "s"):
                await client.pods.list()


async def test_logs_come_in_pieces(client: Client) -> None:
    assert [piece async for piece in client.pods.logs(v1.LogsRequest(name="a"))] == [b"one\n", b"two\n"]


async def test_a_command_talks_both_ways_and_exits(client: Client, pods: FakePods) -> None:
    async with client.pods.exec(v1.ExecStart(name="a", command=["cat"], tty=True)) as session:
        await session.write(b"hello")
        await session.resize(24, 80)
        await session.close_stdin()
        assert [output async for output in session] == [("stdout", b"hello"), ("stderr", b"24x80")]
        assert session.exit_code == 3
    assert list(pods.requests[-1][1].command) == ["cat"]


async def test_both_ends_of_a_tls_connection_show_a_certificate_of_the_ca(pods: FakePods, tmp_path: Path) -> None:
    tls, stranger = certificates(tmp_path / "ours"), certificates(tmp_path / "others")
    async with serving_tls(pods, tls) as endpoint:
        async with Client.connect(endpoint, tls=tls, settings=QUICK) as client:
            await client.pods.list()
        unknown = Tls(ca=tls.ca, cert=stranger.cert, key=stranger.key)
        for wrong in (stranger, unknown):
            async with Client.connect(endpoint, tls=wrong, settings=IMPATIENT) as client:
                with pytest.raises(errors.Unavailable):
                    await client.pods.list()
    assert pods.calls["List"] == 1
